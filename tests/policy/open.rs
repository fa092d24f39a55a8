//! Agents without a token, held to the same rules as others.

use std::net::Ipv4Addr;

use ptth::internals::agent::Fatal;
use ptth::internals::defaults;
use ptth::internals::domain::{Name, Secret};
use ptth::internals::policy::{Grants, User};
use ptth::internals::relay::config::{Destination, Listen};

use crate::support::{AgentPlan, TestRelay, serve, within};
use crate::ways::{NAME, Way, basic, each, echo, relay, status, token};

fn open() -> TestRelay {
    relay(|config| config.open_registration = true)
}

/// An agent with nothing to show.
fn without_token(way: Way, relay: &TestRelay) -> AgentPlan {
    let mut plan = way.agent(relay, Secret::new("x"));
    plan.config.token = None;
    plan
}

#[test]
fn wrong_tokens_are_counted_under_open_registration() {
    each(async |way: Way| {
        let relay = open();
        let probe = "PTTH-Probe: ?1\r\n";
        let wrong = |n: u32| way.offer(&Secret::new(format!("ptth_{n:012x}_wrong")), probe);
        for n in 0..defaults::GUESSES {
            assert!([401, 403].contains(&relay.fetch(&wrong(n)).await.0.status()));
        }
        assert_eq!(relay.fetch(&wrong(99)).await.0.status(), 429);
        // One that cannot be read is a wrong one.
        let unclear = way.offer(&Secret::new("x"), probe).replace("Bearer", "Odd");
        assert_eq!(relay.fetch(&unclear).await.0.status(), 429);
        // Others may share the address.
        let (head, body) = relay.fetch(&way.offer(&Secret::new("a word"), probe)).await;
        assert!([101, 200].contains(&head.status()), "{head:?} {body}");
    });
}

#[test]
fn visitor_rules_apply_under_open_registration() {
    each(async |way: Way| {
        let relay = open();
        let ann = User::new("ann", &Secret::new("hush"), "").unwrap();
        let mut plan = without_token(way, &relay);
        let rules = ptth::internals::policy::Rules { basic: vec![ann], ..Default::default() };
        plan.config.visitors = Some(rules.to_string().into());
        let _agent = serve(&plan, echo()).await;
        assert_eq!(status(&relay, "").await, 401);
        assert_eq!(status(&relay, &basic("ann", "hush")).await, 200);
    });
}

#[test]
fn a_token_takes_over_a_name_with_its_own_rules() {
    each(async |way: Way| {
        let relay = open();
        let mut plan = without_token(way, &relay);
        plan.config.visitors = Some("net=(\"192.0.2.0/24\")".into());
        let _open = serve(&plan, echo()).await;
        assert_eq!(status(&relay, "").await, 403);
        let shop = token(&relay.tokens, Grants::names([Name::parse(NAME).unwrap()]));
        let _named = serve(&way.agent(&relay, shop), echo()).await;
        assert_eq!(status(&relay, "").await, 200);
    });
}

#[test]
fn open_registration_by_plain_http_is_local_only() {
    each(async |way: Way| {
        for allowed in [false, true] {
            let relay = relay(move |config| {
                config.open_registration = true;
                config.listen[1] = Listen::plain((Ipv4Addr::UNSPECIFIED, 0).into());
                config.allow_plain = allowed;
                config.relay_http = vec![Destination::parse("192.0.2.1:9").unwrap()];
            });
            let mut plan = without_token(way, &relay);
            plan.config.relays = vec![format!("http://127.0.0.1:{}/", relay.plain.port()).parse().unwrap()];
            if allowed {
                let _agent = serve(&plan, echo()).await;
            } else {
                let refused = within("the refusal", plan.start(echo()).connected()).await;
                assert!(
                    matches!(&refused, Err(Fatal::Refused(why)) if why.contains("--allow-plain")),
                    "{refused:?}"
                );
            }
            let ask = "POST /reversehttp/_relay/192.0.2.2:9 HTTP/1.1\r\nHost: ptth.localhost\r\nContent-Length: 0\r\n\r\n";
            let (_, body) = relay.fetch(ask).await;
            let expected = if allowed { "not relayed to" } else { "--allow-plain" };
            assert!(body.contains(expected), "{body}");
        }
    });
}
