//! What a request looks like, and what becomes of an answer.

use serde_json::json;

use super::{NOTHING, Peer, response};
use crate::support::Bench;

#[tokio::test]
async fn an_answer_is_sent_with_the_next_poll() {
    let bench = Bench::start();
    let peer = Peer::begun(&bench).await;
    let visits = async {
        let first = bench.visit("demo", "/demo//a?x=1").await;
        (first, bench.visit("demo", "/2").await)
    };
    let agent = async {
        let polled = peer.post("", "").await;
        assert_eq!((polled.status, polled.field("Content-Type")), (200, "application/json"));
        assert_eq!(polled.link("related"), "/");
        assert_eq!(polled.link_url("related"), format!("http://demo.relay.test:{}/", bench.at.port()));
        let request: serde_json::Value = serde_json::from_str(&polled.body).unwrap();
        let names: Vec<_> = request.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["body", "headers", "http-version", "message-id", "method", "request-uri"]);
        assert_eq!(
            (&request["method"], &request["request-uri"], &request["http-version"], &request["body"]),
            (&json!("GET"), &json!("/demo//a?x=1"), &json!("PTTH/0.9"), &json!(""))
        );
        assert_eq!(request["headers"][0], json!(["Host", "demo.relay.test"]));
        let second = peer.post("", &response(&request, "hello\n").to_string()).await;
        let request: serde_json::Value = serde_json::from_str(&second.body).unwrap();
        assert_eq!(request["request-uri"], "/2");
        assert_eq!(peer.ok(&request, "again").await.body, NOTHING);
    };
    let ((first, second), ()) = tokio::join!(visits, agent);
    assert_eq!((first.status, &*first.body, first.field("Content-Type")), (200, "hello\n", "text/plain"));
    assert_eq!(second.body, "again");
}

#[tokio::test]
async fn a_poll_without_a_request_returns_an_empty_object() {
    let bench = Bench::short_hold();
    let peer = Peer::new(&bench);
    for body in ["", "{}", " { } \n"] {
        let quiet = peer.post("", body).await;
        assert_eq!((quiet.status, &*quiet.body), (200, NOTHING), "{body:?}");
        assert_eq!(quiet.link_url("related"), format!("http://demo.relay.test:{}/", bench.at.port()));
    }
}

#[tokio::test]
async fn bodies_and_fields_cross_byte_for_byte() {
    let bench = Bench::start();
    let peer = Peer::begun(&bench).await;
    let mut visitor = bench.open().await;
    let head = "PUT /up HTTP/1.1\r\nHost: demo.relay.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\
                TE: trailers\r\nConnection: TE\r\nX-Two: b\r\nX-One: 1\r\nX-Two: a\r\nX-Latin: ";
    visitor.send(head).await;
    let rest = b"\xe9\r\n\r\n3\r\na\xff\0\r\n0\r\nX-T: 1\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut visitor.stream, rest).await.unwrap();
    let request = peer.poll().await;
    assert_eq!((&request["body"], &request["body-encoding"]), (&json!("Yf8A"), &json!("base64")));
    let headers = request["headers"].as_array().unwrap();
    let all = |name: &str| headers.iter().filter(|h| h[0] == name).map(|h| h[1].clone()).collect::<Vec<_>>();
    assert_eq!(all("X-Two"), ["b", "a"]);
    assert_eq!(all("X-Latin"), ["\u{e9}"]);
    assert_eq!(all("Content-Length"), ["3"]);
    for gone in ["Transfer-Encoding", "Trailer", "Te", "Connection"] {
        assert!(all(gone).is_empty(), "{request}");
    }
    let mut answer = response(&request, "/wA=");
    answer["body-encoding"] = json!("base64");
    answer["headers"] = json!([["Set-Cookie", "a=1"], ["X-Latin", "\u{ff}"], ["Set-Cookie", "b=2"]]);
    assert_eq!(peer.answer(&answer).await.status, 200);
    while !visitor.read.ends_with(b"\r\n\r\n\xff\0") {
        assert!(visitor.more().await, "{:?}", String::from_utf8_lossy(&visitor.read));
    }
    let head = String::from_utf8_lossy(&visitor.read).into_owned();
    let cookies: Vec<_> = head.lines().filter_map(|l| l.strip_prefix("Set-Cookie: ")).collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert!(visitor.read.windows(12).any(|w| w == b"X-Latin: \xff\r\n"), "{head}");
    assert!(head.contains("Content-Length: 2\r\n"), "{head}");
}

#[tokio::test]
async fn answers_to_head_and_204_and_304_have_no_body() {
    let bench = Bench::start();
    let peer = Peer::begun(&bench).await;
    let mut visitor = bench.open().await;
    for (method, status, length) in
        [("HEAD", 200, "9"), ("GET", 204, ""), ("GET", 304, ""), ("GET", 404, "1")]
    {
        visitor.send(&format!("{method} / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n")).await;
        let request = peer.poll().await;
        let mut answer = response(&request, "x");
        answer["status"] = json!(status);
        answer["headers"] = json!([["Content-Length", "9"], ["Transfer-Encoding", "chunked"]]);
        assert_eq!(peer.answer(&answer).await.status, 200);
        let head = visitor.head().await;
        assert_eq!((head.status, head.field("Content-Length")), (status, length), "{head:?}");
        if status == 404 {
            visitor.until("x").await;
        }
        assert!(visitor.read.is_empty(), "{head:?}");
    }
    // A method that readers expect a body of says that there is none.
    visitor.send("POST / HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: 0\r\n\r\n").await;
    let request = peer.poll().await;
    assert!(request["headers"].as_array().unwrap().contains(&json!(["Content-Length", "0"])), "{request}");
}

#[tokio::test]
async fn upgrades_and_oversized_bodies_are_refused_at_once() {
    let bench = Bench::start();
    let peer = Peer::begun(&bench).await;
    let mut visitor = bench.open().await;
    let upgrade = "GET / HTTP/1.1\r\nHost: demo.relay.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    // The first meets a session that has not been polled yet, the second one that has.
    visitor.send(upgrade).await;
    let poll = peer.polling("").await;
    let refused = visitor.read().await;
    assert_eq!(refused.status, 501, "{refused:?}");
    visitor.send(upgrade).await;
    assert_eq!(visitor.read().await.status, 501);
    let length = ptth::internals::defaults::COMET_MESSAGE + 1;
    let mut visitor = bench.open().await;
    visitor
        .send(&format!("POST / HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: {length}\r\n\r\n"))
        .await;
    assert_eq!(visitor.read().await.status, 413);
    drop(poll);
}

#[tokio::test]
async fn polls_are_served_in_order_and_answers_match_their_requests() {
    let bench = Bench::start();
    let peer = Peer::begun(&bench).await;
    let visits = async {
        tokio::join!(bench.visit("demo", "/1"), bench.visit("demo", "/2"), bench.visit("demo", "/3"))
    };
    let agent = async {
        let polled = tokio::join!(peer.poll(), peer.poll(), peer.poll());
        // In the other order.
        for request in [polled.2, polled.1, polled.0] {
            let body = request["request-uri"].as_str().unwrap()[1..].to_owned();
            assert_eq!(peer.ok(&request, &body).await.status, 200);
        }
    };
    let ((one, two, three), ()) = tokio::join!(visits, agent);
    assert_eq!([one.body, two.body, three.body], ["1", "2", "3"]);
}
