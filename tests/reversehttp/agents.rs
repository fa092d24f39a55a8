//! Our own agent over either transport: what both do alike.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use ptth::internals::domain::{Name, Offer, Wanted};
use ptth::internals::net::dial::DialRoute;
use ptth::transport::{ALL, Call, OpenError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::support::{Bench, STEP};

const BOTH: [&str; 2] = ["reversehttp", "comet"];

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

#[tokio::test]
async fn concurrent_requests_are_all_answered() {
    for transport in BOTH {
        let bench = Bench::start();
        let _serving = bench.serving(transport, hello()).await;
        let answers = futures_util::future::join_all((0..100).map(|_| bench.visit("demo", "/"))).await;
        assert!(answers.iter().all(|answer| answer.body == "hello"), "{transport}: {answers:?}");
    }
}

#[tokio::test]
async fn requests_in_flight_finish_when_the_agent_stops() {
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
async fn a_wrong_token_ends_the_agent() {
    for (transport, status) in BOTH.into_iter().zip(["403", "401"]) {
        let mut bench = Bench::start();
        bench.token = "ptth_000000000000_wrong".into();
        let mut serving = bench.agent(transport, bench.at).serve(hello()).unwrap();
        let refused = tokio::time::timeout(STEP, serving.ended()).await.expect("the agent ends").unwrap_err();
        let told = matches!(&refused, ptth::internals::agent::Fatal::Refused(why) if why.contains(status));
        assert!(told, "{transport}: {refused}");
    }
}

/// What opening a session by a transport comes to at a relay of this URL.
async fn open_session(transport: &str, relay: &str) -> Result<(), OpenError> {
    let side = ALL.iter().find(|known| known.name() == transport).unwrap().agent();
    let tls = ptth::internals::tls::client_config_for_none().unwrap();
    let wanted = vec![Wanted::Name(Name::parse(&"n".repeat(40)).unwrap())];
    let (offer, carriers) =
        (Offer { wanted, ..Offer::default() }, ptth::internals::session::Kind::PREFERRED.to_vec());
    let credentials = ptth::transport::AgentCredentials::new(tls, None);
    let call = Call { relay: relay.parse().unwrap(), credentials, via: DialRoute::Direct, offer, carriers };
    let opened = tokio::time::timeout(STEP, side.open(&call)).await;
    opened.expect("opening succeeds or fails in time").map(drop)
}

#[tokio::test]
async fn the_error_names_a_truncated_registration_answer() {
    for transport in BOTH {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let relay = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = vec![0; 64 << 10];
            assert!(stream.read(&mut read).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{").await.unwrap();
        };
        let (opened, ()) = tokio::join!(open_session(transport, &url), relay);
        let error = opened.unwrap_err().to_string();
        assert!(error.contains("broke off"), "{transport}: {error}");
    }
}

#[tokio::test]
async fn a_too_long_relay_path_is_refused_before_any_request() {
    for transport in ["comet", "ptth10"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let long = "x".repeat(65_500);
        let url = format!("http://{}/{long}", listener.local_addr().unwrap());
        let other = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = vec![0; 64];
            let count = stream.read(&mut read).await.unwrap();
            panic!("{transport}: {:?}", String::from_utf8_lossy(&read[..count]));
        };
        let error = tokio::select! {
            opened = open_session(transport, &url) => opened.unwrap_err(),
            () = other => unreachable!(),
        };
        assert!(error.to_string().contains("the path of the relay's URL"), "{transport}: {error}");
    }
}
