//! The way out of a company: real proxies in front of a real relay, TLS inspection, and `ptth doctor` on it all.
//! Boxes that
//! treat Upgrade and bodies in their own ways. Needs squid, tinyproxy, nginx, haproxy and curl; scripts/test installs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod ahead;
mod blocks;
mod boxes;
mod doctor;
#[path = "../support/holder.rs"]
mod holder;
mod inspection;
mod lifted;
#[path = "../support/long.rs"]
mod long;
mod process;
mod service;
mod site;
mod socks;
mod ways;
