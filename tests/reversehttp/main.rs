//! ReverseHttp as its clients meet it: bytes on a socket, in and out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic, in its helpers too")]

mod agent;
mod clients;
mod hostile;
mod manage;
mod open;
mod pipelines;
mod polling;
mod registration;
mod relayhttp;
mod support;
mod visitors;
