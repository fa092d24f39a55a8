//! Why the relay cannot use an agent's answer.

use crate::defaults;
use crate::http1::embedded::BadMessage;
use crate::http1::{self, BadBody, BadHead};

/// Why an answer is not valid HTTP. The texts name the cause, and repeat no byte of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// The head, or the head of an interim response before it.
    #[error(transparent)]
    Head(#[from] BadHead),
    /// The body.
    #[error(transparent)]
    Body(#[from] BadBody),
    /// The message in an envelope.
    #[error(transparent)]
    Message(#[from] BadMessage),
    /// The JSON message of an envelope.
    #[error("{0}")]
    Json(&'static str),
    /// Interim responses beyond a limit.
    #[error(
        "it has more than {} interim responses, or one with more than {} bytes",
        defaults::INTERIM,
        defaults::INTERIM_BYTES
    )]
    Interims,
    /// A 101 to a request without an Upgrade, or over HTTP/2.
    #[error("it is a 101 that was not requested")]
    UnrequestedUpgrade,
    /// RFC 9113 §8.2.1.
    #[error("a field value begins or ends with a blank")]
    Blank,
    /// The h2 crate has reset the stream or the connection, and gives no other cause.
    #[error(
        "it violates HTTP/2: the cause may be a missing or unknown pseudo-field, a field name with capital letters, a \
         Connection field, a body unlike its Content-Length, or a malformed frame"
    )]
    Http2,
}

impl AnswerFault {
    /// The fault behind an error of an HTTP/1 connection, if the answer is at fault.
    pub(crate) fn of(error: &http1::Error) -> Option<Self> {
        match error {
            http1::Error::Head(bad) => Some((*bad).into()),
            http1::Error::Body(bad) => Some((*bad).into()),
            http1::Error::Interims => Some(Self::Interims),
            http1::Error::UnrequestedUpgrade => Some(Self::UnrequestedUpgrade),
            _ => None,
        }
    }
}
