//! PTTH/1.0 as others speak it: bytes captured from real agents against our relay, and a strict relay against our
//! agent.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a report")]

#[expect(dead_code, unused_imports, reason = "each suite uses a part of it")]
mod support;

use std::net::SocketAddr;

use ptth::internals::agent::Serving;
use ptth::internals::net::Scope;
use ptth::internals::net::splice::splice;
use ptth::internals::session::Kind;
use tokio::net::{TcpListener, TcpStream};

use support::{AgentPlan, Head, TestOrigin, TestRelay, Wire, named, run, within};

const NAME: &str = "alpha";

/// What an agent's program writes, with the host and one more field to be filled in.
struct Captured {
    who: &'static str,
    bytes: &'static str,
}

/// Each as it came over the wire, with a place for the one field that names a token.
const AGENTS: [Captured; 3] = [
    Captured {
        who: "npm reverse-http 1.3.0",
        bytes: "POST /dev/alpha?x=1 HTTP/1.1\r\nHost: {host}\r\nUpgrade: PTTH/1.0\r\nConnection: Upgrade\r\n\
                Content-Length: 0\r\n{more}\r\n",
    },
    Captured {
        who: "the Go client of Petelliott",
        bytes: "POST /ptth HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\n\
                {more}Connection: Upgrade\r\nUpgrade: PTTH/1.0\r\nAccept-Encoding: gzip\r\n\r\n",
    },
    Captured {
        who: "npm airplay-protocol 2.0.2",
        bytes: "POST /reverse HTTP/1.1\r\nUser-Agent: iTunes/11.0.2\r\nHost: {host}\r\nUpgrade: PTTH/1.0\r\n\
                Connection: Upgrade\r\nContent-Length: 0\r\n{more}\r\n",
    },
];

impl Captured {
    fn at(&self, relay: &TestRelay) -> String {
        let token = relay.token(&[NAME]);
        let more = format!("Authorization: Bearer {}\r\n", token.expose());
        self.bytes.replace("{host}", &relay.plain.to_string()).replace("{more}", &more)
    }
}

fn assert_strict_101(head: &Head, token: &str, who: &str) {
    assert_eq!(head.first, "HTTP/1.1 101 Switching Protocols", "{who}");
    // Agents compare these letter by letter.
    assert_eq!(head.get("upgrade"), Some(token), "{who}: {head:?}");
    assert_eq!(head.get("connection"), Some("Upgrade"), "{who}: {head:?}");
    for framing in ["content-length", "transfer-encoding", "trailer", "alpn", "ptth-connections"] {
        assert_eq!(head.get(framing), None, "{who}: {head:?}");
    }
}

/// A raw agent that has got its 101.
async fn raw_agent(relay: &TestRelay, bytes: &str, token: &str) -> Wire {
    let mut agent = relay.visitor().await;
    agent.send(bytes).await;
    assert_strict_101(&agent.head().await, token, bytes);
    agent
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME))
}

#[test]
fn captured_agents_accept_the_101_and_answer_requests() {
    run(async {
        for captured in AGENTS {
            let relay = TestRelay::start();
            let mut agent = raw_agent(&relay, &captured.at(&relay), "PTTH/1.0").await;
            for number in 0..3 {
                let mut visitor = relay.visitor().await;
                visitor.send(get(&format!("/{number}"))).await;
                let head = agent.head().await;
                assert_eq!(head.first, format!("GET /{number} HTTP/1.1"), "{}", captured.who);
                // Node answers 400 to a request without a Host.
                assert_eq!(head.get("host"), Some(&*named(NAME)), "{}", captured.who);
                agent.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                assert_eq!(visitor.message().await.1, "ok", "{}", captured.who);
            }
            let mut visitor = relay.visitor().await;
            visitor
                .send(format!(
                    "POST /event HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\n\r\nplist",
                    named(NAME)
                ))
                .await;
            let (head, body) = agent.message().await;
            assert_eq!((&*head.first, &*body), ("POST /event HTTP/1.1", "plist"), "{}", captured.who);
            agent.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            assert_eq!(visitor.message().await.0.status(), 200, "{}", captured.who);
        }
    });
}

