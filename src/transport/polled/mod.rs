//! What transports share whose agents fetch requests by polling.

mod base;
mod client;
pub(super) mod pages;
mod polls;
mod registrations;

pub(super) use base::Base;
pub(super) use client::Client;
pub(super) use polls::{Brought, Dialect, run};
pub(super) use registrations::{Registration, Registrations};
