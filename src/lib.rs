//! ptth
pub mod agent;
pub mod defaults;
pub mod domain;
pub mod message;
pub mod net;
pub mod policy;
pub mod registry;
pub mod relay;
pub mod session;
pub mod tls;
pub mod transport;
