//! Interim responses.

use std::time::Instant;

use bytes::Bytes;
use ptth::internals::defaults;

use crate::exchange::{CLOSING, OK, at_origin, exchange, head, host, own_fields};
use crate::support::{Head, Wire};
use crate::visitor::{Http2, request};
use crate::world::On;

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload; as=style\r\n\
                     Link: </b.js>; rel=preload; as=script\r\nContent-Length: 7\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
const LINKS: [&str; 2] = ["</a.css>; rel=preload; as=style", "</b.js>; rel=preload; as=script"];

fn is_hints(head: &Head) {
    assert_eq!((head.status(), head.all("link")), (103, LINKS.to_vec()));
    assert_eq!(own_fields(head).len(), 2, "{head:?}");
    assert_eq!((head.get("content-length"), head.get("connection")), (None, None), "{head:?}");
}

async fn answers(visitor: &mut Wire, origin: &mut Wire) {
    origin.send(OK).await;
    let (head, body) = visitor.message().await;
    assert_eq!((head.status(), &*body), (200, "ok"));
}

pub(crate) async fn early_hints(on: On) {
    let world = on.world().await;
    for method in ["GET", "POST"] {
        let (mut visitor, mut origin, _) = world.begin(method, "/", "Connection: close\r\n").await;
        origin.send(HINTS).await;
        is_hints(&visitor.head().await);
        visitor.quiet().await;
        origin.send(CLOSING).await;
        assert_eq!(visitor.message().await.1, "ok");
    }
}

pub(crate) async fn several_in_order(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    for (number, status) in [102, 103, 102, 199, 103].into_iter().enumerate() {
        origin.send(format!("HTTP/1.1 {status} x\r\nX-Number: {number}\r\n\r\n")).await;
        let head = visitor.head().await;
        assert_eq!((head.status(), head.get("x-number")), (status, Some(&*number.to_string())));
    }
    answers(&mut visitor, &mut origin).await;
    // And that was all of it.
    visitor.send(head("GET", "/next", "")).await;
    assert_eq!(origin.head().await.first, "GET /next HTTP/1.1");
    answers(&mut visitor, &mut origin).await;
}

pub(crate) async fn hints_and_answer_at_once(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    for _ in 0..3 {
        origin.send(format!("{HINTS}HTTP/1.1 102 x\r\n\r\n{OK}")).await;
        is_hints(&visitor.head().await);
        assert_eq!(visitor.head().await.status(), 102);
        assert_eq!(visitor.message().await.1, "ok");
        visitor.send(head("GET", "/next", "")).await;
        assert_eq!(origin.head().await.first, "GET /next HTTP/1.1");
    }
    answers(&mut visitor, &mut origin).await;
}

pub(crate) async fn hints_while_an_upload_runs(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("POST", "/", "Transfer-Encoding: chunked\r\n").await;
    visitor.send_chunk("one").await;
    assert_eq!(origin.chunk().await, "one");
    origin.send(HINTS).await;
    is_hints(&visitor.head().await);
    visitor.send_chunk("two").await;
    assert_eq!(origin.chunk().await, "two");
    visitor.send("0\r\n\r\n").await;
    assert_eq!(origin.chunk().await, "");
    origin.trailers().await;
    answers(&mut visitor, &mut origin).await;
}

pub(crate) async fn hints_for_an_http2_visitor(on: On) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    let (mut answering, _) = visitor.begin(request("GET", "/").body(()).unwrap(), true).await;
    let (mut origin, _) = at_origin(&world).await;
    origin.send(HINTS).await;
    let head = answering.interim().await;
    assert_eq!(head.status(), 103);
    assert_eq!(head.headers().get_all("link").iter().collect::<Vec<_>>(), LINKS);
    assert_eq!(head.headers().len(), 2, "{head:?}");
    origin.send(format!("HTTP/1.1 102 x\r\n\r\n{OK}")).await;
    assert_eq!(answering.interim().await.status(), 102);
    assert_eq!(answering.whole().await.unwrap().body, "ok");
}

pub(crate) async fn hints_behind_a_pipelined_answer(on: On) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    visitor.send(format!("{}{}", head("GET", "/1", ""), head("GET", "/2", ""))).await;
    let (mut origin, first) = at_origin(&world).await;
    assert_eq!(first.first, "GET /1 HTTP/1.1");
    origin.send(OK).await;
    assert_eq!(origin.head().await.first, "GET /2 HTTP/1.1");
    origin.send(format!("{HINTS}{OK}")).await;
    assert_eq!(visitor.message().await.1, "ok");
    is_hints(&visitor.head().await);
    assert_eq!(visitor.message().await.1, "ok");
}

pub(crate) async fn http10_gets_no_interim_response(on: On) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    visitor.send(format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", host())).await;
    let (mut origin, _) = at_origin(&world).await;
    origin.send(format!("{HINTS}{OK}")).await;
    let head = visitor.head().await;
    assert_eq!((head.status(), head.get("link")), (200, None));
    assert_eq!(visitor.rest().await, "ok");
}

