//! Agents by plain HTTP, on a listener that other machines reach.

use std::net::{Ipv4Addr, SocketAddr};

use ptth::internals::agent::Fatal;
use ptth::internals::relay::config::Listen;

use crate::support::{AgentPlan, TestRelay, serve, within};
use crate::ways::{NAME, Way, each, echo, relay, status};

/// A relay whose plain listener is open to all; reached by loopback, since this is about the listener.
fn open(allow_plain: bool) -> TestRelay {
    relay(move |config| {
        config.listen[1] = Listen::plain((Ipv4Addr::UNSPECIFIED, 0).into());
        config.allow_plain = allow_plain;
    })
}

fn reachable(relay: &TestRelay) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, relay.plain.port()).into()
}

fn agent(way: Way, relay: &TestRelay) -> AgentPlan {
    let url = format!("http://{}/", reachable(relay));
    AgentPlan::new(&url, NAME, relay.token(&[NAME]), way.transport, way.carrier)
}

#[test]
fn an_agent_by_plain_http_is_refused_and_visitors_are_served() {
    each(async |way: Way| {
        let relay = open(false);
        let refused = within("the refusal", agent(way, &relay).start(echo()).connected()).await;
        let expected =
            |why: &str| why.contains("https://") && why.contains("--allow-plain") && why.contains("403");
        assert!(matches!(&refused, Err(Fatal::Refused(why)) if expected(why)), "{refused:?}");
        // By TLS the same relay takes it, and visitors come in by plain HTTP.
        let _agent = serve(&way.agent(&relay, relay.token(&["other", NAME])), echo()).await;
        assert_eq!(status(&relay, "").await, 200);
    });
}

#[test]
fn allow_plain_admits_agents_by_plain_http() {
    each(async |way: Way| {
        let relay = open(true);
        let _agent = serve(&agent(way, &relay), echo()).await;
        assert_eq!(status(&relay, "").await, 200);
    });
}
