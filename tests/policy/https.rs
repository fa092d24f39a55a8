//! Plain HTTP beside TLS: the redirect to `https`, and `Strict-Transport-Security`.

use std::time::Duration;

use http::Response;
use http::header::STRICT_TRANSPORT_SECURITY;
use ptth::internals::domain::HostName;
use ptth::internals::message::{Body, Request};
use ptth::internals::policy::Grants;
use ptth::internals::session::Kind;
use ptth::internals::session::handler::handler_fn;

use crate::support::relay::DOMAIN;
use crate::support::{Head, Plan, TestRelay, named, run, serve, within};
use crate::ways::{NAME, Way, each, echo, relay, token};

const PTTH10: Way = Way { transport: "ptth10", carrier: Kind::H2 };

async fn get(relay: &TestRelay, tls: bool, host: &str, target: &str, rest: &str) -> (Head, String) {
    let mut visitor = match tls {
        true => relay.visitor_tls(&named(NAME)).await,
        false => relay.visitor().await,
    };
    visitor.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{rest}\r\n")).await;
    visitor.message().await
}

#[test]
fn visitors_of_the_plain_listener_are_redirected() {
    run(async {
        let relay = relay(|config| config.redirect_http = true);
        let _agent = serve(&PTTH10.agent(&relay, relay.token(&[NAME])), echo()).await;
        let port = relay.tls.port();
        let shop = named(NAME);
        for (host, target) in [
            (&*shop, "/a%2fb?c=d&e"),
            ("SHOP.ptth.localhost:80", "/"),
            ("free.ptth.localhost", "/"),
            ("elsewhere.test", "/x"),
            (DOMAIN, "/"),
            (DOMAIN, "/demo"),
        ] {
            let (head, _) = get(&relay, false, host, target, "").await;
            let plain = host.to_ascii_lowercase();
            let plain = plain.split(':').next().unwrap();
            assert_eq!(head.status(), 308, "{host}{target}: {head:?}");
            assert_eq!(head.get("location"), Some(&*format!("https://{plain}:{port}{target}")));
        }
        let mut visitor = relay.visitor().await;
        visitor.send(format!("POST / HTTP/1.1\r\nHost: {shop}\r\nContent-Length: 2\r\n\r\nhi")).await;
        assert_eq!(visitor.head().await.status(), 308);
        let (head, seen) = get(&relay, false, &shop, "/.well-known/acme-challenge/x", "").await;
        assert!(head.status() == 200 && seen.starts_with("GET /.well-known/acme-challenge/x"), "{head:?}");
        let (head, seen) = get(&relay, true, &shop, "/a", "").await;
        assert!(head.status() == 200 && seen.starts_with("GET /a\n"), "{head:?}");
    });
}

#[test]
fn agents_are_not_redirected() {
    each(async |way: Way| {
        let relay = relay(|config| config.redirect_http = true);
        let mut plan = way.agent(&relay, relay.token(&[NAME]));
        plan.config.relays = vec![format!("http://localhost:{}/", relay.plain.port()).parse().unwrap()];
        let mut agent = plan.start(echo());
        within("the agent connects", agent.connected()).await.unwrap();
        assert_eq!(get(&relay, true, &named(NAME), "/", "").await.0.status(), 200);
    });
}

#[test]
fn a_trusted_proxy_is_not_redirected() {
    run(async {
        let trusted_proxies = ["127.0.0.1/32".parse().unwrap()].into_iter().collect();
        let change =
            Box::new(|config: &mut ptth::internals::relay::config::RelayConfig| config.redirect_http = true);
        let relay = TestRelay::planned(Plan { trusted_proxies, change, ..Plan::default() });
        let _agent = serve(&PTTH10.agent(&relay, relay.token(&[NAME])), echo()).await;
        for field in ["", "X-Forwarded-Proto: http\r\n", "X-Forwarded-Proto: https\r\n"] {
            assert_eq!(get(&relay, false, &named(NAME), "/", field).await.0.status(), 200, "{field}");
        }
    });
}

#[test]
fn hsts_is_for_the_hosts_of_the_relay_over_tls() {
    const OWN: &str = "www.shop.test";
    run(async {
        let relay = relay(|config| config.hsts = Some(Duration::from_secs(3_600)));
        let hosts = vec![HostName::parse(OWN).unwrap()];
        let mut plan = PTTH10.agent(&relay, token(&relay.tokens, Grants { hosts, ..Grants::any() }));
        plan.config.hosts = vec![HostName::parse(OWN).unwrap()];
        let handler = handler_fn(|request: Request| async move {
            let mut response = Response::new(Body::empty());
            if request.uri().path() == "/own" {
                response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, "max-age=7".parse().unwrap());
            }
            response
        });
        let mut agent = plan.start(std::sync::Arc::new(handler));
        within("the agent connects", agent.connected()).await.unwrap();
        let shop = named(NAME);
        for (tls, host, target, expected) in [
            (true, &*shop, "/", Some("max-age=3600")),
            (true, &*shop, "/own", Some("max-age=7")),
            (true, DOMAIN, "/", Some("max-age=3600")),
            (true, "free.ptth.localhost", "/", Some("max-age=3600")),
            (true, OWN, "/", None),
            (true, OWN, "/own", Some("max-age=7")),
            (true, "elsewhere.test", "/", None),
            (true, "localhost", "/", None),
            (false, &*shop, "/", None),
            (false, DOMAIN, "/", None),
        ] {
            let (head, _) = get(&relay, tls, host, target, "").await;
            let all = head.all("strict-transport-security");
            assert_eq!(all, Vec::from_iter(expected), "TLS {tls}, {host}{target}: {head:?}");
        }
    });
}

#[test]
fn no_visitor_is_redirected_by_default() {
    run(async {
        let relay = TestRelay::start();
        let _agent = serve(&PTTH10.agent(&relay, relay.token(&[NAME])), echo()).await;
        let (head, _) = get(&relay, false, &named(NAME), "/", "").await;
        assert_eq!(head.status(), 200);
        let (head, _) = get(&relay, true, &named(NAME), "/", "").await;
        assert_eq!(head.get("strict-transport-security"), None);
    });
}
