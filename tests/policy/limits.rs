//! Limits that hold without being asked for: each takes effect on whoever reaches it and on nobody else, and is counted.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use ptth::internals::defaults;
use ptth::internals::message::{Body, BoxError, Request};
use ptth::internals::relay::config::{Admin, RelayConfig};
use ptth::internals::session::handler::handler_fn;
use ptth::internals::session::{Handler, Kind};
use tokio::sync::watch;

use crate::support::{AgentPlan, TestRelay, Wire, named, run, serve, within};
use crate::ways::{NAME, echo, get, relay, status};

/// With an admin listener, whose `/metrics` are read here.
fn with_admin(change: impl FnOnce(&mut RelayConfig) + 'static) -> TestRelay {
    relay(|config| {
        config.admin = Some(Admin { address: (Ipv4Addr::LOCALHOST, 0).into(), required: true });
        change(config);
    })
}

/// How often a limit took effect.
async fn times_reached(relay: &TestRelay, limit: &str) -> u64 {
    let admin = relay.admin().unwrap();
    let mut asked = Wire::new(crate::support::relay::connect(admin).await);
    asked.send(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n")).await;
    let text = asked.message().await.1;
    let line = format!("ptth_limits_reached_total{{limit=\"{limit}\"}} ");
    text.lines()
        .find_map(|text| text.strip_prefix(&line))
        .unwrap_or_else(|| panic!("{text}"))
        .parse()
        .unwrap()
}

async fn agent(
    relay: &TestRelay,
    carrier: Kind,
    handler: Arc<dyn Handler>,
) -> ptth::internals::agent::Serving {
    let plan = AgentPlan::new(&relay.url(), NAME, relay.token(&[NAME]), "ptth10", carrier);
    serve(&plan, handler).await
}

#[test]
fn connections_per_address_are_limited() {
    run(async {
        let relay = with_admin(|config| {
            config.connections_per_address = 3;
            config.trusted_proxies = ["127.0.0.9/32".parse::<ipnet::IpNet>().unwrap()].into_iter().collect();
        });
        let _agent = agent(&relay, Kind::H2, echo()).await;
        let (me, other, front) = ([127, 0, 0, 7].into(), [127, 0, 0, 8].into(), [127, 0, 0, 9].into());
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut visitor = relay.visitor_from(me).await;
            is_answered(&mut visitor).await;
            held.push(visitor);
        }
        let mut fourth = relay.visitor_from(me).await;
        fourth.closed().await;
        assert_eq!(times_reached(&relay, "connections-per-address").await, 1);
        is_answered(&mut relay.visitor_from(other).await).await;
        drop(held.pop());
        // The relay notices the end of a connection when it comes round to it.
        within("a free connection slot", async {
            loop {
                let mut visitor = relay.visitor_from(me).await;
                let sent = visitor.try_send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME))).await;
                if sent.is_ok() && visitor.answer_status().await == Some(200) {
                    break;
                }
            }
        })
        .await;
        for _ in 0..5 {
            let mut visitor = relay.visitor_from(front).await;
            is_answered(&mut visitor).await;
            held.push(visitor);
        }
    });
}

#[test]
fn total_connections_are_limited() {
    run(async {
        let relay = with_admin(|config| config.connections = 2);
        let token = relay.token(&[NAME]);
        let plan = |carrier| AgentPlan::new(&relay.url(), NAME, token.clone(), "ptth10", carrier);
        // An agent counts until it is flipped.
        let _agent = serve(&plan(Kind::H2), echo()).await;
        let mut held = [relay.visitor().await, relay.visitor().await];
        for visitor in &mut held {
            is_answered(visitor).await;
        }
        let mut third = relay.visitor().await;
        third.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME))).await;
        let (head, body) = third.message().await;
        assert_eq!((head.status(), body.contains("relay-full")), (503, true), "{body}");
        third.closed().await;
        assert_eq!(times_reached(&relay, "connections").await, 1);
        // Agents are no visitors. They stay: a request may go to any of them.
        let mut agents = Vec::new();
        for carrier in [Kind::H1, Kind::H2] {
            agents.push(serve(&plan(carrier), echo()).await);
        }
        is_answered(&mut held[0]).await;
    });
}

