//! Our own agent over this transport, end to end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method};
use axum::routing::{any, get, post};
use ptth::internals::agent::Serving;
use ptth::internals::net::Scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use super::support::{Bench, STEP};

async fn serving(bench: &Bench, app: Router) -> Serving {
    bench.serving("reversehttp", app).await
}

fn echo() -> Router {
    let mirror = |method: Method, headers: HeaderMap, body: Bytes| async move {
        let client = headers.get("x-forwarded-for").map_or("none", |v| v.to_str().unwrap()).to_owned();
        format!("{method} {client} {} {}", headers["host"].to_str().unwrap(), body.len())
    };
    Router::new().route("/mirror", any(mirror)).route("/", get(|| async { "hello" }))
}

#[tokio::test]
async fn requests_reach_the_origin_with_host_and_client_address() {
    let bench = Bench::start();
    let serving = serving(&bench, echo()).await;
    assert_eq!(bench.visit("demo", "/").await.body, "hello");
    assert_eq!(bench.visit("demo", "/none").await.status, 404);
    let mut visitor = bench.open().await;
    visitor.send("PUT /mirror HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(visitor.read().await.body, "PUT 127.0.0.1 demo.relay.test 3");
    visitor.send("HEAD / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    assert_eq!(visitor.head().await.field("Content-Length"), "5");
    assert_eq!(serving.stop(Duration::from_secs(5)).await, 0);
    assert_eq!(bench.visit("demo", "/").await.status, 503, "the agent has ended its registration");
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    const SIZE: usize = 24 << 20;
    let bench = Bench::start();
    let app = Router::new().route(
        "/up",
        post(|body: Body| async move {
            let all = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            all.len().to_string()
        }),
    );
    let app = app.route("/down", get(|| async { vec![b'x'; SIZE] }));
    let _serving = serving(&bench, app).await;
    let mut visitor = bench.open().await;
    let upload = "x".repeat(SIZE);
    visitor
        .send(&format!(
            "POST /up HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: {SIZE}\r\n\r\n{upload}"
        ))
        .await;
    assert_eq!(visitor.read().await.body, SIZE.to_string());
    assert_eq!(bench.visit("demo", "/down").await.body.len(), SIZE);
}

#[tokio::test]
async fn an_answer_streams_and_is_dropped_when_its_visitor_leaves() {
    let bench = Bench::start();
    let (feed, source) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let source = Arc::new(tokio::sync::Mutex::new(Some(source)));
    let app = Router::new().route(
        "/events",
        get(move || async move {
            let mut source = source.lock().await.take().unwrap();
            Body::from_stream(futures_util::stream::poll_fn(move |cx| source.poll_recv(cx)))
        }),
    );
    let _serving = serving(&bench, app).await;
    let mut visitor = bench.open().await;
    visitor.send("GET /events HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    feed.send(Ok("data: one\n\n".into())).await.unwrap();
    assert!(visitor.until("data: one\n\n").await.contains("200 OK"));
    feed.send(Ok("data: two\n\n".into())).await.unwrap();
    visitor.until("data: two\n\n").await;
    drop(visitor);
    // The origin's stream is dropped, all the way back.
    let gone = async { while feed.send(Ok("data: more\n\n".into())).await.is_ok() {} };
    tokio::time::timeout(STEP, gone).await.expect("the stream of the origin is dropped");
}

#[tokio::test]
async fn an_upload_streams_to_the_origin() {
    let bench = Bench::start();
    let seen = Arc::new(Notify::new());
    let tell = seen.clone();
    let app = Router::new().route(
        "/up",
        post(move |body: Body| async move {
            let mut stream = body.into_data_stream();
            futures_util::StreamExt::next(&mut stream).await.unwrap().unwrap();
            tell.notify_one();
            let mut rest = 0;
            while let Some(Ok(data)) = futures_util::StreamExt::next(&mut stream).await {
                rest += data.len();
            }
            rest.to_string()
        }),
    );
    let _serving = serving(&bench, app).await;
    // A poll that streams has been there: the relay hands requests on before their bodies have come.
    bench.visit("demo", "/").await;
    let mut visitor = bench.open().await;
    visitor
        .send("POST /up HTTP/1.1\r\nHost: demo.relay.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    seen.notified().await;
    visitor.send("4\r\ndefg\r\n0\r\n\r\n").await;
    assert_eq!(visitor.read().await.body, "4");
}

#[tokio::test]
async fn an_agent_reconnects_after_a_restart_of_the_relay() {
    let bench = Bench::start();
    let _serving = serving(&bench, echo()).await;
    assert_eq!(bench.visit("demo", "/").await.body, "hello");
    let bench = bench.restarted_in_place().await;
    super::polling::wait_for_registration(&bench).await;
    assert_eq!(bench.visit("demo", "/").await.body, "hello");
}

#[tokio::test]
async fn a_websocket_crosses_and_closes_at_both_ends() {
    use axum::extract::ws::WebSocketUpgrade;
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;

    let bench = Bench::start();
    let closed = Arc::new(Notify::new());
    let tell = closed.clone();
    let app = Router::new().route(
        "/ws",
        get(move |upgrade: WebSocketUpgrade| async move {
            upgrade.on_upgrade(|mut socket| async move {
                while let Some(Ok(message)) = socket.recv().await {
                    let _ = socket.send(message).await;
                }
                tell.notify_one();
            })
        }),
    );
    let _serving = serving(&bench, app.merge(echo())).await;
    assert_eq!(bench.visit("demo", "/").await.body, "hello");
    let stream = bench.open().await.stream;
    let url = format!("ws://demo.relay.test:{}/ws", bench.at.port());
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    for text in ["one", "two", &"x".repeat(1 << 20)] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
    }
    drop(socket);
    tokio::time::timeout(STEP, closed.notified()).await.expect("the socket of the origin is closed");
    // An Upgrade that the origin refuses is its plain answer.
    let mut visitor = bench.open().await;
    visitor
        .send("GET /mirror HTTP/1.1\r\nHost: demo.relay.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        .await;
    assert_eq!(visitor.read().await.status, 200);
}

/// A box between agents and the relay, which does with each connection as `pass` does.
async fn middlebox<F>(pass: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, Scope)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let scope = Scope::new();
    let owner = scope.clone();
    scope.spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            owner.spawn(pass(near));
        }
    });
    (at, scope)
}

