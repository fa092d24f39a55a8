//! The record of each request, which metrics and the access log are made from.

use std::sync::Arc;

use http::Request;
use ptth::internals::message::Body;
use ptth::internals::observe::exchange::Party;
use ptth::internals::observe::{Exchange, Sink};
use ptth::internals::relay::config::Admin;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::support::relay::connect;
use crate::support::{Plan, TestOrigin, TestRelay, Wire, named, serve, within};
use crate::upgrade::{exchange_messages, open};
use crate::world::{NAME, On, World};

struct Kept(UnboundedSender<Exchange>);

impl Sink for Kept {
    fn ended(&self, exchange: &Exchange) {
        if exchange.party == Party::Visitor {
            let _ = self.0.send(exchange.clone());
        }
    }
}

/// The records of visitors' requests.
struct Records(UnboundedReceiver<Exchange>);

impl Records {
    async fn next(&mut self) -> Exchange {
        within("a record", self.0.recv()).await.unwrap()
    }

    /// Method, path and status; hop and code of a failure; bytes both ways.
    async fn line(&mut self) -> String {
        let record = self.next().await;
        let line = record.line.unwrap();
        let method = line.method.map_or("-".into(), |method| method.to_string());
        let status = record.status.map_or("-".into(), |status| status.as_u16().to_string());
        let fault = record.fault.map(|fault| format!(" {}/{}", fault.hop, fault.code)).unwrap_or_default();
        let path = line.target.as_deref().unwrap_or("-");
        format!("{method} {path} {status} {}/{}{fault}", record.received, record.sent)
    }
}

async fn recorded(on: On) -> (World, Records) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let change = |config: &mut ptth::internals::relay::config::RelayConfig| {
        config.access_log = Some(Arc::new(Kept(sender)));
        config.admin = Some(Admin { address: ([127, 0, 0, 1], 0).into(), required: true });
    };
    let relay = TestRelay::planned(Plan { change: Box::new(change), ..Plan::default() });
    let origin = TestOrigin::start().await;
    let agent = serve(&on.agent(&relay), origin.handler()).await;
    (World { relay, origin, agent }, Records(receiver))
}

/// The value of one line of the metrics.
async fn metric(relay: &TestRelay, name: &str) -> u64 {
    let mut wire = Wire::new(connect(relay.admin().unwrap()).await);
    wire.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let (_, text) = wire.message().await;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_default()
}

/// Answers, and lets the next request come on a connection of its own.
async fn answer(origin: &mut Wire, visitor: &mut Wire) {
    origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(visitor.message().await.1, "ok");
}

pub(crate) async fn each_request_is_recorded_once(on: On) {
    let (world, mut records) = recorded(on).await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/a?b=c", "").await;
    answer(&mut origin, &mut visitor).await;
    let record = records.next().await;
    assert_eq!(record.route.unwrap().to_string(), named(NAME));
    let via = record.via.unwrap();
    assert_eq!((via.transport, via.carrier), (on.transport, on.carrier.label()));
    assert!(record.session.is_some() && record.fault.is_none() && record.retries == 0);
    assert!(record.first_byte <= record.total && record.first_byte.is_some());
    let line = record.line.unwrap();
    assert_eq!((line.target.as_deref(), &*line.host), (Some("/a?b=c"), &*named(NAME)));

    let (mut visitor, mut origin, head) =
        world.begin_with("POST", "/up", "Content-Length: 5\r\n", "hello").await;
    assert_eq!(origin.body(&head).await, "hello");
    answer(&mut origin, &mut visitor).await;
    assert_eq!(records.line().await, "POST /up 200 5/2");

    let (mut visitor, mut origin, _) = world.begin("HEAD", "/head", "").await;
    origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n").await;
    visitor.head().await;
    assert_eq!(records.line().await, "HEAD /head 200 0/0");

    let (visitor, mut origin, _) = world.begin("GET", "/left", "").await;
    drop(visitor);
    // An agent of comet is not told.
    if !on.is_whole() {
        origin.closed().await;
    }
    assert_eq!(records.line().await, "GET /left - 0/0 visitor/visitor-gone");

    let (head, _) = world.relay.fetch("GET /none HTTP/1.1\r\nHost: none.ptth.localhost\r\n\r\n").await;
    let none = records.next().await;
    assert_eq!((head.status(), &*none.fault.as_ref().unwrap().code), (404, "no-route"));
    assert_eq!(head.get("x-request-id"), Some(&*none.id.to_string()));
    refused_heads(&world, &mut records).await;
    counted(on, &world, &mut records).await;
}