#[test]
fn equivalent_forms_of_an_offer_are_accepted() {
    run(async {
        let forms = [
            // Any method; the token in any case, in a list, among others; no length at all (Yaler); a basic credential.
            ("GET /any HTTP/1.1", "Upgrade: PTTH/1.0\r\nConnection: Upgrade\r\n", "PTTH/1.0"),
            ("PUT /any HTTP/1.1", "upgrade: ptth/1.0\r\nconnection: keep-alive, upgrade\r\n", "PTTH/1.0"),
            ("POST /alpha HTTP/1.1", "Upgrade: other/1, PTTH/1.0\r\nConnection: UPGRADE\r\n", "PTTH/1.0"),
            (
                "POST / HTTP/1.1",
                "Upgrade: PTTH/0.9\r\nConnection: Upgrade\r\nContent-Length: 0\r\n",
                "PTTH/0.9",
            ),
        ];
        for (line, fields, token) in forms {
            let relay = TestRelay::start();
            let secret = relay.token(&[NAME]);
            let bytes = format!(
                "{line}\r\nHost: ptth.localhost\r\nAuthorization: Bearer {}\r\n{fields}\r\n",
                secret.expose()
            );
            let mut agent = raw_agent(&relay, &bytes, token).await;
            let mut visitor = relay.visitor().await;
            visitor.send(get("/")).await;
            assert_eq!(agent.head().await.first, "GET / HTTP/1.1");
            agent.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            assert_eq!(visitor.head().await.status(), 204);
        }
    });
}

#[test]
fn a_connection_closed_after_one_answer_is_replaced_by_the_next() {
    run(async {
        let relay = TestRelay::start();
        let bytes = AGENTS[1].at(&relay);
        for number in 0..4 {
            let mut agent = raw_agent(&relay, &bytes, "PTTH/1.0").await;
            let mut visitor = relay.visitor().await;
            visitor.send(get(&format!("/{number}"))).await;
            assert_eq!(agent.head().await.first, format!("GET /{number} HTTP/1.1"));
            let close = if number % 2 == 0 { "Connection: close\r\n" } else { "" };
            agent.send(format!("HTTP/1.1 200 OK\r\n{close}Content-Length: 2\r\n\r\nok")).await;
            drop(agent);
            assert_eq!(visitor.message().await.1, "ok");
        }
        // The name is still its own: a request waits a moment for the next connection.
        let mut visitor = relay.visitor().await;
        visitor.send(get("/waiting")).await;
        let mut agent = raw_agent(&relay, &bytes, "PTTH/1.0").await;
        assert_eq!(agent.head().await.first, "GET /waiting HTTP/1.1");
        agent.send("HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
        drop(agent);
        let head = visitor.head().await;
        assert_eq!((head.status(), visitor.chunk().await.as_ref()), (200, &b"until the end"[..]));
    });
}

#[test]
fn connections_of_one_agent_form_a_pool() {
    run(async {
        let relay = TestRelay::start();
        let bytes = AGENTS[0].at(&relay);
        let mut agents =
            [raw_agent(&relay, &bytes, "PTTH/1.0").await, raw_agent(&relay, &bytes, "PTTH/1.0").await];
        let mut visitors = [relay.visitor().await, relay.visitor().await];
        for visitor in &mut visitors {
            visitor.send(get("/")).await;
        }
        // One request on each: HTTP/1.1 takes one at a time.
        for agent in &mut agents {
            assert_eq!(agent.head().await.first, "GET / HTTP/1.1");
        }
        for agent in &mut agents {
            agent.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
        for visitor in &mut visitors {
            assert_eq!(visitor.message().await.1, "ok");
        }
    });
}

const PLANTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted";

#[test]
fn bytes_after_the_offer_are_not_an_answer() {
    run(async {
        let relay = TestRelay::start();
        let bytes = AGENTS[0].at(&relay);
        let mut agent = relay.visitor().await;
        agent.send(format!("{bytes}{PLANTED}")).await;
        assert_strict_101(&agent.head().await, "PTTH/1.0", "bytes after the offer");
        // Nobody has asked yet, so this connection cannot be trusted to keep answers and requests together.
        agent.closed().await;
        assert_next_visitor_is_served(&relay, &bytes).await;
    });
}

#[test]
fn an_unsolicited_answer_reaches_no_visitor() {
    run(async {
        for planted in [PLANTED, "HTTP/1.1 101 Switching Protocols\r\n\r\n", "x"] {
            let relay = TestRelay::start();
            let bytes = AGENTS[0].at(&relay);
            let mut agent = raw_agent(&relay, &bytes, "PTTH/1.0").await;
            agent.send(planted).await;
            agent.closed().await;
            assert_next_visitor_is_served(&relay, &bytes).await;

            // And behind an answer that was asked for, in one write.
            let mut agent = raw_agent(&relay, &bytes, "PTTH/1.0").await;
            let mut visitor = relay.visitor().await;
            visitor.send(get("/")).await;
            agent.head().await;
            agent.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{planted}")).await;
            assert_eq!(visitor.message().await.1, "ok");
            visitor.quiet().await;
            agent.closed().await;
            assert_next_visitor_is_served(&relay, &bytes).await;
        }
    });
}

/// The next request is answered by the agent's next connection, and by nothing else.
async fn assert_next_visitor_is_served(relay: &TestRelay, bytes: &str) {
    let mut visitor = relay.visitor().await;
    visitor.send(get("/next")).await;
    let mut agent = raw_agent(relay, bytes, "PTTH/1.0").await;
    assert_eq!(agent.head().await.first, "GET /next HTTP/1.1");
    agent.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nnext").await;
    assert_eq!(visitor.message().await.1, "next");
    agent.closed().await;
}

/// A relay that does what draft-lentczner-rhttp-00 says, and no more.
struct StrictRelay {
    listener: TcpListener,
}

impl StrictRelay {
    async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Self { listener }, address)
    }

    /// The next offer of the agent.
    async fn accept(&self) -> (Wire, Head) {
        let (stream, _) = within("the agent dials", self.listener.accept()).await.unwrap();
        let mut wire = Wire::new(stream);
        let head = wire.head().await;
        (wire, head)
    }
}

