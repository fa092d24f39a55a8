//! Several requests in the answer to one poll, for agents that ask for it, and their answers in one POST.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::answer::{AnswerError, Flight};
use super::deliver::PIECE;
use super::job::{Job, Whole};
use super::queue::Queue;
use super::severed::Severed;
use super::spool::Spooled;
use super::{Flights, UrlId};
use crate::defaults;
use crate::domain::Visitor;
use crate::http1::embedded::{BadMessage, Framing, ReadError, request_head, take_response, whole};
use crate::message::framing::expects_length;
use crate::message::{Body, BoxError, Request, Response};
use crate::session::carrier::{SendError, SendErrorKind};

/// Embedded requests, ready to be the body of the answer to a poll. Those that are dropped before they were written go
/// back to the queue.
pub struct Several {
    /// Who sent each.
    pub visitors: Vec<Option<SocketAddr>>,
    /// The messages, one behind the other.
    pub messages: Body,
}

impl Whole {
    /// As a message that says where it ends.
    fn write(&mut self, out: &mut Messages) {
        let known = self.request.headers_mut().remove(CONTENT_LENGTH).is_some();
        let expected = known || expects_length(self.request.method());
        let length = Some(self.taken.length()).filter(|length| *length > 0 || expected);
        let (method, uri) = (self.request.method(), self.request.uri());
        out.text.extend_from_slice(&request_head(method, uri, self.request.headers(), Framing::Rest(length)));
        match self.taken.in_memory() {
            Some(bytes) => out.text.extend_from_slice(bytes),
            None => out.body(Severed::by(self.flight.queue.is_cut(), self.taken.body())),
        }
    }
}

/// Embeds `first` and what waits behind it for the poll of `url`. `None` when there is nothing to deliver after all.
pub(super) async fn embed(queue: &Arc<Queue>, url: UrlId, first: Job) -> Option<Several> {
    let mut all: Vec<Whole> = Whole::of(queue, first).await.into_iter().collect();
    let mut size: u64 = all.iter().map(|one| one.taken.length()).sum();
    // Behind a long one nobody is to wait.
    while all.len() < defaults::PIPELINE && size < defaults::MESSAGE_MEMORY as u64 {
        let Some(job) = queue.take_ready() else { break };
        if let Some(one) = Whole::of(queue, job).await {
            size += one.taken.length();
            all.push(one);
        }
    }
    if all.is_empty() {
        return None;
    }
    let mut messages = Messages::default();
    all.iter_mut().for_each(|one| one.write(&mut messages));
    let remote = |one: &Whole| one.request.extensions().get::<Visitor>().map(|visitor| visitor.remote);
    let visitors = all.iter().map(remote).collect();
    let (flights, kept): (Vec<_>, Vec<_>) =
        all.into_iter().map(|one| (one.flight, (one.request, one.taken))).unzip();
    if let Err(flights) = queue.hand_several(url, flights) {
        // Another poll of the same URL was quicker, or a visitor has left.
        give_back(queue, flights, kept, None);
        return None;
    }
    let back = Some(Back { queue: queue.clone(), url, kept });
    let (parts, left) = messages.done();
    Some(Several { visitors, messages: Body::wrap(Delivery { parts, left, back }) })
}

/// Messages as they are written: what is in memory is one piece.
#[derive(Default)]
struct Messages {
    parts: VecDeque<Part>,
    text: BytesMut,
}

enum Part {
    Memory(Bytes),
    File(Severed),
}

impl Messages {
    fn body(&mut self, body: Severed) {
        self.parts.push_back(Part::Memory(self.text.split().freeze()));
        self.parts.push_back(Part::File(body));
    }

    /// All of them, and their length in bytes.
    fn done(mut self) -> (VecDeque<Part>, u64) {
        if !self.text.is_empty() {
            self.parts.push_back(Part::Memory(self.text.freeze()));
        }
        let length = |part: &Part| match part {
            Part::Memory(bytes) => bytes.len() as u64,
            Part::File(body) => body.size_hint().lower(),
        };
        let all = self.parts.iter().map(length).sum();
        (self.parts, all)
    }
}

/// What is needed to give requests back.
struct Back {
    queue: Arc<Queue>,
    url: UrlId,
    kept: Vec<(Request, Spooled)>,
}

