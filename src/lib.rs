//! ptth
pub mod agent;
pub mod cli;
pub mod defaults;
pub mod domain;
pub mod message;
pub mod net;
pub mod observe;
pub mod policy;
pub mod registry;
pub mod relay;
pub mod session;
pub mod tls;
pub mod transport;
