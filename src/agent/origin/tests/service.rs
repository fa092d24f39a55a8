use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::extract::WebSocketUpgrade;
use axum::extract::ws::Message;
use axum::routing::{get as on_get, post};
use futures_util::{SinkExt, StreamExt};
use tower_service::Service;

use super::*;
use crate::agent::origin::tower;

/// A service that panics when it is called before it is ready.
#[derive(Clone)]
struct Careful {
    ready: bool,
    fails: bool,
}

impl Service<Request> for Careful {
    type Response = http::Response<http_body_util::Full<bytes::Bytes>>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if !std::mem::replace(&mut self.ready, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        assert!(self.ready, "called before it was ready");
        std::future::ready(match self.fails {
            true => Err(std::io::Error::other("the password is hunter2")),
            false => Ok(http::Response::new("fine".into())),
        })
    }
}

#[tokio::test]
async fn a_service_is_polled_until_it_is_ready() {
    let handler = tower(Careful { ready: false, fails: false });
    for _ in 0..2 {
        assert_eq!(text(within(handler.answer(get("/"))).await).await, "fine");
    }
}

#[tokio::test]
async fn a_service_error_becomes_a_500_without_its_text() {
    let response = within(tower(Careful { ready: false, fails: true }).answer(get("/"))).await;
    assert_eq!(response.status(), 500);
    assert!(!text(response).await.contains("hunter2"));
}

fn router() -> axum::Router {
    axum::Router::new()
        .route("/", on_get(|| async { "hello" }))
        .route("/echo", post(|body: axum::body::Bytes| async { body }))
        .route(
            "/ws",
            on_get(|upgrade: WebSocketUpgrade| async {
                upgrade.on_upgrade(|mut socket| async move {
                    while let Some(Ok(Message::Text(text))) = socket.recv().await {
                        let _ = socket.send(Message::Text(format!("axum: {text}").into())).await;
                    }
                })
            }),
        )
}

#[tokio::test]
async fn an_axum_router_is_an_origin() {
    let handler = Arc::new(tower(router()));
    assert_eq!(text(within(handler.answer(get("/"))).await).await, "hello");
    assert_eq!(within(handler.answer(get("/none"))).await.status(), 404);
    let request = http::Request::post("/echo").body(Body::full("hi")).unwrap();
    assert_eq!(text(within(handler.answer(request)).await).await, "hi");
}

#[tokio::test]
async fn a_websocket_of_axum_works_through_the_handler() {
    let visitor = visitor(Arc::new(tower(router())));
    let (mut socket, _) = within(tokio_tungstenite::client_async("ws://a.test/ws", visitor.0)).await.unwrap();
    within(socket.send("hi".into())).await.unwrap();
    let received = within(socket.next()).await.unwrap().unwrap();
    assert_eq!(received.into_text().unwrap().as_str(), "axum: hi");
}

#[tokio::test]
async fn a_plain_tower_service_is_an_origin() {
    #[derive(Clone)]
    struct Plain;
    impl Service<Request> for Plain {
        type Response = Response;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response, Infallible>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, request: Request) -> Self::Future {
            std::future::ready(Ok(Response::new(request.into_body())))
        }
    }
    let request = http::Request::post("/").header("host", "shop.test").body(Body::full("hi")).unwrap();
    assert_eq!(text(within(tower(Plain).answer(request)).await).await, "hi");
}