struct Delivery {
    parts: VecDeque<Part>,
    left: u64,
    back: Option<Back>,
}

impl HttpBody for Delivery {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let piece = loop {
            let read = match self.parts.front_mut() {
                None => return Poll::Ready(None),
                Some(Part::Memory(bytes)) if bytes.is_empty() => None,
                Some(Part::Memory(bytes)) => Some(bytes.split_to(bytes.len().min(PIECE))),
                Some(Part::File(body)) => match ready!(Pin::new(body).poll_frame(cx)?) {
                    Some(frame) => frame.into_data().ok(),
                    None => None,
                },
            };
            match read {
                Some(piece) => break piece,
                None => drop(self.parts.pop_front()),
            }
        };
        self.left = self.left.saturating_sub(piece.len() as u64);
        if self.left == 0
            && let Some(Back { queue, url, kept }) = self.back.take()
        {
            queue.flights.sent_several(url, kept);
            queue.sent(url);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(Back { queue, url, kept }) = self.back.take() else { return };
        let Some(flights) = queue.flights.take_several(url) else { return };
        give_back(&queue, flights, kept, Some(url));
    }
}

/// They go first in the queue, in their order.
fn give_back(queue: &Queue, flights: Vec<Flight>, kept: Vec<(Request, Spooled)>, url: Option<UrlId>) {
    for (flight, (request, taken)) in flights.into_iter().zip(kept).rev() {
        queue.put_back(Whole { flight, request, taken }.into_job(), url);
    }
}

impl Flights {
    /// Takes the answers to all of `flights`, in their order. What cannot be read ends the reading: nobody knows where
    /// the next would begin.
    pub(super) async fn answer_several(flights: Vec<Flight>, envelope: Body) -> Result<(), AnswerError> {
        for flight in &flights {
            flight.queue.answered(flight.number);
        }
        let mut rest = match taken_in(&flights, envelope).await {
            Ok(rest) => rest,
            Err(error) => {
                let full = matches!(error, AnswerError::Full);
                let kind = if full { SendErrorKind::Busy } else { SendErrorKind::Closed };
                flights.into_iter().for_each(|flight| flight.end(Err(kind.error())));
                return Err(error);
            }
        };
        let count = flights.len();
        let mut bad = None;
        for (place, flight) in flights.into_iter().enumerate() {
            let read = match bad {
                None => take_response(&mut rest, &flight.method, place + 1 == count),
                Some(bad) => Err(bad),
            };
            flight.end(match read {
                Ok((status, headers, body)) => {
                    let mut response = Response::new(Body::full(body));
                    *response.status_mut() = status;
                    *response.headers_mut() = headers;
                    Ok(response)
                }
                Err(why) => {
                    bad.get_or_insert(why);
                    Err(SendErrorKind::Invalid.error())
                }
            });
        }
        let more = (!rest.trim_ascii().is_empty()).then_some(BadMessage::Several);
        bad.or(more).map_or(Ok(()), |bad| Err(ReadError::from(bad).into()))
    }
}

/// The whole envelope, within the memory that the registration has for such.
async fn taken_in(flights: &[Flight], envelope: Body) -> Result<Bytes, AnswerError> {
    let known = envelope.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let room = known.unwrap_or(defaults::PIPELINE_ANSWERS);
    if room > defaults::PIPELINE_ANSWERS {
        return Err(ReadError::TooLarge(defaults::PIPELINE_ANSWERS).into());
    }
    let reading = async {
        let answers = flights.first().map(|flight| flight.queue.answers.clone());
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let _share = match answers {
            Some(answers) => answers.acquire_many_owned(room).await.ok(),
            None => None,
        };
        let store = flights.first().map(|flight| flight.queue.flights.store.clone());
        let _memory = store.map(|store| store.remember(room.into()).ok_or(AnswerError::Full)).transpose()?;
        Ok(whole(envelope, defaults::PIPELINE_ANSWERS).await?)
    };
    tokio::time::timeout(defaults::ANSWER, reading).await.unwrap_or(Err(AnswerError::Timeout))
}

impl Flight {
    fn end(self, answer: Result<Response, SendError>) {
        self.done.send(answer);
    }
}
