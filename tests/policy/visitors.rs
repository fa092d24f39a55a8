//! Each rule for visitors, over every way.

use ptth::internals::agent::Fatal;
use ptth::internals::domain::Secret;
use ptth::internals::policy::{FieldSecret, Grants, Limits, Rules, User};

use crate::support::{TestOrigin, TestRelay, named, serve, within};
use crate::ways::{NAME, Way, basic, each, echo, get, relay, status, token};

fn ann() -> String {
    let ann = User::new("ann", &Secret::new("hush"), "").unwrap();
    Rules { basic: vec![ann], ..Rules::default() }.to_string()
}

#[test]
fn a_password_is_required_and_not_forwarded() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let _agent = way.serving(&relay, &ann()).await;
        let (head, body) = get(&relay, "").await;
        assert_eq!(head.status(), 401, "{body}");
        assert_eq!(head.get("www-authenticate"), Some("Basic realm=\"ptth\", charset=\"UTF-8\""));
        assert_eq!(status(&relay, &basic("ann", "wrong")).await, 401);
        assert_eq!(status(&relay, &basic("eve", "hush")).await, 401);
        assert_eq!(status(&relay, "Authorization: Bearer hush\r\n").await, 401);
        for _ in 0..2 {
            let (head, seen) = get(&relay, &basic("ann", "hush")).await;
            assert_eq!(head.status(), 200, "{seen}");
            assert!(!seen.contains("authorization"), "{seen}");
        }
    });
}

#[test]
fn network_rules_are_enforced() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let agent = way.serving(&relay, r#"net=("192.0.2.0/24")"#).await;
        // What a visitor says of itself does not move it there.
        for claim in ["", "X-Forwarded-For: 192.0.2.1\r\n", "Forwarded: for=192.0.2.1\r\n"] {
            assert_eq!(status(&relay, claim).await, 403, "{claim}");
        }
        drop(agent);
        let relay = TestRelay::start();
        let _agent = way.serving(&relay, r#"net=("192.0.2.0/24" "127.0.0.0/8")"#).await;
        assert_eq!(status(&relay, "").await, 200);
    });
}

#[test]
fn a_secret_field_is_required_and_not_forwarded() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let secret = Some(FieldSecret::new("x-edge", "hush").unwrap());
        let _agent = way.serving(&relay, &Rules { secret, ..Rules::default() }.to_string()).await;
        for wrong in [
            "",
            "X-Edge: husk\r\n",
            "X-Edge: hush\r\nX-Edge: hush\r\n",
            "X_Edge: hush\r\n",
            "X-Edge: hush, a\r\n",
        ] {
            assert_eq!(status(&relay, wrong).await, 403, "{wrong}");
        }
        let (head, seen) = get(&relay, "X-Edge: hush\r\n").await;
        assert_eq!(head.status(), 200);
        assert!(!seen.contains("x-edge"), "{seen}");
    });
}

#[test]
fn a_rate_limit_sends_retry_after() {
    each(async |way: Way| {
        for rule in ["rate=3", "visitor-rate=3"] {
            let relay = TestRelay::start();
            let _agent = way.serving(&relay, rule).await;
            let mut statuses = Vec::new();
            for _ in 0..12 {
                let (head, _) = get(&relay, "").await;
                if head.status() == 429 {
                    let wait: u64 = head.get("retry-after").unwrap().parse().unwrap();
                    assert_eq!(wait, 1);
                }
                statuses.push(head.status());
            }
            assert!(statuses.contains(&429) && statuses[..3] == [200; 3], "{rule}: {statuses:?}");
        }
    });
}

#[test]
fn a_request_is_in_flight_until_its_body_ends() {
    each(async |way: Way| {
        for rule in ["in-flight=1", "visitor-in-flight=1"] {
            let relay = TestRelay::start();
            let origin = TestOrigin::start().await;
            let _agent = serve(&way.with_rules(&relay, relay.token(&[NAME]), rule), origin.handler()).await;
            let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME));
            let mut first = relay.visitor().await;
            first.send(&ask).await;
            let mut serving = origin.accept().await;
            serving.head().await;
            assert_eq!(status(&relay, "").await, 429, "{rule}");
            serving.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
            if !way.is_polled() {
                assert_eq!(first.head().await.status(), 200);
                assert_eq!(status(&relay, "").await, 429, "{rule}: the first body has not ended");
                serving.send("k").await;
                first.exact(2).await;
            } else {
                serving.send("k").await;
                first.message().await;
            }
            let again = async {
                loop {
                    let mut next = relay.visitor().await;
                    next.send(&ask).await;
                    let answered = async { next.message().await.0.status() };
                    tokio::select! {
                        status = answered => assert_eq!(status, 429),
                        head = serving.head() => break assert!(head.first.starts_with("GET / ")),
                    }
                }
            };
            within("a free in-flight slot", again).await;
        }
    });
}