pub(crate) async fn an_unsolicited_100_is_dropped(on: On) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    visitor.send(head("POST", "/", "Content-Length: 2\r\n") + "hi").await;
    let (mut origin, got) = at_origin(&world).await;
    assert_eq!(origin.body(&got).await, "hi");
    origin.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    answers(&mut visitor, &mut origin).await;
}

pub(crate) async fn an_unsolicited_101_becomes_502(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "Connection: close\r\n").await;
    origin
        .send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
        .await;
    assert_eq!(visitor.head().await.status(), 502);
    world.still_works().await;
}

pub(crate) async fn endless_interim_responses_become_502(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) =
        world.begin("POST", "/", "Connection: close\r\nContent-Length: 0\r\n").await;
    let flood = "HTTP/1.1 102 x\r\n\r\n".repeat(defaults::INTERIM + 1);
    origin.send(format!("{flood}{OK}")).await;
    for _ in 0..=defaults::INTERIM {
        match visitor.head().await.status() {
            102 => {}
            status => {
                assert_eq!(status, 502);
                return world.still_works().await;
            }
        }
    }
    panic!("every interim response was forwarded");
}

const EXPECT: &str = "Expect: 100-continue\r\nContent-Length: 5\r\n";

pub(crate) async fn continue_comes_from_the_origin(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, got) = world.begin("POST", "/", EXPECT).await;
    assert_eq!(got.get("expect"), Some("100-continue"));
    visitor.quiet().await;
    origin.send(HINTS).await;
    is_hints(&visitor.head().await);
    origin.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(visitor.head().await.first, "HTTP/1.1 100 Continue");
    visitor.send("hello").await;
    assert_eq!(origin.exact(5).await, "hello");
    answers(&mut visitor, &mut origin).await;
}

pub(crate) async fn continue_for_an_http2_visitor(on: On) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    let asked = request("POST", "/").header("expect", "100-continue").header("content-length", "5");
    let (mut answering, mut stream) = visitor.begin(asked.body(()).unwrap(), false).await;
    let (mut origin, got) = at_origin(&world).await;
    assert_eq!(got.get("expect"), Some("100-continue"));
    origin.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(answering.interim().await.status(), 100);
    stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
    assert_eq!(origin.exact(5).await, "hello");
    origin.send(OK).await;
    assert_eq!(answering.whole().await.unwrap().body, "ok");
}

pub(crate) async fn refused_before_the_body(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("POST", "/", EXPECT).await;
    origin.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await;
    let (answer, body) = visitor.message().await;
    assert_eq!((answer.status(), &*body), (417, "no"));
    origin.closed().await;
    world.still_works().await;
}

/// How much sooner than [`defaults::ORIGIN_CONTINUE`] a body arrives that its visitor sends without a 100.
fn is_sent_at_once(since: Instant) -> bool {
    since.elapsed() < defaults::ORIGIN_CONTINUE / 2
}

pub(crate) async fn an_unknown_expectation(on: On) {
    let world = on.world().await;
    for (fields, body) in
        [("Expect: 200-maybe\r\nContent-Length: 2\r\n", "hi"), ("Expect: 200-maybe\r\n", "")]
    {
        let ((got, sent), _) = exchange(&world, head("POST", "/", fields) + body, CLOSING).await;
        assert_eq!((got.get("expect"), &*sent), (Some("200-maybe"), body.as_bytes()));
    }
}

pub(crate) async fn a_body_without_continue(on: On) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    visitor.send(head("POST", "/", EXPECT)).await;
    let answered_by_relay = on.is_whole();
    if answered_by_relay {
        assert_eq!(visitor.head().await.status(), 100);
        visitor.send("hello").await;
    }
    let (mut origin, got) = at_origin(&world).await;
    // The origin never sends a 100, and after a while the visitor waits no longer.
    let since = Instant::now();
    if !answered_by_relay {
        visitor.send("hello").await;
    }
    assert_eq!(origin.body(&got).await, "hello");
    assert!(is_sent_at_once(since), "{:?}", since.elapsed());
    origin.send(OK).await;
    let mut answer = visitor.head().await;
    // nginx sends a 100 too.
    if answer.status() == 100 {
        answer = visitor.head().await;
    }
    assert_eq!((answer.status(), visitor.body(&answer).await.as_ref()), (200, &b"ok"[..]));
}

pub(crate) async fn a_body_of_an_http2_visitor_without_continue(on: On) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    let upload = request("POST", "/").header("expect", "100-continue").header("content-length", "5");
    let (answering, mut stream) = visitor.begin(upload.body(()).unwrap(), false).await;
    let mut send = || stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
    if on.is_whole() {
        send();
    }
    let (mut origin, got) = at_origin(&world).await;
    let since = Instant::now();
    if !on.is_whole() {
        send();
    }
    assert_eq!(origin.body(&got).await, "hello");
    assert!(is_sent_at_once(since), "{:?}", since.elapsed());
    origin.send(OK).await;
    assert_eq!(answering.whole().await.unwrap().body, "ok");
}
