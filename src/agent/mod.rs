//! The side behind the firewall.
pub mod config;
pub mod origin;
