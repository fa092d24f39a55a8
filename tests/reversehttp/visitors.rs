//! Wire §1.8: what visitors see, and the requests that agents get.

use super::support::Bench;

#[tokio::test]
async fn a_chunked_upload_arrives_whole_with_its_length() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut visitor = bench.open().await;
    visitor
        .send("PUT /up HTTP/1.1\r\nHost: demo.relay.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\
               TE: trailers\r\nConnection: TE\r\nRequesting-Client: 1.2.3.4:5\r\nX-Mine: 1\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-T: 1\r\n\r\n")
        .await;
    let polled = bench.poll(&first).await.body;
    assert!(polled.starts_with("PUT /up HTTP/1.1\r\n") && polled.ends_with("\r\n\r\nabcdefg"), "{polled}");
    assert!(polled.contains("\r\nContent-Length: 7\r\n") && polled.contains("\r\nX-Mine: 1\r\n"), "{polled}");
    for gone in ["Transfer-Encoding", "Trailer", "1.2.3.4"] {
        assert!(!polled.contains(gone), "{polled}");
    }
    bench.answer(&first, "HTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(visitor.read().await.status, 200);
}

#[tokio::test]
async fn an_empty_post_has_a_content_length_of_zero() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut visitor = bench.open().await;
    visitor.send("POST /up HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: 0\r\n\r\n").await;
    let polled = bench.poll(&first).await.body;
    assert!(polled.contains("\r\nContent-Length: 0\r\n"), "{polled}");
}

#[tokio::test]
async fn an_answer_to_head_keeps_its_content_length() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut visitor = bench.open().await;
    visitor.send("HEAD / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    bench.poll(&first).await;
    bench.answer(&first, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n").await;
    let head = visitor.head().await;
    assert_eq!((head.status, head.field("Content-Length")), (200, "3"));
    assert!(visitor.read.is_empty());
}

#[tokio::test]
async fn an_unknown_name_is_404_and_a_name_without_polls_is_503() {
    let bench = Bench::short_hold();
    assert_eq!(bench.visit("nobody", "/").await.status, 404);
    bench.registered("demo").await;
    let visit = bench.visit("demo", "/").await;
    assert_eq!(visit.status, 503);
    assert!(!visit.field("Retry-After").is_empty() && visit.body.contains("no-agent"), "{visit:?}");
}

#[tokio::test]
async fn a_request_waits_for_an_agent_between_polls() {
    let bench = Bench::with(|config| config.polling.hold = std::time::Duration::from_millis(20));
    let first = bench.registered("demo").await;
    assert_eq!(bench.poll(&first).await.status, 204);
    let mut visitor = bench.open().await;
    visitor.send("GET / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    // Away for longer than the hold, shorter than the absence that is borne.
    let target = format!("/reversehttp?token={}", bench.token);
    while !bench.request("GET", &target, "", "").await.body.contains("waiting=1") {}
    assert_eq!(bench.poll(&first).await.status, 200);
    bench.answer(&first, "HTTP/1.1 200 OK\r\n\r\nback").await;
    assert_eq!(visitor.read().await.body, "back");
}

#[tokio::test]
async fn an_upgrade_is_501_for_an_agent_of_whole_messages() {
    let bench = Bench::short_hold();
    let first = bench.registered("demo").await;
    bench.poll(&first).await;
    let mut visitor = bench.open().await;
    visitor
        .send("GET / HTTP/1.1\r\nHost: demo.relay.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let answer = visitor.read().await;
    assert_eq!(answer.status, 501);
    assert!(answer.body.contains("no-upgrade") && answer.body.contains("such as ptth10"), "{answer:?}");
}

#[tokio::test]
async fn a_body_above_the_message_limit_is_413() {
    let bench = Bench::start();
    bench.registered("demo").await;
    let mut visitor = bench.open().await;
    let length = ptth::internals::defaults::MESSAGE + 1;
    visitor
        .send(&format!("PUT / HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: {length}\r\n\r\n"))
        .await;
    assert_eq!(visitor.read().await.status, 413);
}

#[tokio::test]
async fn a_request_that_could_not_be_written_goes_to_the_next_poll() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut visitor = bench.open().await;
    // Larger than what the sockets between hold, so the first poll cannot have got it.
    let body = "x".repeat(7 << 20);
    let mut dying = bench.polling(&first).await;
    let upload = async {
        let length = body.len();
        visitor
            .send(&format!(
                "PUT / HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        visitor.read().await
    };
    let agent = async {
        assert_eq!(dying.head().await.status, 200);
        drop(dying);
        let url = bench.registered("demo").await;
        let polled = bench.poll(&url).await;
        bench.answer(&url, "HTTP/1.1 200 OK\r\n\r\ntaken").await;
        polled.body
    };
    let (visit, polled) = tokio::join!(upload, agent);
    assert!(polled.starts_with("PUT / ") && polled.ends_with(&body), "{} bytes", polled.len());
    assert_eq!(visit.body, "taken");
}

/// An agent that sends no instance may not know the mark, and would pass it on to its service.
#[tokio::test]
async fn an_agent_without_an_instance_receives_no_mark_of_a_login() {
    let bench = Bench::start();
    let mut first = bench.registered("demo").await;
    let mut visitor = bench.open().await;
    for fields in ["", "Authorization: NTLM negotiate\r\n", ""] {
        visitor.send(&format!("GET / HTTP/1.1\r\nHost: demo.relay.test\r\n{fields}\r\n")).await;
        let polled = bench.poll(&first).await;
        assert!(polled.body.contains(fields), "{polled:?}");
        assert!(!polled.body.to_ascii_lowercase().contains("\r\nptth-"), "{polled:?}");
        let challenge = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 2\r\n\r\nno";
        bench.answer(&first, challenge).await;
        assert_eq!(visitor.read().await.status, 401);
        first = polled.link("next");
    }
}
