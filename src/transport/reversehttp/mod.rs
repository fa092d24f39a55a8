//! ReverseHttp (T. Garnock-Jones, 2008): an agent that can only send requests. It registers with a form, fetches each
//! request by long-polling a URL, and posts the answer to that same URL.
//!
//! Ours beside it: `Accept: message/http;stream=1` on a poll, for messages that are read as they come, and whose
//! visitors are known by `PTTH-Request` and `PTTH-Gone`; `live=1` beside it, for answers that are written as they are
//! made (below); `Accept: application/http`, for several whole messages at once; a link of relation `probe` in the
//! answer to our agents' registration, where they look whether bodies get through while they are open; `Prefer: wait=N`
//! (RFC 7240 §4.3) on a poll, for a hold that the way bears; and a poll of a URL whose request has no answer yet hands
//! that request out again, because nobody who got it polls there.
//!
//! An agent says `Accept: message/http;live=1` on a poll, and the relay says the same in the poll's answer (RFC 9110
//! §12.5.1 lets it). Only where both have said it is the answer live; an agent whose bodies are held back until they
//! are complete does not say it, and drops interim responses. The POST of a live answer
//!
//! - may begin with interim responses, which go to the visitor as they come: at most [`INTERIM`], each of at most
//!   [`INTERIM_BYTES`] bytes, of HTTP/1.1, and with no word of a body. More of them, a 101 that nobody asked for, and an
//!   envelope that ends behind them are no answer: 400 for the agent, 502 for the visitor. So is an interim response
//!   in an answer that is not live, and among several messages (`application/http`).
//! - may end before the message in it does, by its length or its chunks: that message broke off at the origin, and its
//!   visitor is cut at once. A POST that itself breaks off says nothing of the origin.
//!
//! With `stream=1` beside it, a request that says `Expect: 100-continue` comes with that field, and its body waits for a
//! 100 in the POST, or for [`ORIGIN_CONTINUE`]; an answer without one leaves it where it is. The agent keeps the poll
//! open until its answer has begun. To everybody else the relay gives the body that it has asked for itself.
//!
//! [`INTERIM`]: crate::defaults::INTERIM
//! [`INTERIM_BYTES`]: crate::defaults::INTERIM_BYTES
//! [`ORIGIN_CONTINUE`]: crate::defaults::ORIGIN_CONTINUE

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
