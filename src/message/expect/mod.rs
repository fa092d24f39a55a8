//! `Expect: 100-continue`, end to end (RFC 9110 §10.1.1): the body of a request is not touched before the far end
//! has said 100 or has answered, because touching it is what makes our own server say 100 to the sender.

mod asked;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use http::header::EXPECT;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

pub use self::asked::{Asked, on_demand};

const SHUT: u8 = 0;
const OPEN: u8 = 1;
const REFUSED: u8 = 2;

#[derive(Default)]
struct State {
    word: AtomicU8,
    waker: AtomicWaker,
}

/// The hand on the gate. Dropping it without [`Gate::open`] refuses the body.
pub struct Gate(Arc<State>);

impl Gate {
    /// The far end said 100: let the body through. Idempotent.
    pub fn open(&self) {
        self.set(OPEN);
    }

    fn set(&self, word: u8) {
        // Only the first word counts: a 100 that was heard is not taken back by the drop that follows.
        let _ = self.0.word.compare_exchange(SHUT, word, Ordering::AcqRel, Ordering::Acquire);
        self.0.waker.wake();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.set(REFUSED);
    }
}

/// The far end gave its final answer without asking for the body.
#[derive(Debug, thiserror::Error)]
#[error("the final answer came before the body was asked for")]
pub struct NotWanted;

/// A body behind a [`Gate`].
pub struct Gated<B> {
    body: B,
    state: Arc<State>,
}

/// Puts a gate in front of a body.
pub fn gate<B>(body: B) -> (Gate, Gated<B>) {
    let state = Arc::new(State::default());
    (Gate(state.clone()), Gated { body, state })
}

/// Whether a request says `Expect: 100-continue`.
pub fn is_said(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Puts a gate in front of the body of a request that says `Expect: 100-continue`. The gate must live as long as the
/// answer: its drop refuses the body, which ends the connection or the stream. `None` when nothing is held back.
pub fn hold_back(request: &mut super::Request) -> Option<Arc<Gate>> {
    use super::Body as Ours;
    if !is_said(request.headers()) || request.body().is_end_stream() {
        return None;
    }
    let (gate, body) = match std::mem::take(request.body_mut()).into_incoming() {
        Ok(incoming) => {
            let (gate, gated) = self::gate(incoming);
            (gate, Ours::gated(gated))
        }
        Err(other) => {
            let (gate, gated) = self::gate(other);
            (gate, Ours::wrap(gated))
        }
    };
    *request.body_mut() = body;
    Some(Arc::new(gate))
}

/// As [`hold_back`], with a gate that the 100 of whoever it is sent to over HTTP/1.1 opens.
pub fn hold_back_h1(request: &mut super::Request) -> Option<Arc<Gate>> {
    let gate = hold_back(request)?;
    let opener = gate.clone();
    hyper::ext::on_informational(request, move |interim| {
        if interim.status() == StatusCode::CONTINUE {
            opener.open();
        }
    });
    Some(gate)
}

/// An error of a gated body.
#[derive(Debug, thiserror::Error)]
pub enum GatedError<E> {
    /// See [`NotWanted`].
    #[error(transparent)]
    NotWanted(#[from] NotWanted),
    /// The body's own error.
    #[error("{0}")]
    Body(E),
}

impl<B> Body for Gated<B>
where
    B: Body + Unpin,
{
    type Data = B::Data;
    type Error = GatedError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        if self.state.word.load(Ordering::Acquire) != OPEN {
            self.state.waker.register(cx.waker());
            match self.state.word.load(Ordering::Acquire) {
                OPEN => {}
                SHUT => return Poll::Pending,
                _ => return Poll::Ready(Some(Err(NotWanted.into()))),
            }
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(GatedError::Body)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn a_gate_opens_once_and_stays_open() {
        let (gate, mut body) = gate(Full::new(Bytes::from_static(b"x")));
        assert!(futures_util::poll!(std::pin::pin!(body.frame())).is_pending());
        gate.open();
        drop(gate);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
    }

    #[tokio::test]
    async fn a_gate_that_goes_refuses_the_body() {
        let (gate, mut body) = gate(Full::new(Bytes::from_static(b"x")));
        drop(gate);
        assert!(matches!(body.frame().await, Some(Err(GatedError::NotWanted(_)))));
    }
}
