//! The real binary as people run it: a relay and an agent in processes of their own, nginx behind them and curl in
//! front.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod crowd;
mod demo;
mod descriptors;
mod events;
mod first_token;
mod foreign;
mod front;
mod library;
mod memory;
mod node;
mod origin;
mod path;
mod polled;
mod process;
mod refusals;
mod restart;
mod site;
mod sockets;
mod speed;
mod stop;
mod targets;
mod tenants;
mod transports;
mod trust;
mod websocket;
