//! The visitor's side: a request waits for a poll, then for its answer.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::UPGRADE;
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::mailbox::ExchangeId;
use super::request::{Queued, Recipient, Upload};
use super::{PollMode, Queue};
use crate::defaults;
use crate::message::framing::is_incremental;
use crate::message::repeat::{self, RequestCopy};
use crate::message::upgrade::{self, Tunnel};
use crate::message::{Body, Request, Response, expect, interim, trailers};
use crate::session::carrier::{Carrier, SendError, SendErrorKind, Slot};

impl Carrier for Arc<Queue> {
    fn send(
        &self,
        request: Request,
        slot: Slot,
        interim: interim::Sender,
    ) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(async move {
            if !self.trailers && trailers::needs_trailers(request.headers()) {
                return Err(SendErrorKind::NoTrailers.unsent(request));
            }
            let mut response = match request.headers().contains_key(UPGRADE) {
                true => self.upgrade(request, interim).await?,
                false => self.exchange(request, interim).await?,
            };
            slot.attach_to(&mut response);
            Ok(response)
        })
    }

    fn capacity(&self) -> usize {
        defaults::ENVELOPES
    }

    fn drain(&self) {
        self.lock().end();
    }

    fn is_late(&self) -> bool {
        self.lock().is_absent()
    }

    fn is_closed(&self) -> bool {
        self.lock().is_ended()
    }

    fn needs_listener(&self) -> bool {
        self.lock().status().in_hand > 0
    }
}

impl Queue {
    /// Only bodies that stay open can be the two directions of a stream.
    async fn upgrade(
        self: &Arc<Self>,
        mut request: Request,
        interim: interim::Sender,
    ) -> Result<Response, SendError> {
        let whole = self.lock().wants_whole() == Some(true);
        if whole {
            return Err(SendErrorKind::NoUpgrade.unsent(request));
        }
        let copy = RequestCopy::of(&request);
        let (near, far) = tokio::io::duplex(defaults::PIPE);
        *request.body_mut() = Body::from_reader(far);
        match self.exchange(request, interim).await {
            Err(error) if error.kind == SendErrorKind::NoUpgrade => {
                Err(error.kind.unsent(copy.into_request()))
            }
            Ok(mut response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let read = std::mem::take(response.body_mut()).into_reader();
                response.extensions_mut().insert(Tunnel::ready(tokio::io::join(read, near)));
                Ok(response)
            }
            answered => answered,
        }
    }

    async fn exchange(
        self: &Arc<Self>,
        mut request: Request,
        interim: interim::Sender,
    ) -> Result<Response, SendError> {
        upgrade::join_cookies(request.headers_mut());
        // Decided before the body is taken from the request, because a request with a body is not repeated.
        let copy = repeat::is_harmless(&request).then(|| RequestCopy::of(&request));
        let (idempotent, (recipient, answer)) =
            (request.method().is_idempotent(), Recipient::of(&request, interim));
        let mut queued = Queued { request, upload: Upload::Unread };
        if recipient.upgrades || queued.request.body().is_end_stream() {
            // There is no body to request.
            expect::remove_continue(queued.request.headers_mut());
        } else {
            // Before the first poll the request cannot be delivered anyway.
            let _ = tokio::time::timeout(self.absence, self.first_poll.listen()).await;
            let whole = self.lock().wants_whole().unwrap_or(true);
            if whole && is_incremental(queued.request.headers()) {
                return Err(SendErrorKind::NotIncremental.unsent(queued.request));
            }
            if whole {
                // Before the request takes a poll: otherwise a slow visitor could hold the poll for long.
                queued.complete(self, PollMode::WHOLE).await.map_err(SendErrorKind::error)?;
            }
        }
        let id = self.lock().request(queued, recipient, idempotent);
        let answered = WaitingVisitor { queue: self, id, answer }.wait().await;
        answered.map_err(|error| match copy {
            Some(copy) if error.kind == SendErrorKind::Closed && error.unsent.is_none() => {
                error.kind.repeatable(copy.into_request())
            }
            _ => error,
        })
    }
}

/// A visitor that waits for its answer.
struct WaitingVisitor<'a> {
    queue: &'a Arc<Queue>,
    id: ExchangeId,
    answer: oneshot::Receiver<Result<Response, SendError>>,
}

impl WaitingVisitor<'_> {
    /// This carrier limits how long the request waits in the queue, but not how long the answer takes.
    async fn wait(mut self) -> Result<Response, SendError> {
        loop {
            // A request in hand may be queued again.
            let deadline = self.queue.lock().deadline(self.id);
            let deadline = deadline.unwrap_or_else(|| Instant::now() + defaults::POLL_BUSY);
            tokio::select! {
                biased;
                answer = &mut self.answer => {
                    return answer.unwrap_or_else(|_| Err(SendErrorKind::Closed.error()));
                }
                () = tokio::time::sleep_until(deadline) => self.queue.lock().tick(),
            }
        }
    }
}

impl Drop for WaitingVisitor<'_> {
    fn drop(&mut self) {
        // Closed first, so that code under the queue's lock sees that the visitor has left.
        self.answer.close();
        self.queue.lock().visitor_left(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;
    use crate::net::Core;
    use crate::session::envelope::{AnswerRouter, Delivery, PollEnd, PollMode};
    use crate::session::{Kind, Link};

    fn queue() -> (Arc<AnswerRouter>, Arc<Queue>, Arc<Link>) {
        let router = Arc::<AnswerRouter>::default();
        let queue =
            Queue::new(router.clone(), defaults::POLL_ABSENCE, (defaults::MESSAGE, defaults::MESSAGES), true);
        let link = Link::new(Box::new(queue.clone()), Kind::Envelope, Core::default(), Arc::default());
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
            queue.lock().end();
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
        assert_eq!(queue.lock().status().waiting, 0);
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
