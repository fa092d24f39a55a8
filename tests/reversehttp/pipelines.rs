//! `application/http`: several requests in the answer to one poll, several answers in one POST.

use futures_util::future::join_all;
use ptth::internals::defaults;

use super::support::{Answer, Bench, Raw};

const SEVERAL: &str = "Accept: application/http\r\n";

fn answer_with(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Visitors whose requests wait, the first asked first.
async fn queued_visitors(bench: &Bench, requests: &[String]) -> Vec<Raw> {
    let target = format!("/reversehttp?token={}", bench.token);
    let mut visitors = Vec::new();
    for request in requests {
        let mut visitor = bench.open().await;
        visitor.send(request).await;
        visitors.push(visitor);
        let count = format!("waiting={}&", visitors.len());
        while !bench.request("GET", &target, "", "").await.body.contains(&count) {}
    }
    visitors
}

fn get_requests(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n")).collect()
}

async fn post(bench: &Bench, url: &str, answers: &str) -> Answer {
    bench.request("POST", url, "Content-Type: application/http\r\n", answers).await
}

async fn read_answers(visitors: &mut [Raw]) -> Vec<(u16, String)> {
    let read = visitors.iter_mut().map(|visitor| async {
        let answer = visitor.read().await;
        let code = if answer.status == 200 { answer.body } else { String::new() };
        (answer.status, code)
    });
    join_all(read).await
}

#[tokio::test]
async fn several_requests_cross_in_one_envelope_and_their_answers_in_another() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut requests = get_requests(2);
    let put =
        "PUT /2 HTTP/1.1\r\nHost: demo.relay.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    requests.push(put.into());
    requests.push("HEAD /3 HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n".into());
    // Whole messages: who has polled so before is known to take no streams.
    let visit = bench.visit("demo", "/before");
    let (visit, ()) = tokio::join!(visit, async {
        let polled = bench.request("GET", &first, SEVERAL, "").await;
        assert_eq!((polled.status, polled.field("Content-Type")), (200, "application/http"));
        assert_eq!(post(&bench, &first, &answer_with("alone")).await.status, 202);
    });
    assert_eq!(visit.body, "alone");
    let url = bench.registered("demo").await;
    let mut visitors = queued_visitors(&bench, &requests).await;
    let polled = bench.request("GET", &url, SEVERAL, "").await;
    assert_eq!((polled.status, polled.field("Content-Type")), (200, "application/http"));
    assert_eq!(polled.head.matches("\r\nRequesting-Client: 127.0.0.1:").count(), 4, "{}", polled.head);
    let starts: Vec<_> = ["GET /0 ", "GET /1 ", "PUT /2 ", "HEAD /3 "]
        .iter()
        .map(|start| polled.body.find(start).unwrap_or_else(|| panic!("no {start} in {}", polled.body)))
        .collect();
    assert!(starts.is_sorted() && starts[0] == 0, "{}", polled.body);
    assert!(polled.body.contains("\r\nContent-Length: 3\r\n\r\nabcHEAD "), "{}", polled.body);
    let again = bench.request("GET", &url, SEVERAL, "").await;
    assert_eq!((again.status, &again.body), (200, &polled.body), "a second poll repeats the requests");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n";
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
    let answers = [&answer_with("zero"), chunked, &answer_with("three"), head].concat();
    assert_eq!(post(&bench, &url, &answers).await.status, 202);
    let last = visitors.pop().unwrap().head().await;
    assert_eq!((last.status, last.field("Content-Length")), (200, "7"));
    let bodies = read_answers(&mut visitors).await;
    assert_eq!(bodies, [(200, "zero".into()), (200, "two".into()), (200, "three".into())]);
    assert_eq!(post(&bench, &url, &answers).await.status, 409, "the requests are already answered");
    assert_eq!(bench.request("GET", &url, SEVERAL, "").await.status, 410, "the URL is used up");
}

#[tokio::test]
async fn unanswered_requests_of_an_envelope_are_502() {
    let bench = Bench::start();
    let url = bench.registered("demo").await;
    let mut visitors = queued_visitors(&bench, &get_requests(3)).await;
    assert_eq!(bench.request("GET", &url, SEVERAL, "").await.status, 200);
    assert_eq!(post(&bench, &url, &answer_with("zero")).await.status, 400);
    assert_eq!(read_answers(&mut visitors).await, [(200, "zero".into()), (502, "".into()), (502, "".into())]);
}

