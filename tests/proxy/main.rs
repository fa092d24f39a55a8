//! The way out of a company: real proxies in front of a real relay, TLS inspection, and `ptth doctor` on it all.
//! Needs squid, tinyproxy and curl; scripts/test installs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod doctor;
mod inspection;
mod process;
mod site;
mod socks;
mod ways;
