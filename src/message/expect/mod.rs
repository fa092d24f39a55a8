//! `Expect: 100-continue`, end to end (RFC 9110 §10.1.1). The body of a request is not polled before the far end has
//! sent a 100 or an answer, because polling the body makes this crate's server send a 100 to the client.

mod demand;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http::header::EXPECT;
use http_body::Body as _;

pub use self::demand::{BodyDemand, on_demand};

const SHUT: u8 = 0;
/// The answer has come. No timeout opens the gate any more.
const ANSWERED: u8 = 1;
const OPEN: u8 = 2;
const REFUSED: u8 = 3;

#[derive(Default)]
struct GateState {
    state: AtomicU8,
    waker: AtomicWaker,
}

/// Releases or refuses a body that is held back. Dropping the gate without [`Gate::open`] refuses the body.
pub struct Gate(Arc<GateState>);

impl Gate {
    /// Releases the body after a 100 from the far end. Idempotent.
    pub fn open(&self) {
        self.set(OPEN);
    }

    /// Keeps the body back although time passes, because the answer has come without a 100. The gate is to be held as
    /// long as the answer: refusing the body ends its visitor's connection.
    pub fn keep_shut(&self) {
        self.set(ANSWERED);
    }

    fn set(&self, state: u8) {
        // The first decision counts: the drop that follows does not revoke a 100.
        let decide = |before| (before < OPEN).then_some(state);
        let _ = self.0.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, decide);
        self.0.waker.wake();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.set(REFUSED);
    }
}

/// The far end sent its final answer without a 100.
#[derive(Debug, thiserror::Error)]
#[error("the final answer arrived before the body was requested")]
pub struct NotWanted;

/// Waits for a [`Gate`]: resolves when the body may be sent, or with an error when the body is not wanted.
pub struct Passage(Arc<GateState>);

impl Passage {
    /// As the passage, but the body may be sent after `time` too, unless the answer has come before: a far end that
    /// ignores `Expect` never sends a 100. The time counts from the first poll.
    ///
    /// # Errors
    /// [`NotWanted`]
    pub async fn within(mut self, time: Duration) -> Result<(), NotWanted> {
        match tokio::time::timeout(time, &mut self).await {
            Ok(decided) => decided,
            Err(_) if self.0.state.load(Ordering::Acquire) == ANSWERED => self.await,
            Err(_) => Ok(()),
        }
    }
}

/// A gate, and the passage that it opens.
pub fn gate() -> (Gate, Passage) {
    let state = Arc::new(GateState::default());
    (Gate(state.clone()), Passage(state))
}

impl Future for Passage {
    type Output = Result<(), NotWanted>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.waker.register(cx.waker());
        match self.0.state.load(Ordering::Acquire) {
            OPEN => Poll::Ready(Ok(())),
            SHUT | ANSWERED => Poll::Pending,
            _ => Poll::Ready(Err(NotWanted)),
        }
    }
}

/// Whether a request has `Expect: 100-continue`.
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Removes `Expect: 100-continue`. Other expectations are for the origin.
pub fn remove_continue(headers: &mut HeaderMap) {
    if expects_continue(headers) {
        headers.remove(EXPECT);
    }
}

/// A gate for the body of a request with `Expect: 100-continue`. The gate must live as long as the answer: its drop
/// refuses the body, which ends the stream. `None` when no body is to be held back.
pub fn hold_back(request: &super::Request) -> Option<(Arc<Gate>, Passage)> {
    if !expects_continue(request.headers()) || request.body().is_end_stream() {
        return None;
    }
    let (gate, passage) = gate();
    Some((Arc::new(gate), passage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_opens_once_and_stays_open() {
        let (gate, mut passage) = gate();
        assert!(futures_util::poll!(&mut passage).is_pending());
        gate.open();
        drop(gate);
        assert!(passage.await.is_ok());
    }

    #[tokio::test]
    async fn dropping_a_gate_refuses_the_body() {
        let (gate, passage) = gate();
        drop(gate);
        assert!(passage.await.is_err());
    }
    #[tokio::test(start_paused = true)]
    async fn a_gate_opens_after_a_time_but_not_after_an_answer() {
        use futures_util::FutureExt as _;

        let time = Duration::from_secs(5);
        let (requested, passage) = gate();
        requested.open();
        assert!(passage.within(time).await.is_ok());
        let (_held, passage) = gate();
        let since = tokio::time::Instant::now();
        assert!(passage.within(time).await.is_ok() && since.elapsed() == time);
        let (refused, passage) = gate();
        drop(refused);
        assert!(passage.within(time).await.is_err());
        let (answered, passage) = gate();
        let mut passage = Box::pin(passage.within(time));
        answered.keep_shut();
        assert!((&mut passage).now_or_never().is_none());
        tokio::time::advance(2 * time).await;
        assert!((&mut passage).now_or_never().is_none());
        drop(answered);
        assert!(passage.await.is_err());
    }
}
