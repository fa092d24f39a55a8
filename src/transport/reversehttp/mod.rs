//! ReverseHttp (T. Garnock-Jones, 2008): an agent that can only send requests. It registers with a form, fetches each
//! request by long-polling a URL, and posts the answer to that same URL.
//!
//! Ours beside it: `Accept: message/http;stream=1` on a poll, for messages that are read as they come, and whose
//! visitors are known by `PTTH-Request` and `PTTH-Gone`; `live=1` beside it, on a poll and on the relay's answer to it
//! (see below); `Accept: application/http`, for several whole messages at once;
//! a link of relation `probe` in the answer to our agents' registration, where they look whether bodies get through
//! while they are open; `Prefer: wait=N` (RFC 7240 §4.3) on a poll, for a hold that the way bears; and a poll of a URL
//! whose request has no answer yet hands that request out again, because nobody who got it polls there.
//!
//! `Accept: message/http;live=1` on a poll says that the agent writes its answer as it is made, and the relay says the
//! same in the poll's answer if it reads it so. Both must have said it. Then the POST of the answer:
//!
//! - may end before the message in it does, by its length or its chunks: that message broke off at the origin, and its
//!   visitor is cut at once. A POST that itself breaks off says nothing of the origin, and to a relay that has not said
//!   the word, nothing else can be said.

mod accept;
mod agent;
mod form;
mod relay;
mod seal;

#[cfg(any(test, fuzzing))]
pub(crate) use form::property as fuzz_form;

use std::sync::Arc;

use super::{AgentSide, Door, RelaySide, Transport};
use crate::session::Kind;

/// What the relay says to a probe as soon as it is asked.
const DOWN: &[u8] = b"down\n";
/// What it says when it has heard the same of the agent.
const UP: &[u8] = b"up\n";

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
