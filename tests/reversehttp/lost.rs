//! Requests in the hand of an agent that has gone.

use std::time::{Duration, Instant};

use super::polling::wait_for_polls;
use super::support::{Bench, Raw, STEP};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhey";
/// The relay settles what an agent leaves behind within one second; a busy machine gets more.
const SETTLED: Duration = Duration::from_secs(8);

/// A visitor that has sent its request.
async fn visitor(bench: &Bench, method: &str, body: &str) -> Raw {
    let mut visitor = bench.open().await;
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    visitor.send(&format!("{method} / HTTP/1.1\r\nHost: demo.relay.test\r\n{length}\r\n{body}")).await;
    visitor
}

/// Waits until the agent has this many unanswered requests.
async fn wait_for_unanswered(bench: &Bench, count: usize) {
    let target = format!("/reversehttp?token={}", bench.token);
    let wait = async {
        while !bench.request("GET", &target, "", "").await.body.contains(&format!("unanswered={count}")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(STEP, wait).await.expect("the requests are in flight");
}

#[tokio::test]
async fn another_poller_gets_idempotent_requests_and_the_rest_get_502() {
    let bench = Bench::start();
    let mut url = bench.registered("demo").await;
    let mut visitors = Vec::new();
    for (method, body) in [("GET", ""), ("PUT", "abc"), ("POST", "abc")] {
        visitors.push(visitor(&bench, method, body).await);
        // Its connection ends with the process.
        let polled = bench.poll(&url).await;
        assert!(polled.body.starts_with(&format!("{method} / ")), "{polled:?}");
        url = polled.link("next");
    }
    let since = Instant::now();
    let mut url = bench.registered("demo").await;
    let mut repeated = Vec::new();
    for _ in 0..2 {
        let polled = bench.poll(&url).await;
        assert_eq!(polled.status, 200, "{polled:?}");
        repeated.push(polled.body[..4].trim().to_owned());
        assert_eq!(bench.answer(&url, OK).await.status, 202);
        url = polled.link("next");
    }
    repeated.sort();
    assert_eq!(repeated, ["GET", "PUT"]);
    let [get, put, post] = &mut visitors[..] else { unreachable!() };
    assert_eq!((get.read().await.body, put.read().await.body), ("hey".into(), "hey".into()));
    assert_eq!(post.read().await.status, 502);
    assert!(since.elapsed() < SETTLED, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_request_of_a_reset_poll_goes_to_another_poller() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut visitor = visitor(&bench, "GET", "").await;
    let poll = bench.polling(&first).await;
    wait_for_unanswered(&bench, 1).await;
    // All of it has left the relay, and nothing was read.
    socket2::SockRef::from(&poll.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(poll);
    let since = Instant::now();
    let other = bench.registered("demo").await;
    let polled = bench.poll(&other).await;
    assert!(polled.body.starts_with("GET / "), "{polled:?}");
    bench.answer(&other, OK).await;
    assert_eq!(visitor.read().await.body, "hey");
    assert!(since.elapsed() < SETTLED, "{:?}", since.elapsed());
}

/// Another poller registers, and gets no request for a second.
async fn another_poller_gets_no_request(bench: &Bench) {
    let other = bench.registered("demo").await;
    let polled = bench.request("GET", &other, "Prefer: wait=1\r\n", "").await;
    assert_eq!(polled.status, 204, "{polled:?}");
}

#[tokio::test]
async fn a_poller_keeps_its_requests_while_it_is_connected_or_polls() {
    for polls in [false, true] {
        let bench = Bench::start();
        let first = bench.registered("demo").await;
        let mut visitor = visitor(&bench, "POST", "abc").await;
        let mut connection = bench.open().await;
        let polled = connection.request("GET", &first, "", "").await;
        assert_eq!(polled.status, 200);
        let next = if polls {
            drop(connection);
            let next = bench.polling(&polled.link("next")).await;
            wait_for_polls(&bench, 1).await;
            next
        } else {
            connection
        };
        another_poller_gets_no_request(&bench).await;
        assert_eq!(bench.answer(&first, OK).await.status, 202);
        assert_eq!(visitor.read().await.body, "hey");
        drop(next);
    }
}

#[tokio::test]
async fn older_pollers_and_an_announced_close_take_no_requests_away() {
    for announces in [false, true] {
        let bench = Bench::start();
        let first = bench.registered("demo").await;
        let other = bench.registered("demo").await;
        let mut visitor = visitor(&bench, "POST", "abc").await;
        let field = if announces { "Connection: close\r\n" } else { "" };
        assert_eq!(bench.request("GET", &first, field, "").await.status, 200);
        match announces {
            true => another_poller_gets_no_request(&bench).await,
            false => assert_eq!(bench.request("GET", &other, "Prefer: wait=1\r\n", "").await.status, 204),
        }
        assert_eq!(bench.answer(&first, OK).await.status, 202);
        assert_eq!(visitor.read().await.body, "hey");
    }
}

/// A way to the relay whose first connection that brings a visitor's request to the agent is reset.
async fn resetting_proxy(to: std::net::SocketAddr) -> (std::net::SocketAddr, ptth::internals::net::Scope) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, scope, reset) = (
        listener.local_addr().unwrap(),
        ptth::internals::net::Scope::new(),
        Arc::new(AtomicBool::new(false)),
    );
    let owner = scope.clone();
    scope.spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let reset = reset.clone();
            owner.spawn(async move {
                let far = tokio::net::TcpStream::connect(to).await.unwrap();
                let (mut near_read, mut near_write) = near.into_split();
                let (mut far_read, mut far_write) = far.into_split();
                let down = async {
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(read @ 1..) = far_read.read(&mut bytes).await {
                        let brings = bytes[..read].windows(13).any(|bytes| bytes == b"Ptth-Request:");
                        if brings && !reset.swap(true, Ordering::Relaxed) {
                            for side in [far_read.as_ref(), near_write.as_ref()] {
                                socket2::SockRef::from(side).set_linger(Some(Duration::ZERO)).unwrap();
                            }
                            return;
                        }
                        if near_write.write_all(&bytes[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = down => {}
                    _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
                }
            });
        }
    });
    (at, scope)
}

#[tokio::test]
async fn an_agent_gets_a_request_again_after_its_poll_was_reset() {
    let bench = Bench::start();
    let (at, _scope) = resetting_proxy(bench.at).await;
    let app = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
    let mut serving = bench.agent("reversehttp", at).serve(app).unwrap();
    serving.connected().await.unwrap();
    let since = Instant::now();
    assert_eq!(bench.visit("demo", "/").await.body, "hello");
    assert!(since.elapsed() < SETTLED, "{:?}", since.elapsed());
}
