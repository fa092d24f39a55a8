//! The 502 for an invalid answer of an agent names the cause, and repeats nothing of the answer.

use ptth::internals::session::Kind;

use crate::foreign::{Foreign, Stranger};
use crate::frames::{END_HEADERS, END_STREAM, HEADERS, block, frame};
use crate::support::{TestRelay, Wire, named};
use crate::world::On;

const SECRET: &str = "s3cret";

/// Answers as HTTP/1.1, for a flipped connection and for an envelope.
fn messages() -> Vec<(String, &'static str)> {
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    let many: String = (0..600).map(|n| format!("X-{n}: {SECRET}\r\n")).collect();
    vec![
        ("s3cret\r\n\r\n".into(), "first line is malformed"),
        ("HTTP/1.2 200 OK\r\n\r\n".into(), "neither HTTP/1.0 nor HTTP/1.1"),
        ("HTTP/1.1 1000 OK\r\n\r\n".into(), "not a number from 100 to 999"),
        (ok("X-A : s3cret\r\n"), "space before the colon"),
        (ok("X-A: b\r\n s3cret\r\n"), "folded over several lines"),
        (ok("s3cret\r\n"), "has no colon"),
        (ok("X(A: s3cret\r\n"), "field name is empty or has a byte"),
        (ok("X-A: b\rX-B: s3cret\r\n"), "CR without an LF"),
        (ok("X-A: s3cret\0\r\n"), "control character"),
        (ok(&many), "more than 512 fields"),
        (ok(&format!("X-A: {}\r\n", SECRET.repeat(200_000))), "the head has more than"),
        (ok("Content-Length: s3cret\r\n"), "Content-Length is not a valid number"),
        (ok("Content-Length: 1\r\nContent-Length: 2\r\n"), "Content-Length values that differ"),
        (
            ok("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
            "both Content-Length and Transfer-Encoding",
        ),
        (ok("Transfer-Encoding: gzip, chunked\r\n"), "not exactly \\\"chunked\\\""),
    ]
}

/// Answers over HTTP/2. The h2 crate names no cause of its own.
fn heads() -> Vec<(Vec<u8>, &'static str)> {
    vec![
        (block(&[("x-a", SECRET)]), "a missing or unknown pseudo-field"),
        (block(&[(":status", "200"), ("X-A", SECRET)]), "a field name with capital letters"),
        (block(&[(":status", "200"), ("connection", SECRET)]), "a Connection field"),
        (block(&[(":status", "200"), ("x-a", " s3cret")]), "begins or ends with a blank"),
        (block(&[(":status", "101")]), "a 101 that was not requested"),
    ]
}

/// Answers as JSON, without the `message-id`.
fn texts() -> Vec<(String, &'static str)> {
    let with = |members: &str| format!(", \"status\": 200, \"headers\": []{members}}}");
    vec![
        (", \"status\": 200, s3cret".into(), "JSON is malformed"),
        (", \"headers\": [], \"body\": \"s3cret\"}".into(), "no message-id or no status"),
        (", \"status\": 99, \"headers\": []}".into(), "not a number from 200 to 999"),
        (with(", \"http-version\": \"s3cret\""), "neither PTTH/0.9 nor PTTH/1.0"),
        (
            ", \"status\": 200, \"headers\": [[\"X-A\", \"s3cret\\r\\n\"]]}".into(),
            "a byte that no field may have",
        ),
        (with(", \"body\": \"s3cret\", \"body-encoding\": \"base64\""), "body-encoding is not base64"),
    ]
}

pub(crate) async fn invalid_answers_name_their_cause(on: On) {
    match (on.transport, on.carrier) {
        ("comet", _) => {
            for (text, cause) in texts() {
                check(on, Sent::Json(text), cause).await;
            }
        }
        (_, Kind::H2) => {
            for (head, cause) in heads() {
                let head = frame(HEADERS, END_HEADERS | END_STREAM, 1, head);
                check(on, Sent::Bytes(head), cause).await;
            }
        }
        _ => {
            for (message, cause) in messages() {
                check(on, Sent::Bytes(message.into_bytes()), cause).await;
            }
        }
    }
}

enum Sent {
    Bytes(Vec<u8>),
    Json(String),
}

/// A foreign agent sends this answer. The visitor gets a 502 whose text names the cause.
async fn check(on: On, sent: Sent, cause: &str) {
    let relay = TestRelay::start();
    let token = relay.token(&["evil"]);
    let stranger = Stranger::new(on, relay.plain, "evil", token.expose());
    let mut agent = stranger.connect().await.expect("the relay admits the agent");
    let mut visitor = relay.visitor().await;
    // A POST is not repeated.
    visitor.send(format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", named("evil"))).await;
    let polled = agent.request().await;
    let post = |path: &str, kind: &str, body: &[u8]| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: ptth.localhost\r\nAuthorization: Bearer {}\r\nContent-Type: {kind}\r\n\
             Prefer: wait=0\r\nContent-Length: {}\r\n\r\n",
            token.expose(),
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    match (&mut agent, sent) {
        // The relay may close the connection in the middle of the answer.
        (Foreign::H1(wire), Sent::Bytes(bytes)) => drop(wire.try_send(bytes).await),
        (Foreign::H2(frames), Sent::Bytes(bytes)) => drop(frames.send(bytes).await),
        (Foreign::Poll(_, path), sent) => {
            let mut wire = Wire::new(crate::world::connect(relay.plain).await);
            let bytes = match sent {
                Sent::Bytes(bytes) => post(path, "message/http", &bytes),
                Sent::Json(rest) => {
                    let polled = String::from_utf8_lossy(&polled);
                    let id = polled.split("\"message-id\":\"").nth(1).unwrap().split('"').next().unwrap();
                    let text = format!("{{\"message-id\": \"{id}\"{rest}");
                    post(path, "application/json", text.as_bytes())
                }
            };
            let _ = wire.try_send(bytes).await;
        }
        (_, Sent::Json(_)) => panic!("{on} carries no JSON"),
    }
    let (head, body) = visitor.message().await;
    assert_eq!(head.status(), 502, "{cause}: {body}");
    assert_eq!(head.get("proxy-status"), Some("ptth-relay; error=http_protocol_error"));
    assert!(body.contains(cause) && !body.contains(SECRET), "{cause}: {body}");
    assert!(!body.contains("127.0.0.") && !body.contains(token.expose()), "{body}");
}
