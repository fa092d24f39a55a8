//! What an agent does.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{HostName, Instance, Name, Secret};
use crate::net::dial::Proxies;
use crate::session::Kind;

/// What an agent does. The origin is not part of it: it is given where serving starts.
#[derive(Clone)]
pub struct AgentConfig {
    /// The relays: a session is kept to each. Scheme `https` or `http`, a host, perhaps a port and a path.
    pub relays: Vec<http::Uri>,
    /// The names asked for; with no hosts either, the only name of the token.
    pub names: Vec<Name>,
    /// Hosts of the agent's own.
    pub hosts: Vec<HostName>,
    /// The token; never printed.
    pub token: Option<Secret>,
    /// One of [`super::transports`].
    pub transport: Box<str>,
    /// The carriers offered to a relay, which chooses; [`Kind::PREFERRED`] unless one is known to do harm on the way.
    pub carriers: Vec<Kind>,
    /// After how long an agent that is not on its best transport tries the better ones again; twice as long after each
    /// try in vain, up to five minutes. [`crate::defaults::CLIMB_FIRST`] unless there is a reason.
    pub climb: Duration,
    /// What a relay's certificate must chain to.
    pub tls: Arc<rustls::ClientConfig>,
    /// By which way the relays are reached.
    pub proxies: Proxies,
    /// Which process this is.
    pub instance: Instance,
    /// Fence every other process of this token and name.
    pub exclusive: bool,
    /// Who may visit: the value of [`PTTH-Visitors`](crate::message::fields::PTTH_VISITORS), which the relay holds
    /// visitors to; nothing means everybody. A relay that does not know such rules is not served.
    pub visitors: Option<Box<str>>,
}
