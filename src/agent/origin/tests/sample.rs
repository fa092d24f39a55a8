use futures_util::{SinkExt, StreamExt};
use http_body::Body as _;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::agent::origin::sample;

async fn sampled(request: Request) -> Response {
    within(sample(Scope::new()).answer(request)).await
}

#[tokio::test]
async fn the_front_page_shows_the_request() {
    let request =
        http::Request::get("/?x=1").header("host", "a.test").header("x-y", "<i>").body(Body::empty());
    assert_eq!(text(sampled(request.unwrap()).await).await, "GET /?x=1 HTTP/1.1\nhost: a.test\nx-y: <i>\n");
    let request = http::Request::get("https://a.test/").header("accept", "text/html").header("x-y", "<i>");
    let response = sampled(request.body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    assert!(response.headers().contains_key("content-security-policy"));
    let page = text(response).await;
    assert!(page.contains("host: a.test") && page.contains("&lt;i&gt;") && !page.contains("<i>"), "{page}");
    assert!(page.contains("href=\"/events\""));
}

#[tokio::test]
async fn echo_returns_the_body_of_the_request() {
    let request = http::Request::post("/echo").header("content-type", "a/b").body(Body::full("hi")).unwrap();
    let response = sampled(request).await;
    assert_eq!(response.headers()["content-type"], "a/b");
    assert_eq!(text(response).await, "hi");
}

#[tokio::test]
async fn a_download_has_the_requested_length() {
    for (path, wanted) in
        [("/download", 1 << 20), ("/download?bytes=0", 0), ("/download?bytes=100000", 100_000)]
    {
        let response = sampled(get(path)).await;
        assert_eq!(response.body().size_hint().exact(), Some(wanted));
        let got = within(response.into_body().collect()).await.unwrap().to_bytes().len();
        assert_eq!(got as u64, wanted, "{path}");
    }
    assert_eq!(sampled(get("/download?bytes=1073741824")).await.status(), 200);
    for path in ["/download?bytes=1073741825", "/download?bytes=-1", "/download?bytes=x"] {
        assert_eq!(sampled(get(path)).await.status(), 400, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_come_one_a_second_and_end_with_the_scope() {
    let scope = Scope::new();
    let response = sample(scope.clone()).answer(get("/events")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let began = tokio::time::Instant::now();
    for count in 0..3 {
        let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(event, format!("id: {count}\ndata: {count} s\n\n"));
    }
    assert_eq!(began.elapsed().as_secs(), 2);
    scope.request_stop();
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn events_end_after_an_hour() {
    let mut body = sampled(get("/events")).await.into_body();
    let mut count = 0;
    while body.frame().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 3_600);
}

#[tokio::test]
async fn the_websocket_echoes_messages_and_closes_on_a_stop() {
    let scope = Scope::new();
    let visitor = visitor(Arc::new(sample(scope.clone())));
    let (mut socket, _) = within(tokio_tungstenite::client_async("ws://a.test/ws", visitor.0)).await.unwrap();
    for message in [Message::text("hi"), Message::binary(vec![7; 100_000])] {
        within(socket.send(message.clone())).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), message);
    }
    scope.request_stop();
    assert!(within(socket.next()).await.unwrap().unwrap().is_close());
}

#[tokio::test]
async fn a_request_without_a_websocket_handshake_is_refused() {
    assert_eq!(sampled(get("/ws")).await.status(), 426);
    let mut visitor = visitor(Arc::new(sample(Scope::new())));
    visitor.write("GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    assert!(visitor.head().await.starts_with("HTTP/1.1 400 "));
    assert_eq!(sampled(get("/none")).await.status(), 404);
}
