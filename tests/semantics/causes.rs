//! The text of an error names the cause, and repeats nothing of the message.

use crate::exchange::{at_origin, head, host, refusal};
use crate::support::Wire;
use crate::world::{Before, FRONT, On, World};

/// A value that no text may repeat.
const SECRET: &str = "s3cret";

/// That an answer has this status, and a text that names the cause.
fn names(answer: &(crate::support::Head, String), status: u16, cause: &str, what: &str) {
    let (head, body) = answer;
    assert_eq!(head.status(), status, "{what:.80}: {body}");
    assert!(body.contains(cause), "{what:.80}: {cause:?} is missing in {body}");
    assert!(
        !body.contains(SECRET) && !body.contains("127.0.0.") && !body.contains("::1"),
        "{what:.80}: {body}"
    );
}

/// Each kind of malformed request: the bytes, the status and the cause.
fn requests() -> Vec<(String, u16, &'static str)> {
    let get = |fields: &str| head("GET", &format!("/{SECRET}"), fields);
    let post = |fields: &str, body: &str| head("POST", "/", fields) + body;
    let line = |line: &str| format!("{line}\r\nHost: {}\r\n\r\n", host());
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: {SECRET}\r\n")).collect::<String>();
    let host_is = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    vec![
        (line("GET  / HTTP/1.1"), 400, "first line of the request is malformed"),
        (line("G(T / HTTP/1.1"), 400, "first line of the request is malformed"),
        (line("GET /"), 400, "first line of the request is malformed"),
        (line("GET / HTTP/1.2"), 400, "neither HTTP/1.0 nor HTTP/1.1"),
        (line("GET /a<b HTTP/1.1"), 400, "must be percent-encoded"),
        (line("GET /a#b HTTP/1.1"), 400, "must be percent-encoded"),
        (line("GET * HTTP/1.1"), 400, "is for OPTIONS requests only"),
        (line(&format!("GET /{} HTTP/1.1", "a".repeat(65_534))), 414, "longer than 65,534 bytes"),
        (get("X-A: b\r\n s3cret\r\n"), 400, "folded over several lines"),
        (get("X-A : s3cret\r\n"), 400, "space before the colon"),
        (get("s3cret\r\n"), 400, "has no colon"),
        (get(": s3cret\r\n"), 400, "field name is empty or has a byte"),
        (get("X(A: s3cret\r\n"), 400, "field name is empty or has a byte"),
        (get("X-A: b\rX-B: s3cret\r\n"), 400, "CR without an LF"),
        (get("X-A: s3cret\0\r\n"), 400, "control character"),
        (get("X-A: s3cret\x7f\r\n"), 400, "control character"),
        (get(&many(600)), 431, "more than 512 header fields"),
        (get(&format!("X-A: {}\r\n", SECRET.repeat(20_000))), 431, "larger than 72 KiB"),
        (post("Content-Length: x\r\n", ""), 400, "Content-Length is not a valid number"),
        (post("Content-Length: -1\r\n", ""), 400, "Content-Length is not a valid number"),
        (post("Content-Length: 99999999999999999999\r\n", ""), 400, "Content-Length is not a valid number"),
        (post("Content-Length: 1\r\nContent-Length: 2\r\n", "ab"), 400, "Content-Length values that differ"),
        (post("Content-Length: 1, 2\r\n", "ab"), 400, "Content-Length values that differ"),
        (
            post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            400,
            "both Content-Length and Transfer-Encoding",
        ),
        (post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400, "not exactly \\\"chunked\\\""),
        (
            post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            400,
            "which HTTP/1.0 does not have",
        ),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, "names no host"),
        (get("Host: s3cret.test\r\n"), 400, "more than one host"),
        (host_is("s3cret@a.test"), 400, "host of the request is malformed"),
        (host_is("a.test:b"), 400, "host of the request is malformed"),
        (line(&format!("GET https://{}/ HTTP/1.1", host())), 400, "https is for connections with TLS"),
    ]
}

