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

use super::{BadBody, BadHead};
use crate::defaults;

/// The media type of one embedded message.
pub const MESSAGE_HTTP: &str = "message/http";
/// The media type of several.
pub const APPLICATION_HTTP: &str = "application/http";

/// Why an embedded message is refused. The texts name the cause, and repeat no byte of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// The message ends before its head is complete.
    #[error("it has no complete head")]
    Incomplete,
    /// The head is malformed or exceeds a limit.
    #[error(transparent)]
    Head(#[from] BadHead),
    /// The status is not a final status from 200 to 999.
    #[error("its status is not final")]
    Status,
    /// Too many interim responses precede the message, or one of them is too large.
    #[error(
        "more than {} interim responses precede it, or one with more than {} bytes",
        defaults::INTERIM,
        defaults::INTERIM_BYTES
    )]
    Interims,
    /// An interim response that declares a body.
    #[error("an interim response declares a body")]
    InterimBody,
    /// The body does not have the declared length.
    #[error("its body does not have the declared length")]
    Length,
    /// A message that others follow declares no length.
    #[error("it declares no length, and other messages follow")]
    Endless,
    /// Another message follows the first.
    #[error("there is more than one message")]
    Several,
    /// The chunked coding is broken.
    #[error(transparent)]
    Body(#[from] BadBody),
}
