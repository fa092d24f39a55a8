//! The public side.
pub mod config;
