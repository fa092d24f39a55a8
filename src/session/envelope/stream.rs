//! Bodies that stream. Behind a 101, the two directions of the stream are the rest of the poll's message and the rest
//! of the agent's answer. Other bodies break off when their registration is cut.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::DuplexStream;

use crate::message::BoxError;
use crate::message::body::{BodyEvent, Observer};
use crate::net::flag::Listener;

/// How many bytes may wait in each direction of a stream in memory.
const BUFFER: usize = 64 << 10;

/// A stream in memory with two ends.
pub(super) fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(BUFFER)
}

/// Breaks a body off when its registration is cut: the reader of the body must not take it for complete.
pub(super) struct BreakWhenCut(pub(super) Listener);

impl Observer for BreakWhenCut {
    fn before(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(()) => Err("the registration was cut".into()),
            Poll::Pending => Ok(()),
        }
    }

    fn event(&mut self, _: BodyEvent) {}
}
