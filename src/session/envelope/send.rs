//! The visitor's side: a request waits for a poll, then for its answer.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, EXPECT, UPGRADE};
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::mailbox::ExchangeId;
use super::request::{Queued, Recipient, Upload, of_spool};
use super::{Queue, stream};
use crate::defaults;
use crate::message::repeat::{self, RequestCopy};
use crate::message::upgrade::{self, Tunnel};
use crate::message::{Request, Response, interim};
use crate::session::carrier::{Carrier, SendError, SendErrorKind, Slot};

struct Envelopes(Arc<Queue>);

/// The relay's end of a queue.
pub fn carrier(queue: Arc<Queue>) -> Box<dyn Carrier> {
    Box::new(Envelopes(queue))
}

impl Carrier for Envelopes {
    fn send(
        &self,
        request: Request,
        slot: Slot,
        interim: interim::Sender,
    ) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(async move {
            let mut response = self.exchange(request, interim).await?;
            slot.attach_to(&mut response);
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
        self.0.status().silent >= self.0.absence()
    }

    fn is_closed(&self) -> bool {
        self.0.is_ended()
    }

    fn needs_listener(&self) -> bool {
        self.0.status().in_hand > 0
    }
}

impl Envelopes {
    async fn exchange(&self, mut request: Request, interim: interim::Sender) -> Result<Response, SendError> {
        let (mut near_end, mut copy) = (None, None);
        if request.headers().contains_key(UPGRADE) {
            // Only bodies that stay open can be the two directions of a stream.
            if self.0.wants_whole() == Some(true) {
                return Err(SendErrorKind::NoUpgrade.unsent(request));
            }
            copy = Some(RequestCopy::of(&request));
            let (near, far) = stream::pipe();
            *request.body_mut() = stream::body(far);
            near_end = Some(near);
        }
        let answered = self.queue(request, near_end.is_some(), interim).await;
        let answered = answered.map_err(|error| match copy {
            Some(copy) if error.kind == SendErrorKind::NoUpgrade => error.kind.unsent(copy.into_request()),
            _ => error,
        });
        answered.map(|mut response| {
            if let Some(write) = near_end
                && response.status() == StatusCode::SWITCHING_PROTOCOLS
            {
                let read = std::mem::take(response.body_mut());
                response.extensions_mut().insert(Tunnel::ready(stream::join(read, write)));
            }
            response
        })
    }

    async fn queue(
        &self,
        mut request: Request,
        upgrades: bool,
        interim: interim::Sender,
    ) -> Result<Response, SendError> {
        upgrade::join_cookies(request.headers_mut());
        // Decided before the body is taken from the request, because a request with a body is not repeated.
        let copy = repeat::is_harmless(&request).then(|| RequestCopy::of(&request));
        let mut upload = Upload::Unread;
        if upgrades || request.body().is_end_stream() {
            // There is no body to request.
            request.headers_mut().remove(EXPECT);
        } else {
            // Before the first poll the request cannot be delivered anyway.
            let _ = tokio::time::timeout(self.0.absence(), self.0.first_poll()).await;
            if self.0.wants_whole().unwrap_or(true) {
                upload = self.take_in(&mut request).await?;
            }
        }
        let (idempotent, (recipient, answer)) =
            (request.method().is_idempotent(), Recipient::of(&request, interim));
        let queued = Queued { request, upload };
        let id = self.0.update(|mailbox| mailbox.request(queued, recipient, idempotent));
        let answered = WaitingVisitor { queue: &self.0, id, answer }.wait().await;
        answered.map_err(|error| match copy {
            Some(copy) if error.kind == SendErrorKind::Closed && error.unsent.is_none() => {
                error.kind.repeatable(copy.into_request())
            }
            _ => error,
        })
    }

    /// Takes the body in before the request takes a poll. Otherwise a slow visitor could hold the poll for long.
    async fn take_in(&self, request: &mut Request) -> Result<Upload, SendError> {
        let most = self.0.room.most() as u64;
        if request.body().size_hint().exact().is_some_and(|length| length > most) {
            return Err(SendErrorKind::TooLarge.error());
        }
        let body = std::mem::take(request.body_mut());
        let spooled = self.0.room.take_in(body).await.map_err(|error| of_spool(&error).error())?;
        request.headers_mut().remove(CONTENT_LENGTH);
        // Reading the body has made the server send 100 to the visitor.
        request.headers_mut().remove(EXPECT);
        Ok(Upload::Spooled(spooled))
    }
}

/// A visitor that waits for its answer.
struct WaitingVisitor<'a> {
    queue: &'a Queue,
    id: ExchangeId,
    answer: oneshot::Receiver<Result<Response, SendError>>,
}

