//! HTTP/1.1 on a flipped connection: one request at a time, so an agent keeps several.

pub mod send;
pub mod serve;
