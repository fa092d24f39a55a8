//! The agent's end: a request is read from the answer to a poll, and its answer is sent in an envelope of its own.

mod again;
mod embed;
mod live;
mod serve;
mod whole;

pub use again::Replayable;
pub use embed::AnswerMode;
pub use serve::serve;
pub use whole::{Answer, apology, arrived, serve_by};
