//! ReverseHttp (T. Garnock-Jones, 2008): an agent that can only send requests. It registers with a form, fetches each
//! request by long-polling a URL, and posts the answer to that same URL.

mod agent;
mod form;
mod relay;
mod seal;

#[cfg(any(test, fuzzing))]
pub(crate) use form::property as fuzz_form;

use std::sync::Arc;

use super::{AgentSide, Door, RelaySide, Transport};
use crate::session::Kind;

/// See the module.
pub struct ReverseHttp;

impl Transport for ReverseHttp {
    fn name(&self) -> &'static str {
        "reversehttp"
    }

    fn carriers(&self) -> &'static [Kind] {
        &[Kind::Envelope]
    }

    fn spec(&self) -> &'static str {
        "ReverseHttp (Garnock-Jones 2008)"
    }

    fn relay(&self, door: Arc<dyn Door>) -> Box<dyn RelaySide> {
        Box::new(relay::Relay::new(door))
    }

    fn agent(&self) -> Box<dyn AgentSide> {
        Box::new(agent::Agent::default())
    }
}