/// Each kind of malformed body.
fn bodies() -> Vec<(String, u16, &'static str)> {
    let trailers: String = (0..200).map(|n| format!("X-{n}: {SECRET}\r\n")).collect();
    vec![
        ("x\r\ns3cret".into(), 400, "chunked coding of its body is malformed"),
        ("3\r\nabcd\r\n0\r\n\r\n".into(), 400, "chunked coding of its body is malformed"),
        (format!("0\r\n{trailers}\r\n"), 431, "more than 100 trailer fields"),
    ]
}

pub(crate) async fn malformed_requests(on: On) {
    let world = on.world().await;
    for (request, status, cause) in requests() {
        let mut visitor = world.relay.visitor().await;
        visitor.send(&request).await;
        names(&refusal(&world, &mut visitor).await, status, cause, &request);
    }
    for (body, status, cause) in bodies() {
        let mut visitor = world.relay.visitor().await;
        visitor.send(head("POST", "/", "Transfer-Encoding: chunked\r\n") + &body).await;
        // The head of the request may reach the origin.
        names(&visitor.message().await, status, cause, &body);
    }
}

pub(crate) async fn unclear_senders(on: On) {
    let world = on.world_behind(Before::Proxy).await;
    for (fields, cause) in [
        ("Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 192.0.2.7\r\n", "name different addresses"),
        ("Forwarded: for=\"1.2.3.4, for=192.0.2.7\r\n", "Forwarded is malformed"),
    ] {
        let mut visitor: Wire = world.relay.visitor_from(FRONT).await;
        visitor.send(head("GET", "/", fields)).await;
        names(&refusal(&world, &mut visitor).await, 400, cause, fields);
    }
}

/// Each kind of malformed answer of an origin, and the cause.
fn answers() -> Vec<(String, &'static str)> {
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: {SECRET}\r\n")).collect::<String>();
    vec![
        ("s3cret\r\n\r\n".into(), "first line is malformed"),
        ("HTTP/1.1 200 O\rK\r\n\r\n".into(), "first line is malformed"),
        ("HTTP/1.2 200 OK\r\n\r\n".into(), "neither HTTP/1.0 nor HTTP/1.1"),
        ("HTTP/1.1 099 OK\r\n\r\n".into(), "not a number from 100 to 999"),
        ("HTTP/1.1 1000 OK\r\n\r\n".into(), "not a number from 100 to 999"),
        (ok("X-A: b\r\n s3cret\r\n"), "folded over several lines"),
        (ok("s3cret\r\n"), "has no colon"),
        (ok("X(A: s3cret\r\n"), "field name is empty or has a byte"),
        (ok("X-A: b\rX-B: s3cret\r\n"), "CR without an LF"),
        (ok("X-A: s3cret\0\r\n"), "control character"),
        (ok(&many(600)), "more than 512 fields"),
        (ok(&format!("X-A: {}\r\n", SECRET.repeat(200_000))), "the head has more than"),
        (ok("Content-Length: s3cret\r\n"), "Content-Length is not a valid number"),
        (ok("Content-Length: 1\r\nContent-Length: 2\r\n"), "Content-Length values that differ"),
        (
            ok("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
            "both Content-Length and Transfer-Encoding",
        ),
        (ok("Transfer-Encoding: gzip, chunked\r\n"), "not exactly \\\"chunked\\\""),
        (
            ok("Transfer-Encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            "which HTTP/1.0 does not have",
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: s3cret\r\n\r\n".into(), "switche"),
        (String::new(), "closed the connection without an answer"),
    ]
}

pub(crate) async fn malformed_answers(on: On) {
    let world: World = on.world().await;
    for (answer, cause) in answers() {
        let mut visitor = world.relay.visitor().await;
        // A POST is not repeated.
        visitor.send(head("POST", "/", "Content-Length: 0\r\n")).await;
        let (mut origin, _) = at_origin(&world).await;
        let _ = origin.try_send(&answer).await;
        drop(origin);
        names(&visitor.message().await, 502, cause, &answer);
    }
}
