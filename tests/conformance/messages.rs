//! Messages of every shape.

use http::Request;
use http_body_util::BodyExt;
use ptth::internals::message::Body;

use crate::answers::{answer, next_request_passes};
use crate::support::{named, within};
use crate::world::{NAME, On, World};

pub(crate) async fn get(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, head) =
        world.begin("GET", "/a%2Fb//c/../d?x=%20&y", "X-Mine: kept\r\n").await;
    assert_eq!(head.first, "GET /a%2Fb//c/../d?x=%20&y HTTP/1.1");
    assert_eq!(head.get("x-mine"), Some("kept"));
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, None));
    origin.send("HTTP/1.1 203 Fine\r\nX-Theirs: kept\r\nContent-Length: 5\r\n\r\nhello").await;
    let (head, body) = visitor.message().await;
    assert_eq!((head.status(), &*body), (203, "hello"));
    assert_eq!(head.get("x-theirs"), Some("kept"));
}

pub(crate) async fn post_with_length(on: On) {
    let world = on.world().await;
    let (now, later) = if on.is_whole() { ("abcdef", "") } else { ("abc", "def") };
    let (mut visitor, mut origin, head) = world.begin_with("POST", "/", "Content-Length: 6\r\n", now).await;
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (Some("6"), None));
    assert_eq!(origin.exact(3).await, "abc");
    visitor.send(later).await;
    assert_eq!(origin.exact(3).await, "def");
    origin.send("HTTP/1.1 201 Created\r\nLocation: /6\r\nContent-Length: 0\r\n\r\n").await;
    let (head, body) = visitor.message().await;
    assert_eq!((head.status(), head.get("location"), &*body), (201, Some("/6"), ""));
    assert_eq!(head.get("content-length"), Some("0"));
}

pub(crate) async fn post_with_length_zero(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, head) = world.begin("POST", "/", "Content-Length: 0\r\n").await;
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (Some("0"), None));
    answer(&mut origin, &mut visitor).await;
}

pub(crate) async fn chunked_upload_streams(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, head) = world.begin("PUT", "/", "Transfer-Encoding: chunked\r\n").await;
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, Some("chunked")));
    for part in ["one", "two", "three"] {
        visitor.send_chunk(part).await;
        // Each arrives before the next is sent.
        assert_eq!(origin.chunk().await, part);
    }
    visitor.send("0\r\n\r\n").await;
    assert_eq!(origin.chunk().await, "");
    assert_eq!(origin.trailers().await, []);
    answer(&mut origin, &mut visitor).await;
}

pub(crate) async fn response_streams(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let head = visitor.head().await;
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, Some("chunked")));
    for part in ["one", "two", "three"] {
        origin.send_chunk(part).await;
        assert_eq!(visitor.chunk().await, part);
    }
    origin.send("0\r\n\r\n").await;
    assert_eq!(visitor.chunk().await, "");
    assert_eq!(visitor.trailers().await, []);
}

pub(crate) async fn request_trailers(on: On) {
    let world = on.world().await;
    let fields = "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n";
    let (mut visitor, mut origin, head) = world.begin("POST", "/", fields).await;
    assert_eq!(head.get("trailer"), Some("X-Sum"));
    visitor.send("3\r\nabc\r\n0\r\nX-Sum: 294\r\n\r\n").await;
    assert_eq!(origin.chunk().await, "abc");
    assert_eq!(origin.chunk().await, "");
    assert_eq!(origin.trailers().await, [("x-sum".into(), "294".into())]);
    answer(&mut origin, &mut visitor).await;
}

pub(crate) async fn response_trailers(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, head) = world.begin("GET", "/", "TE: trailers\r\nConnection: te\r\n").await;
    assert_eq!(head.get("te"), Some("trailers"));
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n").await;
    assert_eq!(visitor.head().await.get("trailer"), Some("X-Sum"));
    origin.send("3\r\nabc\r\n0\r\nX-Sum: 294\r\n\r\n").await;
    assert_eq!(visitor.chunk().await, "abc");
    assert_eq!(visitor.chunk().await, "");
    assert_eq!(visitor.trailers().await, [("x-sum".into(), "294".into())]);
}

/// Trailers that may not stand there are dropped, and the message around them passes.
pub(crate) async fn forbidden_trailers_are_dropped(on: On) {
    const TRAILERS: &str = "3\r\nabc\r\n0\r\nConnection: x-hop\r\nX-Hop: 1\r\nTE: gzip\r\nX-Sum: 294\r\n\r\n";
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    visitor.send(World::head("POST", "/", "Transfer-Encoding: chunked\r\nTE: trailers\r\n") + TRAILERS).await;
    let mut origin = world.origin.accept().await;
    origin.head().await;
    assert_eq!((&*origin.chunk().await, &*origin.chunk().await), (&b"abc"[..], &b""[..]));
    assert_eq!(origin.trailers().await, [("x-sum".into(), "294".into())]);
    origin.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{TRAILERS}")).await;
    assert_eq!(visitor.head().await.status(), 200);
    assert_eq!((&*visitor.chunk().await, &*visitor.chunk().await), (&b"abc"[..], &b""[..]));
    assert_eq!(visitor.trailers().await, [("x-sum".into(), "294".into())]);
    // Where nothing is left, the message still ends.
    visitor
        .send(World::head("POST", "/", "Transfer-Encoding: chunked\r\n") + "0\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(origin.head().await.get("transfer-encoding"), Some("chunked"));
    assert_eq!((&*origin.chunk().await, origin.trailers().await), (&b""[..], vec![]));
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nConnection: close\r\n\r\n").await;
    assert_eq!(visitor.message().await.0.status(), 200);
}

pub(crate) async fn head_keeps_its_length(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, head) = world.begin("HEAD", "/", "").await;
    assert_eq!(head.first, "HEAD / HTTP/1.1");
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4711\r\n\r\n").await;
    let head = visitor.head().await;
    assert_eq!((head.status(), head.get("content-length")), (200, Some("4711")));
    // No body comes: the next answer on the connection is the next request's.
    next_request_passes(visitor, origin).await;
}

