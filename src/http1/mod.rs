//! HTTP/1 (RFC 9112), in one set of rules for all who speak it here: visitors, both ends of the carrier `h1`, origins,
//! and the messages in envelopes. 1xx, trailers, `Expect`, Upgrades, early answers and the end of the far end are values
//! in its interface.
//!
//! [`head`], [`body`] and [`write`](mod@write) know no connection: bytes go in, messages come out, and the other way
//! round. [`server`] and [`client`] drive a connection with them. [`embedded`] reads and writes messages that are bodies of others.
//!
//! # Why our own
//!
//! `hyper`, which stays where this crate is an ordinary client or server, sends no 1xx from a server, no trailers that
//! its head did not name, hides 100 and drops what it has not flushed when a body fails: a proxy needs all four.
//! `kawa` (0.7) is a codec without I/O, made for one proxy, Sōzu. It keeps a message as blocks that point into one buffer
//! of fixed size, which bounds a head by that buffer and ties every field to it. What is forwarded here is an
//! `http::HeaderMap`, since HTTP/2 is on the other side of most exchanges: each message would be copied out of the blocks.
//! It also resolves what is refused here: a `Content-Length` beside a `Transfer-Encoding` is dropped, `gzip, chunked` passes.
//! Pingora's HTTP/1 (`pingora-core` 0.9, 13,000 lines) cannot be had without Pingora: its sessions own the stream, the
//! timeouts and the error type. Bodies are read into a buffer of 64 KiB and copied out, and trailers are discarded.
//! What both have right is taken over: heads are parsed without an allocation (`httparse`, as in Pingora), the codec
//! knows no connection (as in `kawa`), and a body is read by whoever wants it instead of by a task (as in Pingora).
//!
//! # Where it is lenient, and why
//!
//! Everything else that RFC 9112 does not allow is refused.
//!
//! | what | where | RFC 9112 |
//! |---|---|---|
//! | Empty lines in front of a head are dropped | both | §2.2 |
//! | A line may end with a bare LF, in heads alone | both | §2.2 |
//! | Space between the name of a field and its colon is removed | responses of origins | §5.1 |
//! | A folded field is refused, not replaced | both | §5.2 |
//! | A reason phrase passes as it is; without one there is the usual one of its status, or none | responses | §4 |
//! | A status may be any number from 100 to 999 | responses | §4 |
//! | `Content-Length` may stand there several times with one value; it is passed on once | both | §6.3 |
//! | Space may stand between the size of a chunk and its extension | both | §7.1.1 |
//! | The end of a connection ends a body without a length | responses | §6.3 |
//! | Envelopes may have a bare LF behind chunks, too, as the programs of 2009 write them | envelopes | §7.1 |

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

pub use self::body::BadBody;
pub use self::head::BadHead;
use crate::defaults;
use crate::message::BoxError;

/// Why an exchange, or the connection that it was on, did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What came is no head.
    #[error(transparent)]
    Head(#[from] BadHead),
    /// What came is not the body that its head announced.
    #[error(transparent)]
    Body(#[from] BadBody),
    /// The far end has closed the connection before its time.
    #[error("the connection was closed before the message was complete")]
    Gone,
    /// No request came in time.
    #[error("no request came within the time for its head")]
    HeadLate,
    /// The far end has taken or sent nothing for too long.
    #[error("the far end has taken or sent nothing for too long")]
    Stalled,
    /// More interim responses than any answer has, or one that is too large.
    #[error(
        "more than {} interim responses to one request, or one of more than {} bytes",
        defaults::INTERIM,
        defaults::INTERIM_BYTES
    )]
    Interims,
    /// A 101 to a request that asks for no Upgrade.
    #[error("an answer switches protocols, and its request did not ask for that")]
    UnaskedUpgrade,
    /// More is left of a body than is read for nobody.
    #[error("the rest of an unread body exceeds {} bytes", defaults::LINGER_BYTES)]
    Unread,
    /// The body of an answer broke off where it comes from.
    #[error("the body of the answer broke off: {0}")]
    Answer(#[source] BoxError),
    /// The body of a request broke off where it comes from.
    #[error("the body of the request broke off: {0}")]
    Request(#[source] BoxError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[source] io::Error),
}

impl Error {
    /// Whether what came is not HTTP/1, or is more than a limit allows.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Head(_) | Self::Body(_) | Self::Interims | Self::UnaskedUpgrade)
    }

    /// Whether what came exceeds a limit of this crate, and may be valid otherwise.
    pub fn is_over_a_limit(&self) -> bool {
        matches!(
            self,
            Self::Head(BadHead::Bytes(_) | BadHead::Fields)
                | Self::Body(BadBody::Extensions | BadBody::Trailers)
                | Self::Interims
        )
    }

    /// Whether the connection ended, for no fault of a message.
    pub fn is_end(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match self {
            Self::Gone => true,
            Self::Io(error) => {
                [ConnectionReset, BrokenPipe, ConnectionAborted, UnexpectedEof].contains(&error.kind())
            }
            _ => false,
        }
    }
}

/// The length that a head of ours declares.
fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