#[tokio::test]
async fn a_malformed_answer_and_all_later_answers_become_502() {
    for garbage in [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        // It does not say where it ends: what is behind it is somebody else's answer.
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ] {
        let bench = Bench::start();
        let url = bench.registered("demo").await;
        let mut visitors = queued_visitors(&bench, &get_requests(3)).await;
        assert_eq!(bench.request("GET", &url, SEVERAL, "").await.status, 200);
        let answers = [&answer_with("zero"), garbage, &answer_with("two")].concat();
        assert_eq!(post(&bench, &url, &answers).await.status, 400, "{garbage}");
        let all = read_answers(&mut visitors).await;
        assert_eq!(all, [(200, "zero".into()), (502, "".into()), (502, "".into())], "{garbage}");
    }
}

#[tokio::test]
async fn a_surplus_answer_is_refused_and_the_others_are_delivered() {
    let bench = Bench::start();
    let url = bench.registered("demo").await;
    let mut visitors = queued_visitors(&bench, &get_requests(1)).await;
    assert_eq!(bench.request("GET", &url, SEVERAL, "").await.status, 200);
    assert_eq!(post(&bench, &url, &[answer_with("zero"), answer_with("one")].concat()).await.status, 400);
    assert_eq!(read_answers(&mut visitors).await, [(200, "zero".into())]);
}

#[tokio::test]
async fn an_envelope_is_bounded_and_holds_one_request_by_default() {
    let bench = Bench::start();
    let [one, several] = [bench.registered("demo").await, bench.registered("demo").await];
    let mut visitors = queued_visitors(&bench, &get_requests(defaults::PIPELINE + 2)).await;
    let polled = bench.request("GET", &one, "Accept: */*, message/http\r\n", "").await;
    assert_eq!((polled.field("Content-Type"), polled.body.matches("GET /").count()), ("message/http", 1));
    let polled = bench.request("GET", &several, SEVERAL, "").await;
    assert_eq!(polled.body.matches("GET /").count(), defaults::PIPELINE);
    bench.answer(&one, &answer_with("first")).await;
    let answers: String = (0..defaults::PIPELINE).map(|n| answer_with(&n.to_string())).collect();
    assert_eq!(post(&bench, &several, &answers).await.status, 202);
    assert_eq!(visitors[0].read().await.body, "first");
    assert_eq!(visitors[1].read().await.body, "0");
    // The last still waits for a poll.
    let url = bench.registered("demo").await;
    assert_eq!(bench.request("GET", &url, SEVERAL, "").await.body.matches("GET /").count(), 1);
}

#[tokio::test]
async fn requests_that_could_not_be_written_go_to_the_next_poll() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    // Larger than what the sockets between hold, so the first poll cannot have got them.
    let body = "x".repeat(7 << 20);
    let put = |n| {
        let length = body.len();
        format!("PUT /{n} HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let work = async {
        // Their bodies are taken in once it is known that the agent wants whole messages.
        let mut dying = bench.open().await;
        dying.send(&format!("GET {first} HTTP/1.1\r\nHost: relay.test\r\n{SEVERAL}\r\n")).await;
        assert_eq!(dying.head().await.status, 200);
        drop(dying);
        let mut got = Vec::new();
        while got.len() < 2 {
            let url = bench.registered("demo").await;
            let polled = bench.request("GET", &url, SEVERAL, "").await;
            let here: Vec<_> = polled.body.match_indices("PUT /").map(|(place, _)| place).collect();
            let answers: String = here.iter().map(|_| answer_with("taken")).collect();
            assert_eq!(post(&bench, &url, &answers).await.status, 202);
            got.extend(here);
        }
    };
    let visit = async |n| {
        let mut visitor = bench.open().await;
        visitor.send(&put(n)).await;
        visitor.read().await.body
    };
    let (one, two, ()) = tokio::join!(visit(1), visit(2), work);
    assert_eq!((&*one, &*two), ("taken", "taken"));
}
