//! Bodies that go on: the two directions of a stream behind a 101, which are the rest of the poll's message and the rest
//! of the agent's answer, and bodies that break off with their registration.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyDataStream, StreamBody};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::message::upgrade::ByteStream;
use crate::message::{Body, BoxError};
use crate::net::flag::Listener;

/// Bytes on their way between the two bodies and whoever reads and writes them.
const BUFFER: usize = 64 << 10;

/// A stream in memory with two ends.
pub(super) fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(BUFFER)
}

/// What is read from here, as a body.
pub(super) fn body(read: impl AsyncRead + Send + 'static) -> Body {
    Body::wrap(StreamBody::new(ReaderStream::new(read).map(|read| read.map(Frame::data))))
}

/// A body, to be read from.
pub(super) fn reader(body: Body) -> impl AsyncRead + Send + Unpin {
    let data = BodyDataStream::new(body);
    StreamReader::new(data.map(|data| data.map_err(std::io::Error::other)))
}

/// A body to be read and a stream to be written, as one.
pub(super) fn join(read: Body, write: impl AsyncWrite + Send + Unpin + 'static) -> impl ByteStream + 'static {
    tokio::io::join(reader(read), write)
}

/// A body that ends with an error once its registration is cut: its reader must not take it for complete.
pub(super) struct AbortableBody {
    cut: Listener,
    body: Body,
}

impl AbortableBody {
    /// `cut` resolves when the registration is cut.
    pub(super) fn new(cut: Listener, body: Body) -> Self {
        Self { cut, body }
    }
}

/// Whether `cut` has resolved; if not, the task is woken when it does.
pub(super) fn poll_cut(cut: &mut Listener, cx: &mut Context<'_>) -> Result<(), BoxError> {
    match Pin::new(cut).poll(cx) {
        Poll::Ready(()) => Err("the registration was cut".into()),
        Poll::Pending => Ok(()),
    }
}

impl HttpBody for AbortableBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Err(cut) = poll_cut(&mut self.cut, cx) {
            return Poll::Ready(Some(Err(cut)));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