async fn our_agent(address: SocketAddr, origin: &TestOrigin) -> Serving {
    let secret = ptth::internals::domain::Secret::new("not-looked-at");
    let mut plan = AgentPlan::new(&format!("http://{address}/register"), NAME, secret, "ptth10", Kind::H2);
    plan.config.carriers = Kind::PREFERRED.to_vec();
    plan.start(origin.handler())
}

#[test]
fn our_agent_serves_a_strict_relay() {
    run(async {
        let origin = TestOrigin::start().await;
        let (relay, address) = StrictRelay::start().await;
        let mut agent = our_agent(address, &origin).await;
        let (mut wire, offer) = relay.accept().await;
        assert_eq!(offer.first, "POST /register?name=alpha HTTP/1.1");
        assert_eq!((offer.get("upgrade"), offer.get("connection")), (Some("PTTH/1.0"), Some("Upgrade")));
        assert_eq!(offer.get("host"), Some(&*address.to_string()));
        assert_eq!(offer.get("authorization"), Some("Bearer not-looked-at"));
        assert_eq!(offer.get("transfer-encoding"), None);
        // No ALPN, so it is HTTP/1.1; a length on a 101 means nothing; and the first request is glued.
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: PTTH/1.0\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n\
             GET /first HTTP/1.1\r\nHost: alpha.test\r\n\r\n",
        )
        .await;
        let mut at_origin = origin.accept().await;
        let head = at_origin.head().await;
        assert_eq!(head.first, "GET /first HTTP/1.1");
        at_origin.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst").await;
        let (head, body) = wire.message().await;
        assert_eq!((&*head.first, &*body), ("HTTP/1.1 200 OK", "first"));
        assert_eq!(head.get("connection"), None, "the connection stays open");

        // No request reaches the origin without a Host.
        wire.send("GET /hostless HTTP/1.1\r\n\r\n").await;
        assert_eq!(wire.message().await.0.status(), 400);

        // The draft's own form: an empty Host.
        wire.send("POST /event HTTP/1.1\r\nHost:\r\nContent-Length: 5\r\n\r\nplist").await;
        let (head, body) = at_origin.message().await;
        assert_eq!((&*head.first, &*body), ("POST /event HTTP/1.1", "plist"));
        assert_eq!(head.get("host"), Some(""));
        at_origin.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(wire.head().await.status(), 204);
        assert_eq!(within("the agent connects", agent.connected()).await, Ok(Vec::new()));
    });
}

