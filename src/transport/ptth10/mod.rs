//! `Upgrade: PTTH/1.0` (draft-lentczner-rhttp-00), and `PTTH/0.9`, its alias of 2008. Our own agent also offers
//! carriers in `ALPN`; a peer without that field gets plain HTTP/1.1.

mod agent;
mod relay;

use std::sync::Arc;

use super::{Admissions, AgentSide, RelaySide, Transport};
use crate::session::Kind;

/// See the module.
pub struct Ptth10;

impl Transport for Ptth10 {
    fn name(&self) -> &'static str {
        "ptth10"
    }

    fn plain_name(&self) -> &'static str {
        "ptth10-h1"
    }

    fn carriers(&self) -> &'static [Kind] {
        &Kind::PREFERRED
    }

    fn spec(&self) -> &'static str {
        "draft-lentczner-rhttp-00"
    }

    fn relay(&self, admissions: Arc<dyn Admissions>) -> Box<dyn RelaySide> {
        Box::new(relay::Relay::new(admissions))
    }

    fn agent(&self) -> Box<dyn AgentSide> {
        Box::new(agent::Agent)
    }
}