#[test]
fn a_handshake_has_a_deadline() {
    run(async {
        let relay = with_admin(|_| {});
        let began = Instant::now();
        Wire::new(crate::support::relay::connect(relay.tls).await).closed().await;
        assert!(began.elapsed() >= defaults::HANDSHAKE);
        assert_eq!(times_reached(&relay, "handshake").await, 1);
    });
}

async fn is_answered(visitor: &mut Wire) {
    visitor.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME))).await;
    assert_eq!(visitor.message().await.0.status(), 200);
}

#[test]
fn oversized_heads_are_refused_and_counted() {
    run(async {
        let relay = with_admin(|_| {});
        let _agent = agent(&relay, Kind::H2, echo()).await;
        let large = format!("X-Large: {}\r\n", "x".repeat(2 * defaults::VISITOR_HEAD));
        assert_eq!(status(&relay, &large).await, 431);
        let large = format!("X-Large: {}\r\n", "x".repeat(defaults::VISITOR_HEAD));
        assert_eq!(status(&relay, &large).await, 431);
        let many: String = (0..=defaults::H1_FIELDS).map(|n| format!("X-{n}: x\r\n")).collect();
        assert_eq!(status(&relay, &many).await, 431);
        // The relay counts when the connection ends, which is after its answer.
        within("the refusal count", async { while times_reached(&relay, "fields").await < 3 {} }).await;
        assert_eq!(times_reached(&relay, "fields").await, 3);
    });
}

/// Takes all of an upload, and answers a GET without end; counts both. `/` is answered at once.
fn slow_service(count: watch::Sender<usize>) -> Arc<dyn Handler> {
    let count = Arc::new(count);
    Arc::new(handler_fn(move |request: Request| {
        let count = count.clone();
        async move {
            if request.uri().path() == "/" {
                return Response::new(Body::full("here"));
            }
            count.send_modify(|count| *count += 1);
            if request.method() == Method::POST {
                let _ = request.into_body().collect().await;
                return Response::new(Body::empty());
            }
            let piece = Bytes::from_static(&[b'x'; 16 << 10]);
            let pieces = stream::repeat_with(move || Ok::<_, BoxError>(Frame::data(piece.clone())));
            Response::new(Body::wrap(StreamBody::new(pieces)))
        }
    }))
}

/// As many as an `h1` agent has connections, and more.
const SLOW: usize = defaults::H1_MOST + 16;

#[test]
fn visitors_that_send_byte_by_byte_are_evicted_on_h1() {
    slow_visitors_are_evicted("POST", async |visitor: &mut Wire| drop(visitor.try_send("x").await));
}

#[test]
fn visitors_that_do_not_read_are_evicted_on_h1() {
    slow_visitors_are_evicted("GET", async |_: &mut Wire| {});
}

/// Half-read answers and half-sent uploads. CVE-2007-6750, and its forms for bodies.
fn slow_visitors_are_evicted(method: &str, drip: impl AsyncFn(&mut Wire)) {
    run(async {
        let relay = with_admin(|_| {});
        let (count, mut counted) = watch::channel(0);
        let _agent = agent(&relay, Kind::H1, slow_service(count)).await;
        let head = format!("{method} /slow HTTP/1.1\r\nHost: {}\r\n", named(NAME));
        let body = if method == "POST" { "Content-Length: 1000000\r\n\r\nx" } else { "\r\n" };
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let mut visitor = relay.visitor().await;
            visitor.send(format!("{head}{body}")).await;
            slow.push(visitor);
        }
        let all = counted.wait_for(|count| *count >= defaults::H1_MOST);
        drop(within("every connection of the agent is taken", all).await.unwrap());
        let began = Instant::now();
        let mut honest = Box::pin(get(&relay, ""));
        let answered = loop {
            match tokio::time::timeout(Duration::from_millis(200), &mut honest).await {
                // While no visitor has been slow for long enough, a request waits for a second and may come again.
                Ok((answer, _)) if answer.status() == 503 && began.elapsed() < 4 * defaults::PACE_WITHIN => {
                    assert!(answer.get("retry-after").is_some(), "{answer:?}");
                    honest = Box::pin(get(&relay, ""));
                }
                Ok((answer, _)) => break answer.status(),
                Err(_) => {
                    for visitor in &mut slow {
                        drip(visitor).await;
                    }
                }
            }
        };
        println!("{SLOW} slow visitors ({method}): the next one was answered after {:?}", began.elapsed());
        assert_eq!(answered, 200);
        assert!(times_reached(&relay, "pace").await > 0);
    });
}
