//! The common part of transports whose agents poll for requests.

mod ask;
mod base;
mod bring;
mod client;
mod hold;
pub(super) mod pages;
mod polls;
mod registrations;
mod wait;

pub(super) use ask::{Came, send_poll};
pub(super) use base::Base;
pub(super) use bring::{LOST, bring};
pub(super) use client::Client;
pub(super) use hold::Hold;
pub(super) use polls::{Brought, Dialect, run};
pub(super) use registrations::{Registration, Registrations};
pub(super) use wait::{Waiters, held, too_many, wait};
