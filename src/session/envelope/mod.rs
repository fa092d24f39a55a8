//! Requests that wait for polls, and answers that come by POST: the carrier of transports without a connection of
//! their own. A request is embedded in the answer to a poll, and named by the URL that was polled; the answer comes to
//! that same URL.

mod again;
mod answer;
mod deliver;
mod gate;
mod given;
mod job;
mod live;
mod lost;
mod pipeline;
mod queue;
mod raw;
mod send;
mod serve;
mod severed;
mod spool;
mod store;
mod used;
mod whole;

#[cfg(test)]
mod tests;

pub use answer::{AnswerError, Flights};
pub use deliver::Handed;
pub use given::Given;
pub use pipeline::Several;
pub use queue::{PollEnd, Queue};
pub use send::carrier;
pub use serve::{Way, serve};
pub use spool::{Room, SpoolError, Spooled};
pub use store::Store;
pub use whole::{Answer, apology, arrived, serve_by};

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

/// How an agent takes the request that a poll brings, and answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// It reads the request as it comes.
    pub streams: bool,
    /// It writes its answer as that is made, interim responses first: one that ends before its own end has broken off
    /// at the origin, and a 100 asks for the body of the request.
    pub live: bool,
}

impl Manner {
    /// Both messages are complete before they are sent.
    pub const WHOLE: Self = Self { streams: false, live: false };
    /// It reads as the request comes, and its answer has an end of its own or none.
    pub const STREAM: Self = Self { streams: true, live: false };
}
