//! Comet (wiki.secondlife.com, Reverse HTTP, 2008): the fallback for agents that cannot use Upgrade. The agent POSTs to
//! one URL. The response is a request as JSON, or `{}`; the next POST brings the answer, as JSON.
//!
//! The page leaves much open. Here the URL is the gateway's with `/_comet` appended, with the requested names and
//! hosts in its query (`name=`, `host=`), and the token in `Authorization`:
//!
//! - A session begins with the first POST. All POSTs of one token, one query and one `PTTH-Instance` are one session. A
//!   session ends by DELETE of the URL, with its token, or when no poll arrives for [`defaults::POLL_LEASE`]. An agent
//!   may put a `session=` of its own choice into the query: then a session that was ended by DELETE stays ended, and
//!   late polls get 410.
//! - Several polls may wait at once; they are served in turn. `Prefer: wait=N` (RFC 7240 §4.3) sets for how many
//!   seconds a poll may be held. A POST with `wait=0` gets no request, but may bring an answer.
//! - A poll may have a `poll=` of 32 hexadecimal digits in the query, which is the `message-id` of the request that it
//!   brings. Another poll of that name replaces the first, and brings the same request again as long as the request has
//!   no answer. So a request that was lost on the way still reaches the agent.
//! - A `message-id` is good for one answer, from the token that it was sent to. An answer to a request of a session
//!   that has ended is accepted, and begins no other session.
//! - The answer to a poll carries `Link: <URL>; rel="related"`, the public URLs.
//! - If the agent sends `PTTH-Instance`, `PTTH-Request` names each request, and `PTTH-Cancelled` beside `{}` the requests
//!   whose visitors have left. The agent sends no answers to those.
//!
//! [`defaults::POLL_LEASE`]: crate::defaults::POLL_LEASE

mod agent;
mod relay;
mod wire;

#[cfg(any(test, fuzzing))]
pub(crate) use wire::property as fuzz_json;

use std::sync::Arc;

use super::{Admissions, AgentSide, RelaySide, Transport};
use crate::session::Kind;

/// See the module.
pub struct Comet;

impl Transport for Comet {
    fn name(&self) -> &'static str {
        "comet"
    }

    fn carriers(&self) -> &'static [Kind] {
        &[Kind::Envelope]
    }

    fn spec(&self) -> &'static str {
        "wiki.secondlife.com, Reverse HTTP (2008), the COMET fallback"
    }

    fn relay(&self, admissions: Arc<dyn Admissions>) -> Box<dyn RelaySide> {
        Box::new(relay::Relay::new(admissions))
    }

    fn agent(&self) -> Box<dyn AgentSide> {
        Box::new(agent::Agent::default())
    }
}