/// Heads that are refused before there is a request.
async fn refused_heads(world: &World, records: &mut Records) {
    let (head, _) = world.relay.fetch("GET / HTTP/1.1\r\nHost: a\r\nbad field\r\n\r\n").await;
    assert_eq!((head.status(), &*records.line().await), (400, "- - 400 0/0 relay/bad-head"));
    let mut visitor = world.relay.visitor().await;
    // The relay may close before all of it is taken.
    let _ =
        visitor.try_send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(200 << 10))).await;
    assert_eq!(records.line().await, "- - 431 0/0 relay/head-too-large");
    let mut visitor = world.relay.visitor_h2(&named(NAME)).await;
    for (size, line) in [(100, "GET /h2 431"), (200, "- - 431"), (200, "- - 431")] {
        let request = Request::get(format!("https://{}/h2", named(NAME)));
        let request = request.header("x-large", "x".repeat(size << 10)).body(Body::empty()).unwrap();
        assert_eq!(visitor.send(request).await.status(), 431, "{size}");
        let recorded = records.line().await;
        assert!(recorded.starts_with(line) && recorded.ends_with("relay/head-too-large"), "{recorded}");
    }
}

/// The metrics tell the same as the records.
async fn counted(on: On, world: &World, records: &mut Records) {
    let relay = &world.relay;
    assert_eq!(metric(relay, "ptth_answers_total{class=\"2xx\"}").await, 3);
    assert_eq!(metric(relay, "ptth_answers_total{class=\"4xx\"}").await, 6);
    for (code, count) in [("no-route", 1), ("bad-head", 1), ("head-too-large", 4), ("visitor-gone", 0)] {
        assert_eq!(metric(relay, &format!("ptth_failures_total{{code=\"{code}\"}}")).await, count, "{code}");
    }
    let all =
        ["1xx", "2xx", "3xx", "4xx"].map(|class| format!("ptth_agent_answers_total{{class=\"{class}\"}}"));
    let mut agents = 0;
    for class in &all {
        agents += metric(relay, class).await;
    }
    assert!(agents > 0, "requests of agents are not counted separately");
    if on.is_whole() {
        return;
    }
    let (visitor, origin) = open(world).await;
    exchange_messages(visitor, origin).await;
    let record = records.next().await;
    assert_eq!(record.status.unwrap(), 101);
    assert!(record.received > 0 && record.sent > 0, "{record:?}");
    assert_eq!(metric(relay, "ptth_answers_total{class=\"1xx\"}").await, 1);
    assert!(records.0.try_recv().is_err(), "a request was recorded twice");
}

pub(crate) async fn a_request_id_reaches_the_origin_and_error_pages(on: On) {
    let (world, mut records) = recorded(on).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fields = format!("traceparent: {trace}\r\n");
    let (mut visitor, mut origin, head) = world.begin("GET", "/", &fields).await;
    assert_eq!(head.get("traceparent"), Some(trace));
    let id = head.get("x-request-id").unwrap().to_owned();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    answer(&mut origin, &mut visitor).await;
    assert_eq!(records.next().await.id.to_string(), id);

    let (mut visitor, mut origin, head) = world.begin("GET", "/", "X-Request-Id: mine\r\n").await;
    assert_eq!(head.get("x-request-id"), Some("mine"));
    answer(&mut origin, &mut visitor).await;
    let record = records.next().await;
    assert_ne!(record.id.to_string(), "mine");
    assert_eq!(record.line.unwrap().own_id.unwrap(), "mine");

    for accept in ["*/*", "text/html"] {
        let ask = format!("GET / HTTP/1.1\r\nHost: none.ptth.localhost\r\nAccept: {accept}\r\n\r\n");
        let (head, body) = world.relay.fetch(&ask).await;
        let id = head.get("x-request-id").unwrap();
        assert!(body.contains(id), "{body}");
        assert_eq!(records.next().await.id.to_string(), id);
    }
}