#[test]
fn an_upgraded_stream_is_in_flight() {
    each(async |way: Way| {
        if way.is_polled() {
            return;
        }
        let relay = TestRelay::start();
        let origin = TestOrigin::start().await;
        let plan = way.with_rules(&relay, relay.token(&[NAME]), "in-flight=1");
        let _agent = serve(&plan, origin.handler()).await;
        let mut visitor = relay.visitor().await;
        let upgrade = "Connection: upgrade\r\nUpgrade: raw-echo\r\n";
        visitor.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n{upgrade}\r\n", named(NAME))).await;
        let mut serving = origin.accept().await;
        serving.head().await;
        serving.send(format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\n")).await;
        assert_eq!(visitor.head().await.status(), 101);
        assert_eq!(status(&relay, "").await, 429);
        drop((visitor, serving));
        let gone = async {
            while tokio::time::timeout(crate::support::QUIET, get(&relay, ""))
                .await
                .is_ok_and(|a| a.0.status() == 429)
            {}
        };
        within("a free in-flight slot", gone).await;
    });
}

#[test]
fn an_oversized_body_is_refused() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let _agent = way.serving(&relay, "body=1000").await;
        let post = |rest: String| format!("POST / HTTP/1.1\r\nHost: {}\r\n{rest}", named(NAME));
        let declared =
            |length: usize| post(format!("Content-Length: {length}\r\n\r\n{}", "x".repeat(length)));
        let (head, seen) = relay.fetch(&declared(1000)).await;
        assert_eq!(head.status(), 200, "{seen}");
        assert!(seen.contains("length: 1000"), "{seen}");
        // Told before, it is refused before anything is sent.
        let head = relay.fetch(&post("Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n".into())).await.0;
        assert_eq!(head.status(), 413);
        let chunk = format!("190\r\n{}\r\n", "x".repeat(400));
        let chunked = |chunks: usize| {
            post(format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(chunks)))
        };
        let (head, seen) = relay.fetch(&chunked(2)).await;
        assert_eq!(head.status(), 200, "{seen}");
        assert!(seen.contains("length: 800"), "{seen}");
        let (head, body) = relay.fetch(&chunked(3)).await;
        assert_eq!(head.status(), 413, "{body}");
        assert_eq!(status(&relay, "").await, 200, "later requests are not served");
    });
}

#[test]
fn an_offer_with_unknown_rules_is_refused() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let secret = relay.token(&[NAME]);
        for bad in [
            "",
            "nonsense",
            "colour=\"blue\"",
            "rate=1, colour=\"blue\"",
            "net=()",
            "basic=(\"ann\")",
            "rate=1;burst=9",
            "rate=\u{e4}",
        ] {
            let (head, body) = relay.fetch(&way.offer(&secret, &format!("PTTH-Visitors: {bad}\r\n"))).await;
            assert_eq!(head.status(), 400, "{bad:?}: {body}");
        }
        // Several fields are one text: the second does not replace the first.
        let two = "PTTH-Visitors: rate=1\r\nPTTH-Visitors: colour=\"blue\"\r\n";
        assert_eq!(relay.fetch(&way.offer(&secret, two)).await.0.status(), 400);
        assert_eq!(status(&relay, "").await, 503, "a refused offer claimed the name");
        let refused =
            within("the refusal", way.with_rules(&relay, secret, "colour=1").start(echo()).connected()).await;
        assert!(matches!(&refused, Err(Fatal::Usage(why)) if why.contains("colour")), "{refused:?}");
    });
}

#[test]
fn an_agent_does_not_serve_a_relay_that_ignores_its_rules() {
    // What an older relay would answer: all is well, and nothing of rules.
    crate::support::run(async {
        let old = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", old.local_addr().unwrap());
        let secret = Secret::new("ptth_0123456789ab_x");
        for way in [
            ("ptth10", ptth::internals::session::Kind::H1),
            ("reversehttp", ptth::internals::session::Kind::Envelope),
        ] {
            let mut plan = crate::support::AgentPlan::new(&url, NAME, secret.clone(), way.0, way.1);
            plan.config.visitors = Some("rate=1".into());
            let mut serving = plan.start(echo());
            let mut relay = crate::support::Wire::new(within("a connection", old.accept()).await.unwrap().0);
            let head = relay.head().await;
            assert_eq!(head.get("ptth-visitors"), Some("rate=1"));
            relay.send(match way.0 {
                "ptth10" => "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: PTTH/1.0\r\n\r\n".to_owned(),
                _ => format!("HTTP/1.1 201 Created\r\nLink: <{url}reversehttp/request/x>; rel=\"first\"\r\nContent-Length: 0\r\n\r\n"),
            }).await;
            let connected = tokio::time::timeout(4 * crate::support::QUIET, serving.connected()).await;
            assert!(connected.is_err(), "{way:?}: the agent serves: {connected:?}");
        }
    });
}

#[test]
fn a_token_limits_the_rates_of_its_agents() {
    each(async |way: Way| {
        // Neither silence nor a larger wish gets more than the token has.
        for rules in [None, Some("rate=1000")] {
            let relay = TestRelay::start();
            let limits = Limits { rate: std::num::NonZeroU32::new(2), ..Limits::default() };
            let grants = Grants { limits, ..Grants::names([NAME.parse().unwrap()]) };
            let mut plan = way.agent(&relay, token(&relay.tokens, grants));
            plan.config.visitors = rules.map(Into::into);
            let _agent = serve(&plan, echo()).await;
            let mut statuses = Vec::new();
            for _ in 0..8 {
                statuses.push(status(&relay, "").await);
            }
            assert!(statuses.contains(&429), "{rules:?}: {statuses:?}");
        }
    });
}

#[test]
fn a_visitors_rules_field_is_dropped() {
    crate::support::run(async {
        let relay = relay(|_| {});
        let way = Way { transport: "ptth10", carrier: ptth::internals::session::Kind::H2 };
        let _agent = way.serving(&relay, "body=10").await;
        let (head, seen) = get(&relay, "PTTH-Visitors: body=1\r\n").await;
        assert_eq!(head.status(), 200);
        assert!(!seen.contains("ptth-visitors"), "{seen}");
    });
}