/// A box that breaks the connection of the first poll that brings a request: a few bytes after so many of its heads,
/// the answer's and the request's. Tells whether it has. With `blind` nobody can look whether it holds bodies back.
async fn cutting_proxy(relay: SocketAddr, heads: usize, blind: bool) -> (SocketAddr, Arc<AtomicBool>, Scope) {
    let broke = Arc::new(AtomicBool::new(false));
    let broken = broke.clone();
    let (at, scope) = middlebox(move |near| {
        let done = broken.clone();
        async move {
            let (mut far_read, mut far_write) = TcpStream::connect(relay).await.unwrap().into_split();
            let (mut near_read, mut near_write) = near.into_split();
            let down = async {
                let mut bytes = vec![0; 64 << 10];
                let mut brought = None;
                while let Ok(count @ 1..) = far_read.read(&mut bytes).await {
                    let text = String::from_utf8_lossy(&bytes[..count]);
                    let brings = text.contains("Requesting-Client");
                    if brings && !done.swap(true, Ordering::Relaxed) {
                        brought = Some(String::new());
                    }
                    if let Some(brought) = &mut brought {
                        brought.push_str(&text);
                        let mut ends = brought.match_indices("\r\n\r\n").map(|(at, _)| at + 9);
                        let part = if heads == 0 { Some(0) } else { ends.nth(heads - 1) };
                        let Some(part) = part.filter(|part| *part <= brought.len()) else { continue };
                        let _ = near_write.write_all(&brought.as_bytes()[..part]).await;
                        return;
                    }
                    if near_write.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
            };
            let up = async {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(count @ 1..) = near_read.read(&mut bytes).await {
                    let probes = String::from_utf8_lossy(&bytes[..count]).contains("/reversehttp/probe/");
                    if (blind && probes) || far_write.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = up => {}
                () = down => {}
            }
        }
    })
    .await;
    (at, broke, scope)
}

#[tokio::test]
async fn a_request_is_served_after_its_poll_breaks() {
    for heads in [0, 1] {
        let bench = Bench::start();
        let (at, broke, _scope) = cutting_proxy(bench.at, heads, false).await;
        let mut serving = bench.agent("reversehttp", at).serve(echo()).unwrap();
        serving.connected().await.unwrap();
        assert_eq!(bench.visit("demo", "/").await.body, "hello", "heads: {heads}");
        assert!(broke.load(Ordering::Relaxed));
    }
}

#[tokio::test]
async fn an_upload_reaches_the_origin_once_after_its_poll_breaks() {
    let bench = Bench::start();
    let (at, broke, _scope) = cutting_proxy(bench.at, 2, true).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let heads = seen.clone();
    let app = Router::new().route(
        "/up",
        post(move |body: Body| async move {
            heads.fetch_add(1, Ordering::Relaxed);
            axum::body::to_bytes(body, usize::MAX).await.map_or("broken".into(), |all| all.len().to_string())
        }),
    );
    let mut serving = bench.agent("reversehttp", at).serve(app).unwrap();
    serving.connected().await.unwrap();
    let mut visitor = bench.open().await;
    let upload = "x".repeat(300_000);
    let head = "POST /up HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: 300000";
    visitor.send(&format!("{head}\r\n\r\n{upload}")).await;
    assert_eq!(visitor.read().await.body, "300000");
    assert!(broke.load(Ordering::Relaxed));
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}

/// A box that answers polls itself with 429 while it is `full`, and counts them.
async fn limiting_proxy(relay: SocketAddr, full: Arc<AtomicBool>) -> (SocketAddr, Arc<AtomicUsize>, Scope) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let (at, scope) = middlebox(move |near| {
        let (full, refused) = (full.clone(), counted.clone());
        async move {
            let (mut far_read, mut far_write) = TcpStream::connect(relay).await.unwrap().into_split();
            let (mut near_read, mut near_write) = near.into_split();
            let up = async {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(count @ 1..) = near_read.read(&mut bytes).await {
                    let poll = bytes.starts_with(b"GET /reversehttp/request/");
                    if poll && full.load(Ordering::Relaxed) {
                        refused.fetch_add(1, Ordering::Relaxed);
                        return true;
                    }
                    if far_write.write_all(&bytes[..count]).await.is_err() {
                        return false;
                    }
                }
                false
            };
            let refuse = tokio::select! {
                refuse = up => refuse,
                _ = tokio::io::copy(&mut far_read, &mut near_write) => false,
            };
            if refuse {
                let head = "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                let _ = near_write.write_all(head.as_bytes()).await;
            }
        }
    })
    .await;
    (at, count, scope)
}

#[tokio::test]
async fn an_agent_recovers_after_a_middlebox_refused_its_polls() {
    let bench = Bench::with(|config| config.polling.hold = Duration::from_millis(50));
    let full = Arc::new(AtomicBool::new(false));
    let (at, refused, _scope) = limiting_proxy(bench.at, full.clone()).await;
    let mut serving = bench.agent("reversehttp", at).serve(echo()).unwrap();
    serving.connected().await.unwrap();
    assert_eq!(bench.visit("demo", "/").await.body, "hello");
    full.store(true, Ordering::Relaxed);
    let all = async {
        while refused.load(Ordering::Relaxed) < ptth::internals::defaults::POLLS {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(STEP, all).await.expect("all polls are refused");
    full.store(false, Ordering::Relaxed);
    assert_eq!(bench.visit("demo", "/").await.body, "hello");
}
