//! The agent's end: a request is read from the answer to a poll, and its answer is sent in an envelope of its own.

mod serve;
mod whole;

pub use serve::{Answer, AnswerMode, serve};
pub use whole::{INCOMPLETE, INCREMENTAL_REFUSED, apology};
