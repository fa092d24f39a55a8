//! Answers: an embedded response finds the visitor that waits for it.

use std::collections::HashMap;
use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::UrlId;
use super::queue::{Done, Job, Queue};
use super::spool::Spooled;
use crate::defaults;
use crate::message::embedded::{
    BadMessage, Framing, ReadError, Reader, ResponseHead, parse_answer, parse_response,
};
use crate::message::{Body, Request, Response, hop};
use crate::session::carrier::SendErrorKind;

/// A request in an agent's hand.
pub(super) struct Flight {
    pub(super) queue: Arc<Queue>,
    pub(super) number: u64,
    pub(super) method: Method,
    /// The request asked for an Upgrade, so a 101 may be its answer.
    pub(super) upgrades: bool,
    pub(super) done: Done,
    pub(super) after: After,
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

/// Every request in the hand of some agent, by the URL that its answer comes to. Outlives registrations: what was
/// handed out may be answered after their end.
#[derive(Default)]
pub struct Flights(Mutex<HashMap<UrlId, Flight>>);

/// Why an answer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// No request was handed out under this URL, or it has its answer.
    #[error("no request waits for an answer here")]
    Unknown,
    /// It is not a response.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It took too long.
    #[error("the answer took too long")]
    Timeout,
}

impl Flights {
    pub(super) fn insert(&self, url: UrlId, flight: Flight) {
        self.0.lock().insert(url, flight);
    }

    pub(super) fn take(&self, url: UrlId) -> Option<Flight> {
        self.0.lock().remove(&url)
    }

    /// A request has left this process.
    pub(super) fn sent(&self, url: UrlId, request: Request, taken: Option<Spooled>) {
        let parts = Box::new(request.into_parts().0);
        if let Some(flight) = self.0.lock().get_mut(&url) {
            flight.after = taken.map_or(After::Gone, |taken| After::Kept(parts, taken));
        }
    }

    /// Takes a request back that has left this process and did not arrive; what cannot be sent again is an error.
    /// `None` if it is on its way still, has its answer, or nobody waits for one.
    pub(super) fn recall(&self, url: UrlId) -> Option<Result<Job, Flight>> {
        let mut flights = self.0.lock();
        let flight = flights.get(&url)?;
        if matches!(flight.after, After::UnderWay) || flight.done.is_closed() {
            return None;
        }
        let flight = flights.remove(&url)?;
        Some(match flight.after {
            After::Kept(parts, taken) => {
                let Flight { number, done, .. } = flight;
                let request = Request::from_parts(*parts, Body::empty());
                Ok(Job { number, request, done, taken: Some(taken) })
            }
            _ => Err(flight),
        })
    }

    pub(super) fn forget(&self, url: UrlId) {
        // The lock must go before the flight, whose end may touch a queue.
        let _flight = self.take(url);
    }

    pub(super) fn fail(&self, url: UrlId) {
        if let Some(flight) = self.take(url) {
            let _ = flight.done.send(Err(SendErrorKind::Closed.error()));
        }
    }

    /// Takes the answer that `envelope` brings. A short one is read first, so that the agent is free for its next
    /// request; a long or endless one streams as its visitor reads. An answer that comes after its visitor left is
    /// read and thrown away. Dropping the future breaks the answer off.
    ///
    /// # Errors
    /// [`AnswerError`]; a visitor that still waits is told too.
    pub async fn answer(&self, url: UrlId, envelope: Body) -> Result<(), AnswerError> {
        let flight = self.take(url).ok_or(AnswerError::Unknown)?;
        flight.queue.answered(flight.number);
        let short = envelope.size_hint().exact().is_some_and(|length| length <= defaults::ANSWER_WHOLE);
        let reading = tokio::time::timeout(defaults::ANSWER, read(envelope, &flight, short));
        match reading.await.unwrap_or(Err(AnswerError::Timeout)) {
            Ok(mut response) => {
                let (guard, gone) = oneshot::channel::<()>();
                if !short {
                    response.body_mut().hold(guard);
                }
                if flight.done.send(Ok(response)).is_ok() && !short {
                    let _ = gone.await;
                }
                Ok(())
            }
            Err(error) => {
                let kind = match &error {
                    AnswerError::Read(ReadError::Bad(_)) => SendErrorKind::Invalid,
                    _ => SendErrorKind::Closed,
                };
                let _ = flight.done.send(Err(kind.error()));
                Err(error)
            }
        }
    }
}

async fn read(envelope: Body, flight: &Flight, short: bool) -> Result<Response, AnswerError> {
    let mut reader = Reader::new(envelope);
    let parse = if flight.upgrades { parse_answer } else { parse_response };
    let ResponseHead { status, mut headers, framing, upgrade } = reader.head(parse).await?;
    if let Some(token) = upgrade {
        hop::set_upgrade(&mut headers, token);
    }
    let bodiless =
        flight.method == Method::HEAD || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    let body = match framing {
        _ if bodiless => {
            // The length of what a GET would have brought.
            if let Framing::Rest(Some(said)) = framing
                && status != StatusCode::NO_CONTENT
            {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(said));
            }
            if short && !matches!(framing, Framing::Chunked) {
                refuse_second(reader).await?;
            }
            Body::empty()
        }
        framing if short => {
            let most = usize::try_from(defaults::ANSWER_WHOLE).unwrap_or(usize::MAX);
            Body::full(reader.whole(framing, most).await?)
        }
        framing => reader.stream(framing),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// A body where none belongs is dropped, as the clients of 2009 send one; a second message is not.
async fn refuse_second(reader: Reader) -> Result<(), ReadError> {
    let most = usize::try_from(defaults::ANSWER_WHOLE).unwrap_or(usize::MAX);
    match reader.whole(Framing::Rest(Some(0)), most).await {
        Err(ReadError::Bad(BadMessage::Several)) => Err(BadMessage::Several.into()),
        other => other.map(|_| ()),
    }
}
