//! Sockets, deadlines, tasks and cores: everything below HTTP.

pub mod cores;
#[cfg(feature = "relay")]
pub mod descriptors;
pub mod dial;
pub mod exhausted;
pub mod flag;
pub mod io;
pub mod keepalive;
pub mod linger;
pub mod listener;
pub mod nets;
pub mod proxy_protocol;
pub mod public_address;
pub mod scope;
pub mod splice;
pub mod watched;

pub use cores::{Core, Cores};
pub use io::Io;
pub use scope::Scope;
pub use watched::WatchedStream;
