//! Streams behind a 101, in the two bodies of one exchange: what the visitor says is the rest of the poll's message,
//! what the agent says is the rest of its answer.

use futures_util::StreamExt;
use http_body::Frame;
use http_body_util::{BodyDataStream, StreamBody};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::message::Body;
use crate::message::upgrade::Duplex;

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
pub(super) fn join(read: Body, write: impl AsyncWrite + Send + Unpin + 'static) -> impl Duplex + 'static {
    tokio::io::join(reader(read), write)
}
