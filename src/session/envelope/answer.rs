//! Answers: an embedded response finds the visitor that waits for it.

use std::collections::HashMap;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, TRAILER};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::gate::Gate;
use super::job::{Done, Job};
use super::queue::Queue;
use super::severed::Severed;
use super::spool::Spooled;
use super::store::Store;
use super::{Manner, UrlId};
use crate::defaults;
use crate::http1::embedded::{
    BadMessage, Framing, Next, ReadError, Reader, ResponseHead, parse_answer, parse_next, parse_response,
};
use crate::message::framing::is_bodiless;
use crate::message::{Body, Request, Response, hop};
use crate::session::carrier::SendErrorKind;

/// A request in an agent's hand.
pub(super) struct Flight {
    pub(super) queue: Arc<Queue>,
    pub(super) number: u64,
    pub(super) method: Method,
    /// The request asked for an Upgrade, so a 101 may be its answer.
    pub(super) upgrades: bool,
    pub(super) manner: Manner,
    pub(super) done: Done,
    pub(super) after: After,
    /// For a body that is held back.
    pub(super) gate: Option<Gate>,
}

/// What is left of a request once it has been handed out.
pub(super) enum After {
    /// Its delivery goes on, and has it.
    UnderWay,
    /// All of it, to be handed out again should it not have arrived.
    Kept(Box<Parts>, Spooled),
    /// Nothing: its body was a stream.
    Gone,
}

impl Flight {
    /// Of a whole message, whose answer is one too.
    pub(super) fn whole(queue: &Arc<Queue>, number: u64, method: Method, done: Done) -> Self {
        let (queue, after) = (queue.clone(), After::UnderWay);
        Self { queue, number, method, upgrades: false, manner: Manner::WHOLE, done, after, gate: None }
    }

    /// A request has left this process.
    fn sent(&mut self, request: Request, taken: Option<Spooled>) {
        let parts = Box::new(request.into_parts().0);
        self.after = match taken {
            Some(taken) if !self.done.is_closed() => After::Kept(parts, taken),
            _ => After::Gone,
        };
    }

    /// The head of an answer that is made already.
    async fn head(&self, reader: &mut Reader, until: Instant) -> Result<ResponseHead, AnswerError> {
        let parse = if self.upgrades { parse_answer } else { parse_response };
        match tokio::time::timeout_at(until, reader.head(parse)).await {
            Ok(head) => Ok(head?),
            Err(_) => Err(AnswerError::Timeout),
        }
    }

    /// The head of an answer that is being made; what stands in front of it goes to the visitor at once. `None` when
    /// that has left: how long it waits is the deadline here.
    async fn await_head(&mut self, reader: &mut Reader) -> Result<Option<ResponseHead>, AnswerError> {
        let (mut left, upgrades) = (defaults::INTERIM, self.upgrades);
        loop {
            let next = tokio::select! {
                biased;
                next = reader.head(|bytes| parse_next(bytes, upgrades)) => next?,
                () = self.done.closed() => return Ok(None),
                () = self.queue.is_cut() => return Err(ReadError::Broken("the registration was cut".into()).into()),
            };
            match next {
                Next::Answer(head) => return Ok(Some(head)),
                Next::Interim(_) if left == 0 => return Err(ReadError::from(BadMessage::Flood).into()),
                Next::Interim(head) => {
                    left -= 1;
                    match self.gate.take_if(|_| head.status() == StatusCode::CONTINUE) {
                        Some(gate) => gate.open(),
                        None => self.done.interim(head),
                    }
                }
            }
        }
    }

    /// Who did not ask for the body before the answer gets nothing of it.
    fn behind_gate(&mut self, mut response: Response) -> Response {
        if let Some(gate) = self.gate.take() {
            response.body_mut().hold(gate.keep_shut());
        }
        response
    }

    /// No answer will come: its visitor is told.
    pub(super) fn close(self) {
        self.queue.answered(self.number);
        self.done.send(Err(SendErrorKind::Closed.error()));
    }

    /// What is kept of it, if its visitor has left: nobody will have it handed out again.
    fn let_go(&mut self) -> Option<After> {
        let kept = matches!(self.after, After::Kept(..)) && self.done.is_closed();
        kept.then(|| std::mem::replace(&mut self.after, After::Gone))
    }

    /// Whether it is on its way still, as a whole, or nobody waits for its answer. What streams is lost when its URL is
    /// polled again.
    fn stays(&self) -> bool {
        (matches!(self.after, After::UnderWay) && !self.manner.streams) || self.done.is_closed()
    }

    /// As [`Flight::again`], for a request that may have been executed (RFC 9110 §9.2.2).
    fn repeated(mut self) -> Result<Job, Box<Self>> {
        match self.method.is_idempotent() && self.done.may_repeat() {
            true => self.again(),
            false => Err(Box::new(self)),
        }
    }

