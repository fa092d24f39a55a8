//! A relay that serves the transport of the test, and agents that come by it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::Response;
use ptth::internals::domain::{Name, Offer, Secret, Wanted};
use ptth::internals::message::{Body, Request};
use ptth::internals::net::Scope;
use ptth::internals::net::dial::DialRoute;
use ptth::internals::relay::config::{Admin, Listen, RelayConfig};
use ptth::internals::session::{Load, ReceiveBudget, handler_fn, serve_half};
use ptth::transport::{AgentCredentials, AgentLink, Call, Transport};

use crate::line::Line;
use crate::support::relay::{connect, trust};
use crate::support::{DOMAIN, Plan, TestRelay, Wire, named, within};

pub(crate) const NAME: &str = "shop";
pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A relay with the transport, and a listener of its own with TLS and a plain one behind the usual two.
pub(crate) fn relay(line: &Line, change: impl FnOnce(&mut RelayConfig) + 'static) -> TestRelay {
    planned(line, Plan { change: Box::new(change), ..Plan::default() })
}

pub(crate) fn planned(line: &Line, plan: Plan) -> TestRelay {
    let (line, change) = (line.clone(), plan.change);
    let serve = move |config: &mut RelayConfig| {
        config.listen.extend([Listen::tls(LOOPBACK).of(line.name), Listen::plain(LOOPBACK).of(line.name)]);
        config.transports = vec![Arc::new(line)];
        config.admin = Some(Admin { address: LOOPBACK, required: true });
        change(config);
    };
    TestRelay::planned(Plan { change: Box::new(serve), ..plan })
}

/// Where the transport's own listeners are: the one with TLS, and the plain one.
pub(crate) fn own_listeners(relay: &TestRelay) -> [SocketAddr; 2] {
    let [_, _, tls, plain] = relay.listeners() else { panic!("four listeners") };
    assert!(tls.tls && !plain.tls && tls.transport.is_some() && plain.transport.is_some());
    [tls.address, plain.address]
}

/// What an agent of [`NAME`] says at a port of the relay.
pub(crate) fn call(scheme: &str, port: u16, token: Option<Secret>) -> Call {
    let wanted = vec![Wanted::Name(Name::parse(NAME).unwrap())];
    Call {
        relay: format!("{scheme}://{DOMAIN}:{port}/").parse().unwrap(),
        credentials: AgentCredentials::new(trust(&[]), token),
        via: DialRoute::Direct,
        offer: Offer { wanted, ..Offer::default() },
        carriers: Vec::new(),
    }
}

/// An agent that answers each request with `said`, until it is dropped.
pub(crate) struct Agent(Scope);

impl Agent {
    pub(crate) async fn start(line: &Line, call: Call, said: &'static str) -> Self {
        let opened = within("opening a stream", line.agent().open(&call)).await.unwrap();
        let AgentLink::Flipped { kind, io } = opened.link else { panic!("the link is not flipped") };
        let handler =
            Arc::new(handler_fn(async move |_: Request| Response::new(Body::full(said.as_bytes()))));
        let (scope, load) = (Scope::new(), Load::new(Arc::default()));
        let serving = serve_half(io, kind, handler, load, ReceiveBudget::new(64 << 20), scope.clone());
        scope.spawn(async move {
            let ended = serving.await;
            eprintln!("the agent's stream ended: {ended:?}");
        });
        Self(scope)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The status and the body that a visitor of [`NAME`] gets.
pub(crate) async fn visit(relay: &TestRelay) -> (u16, String) {
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME));
    let (head, body) = relay.fetch(&request).await;
    (head.status(), body)
}

/// Visits until an agent answers: an agent of this transport is not told when it is admitted.
pub(crate) async fn served(relay: &TestRelay, said: &str) {
    within("an agent behind the name", async {
        loop {
            match visit(relay).await {
                (200, body) => return assert_eq!(body, said),
                (404 | 503, _) => tokio::task::yield_now().await,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

/// That a limit took effect so many times.
pub(crate) async fn limit_reached(relay: &TestRelay, limit: &str, count: u64) {
    counted(relay, &format!("ptth_limits_reached_total{{limit=\"{limit}\"}} "), count).await;
}

/// That so many streams were refused with this code.
pub(crate) async fn refused(relay: &TestRelay, code: &str, count: u64) {
    counted(relay, &format!("ptth_refusals_total{{code=\"{code}\"}} "), count).await;
}

/// A stream is counted after it was closed.
async fn counted(relay: &TestRelay, line: &str, count: u64) {
    let value = within(line, async {
        loop {
            let value = metric(relay, line).await;
            if value >= count {
                return value;
            }
        }
    });
    assert_eq!(value.await, count, "{line}");
}

/// The value of a line in the relay's metrics, 0 without one.
async fn metric(relay: &TestRelay, line: &str) -> u64 {
    let admin = relay.admin().unwrap();
    let mut asked = Wire::new(connect(admin).await);
    asked.send(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n")).await;
    let text = asked.message().await.1;
    let value = text.lines().find_map(|text| text.strip_prefix(line));
    value.map_or(0, |value| value.trim().parse().unwrap())
}