impl WaitingVisitor<'_> {
    /// This carrier limits how long the request waits in the queue, but not how long the answer takes.
    async fn wait(mut self) -> Result<Response, SendError> {
        loop {
            let now = Instant::now();
            let deadline = self.queue.update(|mailbox| mailbox.deadline(self.id));
            tokio::select! {
                biased;
                answer = &mut self.answer => {
                    return answer.unwrap_or_else(|_| Err(SendErrorKind::Closed.error()));
                }
                // A request in hand may be queued again.
                () = tokio::time::sleep_until(deadline.unwrap_or(now + defaults::POLL_BUSY)) => {
                    self.queue.update(|mailbox| mailbox.tick());
                }
            }
        }
    }
}

impl Drop for WaitingVisitor<'_> {
    fn drop(&mut self) {
        // Closed first, so that code under the queue's lock sees that the visitor has left.
        self.answer.close();
        self.queue.update(|mailbox| mailbox.visitor_left(self.id));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;
    use crate::message::Body;
    use crate::net::Core;
    use crate::session::envelope::{AnswerRouter, Delivery, PollEnd, PollMode};
    use crate::session::{Kind, Link};

    fn queue() -> (Arc<AnswerRouter>, Arc<Queue>, Arc<Link>) {
        let router = Arc::<AnswerRouter>::default();
        let queue = Queue::new(router.clone(), defaults::POLL_ABSENCE, defaults::MESSAGE, defaults::MESSAGES);
        let link = Link::new(carrier(queue.clone()), Kind::Envelope, Core::default(), Arc::default());
        (router, queue, link)
    }

    fn get() -> Request {
        http::Request::get("http://a.test/").body(Body::empty()).unwrap()
    }

    async fn read(delivery: Delivery) -> String {
        String::from_utf8(delivery.message().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    const HOLD: Duration = defaults::POLL_HOLD;

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_does_not_poll_is_distinguished_from_a_busy_agent() {
        let (router, queue, link) = queue();
        let since = Instant::now();
        let error = link.send_plain(get(), link.reserve().unwrap()).await.unwrap_err();
        assert_eq!((error.kind, error.unsent.is_some()), (SendErrorKind::Absent, true));
        assert_eq!(since.elapsed().as_secs(), defaults::POLL_ABSENCE.as_secs());
        assert!(link.is_late());

        let first = link.send_plain(get(), link.reserve().unwrap());
        let work = async {
            read(queue.poll(1, PollMode::WHOLE, HOLD).await.ok().unwrap()).await;
            // One request in hand, and no poll: busy.
            let since = Instant::now();
            let error = link.send_plain(get(), link.reserve().unwrap()).await.unwrap_err();
            assert_eq!((error.kind, error.unsent.is_some()), (SendErrorKind::Busy, true));
            assert_eq!(since.elapsed().as_secs(), defaults::POLL_BUSY.as_secs());
            router.answer(1, Body::full("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap();
        };
        // The poll is sent first: requests do not wait for an agent that has been away for so long.
        assert_eq!(tokio::join!(work, first).1.unwrap().status(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_delivery_is_dropped_goes_to_the_next_poll() {
        let (router, queue, link) = queue();
        let sent = link.send_plain(get(), link.reserve().unwrap());
        let work = async {
            drop(queue.poll(1, PollMode::WHOLE, HOLD).await.ok().unwrap());
            // The URL can be polled as before, because it delivered nothing.
            let message = read(queue.poll(1, PollMode::WHOLE, HOLD).await.ok().unwrap()).await;
            assert!(message.starts_with("GET / HTTP/1.1\r\nHost: a.test\r\n"), "{message}");
            router.answer(1, Body::full("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap();
        };
        assert_eq!(tokio::join!(sent, work).0.unwrap().status(), 200);
        assert!(matches!(queue.poll(1, PollMode::WHOLE, HOLD).await, Err(PollEnd::Used)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_returns_queued_requests_and_keeps_delivered_requests() {
        let (router, queue, link) = queue();
        let (first, second) = (
            link.send_plain(get(), link.reserve().unwrap()),
            link.send_plain(get(), link.reserve().unwrap()),
        );
        let work = async {
            read(queue.poll(1, PollMode::WHOLE, HOLD).await.ok().unwrap()).await;
            queue.end();
            assert!(matches!(queue.poll(2, PollMode::WHOLE, HOLD).await, Err(PollEnd::Ended)));
            router.answer(1, Body::full("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap();
        };
        let (first, second, ()) = tokio::join!(first, second, work);
        assert_eq!(first.unwrap().status(), 200);
        let error = second.unwrap_err();
        assert_eq!((error.kind, error.unsent.is_some()), (SendErrorKind::Closed, true));
        assert!(link.is_out() && link.reserve().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_get_whose_body_was_taken_is_not_repeatable() {
        for (body, repeatable) in [("", true), ("query", false)] {
            let (router, queue, link) = queue();
            let mut request = get();
            *request.body_mut() = Body::full(body);
            let sent = link.send_plain(request, link.reserve().unwrap());
            let work = async {
                read(queue.poll(1, PollMode::WHOLE, HOLD).await.ok().unwrap()).await;
                let broken = futures_util::stream::iter([Err(std::io::Error::other("the answer broke off"))]);
                assert!(router.answer(1, Body::wrap(http_body_util::StreamBody::new(broken))).await.is_err());
            };
            let error = tokio::join!(sent, work).0.unwrap_err();
            assert_eq!(
                (error.kind, error.repeatable.is_some()),
                (SendErrorKind::Closed, repeatable),
                "{body}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_visitor_that_leaves_cancels_its_request() {
        let (router, queue, link) = queue();
        let sent = link.send_plain(get(), link.reserve().unwrap());
        let left = tokio::time::timeout(Duration::from_secs(1), sent).await;
        assert!(left.is_err());
        assert_eq!(queue.status().waiting, 0);
        let sent =
            tokio::time::timeout(Duration::from_secs(1), link.send_plain(get(), link.reserve().unwrap()));
        let (left, polled) = tokio::join!(sent, queue.poll(1, PollMode::WHOLE, HOLD));
        assert!(left.is_err());
        read(polled.ok().unwrap()).await;
        router.answer(1, Body::full("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap();
        assert!(router.answer(1, Body::full("HTTP/1.1 200 OK\r\n\r\n")).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_delivery_is_repeated() {
        for upload in [false, true] {
            let (router, queue, link) = queue();
            let mut request = get();
            if upload {
                *request.method_mut() = http::Method::POST;
                *request.body_mut() = Body::full("abc");
            }
            let sent = link.send_plain(request, link.reserve().unwrap());
            let work = async {
                // The message left this process, but something on the way did not pass it on.
                let lost = read(queue.poll(1, PollMode::WHOLE, HOLD).await.ok().unwrap()).await;
                let again = read(queue.poll(1, PollMode::WHOLE, HOLD).await.ok().unwrap()).await;
                assert_eq!((&lost, upload), (&again, lost.ends_with("abc")));
                router.answer(1, Body::full("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap();
                assert!(
                    matches!(queue.poll(1, PollMode::WHOLE, HOLD).await, Err(PollEnd::Used)),
                    "not after its answer"
                );
            };
            assert_eq!(tokio::join!(sent, work).0.unwrap().status(), 200);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_streamed_delivery_fails_its_visitor_at_once() {
        let (_router, queue, link) = queue();
        let since = Instant::now();
        let pieces =
            futures_util::stream::iter([Ok::<_, std::io::Error>(http_body::Frame::data("abc".into()))]);
        let mut request = get();
        *request.body_mut() = Body::wrap(http_body_util::StreamBody::new(pieces));
        let mut poll = Box::pin(queue.poll(1, PollMode::STREAM, HOLD));
        assert!(futures_util::poll!(&mut poll).is_pending());
        let work = async {
            read(poll.await.ok().unwrap()).await;
            assert!(matches!(queue.poll(1, PollMode::STREAM, HOLD).await, Err(PollEnd::Used)));
        };
        let (sent, ()) = tokio::join!(link.send_plain(request, link.reserve().unwrap()), work);
        let error = sent.unwrap_err();
        assert_eq!((error.kind, error.unsent.is_some()), (SendErrorKind::Closed, false));
        assert!(since.elapsed().is_zero());
    }
}
