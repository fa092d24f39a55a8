//! The real binary as people run it: a relay and an agent in processes of their own, nginx behind them and curl in
//! front.

#![expect(clippy::unwrap_used, reason = "a test may panic where it cannot continue")]

mod access;
mod certificates;
mod crowd;
mod demo;
mod descriptors;
mod edits;
mod events;
mod first_token;
mod foreign;
mod front;
mod library;
mod login;
#[path = "../support/long.rs"]
mod long;
mod memory;
mod node;
mod origin;
mod origin_tls;
mod output;
mod pages;
mod path;
mod paths;
mod polled;
mod process;
mod refusals;
mod relays;
mod reload;
mod restart;
mod services;
mod site;
mod sockets;
mod speed;
mod stop;
mod subnames;
mod targets;
mod tenants;
mod terminal;
mod transports;
mod trust;
mod unnamed;
mod webdav;
mod websocket;
