//! The receiving side of a request: the server is notified when the body is wanted, and sends a 100 then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;
use http_body::Body as _;

use super::is_said;
use crate::message::Request;
use crate::message::body::BodyEvent;

const NOT_YET: u8 = 0;
const WANTED: u8 = 1;
const SAID: u8 = 2;

/// Whether the body of a request with `Expect: 100-continue` is wanted (RFC 9110 §10.1.1).
#[derive(Default)]
pub struct BodyDemand {
    word: AtomicU8,
    waker: AtomicWaker,
}

/// Detects when the body of a request with `Expect: 100-continue` is wanted. `None` when the sender of the request does
/// not wait for a 100.
pub fn on_demand(request: &mut Request) -> Option<Arc<BodyDemand>> {
    if !is_said(request.headers()) || request.body().is_end_stream() {
        return None;
    }
    let asked = Arc::new(BodyDemand::default());
    let mut to_ask = Some(asked.clone());
    request.body_mut().observe(Box::new(move |event| match to_ask.take() {
        // Some clients send the body without waiting for the 100.
        Some(asked) if event == BodyEvent::Pending => asked.demand(),
        _ => {}
    }));
    Some(asked)
}

impl BodyDemand {
    /// Whether a 100 must be sent now; `true` only once. Otherwise the task is woken when a 100 must be sent.
    pub fn take(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.word.compare_exchange(WANTED, SAID, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn demand(&self) {
        if self.word.compare_exchange(NOT_YET, WANTED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.waker.wake();
        }
    }
}
