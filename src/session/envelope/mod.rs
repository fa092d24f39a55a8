//! Requests that wait for polls, and answers that come by POST: the carrier of transports without a connection of
//! their own. A request is embedded in the answer to a poll, and named by the URL that was polled; the answer comes to
//! that same URL.
//!
//! [`Queue`] is one registration: a mailbox without I/O behind a lock. `send` is what visitors do to it, `poll` and
//! `delivery` what polls do, and `answer` what answers do. [`agent`] is the other end.

pub mod agent;
mod answer;
mod continue_gate;
mod delivery;
mod mailbox;
mod poll;
mod queue;
mod request;
mod send;
mod stream;
mod used;

#[cfg(test)]
mod tests;

pub use answer::AnswerError;
pub use delivery::Delivery;
pub use mailbox::{PollEnd, QueueStatus};
pub use queue::{AnswerRouter, Queue};
pub use send::carrier;

/// What names a Request URL: random, so that it cannot be guessed.
pub type UrlId = u128;

/// A URL that goes on where another one ends, for the same poller.
pub fn following(url: UrlId) -> UrlId {
    url & !UrlId::from(u64::MAX) | UrlId::from(rand::random::<u64>())
}

/// What the URLs of one poller have in common.
fn poller(url: UrlId) -> u64 {
    (url >> u64::BITS) as u64
}

/// What a poll takes, and how its agent answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollMode {
    /// The agent reads a request as it comes; else each is complete before it is sent.
    pub streams: bool,
    /// The agent writes its answer as that is made, interim responses first: one that ends before its own end has broken
    /// off at the origin, and a 100 asks for the body of the request.
    pub live: bool,
    /// Several requests in one message, and their answers in one.
    pub batch: bool,
    /// Its URL can be polled again, and then delivers again what did not arrive.
    pub again: bool,
    /// The transport writes the message itself, of a body that is in memory.
    pub in_memory: bool,
}

impl PollMode {
    /// Both messages are complete before they are sent.
    pub const WHOLE: Self = Self { streams: false, live: false, batch: false, again: true, in_memory: false };
    /// The agent reads as the request comes, and its answer has an end of its own or none.
    pub const STREAM: Self = Self { streams: true, ..Self::WHOLE };
    /// As many complete requests as wait.
    pub const BATCH: Self = Self { batch: true, ..Self::WHOLE };
    /// One complete request in memory.
    pub const IN_MEMORY: Self = Self { in_memory: true, ..Self::WHOLE };
}
