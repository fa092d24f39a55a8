//! An agent that polls with as many requests in hand as it can have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use ptth::internals::defaults;
use tokio::sync::{Notify, mpsc};

use super::support::{Bench, Raw, STEP};

/// Sends the number of a request when its visitor has left.
struct Left(mpsc::UnboundedSender<usize>, usize);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

async fn next(numbers: &mut mpsc::UnboundedReceiver<usize>) -> usize {
    tokio::time::timeout(STEP, numbers.recv()).await.expect("not in time").unwrap()
}

async fn visitor(bench: &Bench, number: usize) -> Raw {
    let mut visitor = bench.open().await;
    visitor.send(&format!("GET /{number} HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n")).await;
    visitor
}

/// Its polls still get through: they cancel a request, and then bring the next. Until then a further visitor gets a 503.
async fn is_full(transport: &str) {
    let bench = Bench::with(|config| config.connections_per_address = config.connections);
    let (arrived_at, mut arrived) = mpsc::unbounded_channel();
    let (left_at, mut left) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let answer = go.clone();
    let app = Router::new().route(
        "/{number}",
        get(async move |Path(number): Path<usize>| {
            let _left = Left(left_at, number);
            let answered = answer.notified();
            let _ = arrived_at.send(number);
            answered.await;
            number.to_string()
        }),
    );
    let _serving = bench.serving(transport, app).await;
    let mut visitors = Vec::new();
    for number in 0..defaults::ENVELOPES {
        visitors.push(visitor(&bench, number).await);
    }
    for _ in 0..defaults::ENVELOPES {
        next(&mut arrived).await;
    }

    let began = Instant::now();
    let refused = bench.visit("demo", "/9999").await;
    let waited = began.elapsed();
    assert_eq!((refused.status, refused.field("Retry-After")), (503, "5"), "{transport}: {refused:?}");
    assert!(refused.body.contains("256 requests in flight"), "{transport}: {}", refused.body);
    let limit = defaults::WAIT_FULL;
    assert!(waited >= limit && waited < limit + Duration::from_secs(4), "{transport}: {waited:?}");

    // The id of the cancelled request arrives in the answer to a poll, and so does the next request.
    drop(visitors.remove(7));
    assert_eq!(next(&mut left).await, 7, "{transport}");
    visitors.push(visitor(&bench, 1_000).await);
    assert_eq!(next(&mut arrived).await, 1_000, "{transport}");

    go.notify_waiters();
    for mut visitor in visitors {
        assert_eq!(visitor.read().await.status, 200, "{transport}");
    }
}

#[tokio::test]
async fn polls_get_through_with_256_requests_in_hand() {
    is_full("reversehttp").await;
}

#[tokio::test]
async fn polls_of_comet_get_through_with_256_requests_in_hand() {
    is_full("comet").await;
}
