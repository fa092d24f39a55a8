//! Several agents, several connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use ptth::internals::defaults;
use ptth::internals::message::{Body, Response};
use ptth::internals::session::{Handler, Kind, handler_fn};
use tokio::sync::Semaphore;

use crate::support::{Proxy, TestRelay, Wire, serve, within};
use crate::world::{On, World};

/// Answers with its own number, once `gate` lets it.
fn numbered(number: usize, seen: Arc<AtomicUsize>, gate: Arc<Semaphore>) -> Arc<dyn Handler> {
    Arc::new(handler_fn(move |_| {
        let (seen, gate) = (seen.clone(), gate.clone());
        async move {
            seen.fetch_add(1, Ordering::Relaxed);
            let _pass = gate.acquire().await;
            Response::new(Body::full(number.to_string()))
        }
    }))
}

async fn send_all(relay: &TestRelay, count: usize) -> Vec<Wire> {
    let visitors = (0..count).map(|_| async {
        let mut visitor = relay.visitor().await;
        visitor.send(World::head("GET", "/", "")).await;
        visitor
    });
    join_all(visitors).await
}

async fn wait_until(what: &str, done: impl Fn() -> bool) {
    within(what, async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(crate) async fn two_agents_share_load(on: On) {
    let relay = TestRelay::start();
    let first = on.agent(&relay);
    let mut second = on.agent(&relay);
    second.config.token.clone_from(&first.config.token);
    let seen = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(100));
    let _first = serve(&first, numbered(0, seen[0].clone(), gate.clone())).await;
    let _second = serve(&second, numbered(1, seen[1].clone(), gate.clone())).await;
    let count = || seen.each_ref().map(|s| s.load(Ordering::Relaxed));
    // An agent knows of its connection a moment before the relay has it in the table.
    within("a request at both agents", async {
        while count().contains(&0) {
            relay.fetch(&World::head("GET", "/", "")).await;
        }
    })
    .await;
    gate.forget_permits(100);
    let before = count();
    let count = || [0, 1].map(|n| count()[n] - before[n]);
    let mut visitors = send_all(&relay, 20).await;
    wait_until("every request at an agent", || count().iter().sum::<usize>() == 20).await;
    // The less busy of the two gets the next: neither can be far ahead while nothing is answered.
    assert!(count().iter().all(|&n| n >= 5), "{:?}", count());
    gate.add_permits(100);
    let mut answers = [0; 2];
    for visitor in &mut visitors {
        let (head, body) = visitor.message().await;
        assert_eq!(head.status(), 200, "{body}");
        answers[body.parse::<usize>().unwrap()] += 1;
    }
    assert_eq!(answers, count());
}

pub(crate) async fn connections_grow_with_load(on: On) {
    let relay = TestRelay::start();
    let proxy = Proxy::start(relay.tls).await;
    let url = relay.url().replace(&relay.tls.port().to_string(), &proxy.address.port().to_string());
    let seen = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let _agent = serve(&on.agent_at(&url, &relay), numbered(0, seen.clone(), gate.clone())).await;
    // One connection for HTTP/2 until it is busy, and then one for each core of the relay; one for each request for
    // HTTP/1.1, and some to spare.
    let (few, many, connections) = match on.carrier {
        Kind::H1 => (1, 6, 6 + defaults::H1_SPARE),
        _ => (8, defaults::BUSY + 1, 2),
    };
    let mut visitors = send_all(&relay, few).await;
    wait_until("the first requests", || seen.load(Ordering::Relaxed) == few).await;
    if on.carrier == Kind::H2 {
        assert_eq!(proxy.accepted(), 1);
    }
    visitors.extend(send_all(&relay, many - few).await);
    wait_until("the other requests", || seen.load(Ordering::Relaxed) == many).await;
    wait_until("another connection", || proxy.accepted() == connections).await;
    gate.add_permits(1000);
    for visitor in &mut visitors {
        assert_eq!(visitor.message().await.1, "0");
    }
    // And not more than that.
    assert_eq!(proxy.accepted(), connections);
}
