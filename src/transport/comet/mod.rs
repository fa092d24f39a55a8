//! Comet (wiki.secondlife.com, Reverse HTTP, 2008): the fallback for those who cannot have an Upgrade. The agent POSTs
//! to one URL; what comes back is a request as JSON, or `{}`; the answer, as JSON, is the next POST.
//!
//! The page leaves much open. Here the URL is the gateway's with `/_comet` behind it, what is asked for stands in its
//! query (`name=`, `host=`), and the token in `Authorization`:
//!
//! - A session begins with the first POST. All POSTs of one token, one query and one `PTTH-Instance` are one session; it
//!   ends by DELETE of the URL, with its token, or when nobody polls for [`defaults::POLL_LEASE`]. An agent may put a
//!   `session=` of its own choice into the query: then what it ended stays so, and polls that come late get 410.
//! - Several polls may wait at once; they are served in turn. `Prefer: wait=N` (RFC 7240 §4.3) says for how many seconds
//!   one may be held; with `wait=0` it brings no request, but may bring an answer.
//! - A poll may have a `poll=` of 32 hexadecimal digits in the query, which is the `message-id` of what it brings. Another
//!   of that name takes its place, and brings the same again as long as that has no answer: what got lost on the way is
//!   not lost to its visitor.
//! - A `message-id` is good for one answer, of the token that it was given to. An answer to a request of a session that
//!   has ended is taken, and begins no other.
//! - The answer to a poll carries `Link: <URL>; rel="related"`, the public URLs.
//!
//! [`defaults::POLL_LEASE`]: crate::defaults::POLL_LEASE

mod agent;
mod relay;
mod wire;

#[cfg(any(test, fuzzing))]
pub(crate) use wire::property as fuzz_json;

use std::sync::Arc;

use super::{AgentSide, Door, RelaySide, Transport};
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

    fn relay(&self, door: Arc<dyn Door>) -> Box<dyn RelaySide> {
        Box::new(relay::Relay::new(door))
    }

    fn agent(&self) -> Box<dyn AgentSide> {
        Box::new(agent::Agent::default())
    }
}
