//! Where a message ends.

use crate::exchange::{CLOSING, OK, at_origin, exchange, head, host, refusal, refused};
use crate::support::Wire;
use crate::visitor::{Http2, request};
use crate::world::On;

pub(crate) async fn chunks(on: On) {
    let world = on.world().await;
    let body = "1;name=value\r\na\r\n0010\r\n0123456789abcdef\r\nA\r\n0123456789\r\n0\r\n\r\n";
    let request = head("POST", "/", "Transfer-Encoding: chunked\r\n") + body;
    let chunks = "1;x=\"y\"\r\na\r\n002\r\nbc\r\n0\r\n\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    let ((_, body), (_, answered)) = exchange(&world, request, answer).await;
    assert_eq!((&body[..], &answered[..]), (&b"a0123456789abcdef0123456789"[..], &b"abc"[..]));
}

pub(crate) async fn chunks_for_an_http2_visitor(on: On) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    let (answering, _) = visitor.begin(request("GET", "/").body(()).unwrap(), true).await;
    let (mut origin, _) = at_origin(&world).await;
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    origin.send("0\r\n\r\n").await;
    assert_eq!(answering.whole().await.unwrap().body, "abc");
}

pub(crate) async fn content_length(on: On) {
    let world = on.world().await;
    let request = head("POST", "/", "Content-Length: 5\r\n") + "hello";
    let ((got, body), (answer, answered)) = exchange(&world, request, OK).await;
    assert_eq!((got.get("content-length"), got.get("transfer-encoding")), (Some("5"), None));
    assert_eq!((answer.get("content-length"), answer.get("transfer-encoding")), (Some("2"), None));
    assert_eq!((&body[..], &answered[..]), (&b"hello"[..], &b"ok"[..]));
}

pub(crate) async fn length_zero(on: On) {
    let world = on.world().await;
    for method in ["POST", "PUT", "PATCH"] {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let request = head(method, "/", "Content-Length: 0\r\n");
        let ((got, _), (answer, _)) = exchange(&world, request, answer).await;
        assert_eq!((got.get("content-length"), got.get("transfer-encoding")), (Some("0"), None));
        assert_eq!((answer.get("content-length"), answer.get("transfer-encoding")), (Some("0"), None));
    }
}

pub(crate) async fn posts_without_a_body(on: On) {
    let world = on.world().await;
    for method in ["POST", "PUT", "PATCH"] {
        let ((got, _), _) = exchange(&world, head(method, "/", ""), CLOSING).await;
        assert_eq!((got.get("content-length"), got.get("transfer-encoding")), (Some("0"), None), "{method}");
        let mut visitor = Http2::open(&world).await;
        let (mut answering, _) = visitor.begin(request(method, "/").body(()).unwrap(), true).await;
        let (mut origin, got) = answering.at_origin(&world).await;
        assert_eq!((got.get("content-length"), got.get("transfer-encoding")), (Some("0"), None), "{method}");
        origin.send(CLOSING).await;
        assert_eq!(answering.whole().await.unwrap().body, "ok");
    }
}

pub(crate) async fn no_body(on: On) {
    let world = on.world().await;
    for method in ["GET", "DELETE", "OPTIONS"] {
        let ((got, _), _) = exchange(&world, head(method, "/", ""), CLOSING).await;
        assert_eq!((got.get("content-length"), got.get("transfer-encoding")), (None, None), "{method}");
    }
}

