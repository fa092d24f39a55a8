//! `Upgrade: ptth` (draft-kazuho-ptth-ptth-01): the agent names the origins that it requests.

mod agent;
mod relay;
mod wire;

use std::sync::Arc;

use super::{Admissions, AgentSide, RelaySide, Transport};
use crate::session::Kind;

/// See the module.
pub struct Ptth;

impl Transport for Ptth {
    fn name(&self) -> &'static str {
        "ptth"
    }

    fn is_automatic(&self) -> bool {
        // Both ptth and ptth10 need Upgrade: a box that removes Upgrade breaks both.
        false
    }

    fn carriers(&self) -> &'static [Kind] {
        &Kind::PREFERRED
    }

    fn spec(&self) -> &'static str {
        "draft-kazuho-ptth-ptth-01"
    }

    fn relay(&self, admissions: Arc<dyn Admissions>) -> Box<dyn RelaySide> {
        Box::new(relay::Relay::new(admissions))
    }

    fn agent(&self) -> Box<dyn AgentSide> {
        Box::new(agent::Agent)
    }
}
