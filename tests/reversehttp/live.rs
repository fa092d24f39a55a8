//! `live=1`: answers that are written as they are made, and agents that make too much of it.

use ptth::internals::defaults;

use super::support::{Answer, Bench, Raw};

const LIVE: &str = "Accept: message/http;stream=1;live=1\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A request in an agent's hand.
struct Hand {
    bench: Bench,
    visitor: Raw,
    /// What the poll brought.
    polled: Answer,
    url: String,
}

impl Hand {
    /// Of an agent that says this in its poll.
    async fn of(accept: &str) -> Self {
        let bench = Bench::start();
        let url = bench.registered("demo").await;
        let mut visitor = bench.open().await;
        visitor.send("GET / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
        let polled = bench.request("GET", &url, accept, "").await;
        assert_eq!(polled.status, 200);
        Self { bench, visitor, polled, url }
    }

    /// An answer that has begun with this, and goes on.
    async fn begin(&self, start: &str) -> Raw {
        let mut post = self.bench.open().await;
        let head = format!("POST {} HTTP/1.1\r\nHost: {}\r\n", self.url, self.bench.at);
        post.send(&format!("{head}Content-Type: message/http\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
        send_chunk(&mut post, start).await;
        post
    }

    /// What the visitor gets first, and the agent, of a whole message.
    async fn outcome(mut self, message: &str) -> (Answer, Answer) {
        let answered = self.bench.answer(&self.url, message).await;
        (self.visitor.head().await, answered)
    }
}

async fn send_chunk(post: &mut Raw, piece: &str) {
    post.send(&format!("{:x}\r\n{piece}\r\n", piece.len())).await;
}

#[tokio::test]
async fn interim_responses_reach_the_visitor_at_once() {
    let mut hand = Hand::of(LIVE).await;
    assert_eq!(hand.polled.field("Accept"), "message/http;live=1");
    let mut post = hand.begin(HINTS).await;
    let hints = hand.visitor.head().await;
    assert_eq!((hints.status, hints.field("Link")), (103, "</a.css>"));
    for piece in ["HTTP/1.1 102 Proc", "essing\r\n\r", "\n"] {
        send_chunk(&mut post, piece).await;
    }
    assert_eq!(hand.visitor.head().await.status, 102);
    send_chunk(&mut post, OK).await;
    post.send("0\r\n\r\n").await;
    assert_eq!((hand.visitor.read().await.body, post.read().await.status), ("ok".into(), 202));
}

#[tokio::test]
async fn interim_responses_require_live_in_the_accept_field() {
    for accept in ["", "Accept: message/http;stream=1\r\n", "Accept: application/http\r\n"] {
        let hand = Hand::of(accept).await;
        assert_eq!(hand.polled.field("Accept"), "", "{accept:?}");
        let (visit, answered) = hand.outcome(&format!("{HINTS}{OK}")).await;
        assert_eq!((visit.status, answered.status), (502, 400), "{accept:?}");
    }
}

#[tokio::test]
async fn a_truncated_body_is_cut_and_a_truncated_head_is_502() {
    for start in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut hand = Hand::of(LIVE).await;
        assert_eq!(hand.bench.answer(&hand.url, start).await.status, 202, "the agent's POST is complete");
        assert_eq!(hand.visitor.head().await.status, 200);
        while hand.visitor.more().await {}
        assert!(!String::from_utf8_lossy(&hand.visitor.read).contains("\r\n0\r\n"), "{start:?}");
    }
    let (visit, answered) = Hand::of(LIVE).await.outcome("HTTP/1.1 200 OK\r\nContent-").await;
    assert_eq!((visit.status, answered.status), (502, 400));
    let mut hand = Hand::of(LIVE).await;
    assert_eq!(hand.bench.answer(&hand.url, HINTS).await.status, 400);
    assert_eq!((hand.visitor.head().await.status, hand.visitor.head().await.status), (103, 502));
}

#[tokio::test]
async fn an_invalid_interim_response_is_502() {
    for bad in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.0 103 Early Hints\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 099 x\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nA: b\r\n folded\r\n\r\n",
        "garbage\r\n\r\n",
    ] {
        let (visit, answered) = Hand::of(LIVE).await.outcome(&format!("{bad}{OK}")).await;
        assert_eq!((visit.status, answered.status), (502, 400), "{bad:?}");
    }
    let large = format!("HTTP/1.1 103 x\r\nLink: {}\r\n\r\n{OK}", "x".repeat(defaults::INTERIM_BYTES));
    let (visit, answered) = Hand::of(LIVE).await.outcome(&large).await;
    assert_eq!((visit.status, answered.status), (502, 400));
}

#[tokio::test]
async fn a_flood_of_interim_responses_is_cut() {
    let mut hand = Hand::of(LIVE).await;
    let mut post = hand.begin(&HINTS.repeat(defaults::INTERIM)).await;
    for _ in 0..defaults::INTERIM {
        assert_eq!(hand.visitor.head().await.status, 103);
    }
    send_chunk(&mut post, &format!("{HINTS}{OK}")).await;
    assert_eq!((hand.visitor.head().await.status, post.head().await.status), (502, 400));
}

#[tokio::test]
async fn unrequested_100_responses_are_not_forwarded() {
    let proceed = "HTTP/1.1 100 Continue\r\n\r\n".repeat(2);
    let (visit, answered) = Hand::of(LIVE).await.outcome(&format!("{proceed}{OK}")).await;
    assert_eq!((visit.status, answered.status), (200, 202));
}

#[tokio::test]
async fn bytes_after_the_final_answer_are_refused() {
    for status in
        ["200 OK\r\nContent-Length: 2\r\n\r\nok", "204 No Content\r\n\r\n", "304 Not Modified\r\n\r\n"]
    {
        let (visit, answered) = Hand::of(LIVE).await.outcome(&format!("HTTP/1.1 {status}{HINTS}")).await;
        assert_eq!((visit.status, answered.status), (502, 400), "{status}");
    }
}

#[tokio::test]
async fn interim_responses_at_a_foreign_url_are_refused() {
    let mut hand = Hand::of(LIVE).await;
    let other = hand.bench.another_token(&["theirs"]);
    let theirs = hand.bench.register(&format!("name=theirs&token={other}")).await.link("first");
    let message = format!("{HINTS}{OK}");
    assert_eq!(hand.bench.answer(&theirs, &message).await.status, 404);
    let bearer = format!("Authorization: Bearer {other}\r\n");
    assert_eq!(hand.bench.request("POST", &hand.url, &bearer, &message).await.status, 403);
    assert_eq!(hand.bench.answer(&hand.url, OK).await.status, 202);
    assert_eq!(hand.visitor.read().await.status, 200);
    assert_eq!(hand.bench.answer(&hand.url, &message).await.status, 409, "the request is already answered");
}

#[tokio::test]
async fn a_post_ends_when_its_visitor_leaves_or_its_token_is_revoked() {
    let mut hand = Hand::of(LIVE).await;
    let mut post = hand.begin(HINTS).await;
    assert_eq!(hand.visitor.head().await.status, 103);
    hand.visitor = hand.bench.open().await;
    assert_eq!(post.head().await.status, 202, "its visitor has left");
    let mut hand = Hand::of(LIVE).await;
    let mut post = hand.begin(HINTS).await;
    assert_eq!(hand.visitor.head().await.status, 103);
    assert!(hand.bench.config.tokens.revoke(&hand.bench.id).unwrap());
    assert_eq!(hand.visitor.head().await.status, 503, "there is no other agent");
    assert!(post.more().await, "the agent gets an answer");
}

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: demo.relay.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

/// An upload that waits to be asked for, and an agent that says this: the relay, the agent's poll and its URL, the
/// visitor.
async fn waiting_upload(accept: &str) -> (Bench, Raw, String, Raw) {
    let bench = Bench::start();
    let url = bench.registered("demo").await;
    let mut poll = bench.open().await;
    poll.send(&format!("GET {url} HTTP/1.1\r\nHost: {}\r\n{accept}\r\n", bench.at)).await;
    super::polling::wait_for_polls(&bench, 1).await;
    let mut visitor = bench.open().await;
    visitor.send(EXPECTING).await;
    (bench, poll, url, visitor)
}

/// The same in the hand of the agent: the visitor, the poll with the head of the request read, and that head.
async fn delivered_upload(accept: &str) -> (Hand, Raw, String) {
    let (bench, mut poll, url, visitor) = waiting_upload(accept).await;
    let polled = poll.head().await;
    let head = poll.until("\r\n\r\n").await;
    (Hand { bench, visitor, polled, url }, poll, head)
}

#[tokio::test]
async fn only_the_first_100_is_forwarded_to_the_visitor() {
    let (mut hand, mut poll, head) = delivered_upload(LIVE).await;
    assert!(head.contains("\r\nExpect: 100-continue\r\n"), "{head}");
    let mut post = hand.begin(HINTS).await;
    // What comes first is no 100.
    assert_eq!(hand.visitor.head().await.status, 103);
    send_chunk(&mut post, &"HTTP/1.1 100 Continue\r\n\r\n".repeat(2)).await;
    assert_eq!(hand.visitor.head().await.status, 100);
    hand.visitor.send("hello").await;
    poll.until("hello").await;
    send_chunk(&mut post, OK).await;
    post.send("0\r\n\r\n").await;
    assert_eq!((hand.visitor.read().await.body, post.read().await.status), ("ok".into(), 202));
}

#[tokio::test]
async fn a_final_answer_before_a_100_leaves_the_body_unrequested() {
    let (mut hand, mut poll, _) = delivered_upload(LIVE).await;
    let answer = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno";
    assert_eq!(hand.bench.answer(&hand.url, answer).await.status, 202);
    let answer = hand.visitor.read().await;
    assert_eq!((answer.status, &*answer.body), (417, "no"));
    assert!(!poll.more().await, "the body was not requested");
}

#[tokio::test]
async fn the_relay_sends_the_100_for_an_agent_without_support() {
    for accept in ["Accept: message/http;stream=1\r\n", "Accept: message/http;live=1\r\n", ""] {
        let (bench, mut poll, url, mut visitor) = waiting_upload(accept).await;
        assert_eq!(visitor.head().await.status, 100, "{accept:?}");
        visitor.send("hello").await;
        let request = poll.until("hello").await;
        assert!(!request.contains("Expect"), "{request}");
        assert_eq!(bench.answer(&url, OK).await.status, 202);
        assert_eq!(visitor.read().await.body, "ok");
    }
}
