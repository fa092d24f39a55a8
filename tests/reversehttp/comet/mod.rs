//! Comet as its agents meet it: JSON on a socket, in and out.

mod agent;
mod hostile;
mod messages;
mod sessions;

use serde_json::{Value, json};

use super::support::{Answer, Bench, Raw};

/// What a poll finds when there is nothing.
const NOTHING: &str = "{}";

/// An agent that is a socket and a JSON parser.
pub(crate) struct Peer<'a> {
    bench: &'a Bench,
    query: String,
    fields: String,
}

impl<'a> Peer<'a> {
    /// An agent of the name `demo`, not yet there.
    pub(crate) fn new(bench: &'a Bench) -> Self {
        Self::of(bench, "name=demo", &bench.token)
    }

    pub(crate) fn of(bench: &'a Bench, query: &str, token: &str) -> Self {
        Self { bench, query: query.into(), fields: format!("Authorization: Bearer {token}\r\n") }
    }

    /// An agent whose session stands, so that visitors find it.
    pub(crate) async fn begun(bench: &'a Bench) -> Self {
        let peer = Self::new(bench);
        let begun = peer.post("Prefer: wait=0\r\n", "").await;
        assert_eq!((begun.status, &*begun.body), (200, NOTHING), "{begun:?}");
        peer
    }

    pub(crate) async fn request(&self, method: &str, fields: &str, body: &str) -> Answer {
        let target = format!("/reversehttp/_comet?{}", self.query);
        self.bench.request(method, &target, &format!("{}{fields}", self.fields), body).await
    }

    pub(crate) async fn post(&self, fields: &str, body: &str) -> Answer {
        self.request("POST", fields, body).await
    }

    /// A poll that brings a request.
    pub(crate) async fn poll(&self) -> Value {
        let polled = self.post("", "").await;
        assert_eq!((polled.status, polled.field("Content-Type")), (200, "application/json"), "{polled:?}");
        serde_json::from_str(&polled.body).unwrap()
    }

    /// A poll that is on its way, on a connection of its own.
    pub(crate) async fn polling(&self, fields: &str) -> Raw {
        let mut raw = self.bench.open().await;
        let head = format!("POST /reversehttp/_comet?{} HTTP/1.1\r\nHost: relay.test\r\n", self.query);
        raw.send(&format!("{head}{}{fields}Content-Length: 0\r\n\r\n", self.fields)).await;
        raw
    }

    /// Brings an answer, and does not poll.
    pub(crate) async fn answer(&self, answer: &Value) -> Answer {
        self.post("Prefer: wait=0\r\n", &answer.to_string()).await
    }

    /// Answers a request with 200 and this body.
    pub(crate) async fn ok(&self, request: &Value, body: &str) -> Answer {
        self.answer(&response(request, body)).await
    }
}

/// The answer 200 to a request.
pub(crate) fn response(request: &Value, body: &str) -> Value {
    json!({
        "message-id": request["message-id"], "http-version": "PTTH/0.9", "status": 200, "reason": "OK",
        "headers": [["Content-type", "text/plain"]], "body": body
    })
}
