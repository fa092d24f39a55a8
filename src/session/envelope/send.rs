//! The visitor's side: a request waits for a poll, then for its answer.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, EXPECT, UPGRADE};
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::queue::Job;
use super::{Queue, raw};
use crate::defaults;
use crate::message::embedded::{ReadError, whole};
use crate::message::upgrade::{self, Tunnel};
use crate::message::{Body, Request, Response};
use crate::session::carrier::{Carrier, SendError, SendErrorKind, Slot};

struct Envelopes(Arc<Queue>);

/// The relay's end of a queue.
pub fn carrier(queue: Arc<Queue>) -> Box<dyn Carrier> {
    Box::new(Envelopes(queue))
}

impl Carrier for Envelopes {
    fn send(&self, request: Request, slot: Slot) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(async move {
            let mut response = self.exchange(request).await?;
            slot.keep_with(&mut response);
            Ok(response)
        })
    }

    fn capacity(&self) -> usize {
        defaults::ENVELOPES
    }

    fn drain(&self) {
        self.0.end();
    }

    fn is_late(&self) -> bool {
        self.0.glance().silent >= self.0.absence()
    }

    fn is_closed(&self) -> bool {
        self.0.is_ended()
    }

    fn awaits_calls(&self) -> bool {
        self.0.glance().handed > 0
    }
}

impl Envelopes {
    async fn exchange(&self, mut request: Request) -> Result<Response, SendError> {
        let mut ours = None;
        if request.headers().contains_key(UPGRADE) {
            // Only bodies that stay open can be the two directions of a stream.
            if self.0.refuses_streams() {
                return Err(SendErrorKind::NoUpgrade.error());
            }
            let (near, far) = raw::pipe();
            *request.body_mut() = raw::body(far);
            ours = Some(near);
        }
        self.ask(request, ours.is_some()).await.map(|mut response| {
            if let Some(write) = ours
                && response.status() == StatusCode::SWITCHING_PROTOCOLS
            {
                let read = std::mem::take(response.body_mut());
                response.extensions_mut().insert(Tunnel::ready(raw::join(read, write)));
            }
            response
        })
    }

    async fn ask(&self, mut request: Request, upgrades: bool) -> Result<Response, SendError> {
        upgrade::join_cookies(request.headers_mut());
        // Reading the body is what says 100 to the visitor; the agent cannot.
        request.headers_mut().remove(EXPECT);
        let mut share = None;
        if !upgrades && !request.body().is_end_stream() {
            // Before the first poll nobody takes the request anyway.
            let _ = tokio::time::timeout(self.0.absence(), self.0.met()).await;
            if self.0.wants_whole() {
                share = Some(self.take_in(&mut request).await?);
            }
        }
        let (done, mut answer) = oneshot::channel();
        let job = Job { number: 0, request, done, share };
        let number = self.0.push(job).map_err(|request| SendErrorKind::Closed.unsent(*request))?;
        let _leave = Leave { queue: &self.0, number };
        let since = Instant::now();
        loop {
            let look = tokio::time::sleep(self.patience(since));
            tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or_else(|_| Err(SendErrorKind::Closed.error())),
                () = look => {}
            }
            let kind = match self.patience(since).is_zero() {
                false => continue,
                true if self.0.glance().silent >= self.0.absence() => SendErrorKind::Absent,
                true => SendErrorKind::Busy,
            };
            if let Some(request) = self.0.take_back(number) {
                return Err(kind.unsent(request));
            }
            // It is in the agent's hand: how long an answer may take is not this carrier's matter.
            return answer.await.unwrap_or_else(|_| Err(SendErrorKind::Closed.error()));
        }
    }

    /// How much longer a waiting request waits: long for an agent that is busy, not for one that does not poll.
    fn patience(&self, since: Instant) -> std::time::Duration {
        let absent = self.0.absence().saturating_sub(self.0.glance().silent);
        absent.min(defaults::POLL_BUSY.saturating_sub(since.elapsed()))
    }

    /// Takes the body into memory before the request takes a poll, which a slow visitor could hold for long otherwise.
    async fn take_in(&self, request: &mut Request) -> Result<OwnedSemaphorePermit, SendError> {
        let length = request.body().size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let length = length.unwrap_or(defaults::MESSAGE);
        if length > defaults::MESSAGE {
            return Err(SendErrorKind::TooLarge.error());
        }
        let room = u32::try_from(length).unwrap_or(u32::MAX);
        let Ok(share) = self.0.memory.clone().try_acquire_many_owned(room) else {
            return Err(SendErrorKind::Busy.unsent(std::mem::take(request)));
        };
        let body = std::mem::take(request.body_mut());
        let body = whole(body, defaults::MESSAGE).await.map_err(|error| match error {
            ReadError::TooLarge(_) => SendErrorKind::TooLarge.error(),
            _ => SendErrorKind::Closed.error(),
        })?;
        request.headers_mut().remove(CONTENT_LENGTH);
        *request.body_mut() = Body::full(body);
        Ok(share)
    }
}

