//! The carrier of transports without a connection of their own: requests wait for polls, and answers arrive by POST. A
//! request is embedded in the answer to a poll, and is named by the URL of the poll. The agent sends the answer to the
//! request to the same URL.
//!
//! [`Queue`] is one registration, and a carrier: a `Mailbox` without I/O behind a lock. `send` serves
//! visitors, `poll` and `delivery` serve polls, and `answer` takes answers. [`agent`] is the other end.

pub mod agent;
mod answer;
mod delivery;
mod mailbox;
mod poll;
mod queue;
mod request;
mod send;

#[cfg(test)]
mod tests;

pub use answer::AnswerError;
pub use delivery::Delivery;
pub use mailbox::PollEnd;
pub use queue::{AnswerRouter, Queue};

/// The id of a Request URL: random, so that it cannot be guessed.
pub type UrlId = u128;

/// The URL that follows `url`, for the same poller.
pub fn following(url: UrlId) -> UrlId {
    url & !UrlId::from(u64::MAX) | UrlId::from(rand::random::<u64>())
}

/// The part of the id that all URLs of one poller share.
fn poller(url: UrlId) -> u64 {
    (url >> u64::BITS) as u64
}

/// How a poll takes requests, and how its agent answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollMode {
    /// The agent reads a request while it arrives; else each request is complete before it is sent.
    pub streams: bool,
    /// The agent sends an answer while the origin makes it, interim responses first. An answer that stops before its
    /// own end has broken off at the origin. A 100 requests the body of the request.
    pub live: bool,
    /// Several requests in one message, and their answers in one message.
    pub batch: bool,
    /// A URL can be polled again, and then delivers again the requests that did not arrive.
    pub again: bool,
    /// The transport writes the message itself; the body of the request is in memory.
    pub in_memory: bool,
    /// The agent has announced its process, and so knows our own fields.
    pub instance: bool,
}

impl PollMode {
    /// Both messages are complete before they are sent.
    pub const WHOLE: Self =
        Self { streams: false, live: false, batch: false, again: true, in_memory: false, instance: false };
    /// The agent reads a request while it arrives, and its answer has an end of its own or none.
    pub const STREAM: Self = Self { streams: true, ..Self::WHOLE };
    /// All complete requests that wait, up to a limit.
    pub const BATCH: Self = Self { batch: true, ..Self::WHOLE };
    /// One complete request in memory.
    pub const IN_MEMORY: Self = Self { in_memory: true, ..Self::WHOLE };

    /// Whether the agent reads a chunked request, behind which trailers may follow.
    pub fn takes_trailers(self) -> bool {
        (self.streams || self.instance) && !self.batch
    }

    /// Whether the agent drops a request that the answer to a later poll names, because its visitor has left.
    pub fn cancels(self) -> bool {
        self.streams || self.instance
    }
}