pub(crate) async fn body_of_a_get(on: On) {
    let world = on.world().await;
    let request = head("GET", "/", "Content-Length: 5\r\n") + "hello";
    let ((_, body), _) = exchange(&world, request, CLOSING).await;
    assert_eq!(body, "hello");
    let request = head("GET", "/", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n";
    let ((_, body), _) = exchange(&world, request, OK).await;
    assert_eq!(body, "hello");
}

/// The answer has no body: the next one on the connection is that of the next request.
async fn the_next_request_passes(visitor: &mut Wire, origin: &mut Wire) {
    visitor.send(head("GET", "/next", "")).await;
    assert_eq!(origin.head().await.first, "GET /next HTTP/1.1");
    origin.send(OK).await;
    assert_eq!(visitor.message().await.1, "ok");
}

pub(crate) async fn head_has_the_length_of_get(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("HEAD", "/", "").await;
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4711\r\nETag: \"v\"\r\n\r\n").await;
    let answer = visitor.head().await;
    assert_eq!((answer.get("content-length"), answer.get("etag")), (Some("4711"), Some("\"v\"")));
    the_next_request_passes(&mut visitor, &mut origin).await;
}

pub(crate) async fn status_204(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("DELETE", "/", "").await;
    origin.send("HTTP/1.1 204 No Content\r\nETag: \"v\"\r\n\r\n").await;
    let answer = visitor.head().await;
    assert_eq!((answer.status(), answer.get("etag")), (204, Some("\"v\"")));
    assert_eq!((answer.get("content-length"), answer.get("transfer-encoding")), (None, None));
    the_next_request_passes(&mut visitor, &mut origin).await;
}

pub(crate) async fn status_205(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("POST", "/", "Content-Length: 0\r\n").await;
    origin.send("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n").await;
    let answer = visitor.head().await;
    assert_eq!((answer.status(), answer.get("content-length")), (205, Some("0")));
    the_next_request_passes(&mut visitor, &mut origin).await;
}

pub(crate) async fn status_304(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, got) = world.begin("GET", "/", "If-None-Match: \"v\"\r\n").await;
    assert_eq!(got.get("if-none-match"), Some("\"v\""));
    origin.send("HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\nVary: Accept\r\n\r\n").await;
    let answer = visitor.head().await;
    assert_eq!(
        (answer.status(), answer.get("etag"), answer.get("vary")),
        (304, Some("\"v\""), Some("Accept"))
    );
    assert_eq!(answer.get("transfer-encoding"), None);
    the_next_request_passes(&mut visitor, &mut origin).await;
}

