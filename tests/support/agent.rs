//! An agent as a program would embed it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ptth::internals::agent::config::AgentConfig;
use ptth::internals::agent::{self, Serving};
use ptth::internals::domain::{Instance, Name, Secret};
use ptth::internals::net::Cores;
use ptth::internals::session::{Handler, Kind};

use super::relay::{TestRelay, trust};
use super::within;

/// The configuration of an agent. Each plan has an instance id of its own, unless the test sets another.
pub(crate) struct AgentPlan {
    pub(crate) config: AgentConfig,
}

impl AgentPlan {
    pub(crate) fn new(url: &str, name: &str, token: Secret, transport: &str, carrier: Kind) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self {
            config: AgentConfig {
                relays: vec![url.parse().unwrap()],
                names: vec![Name::parse(name).unwrap()],
                hosts: Vec::new(),
                subnames: false,
                suggested: None,
                token: Some(token),
                transport: transport.into(),
                carriers: vec![carrier],
                climb: ptth::internals::defaults::CLIMB_FIRST,
                tls: trust(&[]),
                proxies: ptth::internals::net::dial::Proxies::None,
                instance: Instance { id: id.into(), boot: 1 },
                exclusive: false,
                visitors: None,
                answer_timeout: None,
            },
        }
    }

    /// Starts the agent without waiting for a connection.
    pub(crate) fn start(&self, handler: Arc<dyn Handler>) -> Serving {
        agent::start(&self.config, handler, Cores::ambient()).unwrap()
    }
}

/// Starts an agent and waits until it is connected.
pub(crate) async fn serve(plan: &AgentPlan, handler: Arc<dyn Handler>) -> Serving {
    let mut serving = plan.start(handler);
    let urls = within("an agent connecting", serving.connected()).await.expect("the relay admits the agent");
    assert_eq!(urls.len(), 1, "{urls:?}");
    let status = serving.status()[0].borrow().clone();
    assert_eq!(status.carrier, plan.config.carriers.first().copied(), "the requested carrier");
    serving
}

/// The raw bytes of an offer of a name with a carrier: an Upgrade, if the transport has one. `rest`: further fields.
pub(crate) fn offer((transport, carrier): (&str, Kind), relay: &TestRelay, name: &str, rest: &str) -> String {
    if transport == "comet" {
        return format!(
            "POST /reversehttp/_comet?name={name} HTTP/1.1\r\nHost: ptth.localhost\r\nContent-Length: 0\r\n{rest}\r\n"
        );
    }
    let line = match transport {
        "ptth" => format!(
            "GET /.well-known/ptth/https%3A%2F%2F{name}.ptth.localhost%3A{}/ HTTP/1.1",
            relay.plain.port()
        ),
        _ => format!("POST /reversehttp?name={name} HTTP/1.1"),
    };
    let token = if transport == "ptth" { "ptth" } else { "PTTH/1.0" };
    let alpn = carrier.alpn_field();
    format!(
        "{line}\r\nHost: ptth.localhost\r\nConnection: Upgrade\r\nUpgrade: {token}\r\nALPN: {alpn}\r\n{rest}\r\n"
    )
}
