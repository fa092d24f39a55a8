//! Interim responses (1xx, RFC 9110 §15.2) on their way from an origin to a visitor. The part that answers a request
//! has a [`Sender`] for them. The part that writes the answer has the [`Receiver`], and writes interim responses first.
//! A sender without a receiver drops them, as RFC 9110 §15.2 allows.
//!
//! A 100 opens the gate of a body ([`super::expect`]), and a 101 is an answer: neither is sent here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;
use http::header::{CONTENT_LENGTH, SET_COOKIE, TRAILER};
use http::{Response, StatusCode};
use parking_lot::Mutex;

use super::hop;

/// The head of an interim response, which has no body.
pub type Head = Response<()>;

#[derive(Debug, Default)]
struct InterimQueue {
    filled: AtomicBool,
    heads: Mutex<Vec<Head>>,
    waker: AtomicWaker,
}

/// Sends the interim responses to one request. The default sender has no receiver.
#[derive(Debug, Clone, Default)]
pub struct Sender(Option<Arc<InterimQueue>>);

/// Receives the interim responses to one request.
#[derive(Debug, Default)]
pub struct Receiver(Arc<InterimQueue>);

/// A channel for the interim responses to one request.
pub fn channel() -> (Sender, Receiver) {
    let receiver = Receiver::default();
    (receiver.sender(), receiver)
}

impl Sender {
    /// Forwards an interim response, without its hop-by-hop fields.
    pub fn send(&self, mut head: Head) {
        let Some(queue) = &self.0 else { return };
        let status = head.status();
        let passes = ![StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS].contains(&status);
        if !status.is_informational() || !passes {
            return;
        }
        let headers = head.headers_mut();
        let _ = hop::strip(headers);
        // There is no body, whatever these fields announce.
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRAILER);
        // The domain of a cookie is checked on answers alone, so interim responses set none.
        headers.remove(SET_COOKIE);
        queue.heads.lock().push(head);
        queue.filled.store(true, Ordering::Release);
        queue.waker.wake();
    }
}

impl Receiver {
    /// A sender for the next request. Interim responses from the sender of an earlier request are dropped.
    pub fn renew(&mut self) -> Sender {
        match Arc::get_mut(&mut self.0) {
            Some(queue) => {
                queue.filled = false.into();
                queue.heads.get_mut().clear();
            }
            None => self.0 = Arc::default(),
        }
        self.sender()
    }

    fn sender(&self) -> Sender {
        Sender(Some(self.0.clone()))
    }

    /// Takes the heads that have arrived. The task is woken when more arrive.
    pub fn take(&self, cx: &Context<'_>) -> Vec<Head> {
        self.0.waker.register(cx.waker());
        match self.0.filled.swap(false, Ordering::AcqRel) {
            true => std::mem::take(&mut *self.0.heads.lock()),
            false => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn head(status: u16) -> Head {
        let head = Response::builder().status(status).header("link", "</a>").header("connection", "x-a");
        head.header("x-a", "1").header("content-length", "5").body(()).unwrap()
    }

    #[test]
    fn interim_responses_arrive_in_order_without_hop_by_hop_fields() {
        let (sender, receiver) = channel();
        let cx = Context::from_waker(Waker::noop());
        assert!(receiver.take(&cx).is_empty());
        for status in [103, 100, 101, 200, 199] {
            sender.send(head(status));
        }
        let heads = receiver.take(&cx);
        assert_eq!(heads.iter().map(|head| head.status().as_u16()).collect::<Vec<_>>(), [103, 199]);
        assert_eq!(heads[0].headers().len(), 1, "{:?}", heads[0]);
        assert!(receiver.take(&cx).is_empty());
    }

    #[test]
    fn a_sender_of_an_earlier_request_does_not_reach_a_later_request() {
        let (early, mut receiver) = channel();
        let late = receiver.renew();
        early.send(head(103));
        late.send(head(102));
        let heads = receiver.take(&Context::from_waker(Waker::noop()));
        assert_eq!(heads.iter().map(|head| head.status().as_u16()).collect::<Vec<_>>(), [102]);
    }

    #[tokio::test]
    async fn an_interim_response_wakes_the_waiting_receiver() {
        let (sender, receiver) = channel();
        let take = std::future::poll_fn(|cx| match &receiver.take(cx)[..] {
            [] => std::task::Poll::Pending,
            [head] => std::task::Poll::Ready(head.status()),
            several => panic!("{several:?}"),
        });
        let send = async {
            tokio::task::yield_now().await;
            sender.send(head(103));
        };
        assert_eq!(tokio::join!(take, send).0, StatusCode::EARLY_HINTS);
    }
}
