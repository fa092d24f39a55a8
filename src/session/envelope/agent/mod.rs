//! The agent's end: a request comes out of the answer to a poll, and its answer goes into an envelope of its own.

mod again;
mod embed;
mod live;
mod serve;
mod whole;

pub use again::Again;
pub use embed::AnswerMode;
pub use serve::serve;
pub use whole::{Answer, apology, arrived, serve_by};