    /// The request, to be handed out again; what cannot be is an error.
    fn again(self) -> Result<Job, Box<Self>> {
        match self.after {
            After::Kept(parts, taken) => {
                let Self { number, done, .. } = self;
                let request = Request::from_parts(*parts, Body::empty());
                Ok(Job { number, request, done, taken: Some(taken), taking: None })
            }
            _ => Err(Box::new(self)),
        }
    }
}

/// Every request in the hand of some agent, by the URL that its answer comes to. Outlives registrations: what was
/// handed out may be answered after their end.
#[derive(Default)]
pub struct Flights {
    /// For what they bring and what they are answered.
    pub(super) store: Arc<Store>,
    single: Mutex<HashMap<UrlId, Flight>>,
    /// What was handed out in one envelope, in its order.
    several: Mutex<HashMap<UrlId, Vec<Flight>>>,
}

/// Why an answer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// No request was handed out under this URL, or it has its answer.
    #[error("no request waits for an answer here")]
    Unknown,
    /// It is not a response.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// All answers together have taken the memory that there is for them.
    #[error("there is no room for an answer at the moment")]
    Full,
    /// It took too long.
    #[error("the answer took too long")]
    Timeout,
}

impl Flights {
    /// Whose bodies and answers stay within `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, ..Self::default() }
    }

    pub(super) fn insert(&self, url: UrlId, flight: Flight) {
        self.single.lock().insert(url, flight);
    }

    pub(super) fn insert_several(&self, url: UrlId, flights: Vec<Flight>) {
        self.several.lock().insert(url, flights);
    }

    pub(super) fn take(&self, url: UrlId) -> Option<Flight> {
        self.single.lock().remove(&url)
    }

    pub(super) fn take_several(&self, url: UrlId) -> Option<Vec<Flight>> {
        self.several.lock().remove(&url)
    }

    /// A request has left this process.
    pub(super) fn sent(&self, url: UrlId, request: Request, taken: Option<Spooled>) {
        if let Some(flight) = self.single.lock().get_mut(&url) {
            flight.sent(request, taken);
        }
    }

    /// As [`Flights::sent`], for several.
    pub(super) fn sent_several(&self, url: UrlId, requests: Vec<(Request, Spooled)>) {
        if let Some(flights) = self.several.lock().get_mut(&url) {
            for (flight, (request, taken)) in flights.iter_mut().zip(requests) {
                flight.sent(request, Some(taken));
            }
        }
    }

    /// Takes back what has left this process and did not arrive, in its order; what cannot be sent again is an error.
    /// Nothing if it is on its way still, has its answer, or nobody waits for one.
    pub(super) fn recall(&self, url: UrlId) -> Vec<Result<Job, Box<Flight>>> {
        let mut single = self.single.lock();
        if let Some(flight) = single.get(&url) {
            let flight = if flight.stays() { None } else { single.remove(&url) };
            return flight.map(Flight::again).into_iter().collect();
        }
        drop(single);
        let mut several = self.several.lock();
        let stay = several.get(&url).is_none_or(|flights| flights.iter().all(Flight::stays));
        let flights = if stay { None } else { several.remove(&url) };
        drop(several);
        flights.into_iter().flatten().filter(|flight| !flight.stays()).map(Flight::again).collect()
    }

    /// A visitor of this URL has left. An answer may come still; what was kept of the request goes at once.
    pub(super) fn let_go(&self, url: UrlId) {
        // The locks must go before what was kept, whose end may touch a queue.
        let _single = self.single.lock().get_mut(&url).and_then(Flight::let_go);
        let mut several = self.several.lock();
        let flights = several.get_mut(&url).into_iter().flatten();
        let _several: Vec<_> = flights.filter_map(Flight::let_go).collect();
        drop(several);
    }

    /// Nobody waits for an answer to this URL, or nobody will when the last of its visitors has left.
    pub(super) fn forget(&self, url: UrlId) {
        // The lock must go before the flight, whose end may touch a queue.
        let _flight = self.take(url);
        let mut several = self.several.lock();
        let left = several.get(&url).is_some_and(|all| all.iter().all(|flight| flight.done.is_closed()));
        let _flights = if left { several.remove(&url) } else { None };
        drop(several);
    }

    /// Takes what is in hand under a URL from an agent that is gone; what is not to be sent again is an error.
    pub(super) fn lose(&self, url: UrlId) -> Vec<Result<Job, Box<Flight>>> {
        let several = self.take_several(url).into_iter().flatten();
        self.take(url).into_iter().chain(several).map(Flight::repeated).collect()
    }

    /// Takes the answer that `envelope` brings. A short one is read first, so that the agent is free for its next
    /// request; a long or endless one streams as its visitor reads, and so does all that an agent that streams has not
    /// sent yet. Interim responses in front of one that is live go to its visitor as they come. An answer that comes
    /// after its visitor left is thrown away. Dropping the future breaks the answer off.
    ///
    /// # Errors
    /// [`AnswerError`]; a visitor that still waits is told too.
    pub async fn answer(&self, url: UrlId, envelope: Body) -> Result<(), AnswerError> {
        let Some(mut flight) = self.take(url) else {
            let flights = self.take_several(url).ok_or(AnswerError::Unknown)?;
            return Self::answer_several(flights, envelope).await;
        };
        flight.queue.answered(flight.number);
        let known = envelope.size_hint().exact();
        let mut reader = Reader::new(envelope);
        let until = Instant::now() + defaults::ANSWER;
        let head = match flight.manner.live {
            true => flight.await_head(&mut reader).await,
            false => flight.head(&mut reader, until).await.map(Some),
        };
        let answer = match head {
            // Nobody waits for the answer that is being made.
            Ok(None) => return Ok(()),
            Ok(Some(head)) => {
                let until = if flight.manner.live { Instant::now() + defaults::ANSWER } else { until };
                let reading = tokio::time::timeout_at(until, read(reader, head, known, &flight));
                reading.await.unwrap_or(Err(AnswerError::Timeout))
            }
            Err(error) => Err(error),
        };
        match answer.map(|(response, whole)| (flight.behind_gate(response), whole)) {
            Ok((response, true)) => {
                flight.done.send(Ok(response));
                Ok(())
            }
            Ok((response, false)) => {
                let (guard, gone) = oneshot::channel::<()>();
                let cut = flight.queue.is_cut();
                let mut response = response.map(|body| Body::wrap(Severed::by(flight.queue.is_cut(), body)));
                response.body_mut().hold(guard);
                if flight.done.send(Ok(response)) {
                    tokio::select! {
                        biased;
                        () = cut => {}
                        _ = gone => {}
                    }
                }
                Ok(())
            }
            Err(error) => {
                let kind = match &error {
                    AnswerError::Read(ReadError::Bad(_)) => SendErrorKind::Invalid,
                    _ => SendErrorKind::Closed,
                };
                flight.done.send(Err(kind.error()));
                Err(error)
            }
        }
    }
}

