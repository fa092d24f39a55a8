//! The network between agent and relay breaks.

use std::time::{Duration, Instant};

use ptth::internals::defaults;
use ptth::internals::session::Kind;

use crate::support::{Proxy, TestOrigin, TestRelay, Wire, limit, serve, within};
use crate::world::{On, World};

/// Neither end needs longer, on a quiet machine, to notice that the other is gone without a word.
const FOUND: Duration = Duration::from_secs(12);

pub(crate) async fn world_behind_a_proxy(on: On) -> (World, Proxy) {
    let relay = TestRelay::start();
    let proxy = Proxy::start(relay.tls).await;
    let url = format!("https://ptth.localhost:{}/", proxy.address.port());
    let origin = TestOrigin::start().await;
    let agent = serve(&on.agent_at(&url, &relay), origin.handler()).await;
    (World { relay, origin, agent }, proxy)
}

pub(crate) async fn a_cut_request_is_answered_and_the_agent_reconnects(on: On) {
    let (world, proxy) = world_behind_a_proxy(on).await;
    let (mut visitor, mut origin, _) = world.begin_with("POST", "/", "Content-Length: 2\r\n", "hi").await;
    assert_eq!(origin.exact(2).await, "hi");
    proxy.cut();
    if on.carrier == Kind::Envelope {
        return the_answer_uses_another_connection(&world, visitor, origin).await;
    }
    let (head, body) = visitor.message().await;
    assert_eq!(head.status(), 502, "{body}");
    assert_eq!(head.get("proxy-status"), Some("ptth-relay; error=connection_terminated"));
    origin.closed().await;
    world.still_works().await;
}

pub(crate) async fn a_safe_request_is_repeated_after_a_cut(on: On) {
    let (world, proxy) = world_behind_a_proxy(on).await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    proxy.cut();
    if on.carrier == Kind::Envelope {
        return the_answer_uses_another_connection(&world, visitor, origin).await;
    }
    origin.closed().await;
    let mut again = world.origin.accept().await;
    again.head().await;
    again.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain").await;
    let (head, body) = visitor.message().await;
    assert_eq!((head.status(), &*body), (200, "again"));
}

/// What was delivered whole is not lost with the connection that brought it: nothing is cut, and nothing repeated.
async fn the_answer_uses_another_connection(world: &World, mut visitor: Wire, mut origin: Wire) {
    origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nsaved").await;
    let (head, body) = visitor.message().await;
    assert_eq!((head.status(), &*body), (200, "saved"));
    world.still_works().await;
}

pub(crate) async fn a_half_open_connection_is_detected(on: On) {
    let (world, proxy) = world_behind_a_proxy(on).await;
    world.still_works().await;
    let before = proxy.accepted();
    proxy.freeze().await;
    let frozen = Instant::now();
    // The agent finds out by itself, with nothing on the way.
    within("another connection", async {
        while proxy.accepted() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let found = frozen.elapsed();
    assert!(found >= defaults::PING_EVERY / 2, "a silence of {found:?} was treated as a loss");
    assert!(found <= limit(FOUND), "detected after {found:?}");
    // By then the relay knows as well, and gives no request to what is lost.
    tokio::time::sleep_until((frozen + FOUND).into()).await;
    world.still_works().await;
    assert!(frozen.elapsed() <= limit(FOUND + Duration::from_secs(2)), "healed after {:?}", frozen.elapsed());
}
