//! Bodies that stream. Behind a 101, the two directions of the stream are the rest of the poll's message and the rest
//! of the agent's answer. Other bodies break off when their registration is cut.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use http_body::Frame;
use http_body_util::{BodyDataStream, StreamBody};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::message::body::{BodyEvent, Observer};
use crate::message::upgrade::ByteStream;
use crate::message::{Body, BoxError};
use crate::net::flag::Listener;

/// How many bytes may wait in each direction of a stream in memory.
const BUFFER: usize = 64 << 10;

/// A stream in memory with two ends.
pub(super) fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(BUFFER)
}

/// A body of the bytes that `read` yields.
pub(super) fn body(read: impl AsyncRead + Send + 'static) -> Body {
    Body::wrap(StreamBody::new(ReaderStream::new(read).map(|read| read.map(Frame::data))))
}

/// A reader of a body.
pub(super) fn reader(body: Body) -> impl AsyncRead + Send + Unpin {
    let data = BodyDataStream::new(body);
    StreamReader::new(data.map(|data| data.map_err(std::io::Error::other)))
}

/// One stream that reads from the body `read` and writes to `write`.
pub(super) fn join(read: Body, write: impl AsyncWrite + Send + Unpin + 'static) -> impl ByteStream + 'static {
    tokio::io::join(reader(read), write)
}

/// Breaks a body off when its registration is cut: the reader of the body must not take it for complete.
pub(super) struct BreakWhenCut(pub(super) Listener);

impl Observer for BreakWhenCut {
    fn before(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        poll_cut(&mut self.0, cx)
    }

    fn event(&mut self, _: BodyEvent) {}
}

/// Fails if `cut` has resolved; if not, the task is woken when `cut` resolves.
pub(super) fn poll_cut(cut: &mut Listener, cx: &mut Context<'_>) -> Result<(), BoxError> {
    match Pin::new(cut).poll(cx) {
        Poll::Ready(()) => Err("the registration was cut".into()),
        Poll::Pending => Ok(()),
    }
}
