//! Relay and agent stop while something is in flight.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ptth::internals::defaults;
use ptth::internals::policy::Tokens;
use tokio::net::TcpStream;

use crate::support::{Plan, Proxy, TestOrigin, TestRelay, Wire, serve, within};
use crate::world::{On, World};

/// A stop that waits for what finishes meanwhile.
async fn uncut(stopping: impl Future<Output = usize>, finishing: impl Future<Output = ()>) {
    let (cut, ()) = within("a stop", async { tokio::join!(stopping, finishing) }).await;
    assert_eq!(cut, 0, "connections were cut");
}

/// The end of a body that has begun.
async fn the_rest(origin: &mut Wire, visitor: &mut Wire) {
    origin.send_chunk("def").await;
    assert_eq!(visitor.chunk().await, "def");
    origin.send("0\r\n\r\n").await;
    assert_eq!(visitor.chunk().await, "");
}

pub(crate) async fn relay_drains_while_an_answer_runs(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    visitor.head().await;
    assert_eq!(visitor.chunk().await, "abc");
    let mut status = world.agent.status().remove(0);
    let mut idle = world.relay.visitor().await;
    let address = world.relay.plain;
    let stopping = world.relay.stop();
    let finishing = async {
        // Nobody comes in any more, while what is in flight goes on.
        idle.closed().await;
        within("the listeners closing", async {
            // Each core shuts its own; what one has still accepted is closed unheard.
            while let Ok(stream) = TcpStream::connect(address).await {
                Wire::new(stream).closed().await;
            }
        })
        .await;
        the_rest(&mut origin, &mut visitor).await;
    };
    uncut(stopping, finishing).await;
    within("the agent disconnecting", status.wait_for(|s| !s.connected)).await.unwrap();
}

pub(crate) async fn agent_moves_to_the_next_relay(on: On) {
    let tokens = Tokens::in_memory();
    let plan = || Plan { tokens: tokens.clone(), ..Plan::default() };
    let (old, new) = (TestRelay::planned(plan()), TestRelay::planned(plan()));
    let proxy = Proxy::start(old.tls).await;
    let url = format!("https://ptth.localhost:{}/", proxy.address.port());
    let origin = TestOrigin::start().await;
    let agent = serve(&on.agent_at(&url, &old), origin.handler()).await;
    // In flight on the old relay while the agent already stands at the new one.
    let mut visitor = old.visitor().await;
    visitor.send(World::head("GET", "/old", "")).await;
    let mut at_old = origin.accept().await;
    at_old.head().await;
    proxy.redirect_to(new.tls);
    let stopping = old.stop();
    let moving = async {
        let (mut next, mut at_new) = first_answered(&new, &origin).await;
        at_new.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew").await;
        assert_eq!(next.message().await.1, "new");
        at_old.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold").await;
        assert_eq!(visitor.message().await.1, "old");
    };
    uncut(stopping, moving).await;
    assert!(agent.status()[0].borrow().connected);
}

/// Asks until the agent is there: the relay itself answers before.
async fn first_answered(relay: &TestRelay, origin: &TestOrigin) -> (Wire, Wire) {
    loop {
        let mut visitor = relay.visitor().await;
        visitor.send(World::head("GET", "/new", "")).await;
        tokio::select! {
            mut at_origin = origin.accept() => {
                assert_eq!(at_origin.head().await.first, "GET /new HTTP/1.1");
                return (visitor, at_origin);
            }
            (head, _) = visitor.message() => assert_eq!(head.status(), 503),
        }
    }
}

/// A request waits for an agent that has just gone. Once the relay stops, that agent is not let in any more.
pub(crate) async fn a_stopping_relay_does_not_wait_for_an_agent(on: On) {
    let World { relay, agent, .. } = on.world().await;
    drop(agent);
    let mut visitor = relay.visitor().await;
    visitor.send(World::head("GET", "/", "")).await;
    visitor.quiet().await;
    let began = Instant::now();
    let answered = async {
        assert_eq!(visitor.message().await.0.status(), 503);
    };
    uncut(relay.stop(), answered).await;
    let took = began.elapsed();
    assert!(took < defaults::WAIT_AGENT / 2, "the relay stopped after {took:?}");
}

pub(crate) async fn agent_stop_finishes_answers(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    if !on.is_whole() {
        visitor.head().await;
    }
    let World { relay, agent, .. } = world;
    let stopping = agent.stop(Duration::from_secs(10));
    let finishing = async {
        if on.is_whole() {
            origin.send("3\r\ndef\r\n0\r\n\r\n").await;
            return assert_eq!(visitor.message().await.1, "abcdef");
        }
        assert_eq!(visitor.chunk().await, "abc");
        the_rest(&mut origin, &mut visitor).await;
    };
    uncut(stopping, finishing).await;
    // The name is still known, and nobody is there.
    let (head, _) = relay.fetch(&World::head("GET", "/", "")).await;
    assert_eq!(head.status(), 503);
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) async fn agent_logs_each_cut_connection(on: On) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let world = on.world().await;
    let _in_flight = world.begin("GET", "/", "").await;
    let World { relay, agent, .. } = world;
    assert!(within("a stop", agent.stop(Duration::ZERO)).await > 0, "the request in flight was not cut");
    let text = log.text();
    let line = text.lines().find(|line| line.contains("a connection was cut before it had finished"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains(&relay.url()) && line.contains(&format!("carrier={}", on.carrier)), "{line}");
}