#[test]
fn our_agent_reconnects_after_the_relay_closes() {
    run(async {
        let origin = TestOrigin::start().await;
        let (relay, address) = StrictRelay::start().await;
        let _agent = our_agent(address, &origin).await;
        for _ in 0..3 {
            let (mut wire, _) = relay.accept().await;
            wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: PTTH/1.0\r\nConnection: Upgrade\r\n\r\n")
                .await;
            drop(wire);
        }
        // What is no 101 is no relay, and no reason to give up.
        let (mut wire, _) = relay.accept().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        relay.accept().await;
    });
}

#[test]
fn our_agent_refuses_a_carrier_that_it_did_not_offer() {
    run(async {
        let origin = TestOrigin::start().await;
        let (relay, address) = StrictRelay::start().await;
        let _agent = our_agent(address, &origin).await;
        let (mut wire, offer) = relay.accept().await;
        assert_eq!(offer.get("alpn"), Some("h2, http%2F1.1"));
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: PTTH/1.0\r\nConnection: Upgrade\r\nALPN: h3\r\n\r\n\
             GET / HTTP/1.1\r\nHost:\r\n\r\n",
        )
        .await;
        wire.closed().await;
        origin.quiet().await;
        relay.accept().await;
    });
}

/// Forwards a connection of an agent, without the field `ALPN` of its offer.
async fn forward_without_alpn(agent: TcpStream, relay: SocketAddr) {
    let (mut agent, mut relay) = (Wire::new(agent), Wire::new(TcpStream::connect(relay).await.unwrap()));
    let head = agent.head_bytes().await;
    let head = std::str::from_utf8(&head).unwrap();
    let kept: Vec<_> =
        head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("alpn:")).collect();
    assert!(kept.len() < head.split("\r\n").count(), "{head}");
    relay.send(format!("{}\r\n\r\n", kept.join("\r\n"))).await;
    let _ = splice(&mut agent.into_io(), &mut relay.into_io()).await;
}

#[test]
fn our_agent_opens_further_connections_without_its_alpn_field() {
    run(async {
        let (relay, origin) = (TestRelay::start(), TestOrigin::start().await);
        let middlebox = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, scope) = (middlebox.local_addr().unwrap(), Scope::new());
        let (owner, target) = (scope.clone(), relay.plain);
        scope.spawn(async move {
            while let Ok((stream, _)) = middlebox.accept().await {
                owner.spawn(forward_without_alpn(stream, target));
            }
        });
        let token = relay.token(&[NAME]);
        let mut plan = AgentPlan::new(&format!("http://{address}/"), NAME, token, "ptth10", Kind::H2);
        plan.config.carriers = Kind::PREFERRED.to_vec();
        let mut agent = plan.start(origin.handler());
        within("the agent connects", agent.connected()).await.unwrap();
        let mut visitors = [relay.visitor().await, relay.visitor().await, relay.visitor().await];
        for visitor in &mut visitors {
            visitor.send(get("/")).await;
        }
        // One request on each connection: HTTP/1.1 takes one at a time.
        let mut origins = [origin.accept().await, origin.accept().await, origin.accept().await];
        for origin in &mut origins {
            origin.head().await;
            origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
        for visitor in &mut visitors {
            assert_eq!(visitor.message().await.1, "ok");
        }
        scope.abort();
    });
}
