//! Plain answers, for what is not about them.

use crate::support::Wire;
use crate::world::World;

/// Answers a request, and sees the answer at the visitor.
pub(crate) async fn answer(origin: &mut Wire, visitor: &mut Wire) {
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(visitor.message().await.1, "ok");
}

/// That the next request crosses on the same two connections.
pub(crate) async fn next_request_passes(mut visitor: Wire, mut origin: Wire) {
    visitor.send(World::head("GET", "/next", "")).await;
    assert_eq!(origin.head().await.first, "GET /next HTTP/1.1");
    answer(&mut origin, &mut visitor).await;
}
