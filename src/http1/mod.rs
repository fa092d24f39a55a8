//! HTTP/1 (RFC 9112), in one implementation for every use in this crate: visitors, both ends of the carrier `h1`,
//! origins, and the messages in envelopes. Its interface exposes 1xx responses, trailers, `Expect`, Upgrades, answers
//! that precede the end of an upload, and the close of the connection by the far end.
//!
//! [`head`], [`body`] and [`write`](mod@write) do no I/O: they decode bytes into messages and encode messages into
//! bytes. [`server`] and [`client`] drive a connection with them. [`embedded`] reads and writes messages that are
//! carried as the body of another message.
//!
//! # Why not an existing implementation
//!
//! `hyper` remains in use where this crate is an ordinary client or server. It lacks four things that a proxy needs:
//! its server sends no 1xx responses, it sends no trailers that the head did not name, it hides a 100, and when a body
//! fails it drops the bytes that it has not flushed.
//! `kawa` (0.7) is a codec without I/O, made for one proxy, Sōzu. It keeps a message as blocks that point into one
//! buffer of fixed size: the buffer bounds the head, and every field is tied to it. This crate forwards an
//! `http::HeaderMap`, because HTTP/2 is on the other side of most exchanges; each message would be copied out of the
//! blocks. `kawa` also accepts two framings that this crate refuses: it drops a `Content-Length` beside a
//! `Transfer-Encoding`, and it lets `gzip, chunked` pass.
//! Pingora's HTTP/1 (`pingora-core` 0.9, 13,000 lines) cannot be used without Pingora: its sessions own the stream, the
//! timeouts and the error type. It reads bodies into a buffer of 64 KiB and copies them out, and it discards trailers.
//! Three properties of `kawa` and Pingora are kept: heads are parsed without an allocation (`httparse`, as in Pingora),
//! the codec does no I/O (as in `kawa`), and the consumer of a body reads it without a separate task (as in Pingora).
//!
//! # Where this implementation is lenient, and why
//!
//! Apart from the cases in this table, a message that RFC 9112 does not allow is refused.
//!
//! | leniency | where | RFC 9112 |
//! |---|---|---|
//! | Empty lines before a head are dropped | both | §2.2 |
//! | A line of a head may end with a bare LF | both | §2.2 |
//! | Space between the name of a field and its colon is removed | responses of origins | §5.1 |
//! | A folded field is refused, not replaced | both | §5.2 |
//! | A reason phrase passes unchanged; without a `Reason` the usual phrase is written, if any | responses | §4 |
//! | A status may be any number from 100 to 999 | responses | §4 |
//! | `Content-Length` may occur several times with the same value; it is passed on once | both | §6.3 |
//! | Space is allowed between the size of a chunk and its extension | both | §7.1.1 |
//! | The end of a connection ends a body without a declared length | responses | §6.3 |
//! | Lines of the chunked coding may end with a bare LF, too, as programs of 2009 write them | envelopes | §7.1 |

mod bad_head;
pub mod body;
pub mod client;
pub mod embedded;
#[cfg(any(test, fuzzing))]
mod fuzz;
pub mod head;
pub mod output;
pub mod server;
pub mod stall;
pub mod write;

#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(crate) use self::fuzz::{fuzz_requests, fuzz_responses};

use std::io;

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

pub use self::bad_head::{BadHead, FieldFault, FramingFault};
pub use self::body::BadBody;
use crate::defaults;
use crate::message::BoxError;

/// Why an exchange or its connection failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes received are not a valid head.
    #[error(transparent)]
    Head(#[from] BadHead),
    /// The received body does not match its head.
    #[error(transparent)]
    Body(#[from] BadBody),
    /// The far end has closed the connection before the message was complete.
    #[error("the connection was closed before the message was complete")]
    Closed,
    /// No complete head of a request arrived in time.
    #[error("no complete request head arrived in time")]
    HeadLate,
    /// The far end has taken or sent nothing for too long.
    #[error("the far end has read or sent nothing for too long")]
    Stalled,
    /// An answer has too many interim responses, or one that is too large.
    #[error(
        "more than {} interim responses to one request, or an interim response of more than {} bytes",
        defaults::INTERIM,
        defaults::INTERIM_BYTES
    )]
    Interims,
    /// A 101 to a request without an Upgrade.
    #[error("the answer switches protocols, but its request had no Upgrade")]
    UnrequestedUpgrade,
    /// The rest of an unread body exceeds the limit up to which it is read and discarded.
    #[error("the rest of an unread body exceeds {} bytes", defaults::DRAIN_BYTES)]
    Unread,
    /// The source of an answer's body failed.
    #[error("the body of the answer broke off: {0}")]
    Answer(#[source] BoxError),
    /// The source of a request's body failed.
    #[error("the body of the request broke off: {0}")]
    Request(#[source] BoxError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[source] io::Error),
}

impl Error {
    /// Whether the message received is not valid HTTP/1 or exceeds a limit.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Head(_) | Self::Body(_) | Self::Interims | Self::UnrequestedUpgrade)
    }

    /// Whether the message received exceeds a limit of this crate, and may be valid otherwise.
    pub fn is_over_a_limit(&self) -> bool {
        matches!(
            self,
            Self::Head(BadHead::Bytes(_) | BadHead::Fields)
                | Self::Body(BadBody::Extensions | BadBody::Trailers)
                | Self::Interims
        )
    }

    /// Whether the error is the end of the connection and not an invalid message.
    pub fn is_end(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match self {
            Self::Closed => true,
            Self::Io(error) => {
                [ConnectionReset, BrokenPipe, ConnectionAborted, UnexpectedEof].contains(&error.kind())
            }
            _ => false,
        }
    }
}

/// The length that the head of an outgoing message declares.
fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
