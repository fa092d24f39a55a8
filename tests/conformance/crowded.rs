//! More requests at once than an agent carries: event streams without an end, and a short request beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use ptth::internals::defaults;
use ptth::internals::message::{Body, BoxError};
use ptth::internals::session::{Kind, handler_fn};

use crate::support::{TestRelay, named, serve, within};
use crate::world::{NAME, On, World};

const STREAMS: usize = 300;

/// How many of the streams the agent has in hand.
fn carried(on: &On) -> usize {
    match on.carrier {
        Kind::H1 => defaults::H1_MOST,
        Kind::H2 => STREAMS,
        Kind::Envelope => defaults::ENVELOPES,
    }
}

/// A stream of events without an end.
fn events() -> Response<Body> {
    let first = stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"data: 1\n\n")))]);
    let body = Body::wrap(StreamBody::new(first.chain(stream::pending())));
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

pub(crate) async fn a_request_beside_300_event_streams_is_answered_in_time(on: On) {
    let in_hand = Arc::<AtomicUsize>::default();
    let counted = in_hand.clone();
    let handler = handler_fn(move |request: Request<Body>| {
        let is_stream = request.uri().path() == "/events";
        counted.fetch_add(usize::from(is_stream), Ordering::Relaxed);
        async move { if is_stream { events() } else { Response::new(Body::full("ok")) } }
    });
    let relay = TestRelay::start();
    let _agent = serve(&on.agent(&relay), Arc::new(handler)).await;
    let host = named(NAME);
    // A visitor's connection has at most 200 streams.
    let visitors = [relay.visitor_h2(&host).await, relay.visitor_h2(&host).await];
    let get = |path: &str| Request::get(format!("https://{host}{path}")).body(Body::empty()).unwrap();
    let streams = visitors.iter().flat_map(|visitor| {
        let begin = || visitor.handle.clone().send_request(get("/events"));
        (0..STREAMS / visitors.len()).map(move |_| begin()).collect::<Vec<_>>()
    });
    let mut streams = Box::pin(join_all(streams));
    let all_in_hand = async {
        while in_hand.load(Ordering::Relaxed) < carried(&on) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut streams => {}
        () = within("the streams at the agent", all_in_hand) => {}
    }
    let asked = Instant::now();
    let (head, body) = relay.fetch(&World::head("GET", "/short", "Connection: close\r\n")).await;
    assert!(asked.elapsed() < Duration::from_millis(1_500), "{on}: {:?}", asked.elapsed());
    if on.carrier == Kind::H2 {
        return assert_eq!((head.status(), &*body), (200, "ok"));
    }
    assert_eq!((head.status(), head.get("retry-after")), (503, Some("5")), "{body}");
    assert!(body.contains(&format!(" {} requests in flight", carried(&on))), "{body}");
}
