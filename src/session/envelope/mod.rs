//! Requests that wait for polls, and answers that come by POST: the carrier of transports without a connection of
//! their own. A request is embedded in the answer to a poll, and named by the URL that was polled; the answer comes to
//! that same URL.

mod answer;
mod deliver;
mod given;
mod queue;
mod raw;
mod send;
mod serve;
mod used;

pub use answer::{AnswerError, Flights};
pub use deliver::Handed;
pub use given::Given;
pub use queue::{PollEnd, Queue};
pub use send::carrier;
pub use serve::serve;

/// What names a Request URL: random, so that it cannot be guessed.
pub type UrlId = u128;
