//! Answers and URLs of agents that mean harm, or know no better.

use super::support::{Answer, Bench};

/// The answers that a visitor and the agent get for a message.
async fn outcome(message: &str) -> (Answer, Answer) {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut visitor = bench.open().await;
    visitor.send("GET / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    let next = bench.poll(&first).await.link("next");
    let (visit, answered) = tokio::join!(visitor.read(), bench.answer(&first, message));
    // The visitor's connection is unharmed.
    visitor.send("GET /again HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    let (again, _) = tokio::join!(visitor.read(), async {
        bench.poll(&next).await;
        bench.answer(&next, "HTTP/1.1 200 OK\r\n\r\nagain").await
    });
    assert_eq!((again.status, &*again.body), (200, "again"));
    (visit, answered)
}

#[tokio::test]
async fn a_malformed_or_ambiguous_answer_is_refused() {
    for message in [
        "nonsense",
        "HTTP/1.1 200 OK\r\nA: b\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
        "HTTP/1.1 200 OK\rSet-Cookie: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        "HTTP/1.1 000 OK\r\n\r\n",
        "HTTP/1.1 99 OK\r\n\r\n",
        "HTTP/1.1 1000 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let (visit, answered) = outcome(message).await;
        assert_eq!((visit.status, answered.status), (502, 400), "{message:?}");
    }
}

#[tokio::test]
async fn an_unusual_answer_is_forwarded_with_correct_framing() {
    for (message, body) in [
        ("HTTP/1.1 200\n\nabc", "abc"),
        ("HTTP/1.0 200 OK\r\nCONTENT-length: 99\r\n\r\nabc", "abc"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", "abc"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\nT: x\r\n\r\n",
            "abc",
        ),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc", ""),
        ("HTTP/1.1 200 OK\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\r\nabc", "abc"),
    ] {
        let (visit, answered) = outcome(message).await;
        assert_eq!(answered.status, 202, "{message:?}");
        if visit.status == 200 {
            assert_eq!((&*visit.body, visit.field("Content-Length")), (body, "3"), "{message:?}");
        }
        assert!(!visit.head.contains("X-Hop") && !visit.head.contains("Keep-Alive"), "{}", visit.head);
    }
    let (visit, _) = outcome("HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n").await;
    assert_eq!(visit.head.matches("Set-Cookie: ").count(), 2, "{}", visit.head);
}

#[tokio::test]
async fn a_url_of_one_agent_does_not_answer_for_another() {
    let bench = Bench::start();
    let mine = bench.registered("mine").await;
    let other = bench.another_token(&["theirs"]);
    let theirs = bench.register(&format!("name=theirs&token={other}")).await.link("first");
    let (visit, ()) = tokio::join!(bench.visit("mine", "/"), async {
        bench.poll(&mine).await;
        // A URL without a request is no way in, and a foreign token opens no URL.
        assert_eq!(bench.answer(&theirs, "HTTP/1.1 200 OK\r\n\r\nstolen").await.status, 404);
        let bearer = format!("Authorization: Bearer {other}\r\n");
        assert_eq!(bench.request("POST", &mine, &bearer, "HTTP/1.1 200 OK\r\n\r\nstolen").await.status, 403);
        assert_eq!(bench.request("GET", &mine, &bearer, "").await.status, 403);
        assert_eq!(bench.answer(&mine, "HTTP/1.1 200 OK\r\n\r\nmine").await.status, 202);
        assert_eq!(bench.answer(&mine, "HTTP/1.1 200 OK\r\n\r\nlate").await.status, 409);
    });
    assert_eq!(visit.body, "mine");
}

#[tokio::test]
async fn a_revoked_token_ends_its_polls_and_its_urls() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut waiting = bench.polling(&first).await;
    super::polling::wait_for_polls(&bench, 1).await;
    assert!(bench.config.tokens.revoke(&bench.id).unwrap());
    assert_eq!(waiting.read().await.status, 403, "an open poll ends");
    assert_eq!(bench.poll(&first).await.status, 403);
    assert_eq!(bench.answer(&first, "HTTP/1.1 200 OK\r\n\r\n").await.status, 403);
    assert_eq!(bench.register(&format!("name=demo&token={}", bench.token)).await.status, 403);
}