pub(crate) async fn an_unregistered_status(on: On) {
    let world = on.world().await;
    for status in [218, 299, 399, 418, 451, 499, 599, 600, 799, 999] {
        let answer = format!("HTTP/1.1 {status} Words\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        let (_, (answer, body)) = exchange(&world, head("GET", "/", ""), answer).await;
        assert_eq!((answer.status(), &body[..]), (status, &b"ok"[..]));
    }
}

pub(crate) async fn an_answer_ends_with_its_connection(on: On) {
    let world = on.world().await;
    for version in ["1.0", "1.1"] {
        let (mut visitor, mut origin, _) = world.begin("GET", "/", "Connection: close\r\n").await;
        origin.send(format!("HTTP/{version} 200 OK\r\n\r\nuntil the end")).await;
        drop(origin);
        let (_, body) = visitor.message().await;
        assert_eq!(body, "until the end");
    }
}

pub(crate) async fn a_truncated_answer_is_not_complete(on: On) {
    let world = on.world().await;
    for framing in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let (mut visitor, mut origin, _) = world.begin("GET", "/", "Connection: close\r\n").await;
        origin.send(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
        drop(origin);
        let all = visitor.rest().await;
        let text = String::from_utf8_lossy(&all);
        // An error in its place, or what cannot be taken for the whole.
        let whole = text.starts_with("HTTP/1.1 200") && text.ends_with("0\r\n\r\n");
        let short = text.starts_with("HTTP/1.1 200") && text.contains("ontent-length: 4\r\n");
        assert!(!whole && !short, "{text}");
    }
}

pub(crate) async fn length_and_chunked(on: On) {
    let world = on.world().await;
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    let smuggled = format!("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {}\r\n\r\n", host());
    let mut visitor = world.relay.visitor().await;
    visitor.send(format!("{}{smuggled}", head("POST", "/", both))).await;
    tokio::select! {
        answer = visitor.answer_status() => assert_eq!(answer, Some(400)),
        (mut origin, got) = at_origin(&world) => {
            // A carrier of whole messages says the length that the chunks had.
            assert!(matches!(got.get("content-length"), None | Some("0")), "{got:?}");
            assert_eq!(origin.body(&got).await, "");
            origin.quiet().await;
        }
    }
}

pub(crate) async fn contradictory_lengths(on: On) {
    let world = on.world().await;
    for lengths in
        ["Content-Length: 4\r\nContent-Length: 5\r\n", "Content-Length: 4, 5\r\n", "Content-Length: +4\r\n"]
    {
        assert_eq!(refused(&world, head("POST", "/", lengths) + "abcde").await, Some(400), "{lengths}");
    }
}

pub(crate) async fn codings_other_than_chunked(on: On) {
    let world = on.world().await;
    for coding in ["xchunked", "chunked, gzip", "identity", "gzip"] {
        let request = head("POST", "/", &format!("Transfer-Encoding: {coding}\r\n")) + "0\r\n\r\n";
        let status = refused(&world, request).await;
        assert!(matches!(status, Some(400 | 501)), "{coding}: {status:?}");
    }
}

pub(crate) async fn equal_lengths(on: On) {
    let world = on.world().await;
    for lengths in ["Content-Length: 2\r\nContent-Length: 2\r\n", "Content-Length: 2, 2\r\n"] {
        let request = head("POST", "/", lengths) + "hi";
        let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{lengths}\r\nok");
        let ((got, sent), (_, answered)) = exchange(&world, request, answer).await;
        assert_eq!(
            (got.get("content-length"), &sent[..], &answered[..]),
            (Some("2"), &b"hi"[..], &b"ok"[..])
        );
    }
}

pub(crate) async fn reason_phrases(on: On) {
    let world = on.world().await;
    for (status, phrase) in
        [(404, "Introuvable"), (499, "Gone fishing, back at 5"), (200, ""), (404, "Not Found")]
    {
        let answer = format!(
            "HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nPTTH-Reason: Forged\r\nContent-Length: 2\r\n\r\nok"
        );
        let (_, (answer, _)) = exchange(&world, head("GET", "/", ""), answer).await;
        assert_eq!(answer.first, format!("HTTP/1.1 {status} {phrase}"));
    }
}

pub(crate) async fn incremental(on: On) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    visitor.send(head("POST", "/", "Incremental: ?1\r\nTransfer-Encoding: chunked\r\n")).await;
    visitor.send_chunk("one").await;
    if on.is_whole() {
        let (answer, body) = refusal(&world, &mut visitor).await;
        assert_eq!(answer.status(), 503, "{body}");
        assert_eq!(answer.get("proxy-status"), Some("ptth-relay; error=incremental_refused"));
        return;
    }
    let (mut origin, got) = at_origin(&world).await;
    assert_eq!(got.get("incremental"), Some("?1"));
    assert_eq!(origin.chunk().await, "one");
}

pub(crate) async fn incremental_answer(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "").await;
    origin.send("HTTP/1.1 200 OK\r\nIncremental: ?1\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    origin.send_chunk("one").await;
    if on.is_whole() {
        let (answer, body) = visitor.message().await;
        assert_eq!(answer.status(), 503, "{body}");
        assert_eq!(answer.get("proxy-status"), Some("ptth-agent; error=incremental_refused"));
        assert!(body.contains("(Incremental)"), "{body}");
        origin.closed().await;
    } else {
        assert_eq!(visitor.head().await.get("incremental"), Some("?1"));
        assert_eq!(visitor.chunk().await, "one");
    }
    // An answer without a body arrives as a whole anyway.
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nIncremental: ?1\r\nContent-Length: 0\r\n\r\n";
    let (_, (answer, _)) = exchange(&world, head("GET", "/", ""), answer).await;
    assert_eq!((answer.status(), answer.get("incremental")), (200, Some("?1")));
}
