//! Several requests in the answer to one poll, for agents that ask for it, and their answers in one POST.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::{CONTENT_LENGTH, UPGRADE};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{AnswerError, Flight};
use super::deliver::{PIECE, in_memory};
use super::queue::{Job, Queue};
use super::{Flights, UrlId};
use crate::defaults;
use crate::domain::Visitor;
use crate::message::embedded::{BadMessage, Framing, ReadError, request_head, take_response, whole};
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

/// One request, taken apart.
struct Whole {
    flight: Flight,
    request: Request,
    body: Bytes,
    share: Option<OwnedSemaphorePermit>,
}

impl Whole {
    /// `None` when its visitor has gone, its body could not be had, or it asks for what a whole message cannot be.
    async fn of(queue: &Arc<Queue>, job: Job) -> Option<Self> {
        if job.done.is_closed() {
            return None;
        }
        let Job { number, mut request, done, share } = job;
        if request.headers().contains_key(UPGRADE) {
            let _ = done.send(Err(SendErrorKind::NoUpgrade.error()));
            return None;
        }
        let (body, done) = in_memory(std::mem::take(request.body_mut()), done).await?;
        let (queue, method) = (queue.clone(), request.method().clone());
        let flight = Flight { queue, number, method, upgrades: false, streams: false, done };
        Some(Self { flight, request, body, share })
    }

    /// As a message that says where it ends.
    fn write(&mut self, out: &mut BytesMut) {
        let expected = self.request.headers_mut().remove(CONTENT_LENGTH).is_some()
            || [Method::POST, Method::PUT, Method::PATCH].contains(self.request.method());
        let length = (expected || !self.body.is_empty()).then_some(self.body.len() as u64);
        let (method, uri) = (self.request.method(), self.request.uri());
        out.extend_from_slice(&request_head(method, uri, self.request.headers(), Framing::Rest(length)));
        out.extend_from_slice(&self.body);
    }

    fn into_job(self) -> Job {
        let Self { flight: Flight { number, done, .. }, mut request, body, share } = self;
        *request.body_mut() = Body::full(body);
        Job { number, request, done, share }
    }
}

/// Embeds `first` and what waits behind it for the poll of `url`. `None` when there is nothing to deliver after all.
pub(super) async fn embed(queue: &Arc<Queue>, url: UrlId, first: Job) -> Option<Several> {
    let mut all: Vec<Whole> = Whole::of(queue, first).await.into_iter().collect();
    let mut size: usize = all.iter().map(|one| one.body.len()).sum();
    while all.len() < defaults::PIPELINE && size < defaults::MESSAGE {
        let Some(job) = queue.take_ready() else { break };
        if let Some(one) = Whole::of(queue, job).await {
            size += one.body.len();
            all.push(one);
        }
    }
    if all.is_empty() {
        return None;
    }
    if !queue.hand_several(all.iter().map(|one| one.flight.number), url) {
        // Another poll of the same URL was quicker.
        all.into_iter().rev().for_each(|one| queue.put_back(one.into_job(), None));
        return None;
    }
    let mut messages = BytesMut::with_capacity(size + 512 * all.len());
    all.iter_mut().for_each(|one| one.write(&mut messages));
    let remote = |one: &Whole| one.request.extensions().get::<Visitor>().map(|visitor| visitor.remote);
    let visitors = all.iter().map(remote).collect();
    let (flights, kept) = all.into_iter().map(|one| (one.flight, (one.request, one.body, one.share))).unzip();
    queue.flights.insert_several(url, flights);
    let back = Some(Back { queue: queue.clone(), url, kept });
    Some(Several { visitors, messages: Body::wrap(Delivery { rest: messages.freeze(), back }) })
}

/// What is needed to give requests back.
struct Back {
    queue: Arc<Queue>,
    url: UrlId,
    kept: Vec<(Request, Bytes, Option<OwnedSemaphorePermit>)>,
}

struct Delivery {
    rest: Bytes,
    back: Option<Back>,
}

impl HttpBody for Delivery {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        if self.rest.is_empty() {
            self.back = None;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(Back { queue, url, kept }) = self.back.take() else { return };
        let Some(flights) = queue.flights.take_several(url) else { return };
        for (flight, (request, body, share)) in flights.into_iter().zip(kept).rev() {
            queue.put_back(Whole { flight, request, body, share }.into_job(), Some(url));
        }
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
                flights.into_iter().for_each(|flight| flight.end(Err(SendErrorKind::Closed.error())));
                return Err(error);
            }
        };
        let last = flights.len() - 1;
        let mut bad = None;
        for (place, flight) in flights.into_iter().enumerate() {
            let read = match bad {
                None => take_response(&mut rest, &flight.method, place == last),
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
    let room = known.unwrap_or(defaults::MESSAGE);
    if room > defaults::MESSAGE {
        return Err(ReadError::TooLarge(defaults::MESSAGE).into());
    }
    let reading = async {
        let answers = flights.first().map(|flight| flight.queue.answers.clone());
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let _share = match answers {
            Some(answers) => answers.acquire_many_owned(room).await.ok(),
            None => None,
        };
        Ok(whole(envelope, defaults::MESSAGE).await?)
    };
    tokio::time::timeout(defaults::ANSWER, reading).await.unwrap_or(Err(AnswerError::Timeout))
}

impl Flight {
    fn end(self, answer: Result<Response, SendError>) {
        let _ = self.done.send(answer);
    }
}
