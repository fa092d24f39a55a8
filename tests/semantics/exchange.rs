//! Whole exchanges, and how they are compared.

use bytes::Bytes;

use crate::support::{Head, Wire};
use crate::world::World;
pub(crate) use crate::world::host;

/// What is said of the way, and what belongs to one hop; each has cases of its own.
const OURS: [&str; 13] = [
    "host",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "via",
    "date",
    "server",
    "connection",
    "content-length",
    "transfer-encoding",
    "keep-alive",
];

/// An answer with nothing special.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The same, from an origin that closes: the next request comes on a fresh connection.
pub(crate) const CLOSING: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

/// A request head with these further lines, each with its end.
pub(crate) fn head(method: &str, target: &str, rest: &str) -> String {
    World::head(method, target, rest)
}

/// The fields of a head that its sender wrote for the other end: names folded and sorted, the order within each kept.
pub(crate) fn own_fields(head: &Head) -> Vec<(String, String)> {
    let fields = head.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    let mut fields: Vec<_> = fields.filter(|(name, _)| !OURS.contains(&&**name)).collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// The same of the lines that were sent.
pub(crate) fn lines(lines: &str) -> Vec<(String, String)> {
    own_fields(&Head::parse(format!("x\r\n{lines}").trim_end_matches("\r\n")))
}

/// Sends a whole request and answers it; returns what the origin got and what the visitor got.
pub(crate) async fn exchange(
    world: &World,
    request: impl AsRef<[u8]>,
    answer: impl AsRef<[u8]>,
) -> ((Head, Bytes), (Head, Bytes)) {
    let mut visitor = world.relay.visitor().await;
    visitor.send(request).await;
    let (mut origin, head) = at_origin_unless_answered(world, &mut visitor).await;
    let body = origin.body(&head).await;
    origin.send(answer).await;
    let answer = visitor.head().await;
    let answered = if head.first.starts_with("HEAD ") { Bytes::new() } else { visitor.body(&answer).await };
    ((head, body), (answer, answered))
}

/// The next request at a fresh connection of the origin.
pub(crate) async fn at_origin(world: &World) -> (Wire, Head) {
    let mut origin = world.origin.accept().await;
    let head = origin.head().await;
    (origin, head)
}

/// The same, unless the visitor has an answer before.
pub(crate) async fn at_origin_unless_answered(world: &World, visitor: &mut Wire) -> (Wire, Head) {
    tokio::select! {
        at_origin = at_origin(world) => at_origin,
        answer = visitor.head() => panic!("the origin got no request: {}", answer.first),
    }
}

/// The answer to a request that reaches nobody, whole.
pub(crate) async fn refusal(world: &World, visitor: &mut Wire) -> (Head, String) {
    tokio::select! {
        answer = visitor.message() => answer,
        (_, head) = at_origin(world) => panic!("the origin got a request: {}", head.first),
    }
}

/// The answer to a request that reaches nobody, or none.
pub(crate) async fn refused(world: &World, request: impl AsRef<[u8]>) -> Option<u16> {
    let mut visitor = world.relay.visitor().await;
    visitor.send(request).await;
    tokio::select! {
        answer = visitor.answer_status() => answer,
        (_, head) = at_origin(world) => panic!("the origin got a request: {}", head.first),
    }
}