struct Leave<'a> {
    queue: &'a Queue,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.queue.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;
    use crate::session::envelope::{Flights, Handed, PollEnd};
    use crate::session::{Kind, Link};

    fn queue() -> (Arc<Flights>, Arc<Queue>, Arc<Link>) {
        let flights = Arc::<Flights>::default();
        let queue = Queue::new(flights.clone(), defaults::POLL_ABSENCE);
        let link = Link::new(carrier(queue.clone()), Kind::Envelope, 0, Arc::default());
        (flights, queue, link)
    }

    fn get() -> Request {
        http::Request::get("http://a.test/").body(Body::empty()).unwrap()
    }

    async fn read(handed: Handed) -> String {
        String::from_utf8(handed.message.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    const HOLD: Duration = defaults::POLL_HOLD;

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_does_not_poll_is_told_from_one_that_is_busy() {
        let (flights, queue, link) = queue();
        let since = Instant::now();
        let error = link.send(get(), link.reserve().unwrap()).await.unwrap_err();
        assert_eq!((error.kind, error.unsent.is_some()), (SendErrorKind::Absent, true));
        assert_eq!(since.elapsed().as_secs(), defaults::POLL_ABSENCE.as_secs());
        assert!(link.is_late());

        let first = link.send(get(), link.reserve().unwrap());
        let work = async {
            read(queue.poll(1, false, HOLD).await.ok().unwrap()).await;
            // One request in hand, and no poll: busy.
            let since = Instant::now();
            let error = link.send(get(), link.reserve().unwrap()).await.unwrap_err();
            assert_eq!((error.kind, error.unsent.is_some()), (SendErrorKind::Busy, true));
            assert_eq!(since.elapsed().as_secs(), defaults::POLL_BUSY.as_secs());
            flights.answer(1, Body::full("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap();
        };
        // The poll comes first: whoever has been away for so long is not waited for any more.
        assert_eq!(tokio::join!(work, first).1.unwrap().status(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_delivery_is_dropped_goes_to_the_next_poll() {
        let (flights, queue, link) = queue();
        let sent = link.send(get(), link.reserve().unwrap());
        let work = async {
            drop(queue.poll(1, false, HOLD).await.ok().unwrap());
            // The URL is as good as before, since it brought nothing.
            let message = read(queue.poll(1, false, HOLD).await.ok().unwrap()).await;
            assert!(message.starts_with("GET / HTTP/1.1\r\nHost: a.test\r\n"), "{message}");
            flights.answer(1, Body::full("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap();
        };
        assert_eq!(tokio::join!(sent, work).0.unwrap().status(), 200);
        assert!(matches!(queue.poll(1, false, HOLD).await, Err(PollEnd::Used)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_given_back_at_the_end_and_what_is_in_hand_is_not() {
        let (flights, queue, link) = queue();
        let (first, second) =
            (link.send(get(), link.reserve().unwrap()), link.send(get(), link.reserve().unwrap()));
        let work = async {
            read(queue.poll(1, false, HOLD).await.ok().unwrap()).await;
            queue.end();
            assert!(matches!(queue.poll(2, false, HOLD).await, Err(PollEnd::Ended)));
            flights.answer(1, Body::full("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap();
        };
        let (first, second, ()) = tokio::join!(first, second, work);
        assert_eq!(first.unwrap().status(), 200);
        let error = second.unwrap_err();
        assert_eq!((error.kind, error.unsent.is_some()), (SendErrorKind::Closed, true));
        assert!(link.is_out() && link.reserve().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_visitor_that_leaves_takes_its_request_along() {
        let (flights, queue, link) = queue();
        let sent = link.send(get(), link.reserve().unwrap());
        let left = tokio::time::timeout(Duration::from_secs(1), sent).await;
        assert!(left.is_err());
        assert_eq!(queue.glance().waiting, 0);
        let sent = tokio::time::timeout(Duration::from_secs(1), link.send(get(), link.reserve().unwrap()));
        let (left, polled) = tokio::join!(sent, queue.poll(1, false, HOLD));
        assert!(left.is_err());
        read(polled.ok().unwrap()).await;
        flights.answer(1, Body::full("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap();
        assert!(flights.answer(1, Body::full("HTTP/1.1 200 OK\r\n\r\n")).await.is_err());
    }
}