/// The answer, and whether it is there as a whole; `known` is how long its envelope is.
async fn read(
    mut reader: Reader,
    head: ResponseHead,
    known: Option<u64>,
    flight: &Flight,
) -> Result<(Response, bool), AnswerError> {
    let said = known.unwrap_or(defaults::ANSWER_WHOLE).min(defaults::ANSWER_WHOLE);
    // Without memory it streams.
    let mut share = flight.queue.flights.store.remember(said);
    let short = share.is_some() && known.is_some_and(|length| length <= defaults::ANSWER_WHOLE);
    let most = usize::try_from(defaults::ANSWER_WHOLE).unwrap_or(usize::MAX);
    let ResponseHead { status, mut headers, framing, upgrade } = head;
    let comes = flight.manner.streams || flight.manner.live;
    let whole = if comes { share.is_some() && reader.settle(most).await? } else { short };
    // What streams holds no more than what has come of it.
    let ahead = reader.ahead();
    if let Some(token) = upgrade {
        hop::set_upgrade(&mut headers, token);
    }
    let bodiless = is_bodiless(&flight.method, status);
    let body = match framing {
        _ if bodiless => {
            // The length of what a GET would have brought.
            if let Framing::Rest(Some(said)) = framing
                && status != StatusCode::NO_CONTENT
            {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(said));
            }
            if whole && !matches!(framing, Framing::Chunked) {
                refuse_second(reader).await?;
            }
            Body::empty()
        }
        Framing::Chunked if comes => reader.stream(framing),
        // If that is all there is, it broke off at the origin: its visitor sees that, if it reads as this comes.
        Framing::Rest(Some(said)) if flight.manner.live && said > ahead as u64 => reader.stream(framing),
        framing if whole => {
            // Trailers go when the body is taken in.
            headers.remove(TRAILER);
            Body::full(reader.whole(framing, most).await?)
        }
        framing => reader.stream(framing),
    };
    let length = if whole { body.size_hint().lower() } else { ahead as u64 };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if let Some(share) = share.as_mut().filter(|_| length > 0)
        && let Some(held) = share.split(length.min(share.num_permits()))
    {
        response.body_mut().hold(held);
    }
    Ok((response, whole || bodiless))
}

/// A body where none belongs is dropped, as the clients of 2009 send one; a second message is not.
async fn refuse_second(reader: Reader) -> Result<(), ReadError> {
    let most = usize::try_from(defaults::ANSWER_WHOLE).unwrap_or(usize::MAX);
    match reader.whole(Framing::Rest(Some(0)), most).await {
        Err(ReadError::Bad(BadMessage::Several)) => Err(BadMessage::Several.into()),
        other => other.map(|_| ()),
    }
}
