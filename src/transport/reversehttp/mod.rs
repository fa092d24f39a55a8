//! ReverseHttp (T. Garnock-Jones, 2008): an agent that can only send requests. It registers with a form, fetches each
//! request by long-polling a URL, and posts the answer to that same URL.
//!
//! Our extensions:
//!
//! - `Accept: message/http;stream=1` on a poll: the agent reads messages while they arrive.
//! - For an agent that has registered with `PTTH-Instance`, or streams, `PTTH-Request` names each request, and
//!   `PTTH-Cancelled` (earlier: `PTTH-Gone`) on a 204 the requests whose visitors have left.
//! - For an agent that has registered with `PTTH-Instance`, a complete request with trailers is chunked. A complete answer
//!   may be chunked, with trailers, from any agent.
//! - `live=1` on a poll, with or without `stream=1`: the agent writes answers while they are made (below).
//! - `Accept: application/http`: several whole messages at once.
//! - A link of relation `probe` in the answer to our agent's registration. At that URL, the agent probes whether bodies
//!   get through before they are complete.
//! - `Prefer: wait=N` (RFC 7240 §4.3) on a poll: the hold that the agent requests.
//! - A poll of a URL whose request has no answer yet delivers that request again, because an agent that received it
//!   does not poll that URL.
//!
//! An agent sends `Accept: message/http;live=1` on a poll, and the relay sends the same in the poll's answer (RFC 9110
//! §12.5.1 allows that). The answer is live only if both have sent it. An agent whose bodies are held back until they
//! are complete does not send this parameter, and drops interim responses. The POST of a live answer
//!
//! - may begin with interim responses, which go to the visitor as they arrive: at most [`INTERIM`], each of at
//!   most [`INTERIM_BYTES`] bytes, of HTTP/1.1, and without fields that frame a body. An envelope with more of
//!   them, with a 101 that the request did not permit, or with nothing behind them is no answer: the agent gets
//!   400, and the visitor 502. The same applies to an interim response in an answer that is not live, or among
//!   several messages (`application/http`).
//! - may end before the message in it is complete by its length or its chunks. Then that message broke off at the
//!   origin, and its visitor is cut at once. A POST that itself breaks off shows nothing about the origin.
//!
//! With `stream=1` and `live=1` together, a request with `Expect: 100-continue` keeps that field, and its body waits
//! for a 100 in the POST, or for [`ORIGIN_CONTINUE`]. After an answer without a 100, the relay does not send the body.
//! The agent keeps the poll open until its answer has begun. For every other agent, the relay itself requests the body
//! from the visitor.
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

use super::{Admissions, AgentSide, RelaySide, Transport};
use crate::session::Kind;

/// The relay's first line in the answer to a probe, sent at once.
const DOWN: &[u8] = b"down\n";
/// The agent's line in a probe's POST. Once it has arrived, the relay sends the same line in the answer to the GET.
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

    fn relay(&self, admissions: Arc<dyn Admissions>) -> Box<dyn RelaySide> {
        Box::new(relay::Relay::new(admissions))
    }

    fn agent(&self) -> Box<dyn AgentSide> {
        Box::new(agent::Agent::default())
    }
}
