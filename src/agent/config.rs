//! The configuration of an agent.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{AnswerLimit, HostName, Instance, Name, Secret};
use crate::net::dial::Proxies;
use crate::session::Kind;

/// The configuration of an agent. The origin is not part of it: a program passes the origin when serving starts.
#[derive(Clone)]
pub struct AgentConfig {
    /// The relays. The agent keeps a session to each. A URL has the scheme `https` or `http`, a host, and optionally a
    /// port and a path.
    pub relays: Vec<http::Uri>,
    /// The requested names. Without names and hosts the agent requests the only name of the token.
    pub names: Vec<Name>,
    /// The requested hosts of the agent's own.
    pub hosts: Vec<HostName>,
    /// Whether every name and host is requested together with all hosts one label below it.
    pub subnames: bool,
    /// The name that the relay grants if the agent requests no name and no host, and the token allows more than one. With
    /// a token for `WORD-*`, the relay puts the word in front.
    pub suggested: Option<Name>,
    /// The token; never printed.
    pub token: Option<Secret>,
    /// One of [`super::transports`].
    pub transport: Box<str>,
    /// The carriers offered to a relay, which chooses one: [`Kind::PREFERRED`], unless a carrier is known to fail on
    /// the path to the relay.
    pub carriers: Vec<Kind>,
    /// The wait after which an agent below its best transport tries the better ones again. The wait doubles after each
    /// failed attempt, up to five minutes. The usual value is [`crate::defaults::CLIMB_FIRST`].
    pub climb: Duration,
    /// The TLS configuration, with the roots that a relay's certificate must chain to.
    pub tls: Arc<rustls::ClientConfig>,
    /// The proxies between this machine and the relays.
    pub proxies: Proxies,
    /// The identity of this process.
    pub instance: Instance,
    /// Fence every other process of this token and name.
    pub exclusive: bool,
    /// The rules for visitors, which the relay enforces: the value of
    /// [`PTTH-Visitors`](crate::message::fields::PTTH_VISITORS). `None` admits every visitor. The agent does not serve
    /// through a relay that does not support the rules.
    pub visitors: Option<Box<str>>,
    /// The requested limit of a visitor's wait for the head of an answer. The relay caps it at the most that the token
    /// allows, or else at its own limit, and then sends a warning: see [`Status`](super::Status). `None` leaves the
    /// limit to the relay.
    pub answer_timeout: Option<AnswerLimit>,
}
