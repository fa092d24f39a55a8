//! The name that is checked is the name that is routed to, however a request contradicts itself.

use http::{Request, Version};
use http_body_util::BodyExt;
use ptth::internals::message::Body;
use ptth::internals::session::Kind;

use crate::support::{AgentPlan, TestRelay, named, serve};
use crate::ways::{Way, echo};

const WAY: Way = Way { transport: "ptth10", carrier: Kind::H2 };

/// A relay with a name that lets nobody in, and one that lets everybody in.
async fn relay() -> (TestRelay, [ptth::internals::agent::Serving; 2]) {
    let relay = TestRelay::start();
    let agent = |name: &str, rules: Option<&str>| {
        let mut plan = AgentPlan::new(&relay.url(), name, relay.token(&[name]), WAY.transport, WAY.carrier);
        plan.config.visitors = rules.map(Into::into);
        plan
    };
    let shut = serve(&agent("shut", Some("net=(\"192.0.2.0/24\")")), echo()).await;
    let open = serve(&agent("open", None), echo()).await;
    (relay, [shut, open])
}

#[test]
fn no_mix_of_hosts_bypasses_visitor_rules() {
    crate::support::run(async {
        let (relay, _agents) = relay().await;
        let (shut, open) = (named("shut"), named("open"));
        let mut asked = 0;
        for spelled in [
            shut.clone(),
            shut.to_uppercase(),
            format!("{shut}."),
            format!("{shut}:443"),
            format!("{shut}.:1"),
        ] {
            for target in ["/".to_owned(), format!("http://{spelled}/"), format!("https://{spelled}/x")] {
                for fields in [
                    String::new(),
                    format!("X-Forwarded-Host: {open}\r\n"),
                    format!("Forwarded: host={open}\r\n"),
                    format!("X-Host: {open}\r\nX-Original-Host: {open}\r\n"),
                    "Proxy-Authorization: Basic b3Blbjo=\r\nAuthorization: Basic b3Blbjo=\r\n".to_owned(),
                ] {
                    let host = if target == "/" { &spelled } else { &open };
                    let (head, body) =
                        relay.fetch(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await;
                    // The connection has no TLS, so an `https` target is refused before the rules are.
                    let status = if target.starts_with("https:") { 400 } else { 403 };
                    assert_eq!(head.status(), status, "{target} {host} {fields}: {body}");
                    asked += 1;
                }
            }
        }
        // And the other way round: what is open stays open, whatever else is named.
        let (head, seen) = relay
            .fetch(&format!(
                "GET http://{open}/ HTTP/1.1\r\nHost: {shut}\r\nX-Forwarded-Host: {shut}\r\n\r\n"
            ))
            .await;
        assert_eq!(head.status(), 200);
        assert!(seen.contains(&format!("x-forwarded-host: {open}")), "{seen}");
        eprintln!("{asked} combinations, none admitted");
    });
}

/// One certificate is for all names, so browsers ask for several on one connection (RFC 9113 §9.1.1). Nothing was granted
/// to the connection: each request is judged by itself, so there is nothing to misdirect, and no 421.
#[test]
fn each_request_of_a_connection_is_checked_for_its_name() {
    crate::support::run(async {
        let (relay, _agents) = relay().await;
        let (shut, open) = (named("shut"), named("open"));
        // The handshake named the open one.
        let mut visitor = relay.visitor_h2(&open).await;
        let request = |host: &str, more: Option<&str>| {
            let mut request = Request::get(format!("https://{host}/")).version(Version::HTTP_2);
            if let Some(more) = more {
                request = request.header("host", more);
            }
            request.body(Body::empty()).unwrap()
        };
        for (request, status) in [
            (request(&open, None), 200),
            (request(&shut, None), 403),
            (request(&open, Some(&shut)), 400),
            (request(&shut, Some(&open)), 400),
            (request(&open, None), 200),
        ] {
            let response = visitor.send(request).await;
            assert_eq!(response.status(), status);
            response.into_body().collect().await.unwrap();
        }
        let mut keep = relay.visitor_tls(&open).await;
        for (host, status) in [(&open, 200), (&shut, 403), (&open, 200)] {
            keep.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(keep.message().await.0.status(), status, "{host}");
        }
    });
}
