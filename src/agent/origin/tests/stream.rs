use std::task::Poll;

use http_body::Frame;
use http_body_util::StreamBody;

use super::*;

#[tokio::test]
async fn trailers_pass_to_the_visitor() {
    let raw = Raw::start().await;
    let answer = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
    let (_, response, _wire) = raw.fresh(get("/"), answer).await;
    assert_eq!(response.headers()["trailer"], "x-sum");
    let body = within(response.into_body().collect()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "7");
    raw.wait_for_idle(1).await;
}

#[tokio::test]
async fn trailers_pass_to_the_origin() {
    let raw = Raw::start().await;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", http::HeaderValue::from_static("7"));
    let frames =
        [Ok::<_, std::io::Error>(Frame::data(bytes::Bytes::from("hi"))), Ok(Frame::trailers(trailers))];
    let body = Body::wrap(StreamBody::new(futures_util::stream::iter(frames)));
    let request = http::Request::post("/")
        .header("host", "shop.test")
        .header("trailer", "x-sum")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    let serve = async {
        let mut wire = raw.accept().await;
        let received = wire.read_until("0\r\nx-sum: 7\r\n\r\n").await;
        wire.write("HTTP/1.1 204 No Content\r\n\r\n").await;
        received
    };
    let (_, received) = tokio::join!(within(raw.origin.answer(request)), serve);
    assert!(received.contains("trailer: x-sum\r\n") && received.contains("te: trailers\r\n"), "{received}");
}

#[tokio::test]
async fn a_truncated_answer_stays_truncated() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let raw = Raw::start().await;
        let (_, response, wire) = raw.fresh(get("/"), answer).await;
        drop(wire);
        let mut body = response.into_body();
        assert_eq!(within(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "half");
        assert!(within(body.frame()).await.unwrap().is_err(), "a clean end: {answer:?}");
        raw.wait_for_idle(0).await;
    }
}

#[tokio::test]
async fn a_broken_upload_is_not_completed_for_the_origin() {
    let raw = Raw::start().await;
    let frames = [Ok(Frame::data(bytes::Bytes::from("hi"))), Err(std::io::Error::other("gone"))];
    let body = Body::wrap(StreamBody::new(futures_util::stream::iter(frames)));
    let serve = async {
        let mut wire = raw.accept().await;
        wire.read_to_end().await
    };
    let (response, received) = tokio::join!(
        within(raw.origin.answer(http::Request::post("/").header("host", "shop.test").body(body).unwrap())),
        serve
    );
    assert_eq!(response.status(), 400);
    assert!(!received.ends_with("0\r\n\r\n"), "{received:?}");
}

#[tokio::test]
async fn a_slow_visitor_slows_the_origin_down() {
    const MOST: usize = 64 << 20;
    let raw = Raw::start().await;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {MOST}\r\n\r\n");
    let (_, response, mut wire) = raw.fresh(get("/"), &head).await;
    let chunk = vec![0; 1 << 20];
    let mut written = 0;
    let mut refused = 0;
    while refused < 200 {
        match futures_util::poll!(std::pin::pin!(wire.0.write(&chunk))) {
            Poll::Ready(taken) => (written, refused) = (written + taken.unwrap(), 0),
            Poll::Pending => refused += 1,
        }
        assert!(written < MOST / 2, "{written} bytes were accepted without a reader");
        tokio::task::yield_now().await;
    }
    assert!(written > 0);
    drop(response);
}
