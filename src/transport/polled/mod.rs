//! The common part of transports whose agents poll for requests.

mod base;
mod client;
mod deliver;
mod hold;
mod in_flight;
pub(super) mod pages;
mod polls;
mod registrations;
mod send_poll;
mod wait;

pub(super) use base::Base;
pub(super) use client::Client;
pub(super) use deliver::deliver_answer;
pub(super) use hold::Hold;
pub(super) use in_flight::{InFlightRequest, InFlightRequests};
pub(super) use polls::{Dialect, PollOutcome, run};
pub(super) use registrations::{Registration, Registrations};
pub(super) use send_poll::{SentPoll, send_poll};
pub(super) use wait::{Waiters, preferred_wait, too_many, with_hold};
