//! The receiving side of a request: the server is notified when the body is wanted, and sends a 100 then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;
use http::Version;
use http_body::Body as _;

use super::expects_continue;
use crate::message::Request;
use crate::message::body::BodyEvent;

const NOT_YET: u8 = 0;
const WANTED: u8 = 1;
const SENT: u8 = 2;

/// Whether the body of a request with `Expect: 100-continue` is wanted (RFC 9110 §10.1.1).
#[derive(Default)]
pub struct BodyDemand {
    state: AtomicU8,
    waker: AtomicWaker,
}

/// Detects when the body of a request with `Expect: 100-continue` is wanted. `None` when the sender of the request does
/// not wait for a 100.
pub fn on_demand(request: &mut Request) -> Option<Arc<BodyDemand>> {
    if request.version() < Version::HTTP_11
        || !expects_continue(request.headers())
        || request.body().is_end_stream()
    {
        return None;
    }
    let demand = Arc::new(BodyDemand::default());
    let mut pending = Some(demand.clone());
    request.body_mut().observe(Box::new(move |event| match pending.take() {
        // Some clients send the body without waiting for the 100.
        Some(demand) if event == BodyEvent::Pending => demand.set_wanted(),
        _ => {}
    }));
    Some(demand)
}

impl BodyDemand {
    /// Whether a 100 must be sent now; `true` only once. Otherwise the task is woken when a 100 must be sent.
    pub fn take(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.state.compare_exchange(WANTED, SENT, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn set_wanted(&self) {
        if self.state.compare_exchange(NOT_YET, WANTED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.waker.wake();
        }
    }
}
