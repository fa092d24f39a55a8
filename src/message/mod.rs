//! HTTP messages, for relay and agent: the body, the field names, the effective authority, the framing, hop-by-hop
//! rules, trailers.

pub mod authority;
pub mod body;
pub mod cookies;
pub mod expect;
pub mod fields;
pub mod forgeable;
pub mod framing;
pub mod hop;
pub(crate) mod http2;
pub mod interim;
pub mod link;
pub mod login;
pub mod page;
pub mod problem;
pub mod repeat;
pub mod replay;
pub mod spool;
pub mod store;
pub mod trailers;
pub mod upgrade;

pub use body::{Body, BoxError};

/// A request with this crate's body.
pub type Request = http::Request<Body>;
/// A response with this crate's body.
pub type Response = http::Response<Body>;
