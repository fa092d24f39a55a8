//! ReverseHttp and its sister comet as their clients meet them: bytes on a socket, in and out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic, in its helpers too")]

mod agent;
mod agents;
mod cancelled;
mod clients;
mod comet;
mod full;
mod hostile;
mod live;
mod lost;
mod manage;
mod open;
mod pipelines;
mod polling;
mod registration;
mod relayhttp;
mod support;
mod visitors;
