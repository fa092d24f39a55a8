//! `message/http` (RFC 9112 §10.1): a whole message carried as the body of another. Programs of other authors write the
//! messages that are read here, so harmless deviations are accepted: bare LF, odd case, a missing length.

mod answer;
mod body;
mod coded;
mod head;
mod pipeline;

pub use answer::{embed, embed_live};
pub use body::{ReadError, Reader, whole};
pub use coded::Coded;
pub use head::{
    EmbeddedRequest, EmbeddedResponse, Framing, Next, parse_answer, parse_next, parse_request,
    parse_response, request_head, response_head,
};
pub use pipeline::take_response;

use super::body::BadBody;
use super::head::BadHead;
use crate::defaults;

/// The media type of one embedded message.
pub const MESSAGE_HTTP: &str = "message/http";
/// The media type of several.
pub const APPLICATION_HTTP: &str = "application/http";

/// Why an embedded message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// The message ends before its head is complete.
    #[error("the message has no complete head")]
    Incomplete,
    /// The head is larger than a limit.
    #[error("the head of the message is too large")]
    TooLarge,
    /// The first line is not one of HTTP/1.
    #[error("the first line of the message is malformed")]
    StartLine,
    /// The status is not a final status from 200 to 999.
    #[error("the message does not have a final status")]
    Status,
    /// Too many interim responses precede the message.
    #[error("more than {} interim responses precede the message", defaults::INTERIM)]
    Flood,
    /// A field is not `name: value`, is folded, or contains a byte that no field may contain.
    #[error("a field of the message is malformed")]
    Field,
    /// The length of the message is ambiguous, or the body does not have the declared length.
    #[error("the length of the message is ambiguous or wrong")]
    Framing,
    /// Another message follows the first.
    #[error("there is more than one message")]
    Several,
    /// The chunked coding is broken.
    #[error("the chunked coding of the message is malformed")]
    Chunk,
}

impl From<BadHead> for BadMessage {
    fn from(bad: BadHead) -> Self {
        match bad {
            BadHead::StartLine | BadHead::Version | BadHead::Target | BadHead::TargetByte => Self::StartLine,
            BadHead::Status => Self::Status,
            BadHead::Field => Self::Field,
            BadHead::Bytes(_) | BadHead::Fields => Self::TooLarge,
            BadHead::Framing => Self::Framing,
        }
    }
}

impl From<BadBody> for BadMessage {
    fn from(bad: BadBody) -> Self {
        match bad {
            BadBody::Incomplete | BadBody::Chunk => Self::Chunk,
            BadBody::Extensions | BadBody::Trailers => Self::TooLarge,
            BadBody::TooLong => Self::Framing,
        }
    }
}