pub(crate) async fn no_content(on: On) {
    without_a_body(on, "HTTP/1.1 204 No Content\r\nX-Theirs: kept\r\n\r\n", 204, "x-theirs", "kept").await;
}

pub(crate) async fn not_modified(on: On) {
    without_a_body(on, "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n", 304, "etag", "\"v1\"").await;
}

async fn without_a_body(on: On, answer: &str, status: u16, field: &str, value: &str) {
    let world = on.world().await;
    let (mut visitor, mut origin, head) = world.begin("GET", "/", "If-None-Match: \"v1\"\r\n").await;
    assert_eq!(head.get("if-none-match"), Some("\"v1\""));
    origin.send(answer).await;
    let head = visitor.head().await;
    assert_eq!((head.status(), head.get(field)), (status, Some(value)));
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, None), "{head:?}");
    next_request_passes(visitor, origin).await;
}

pub(crate) async fn repeated_fields_keep_their_order(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, head) =
        world.begin("GET", "/", "X-A: 1\r\nX-B: 2\r\nX-A: 3, 4\r\nX-A: 1\r\n").await;
    assert_eq!(head.all("x-a"), ["1", "3, 4", "1"]);
    assert_eq!(head.all("x-b"), ["2"]);
    let cookies = ["a=1; Path=/", "b=2, with=comma", "a=3"];
    let fields = cookies.map(|c| format!("Set-Cookie: {c}\r\n")).concat();
    origin.send(format!("HTTP/1.1 200 OK\r\n{fields}X-A: 2\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n")).await;
    let head = visitor.head().await;
    assert_eq!(head.all("set-cookie"), cookies);
    assert_eq!(head.all("x-a"), ["2", "1"]);
}

pub(crate) async fn server_sent_events(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, head) =
        world.begin("GET", "/events", "Accept: text/event-stream\r\n").await;
    assert_eq!(head.get("accept"), Some("text/event-stream"));
    // As many servers do it: no length, and the end is the end of the connection.
    origin.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n").await;
    assert_eq!(visitor.head().await.get("content-type"), Some("text/event-stream"));
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        origin.send(&event).await;
        assert_eq!(visitor.chunk().await, event);
    }
    drop(origin);
    assert_eq!(visitor.chunk().await, "");
}

pub(crate) async fn early_answer_while_the_upload_runs(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("POST", "/", "Transfer-Encoding: chunked\r\n").await;
    visitor.send_chunk("first").await;
    assert_eq!(origin.chunk().await, "first");
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await;
    let head = visitor.head().await;
    assert_eq!((head.status(), visitor.exact(5).await.as_ref()), (200, &b"early"[..]));
    // What is still uploading is nobody else's problem.
    for _ in 0..4 {
        world.still_works().await;
    }
}

pub(crate) async fn several_requests_on_one_connection(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/0", "").await;
    for number in 1..20 {
        answer(&mut origin, &mut visitor).await;
        let length = if number % 2 == 0 { "Content-Length: 3\r\n" } else { "" };
        visitor.send(World::head("POST", &format!("/{number}"), length)).await;
        if number % 2 == 0 {
            visitor.send("abc").await;
        }
        let (head, _) = origin.message().await;
        assert_eq!(head.first, format!("POST /{number} HTTP/1.1"));
    }
}

pub(crate) async fn pipelined_requests_keep_their_order(on: On) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    let all: String = (0..5).map(|number| World::head("GET", &format!("/{number}"), "")).collect();
    visitor.send(all).await;
    let mut origin = world.origin.accept().await;
    for number in 0..5 {
        assert_eq!(origin.head().await.first, format!("GET /{number} HTTP/1.1"));
        origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}")).await;
    }
    for number in 0..5 {
        assert_eq!(visitor.message().await.1, number.to_string());
    }
}

pub(crate) async fn a_visitor_with_http2(on: On) {
    let world = on.world().await;
    let host = named(NAME);
    let mut visitor = world.relay.visitor_h2(&host).await;
    let request = Request::post(format!("https://{host}/x"))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .body(Body::full("hello"))
        .unwrap();
    let (response, mut origin) = tokio::join!(visitor.send(request), async {
        let mut origin = world.origin.accept().await;
        let (head, body) = origin.message().await;
        assert_eq!((&*head.first, &*body), ("POST /x HTTP/1.1", "hello"));
        assert_eq!(head.get("host"), Some(&*host));
        assert_eq!(head.get("cookie"), Some("a=1; b=2"));
        assert_eq!(head.get("x-forwarded-proto"), Some("https"));
        origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n").await;
        if on.is_whole() {
            origin.send("2\r\nok\r\n0\r\n\r\n").await;
        }
        origin
    });
    assert_eq!(response.status(), 200);
    if !on.is_whole() {
        origin.send("2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    }
    let body = within("a body", response.into_body().collect()).await.unwrap();
    let sum = body.trailers().map(|trailers| trailers["x-sum"].clone());
    assert_eq!(sum, (!on.is_whole()).then_some("1".parse().unwrap()));
    assert_eq!(body.to_bytes(), "ok");
}
