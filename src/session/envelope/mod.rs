//! Requests that wait for polls, and answers that come by POST: the carrier of transports without a connection of
//! their own. A request is embedded in the answer to a poll, and named by the URL that was polled; the answer comes to
//! that same URL.

mod again;
mod answer;
mod deliver;
mod given;
mod job;
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
pub use serve::serve;
pub use spool::{Room, SpoolError, Spooled};
pub use store::Store;
pub use whole::{Answer, apology, arrived, serve_held};

/// What names a Request URL: random, so that it cannot be guessed.
pub type UrlId = u128;
