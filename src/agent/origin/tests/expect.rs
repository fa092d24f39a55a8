use super::*;

const HEAD: &str = "POST /up HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn only_a_100_of_the_origin_lets_the_body_through() {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.write(HEAD).await;
    let mut wire = raw.accept().await;
    assert_eq!(wire.head().await, HEAD);
    assert!(visitor.is_quiet().await, "a 100 that the origin did not send");
    wire.write("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(visitor.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    visitor.write("hi").await;
    wire.read_until("hi").await;
    wire.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let answer = visitor.read_until("ok").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    raw.wait_for_idle(1).await;
}

#[tokio::test]
async fn another_interim_response_does_not_count_as_a_100() {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.write(HEAD).await;
    let mut wire = raw.accept().await;
    wire.head().await;
    wire.write("HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_eq!(visitor.head().await, "HTTP/1.1 103 Early Hints\r\n\r\n");
    assert!(visitor.is_quiet().await);
    wire.write("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(visitor.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
}

#[tokio::test]
async fn a_final_answer_refuses_the_body_and_ends_the_connection() {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.write(HEAD).await;
    let mut wire = raw.accept().await;
    wire.head().await;
    // In two parts, so that an answer cut off by the refusal would show.
    wire.write("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 10\r\n\r\nfirst").await;
    let answer = visitor.read_until("first").await;
    assert!(answer.starts_with("HTTP/1.1 417 "), "{answer}");
    wire.write("secon").await;
    visitor.read_until("secon").await;
    assert_eq!(wire.read_to_end().await, "", "no byte of the body, and then the end");
    assert_eq!(raw.idle(), 0);
}

#[tokio::test]
async fn an_origin_that_sends_no_100_gets_the_body_after_a_timeout() {
    let raw = Raw::start().await;
    let mut visitor = visitor(raw.origin.clone());
    visitor.write(HEAD).await;
    let mut wire = raw.accept().await;
    wire.head().await;
    assert!(visitor.is_quiet().await);
    tokio::time::pause();
    tokio::time::advance(crate::defaults::ORIGIN_CONTINUE + Duration::from_millis(1)).await;
    tokio::time::resume();
    visitor.head().await;
    visitor.write("hi").await;
    wire.read_until("hi").await;
}

#[tokio::test]
async fn a_body_in_memory_waits_for_the_100_too() {
    let raw = Raw::start().await;
    let request = http::Request::post("/")
        .header("host", "shop.test")
        .header("expect", "100-continue")
        .header("content-length", "2");
    let request = request.body(Body::full("hi")).unwrap();
    let serve = async {
        let mut wire = raw.accept().await;
        wire.head().await;
        assert!(wire.is_quiet().await);
        wire.write("HTTP/1.1 100 Continue\r\n\r\n").await;
        wire.read_until("hi").await;
        wire.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    };
    let (response, ()) = tokio::join!(within(raw.origin.answer(request)), serve);
    assert_eq!(response.status(), 204);
}
