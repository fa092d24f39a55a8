//! Our own agent over either transport: what both do alike.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::sync::Notify;

use super::support::{Bench, STEP};

const BOTH: [&str; 2] = ["reversehttp", "comet"];

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

#[tokio::test]
async fn many_at_once_are_answered() {
    for transport in BOTH {
        let bench = Bench::start();
        let _serving = bench.serving(transport, hello()).await;
        let answers = futures_util::future::join_all((0..100).map(|_| bench.visit("demo", "/"))).await;
        assert!(answers.iter().all(|answer| answer.body == "hello"), "{transport}: {answers:?}");
    }
}

#[tokio::test]
async fn what_is_in_flight_finishes_when_the_agent_stops() {
    for transport in BOTH {
        let bench = Bench::start();
        let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (enter, wait) = (entered.clone(), go.clone());
        let slow = move || async move {
            enter.notify_one();
            wait.notified().await;
            "done"
        };
        let serving = bench.serving(transport, Router::new().route("/slow", get(slow))).await;
        let stop = async {
            entered.notified().await;
            let stopping = serving.stop(Duration::from_secs(10));
            tokio::pin!(stopping);
            assert!(futures_util::poll!(&mut stopping).is_pending());
            go.notify_one();
            stopping.await
        };
        let (visit, cut) = tokio::join!(bench.visit("demo", "/slow"), stop);
        assert_eq!((&*visit.body, cut), ("done", 0), "{transport}");
        assert_eq!(bench.visit("demo", "/").await.status, 503, "{transport}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_the_end() {
    for (transport, status) in BOTH.into_iter().zip(["403", "401"]) {
        let mut bench = Bench::start();
        bench.token = "ptth_000000000000_wrong".into();
        let mut serving = bench.agent(transport, bench.at).serve(hello()).unwrap();
        let refused = tokio::time::timeout(STEP, serving.ended()).await.expect("it is told").unwrap_err();
        let told = matches!(&refused, ptth::agent::Fatal::Refused(why) if why.contains(status));
        assert!(told, "{transport}: {refused}");
    }
}
