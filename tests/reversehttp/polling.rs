//! Wire §1.6 and §1.7, row by row.

use std::time::{Duration, Instant};

use super::support::{Bench, Raw, STEP};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nhey";

#[tokio::test]
async fn a_request_crosses_and_its_answer_comes_back() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let (visit, next) = tokio::join!(bench.visit("demo", "/demo//a?x=1"), async {
        let polled = bench.poll(&first).await;
        assert_eq!((polled.status, polled.field("Content-Type")), (200, "message/http"));
        let client = polled.field("Requesting-Client");
        assert!(client.starts_with("127.0.0.1:") && client.len() > 10, "{client}");
        assert!(
            polled.body.starts_with("GET /demo//a?x=1 HTTP/1.1\r\nHost: demo.relay.test\r\n"),
            "{}",
            polled.body
        );
        assert!(
            polled.body.ends_with("\r\n\r\n") && !polled.body.contains("Content-Length"),
            "{}",
            polled.body
        );
        let answered = bench.answer(&first, OK).await;
        assert_eq!((answered.status, answered.field("Content-Length")), (202, "0"));
        polled.link("next")
    });
    assert_eq!((visit.status, &*visit.body, visit.field("Content-Type")), (200, "hey", "text/plain"));
    assert_ne!(next, first);
    // The URL has done its work; the next one works.
    assert_eq!(bench.poll(&first).await.status, 410);
    assert_eq!(bench.answer(&first, OK).await.status, 409);
    let (visit, _) = tokio::join!(bench.visit("demo", "/"), async {
        bench.poll(&next).await;
        bench.answer(&next, OK).await
    });
    assert_eq!(visit.body, "hey");
}

#[tokio::test]
async fn a_poll_without_a_request_is_204_and_its_url_stays_valid() {
    let bench = Bench::short_hold();
    let first = bench.registered("demo").await;
    let quiet = bench.poll(&first).await;
    assert_eq!((quiet.status, quiet.body.len()), (204, 0));
    let next = quiet.link("next");
    let (visit, polled) = tokio::join!(bench.visit("demo", "/"), async {
        let polled = bench.poll(&first).await;
        bench.answer(&first, OK).await;
        polled
    });
    assert_eq!((visit.status, polled.status), (200, 200));
    // Both spellings named the same URL.
    assert_eq!(bench.poll(&next).await.status, 410);
}

#[tokio::test]
async fn an_unknown_request_url_is_404() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut forged = first.clone();
    forged.pop();
    for url in ["/reversehttp/request/x", "/reversehttp/demo/-/9f01", "/reversehttp/request/", &forged] {
        assert_eq!(bench.poll(url).await.status, 404, "{url}");
        assert_eq!(bench.answer(url, OK).await.status, 404, "{url}");
    }
    assert_eq!(bench.answer(&first, OK).await.status, 404, "no request was delivered at this URL");
}

#[tokio::test]
async fn polls_are_served_in_order_and_answers_match_their_requests() {
    let bench = Bench::start();
    let a = bench.registered("demo").await;
    let b = bench.registered("demo").await;
    let mut polls: Vec<Raw> = Vec::new();
    for url in [&a, &b] {
        let raw = bench.polling(url).await;
        // The page tells when the poll has its place.
        wait_for_polls(&bench, polls.len() + 1).await;
        polls.push(raw);
    }
    let visits = async { tokio::join!(bench.visit("demo", "/1"), bench.visit("demo", "/2")) };
    let agent = async {
        let first = polls[0].read().await.body;
        let second = polls[1].read().await.body;
        let number = |message: &str| message[5..6].to_owned();
        // In the other order.
        bench.answer(&b, &format!("HTTP/1.1 200 OK\r\n\r\n{}", number(&second))).await;
        bench.answer(&a, &format!("HTTP/1.1 200 OK\r\n\r\n{}", number(&first))).await;
    };
    let ((one, two), ()) = tokio::join!(visits, agent);
    assert_eq!((&*one.body, &*two.body), ("1", "2"));
}

#[tokio::test]
async fn the_longest_waiting_poll_is_served_first() {
    let bench = Bench::start();
    let mut polls = Vec::new();
    for count in 1..=3 {
        let url = bench.registered("demo").await;
        let raw = bench.polling(&url).await;
        wait_for_polls(&bench, count).await;
        polls.push((url, raw));
    }
    for (place, (url, mut raw)) in polls.into_iter().enumerate() {
        // Nobody else has a request meanwhile.
        let target = format!("/{place}");
        let (visit, ()) = tokio::join!(bench.visit("demo", &target), async {
            assert!(raw.read().await.body.starts_with(&format!("GET {target} ")));
            bench.answer(&url, OK).await;
        });
        assert_eq!(visit.body, "hey");
    }
}

#[tokio::test]
async fn pipelined_requests_of_one_visitor_keep_their_order() {
    let bench = Bench::start();
    let urls = [bench.registered("demo").await, bench.registered("demo").await];
    let mut visitor = bench.open().await;
    let get = |n| format!("GET /{n} HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n");
    visitor.send(&[get(1), get(2)].concat()).await;
    assert!(bench.poll(&urls[0]).await.body.starts_with("GET /1 "));
    // The second comes when the first has its answer.
    let (second, _) = tokio::join!(bench.poll(&urls[1]), async {
        wait_for_polls(&bench, 1).await;
        bench.answer(&urls[0], "HTTP/1.1 200 OK\r\n\r\none").await
    });
    assert!(second.body.starts_with("GET /2 "), "{second:?}");
    bench.answer(&urls[1], "HTTP/1.1 200 OK\r\n\r\ntwo").await;
    assert_eq!((visitor.read().await.body, visitor.read().await.body), ("one".into(), "two".into()));
}

#[tokio::test]
async fn a_streaming_agent_is_notified_when_a_visitor_leaves() {
    const STREAM: &str = "Accept: message/http;stream=1\r\n";
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut visitor = bench.open().await;
    visitor.send("GET / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    let polled = bench.request("GET", &first, STREAM, "").await;
    let id = polled.field("Ptth-Request").to_owned();
    assert!(!id.is_empty(), "{polled:?}");
    let next = polled.link("next");
    let mut poll = bench.open().await;
    poll.send(&format!("GET {next} HTTP/1.1\r\nHost: relay.test\r\n{STREAM}\r\n")).await;
    wait_for_polls(&bench, 1).await;
    drop(visitor);
    let told = poll.read().await;
    assert_eq!((told.status, told.field("Ptth-Gone")), (204, &*id));
    // Once, and the URL is as good as before.
    let (visit, _) = tokio::join!(bench.visit("demo", "/"), async {
        assert_eq!(bench.request("GET", &told.link("next"), STREAM, "").await.status, 200);
        bench.answer(&next, OK).await
    });
    assert_eq!(visit.body, "hey");
}

#[tokio::test]
async fn an_agent_of_whole_messages_is_not_notified_when_a_visitor_leaves() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut visitor = bench.open().await;
    visitor.send("GET / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    let polled = bench.poll(&first).await;
    assert!(!polled.head.contains("Ptth-"), "{polled:?}");
    drop(visitor);
    let (visit, _) = tokio::join!(bench.visit("demo", "/"), async {
        let next = polled.link("next");
        assert_eq!(bench.poll(&next).await.status, 200, "the poll ends only with a request");
        bench.answer(&next, OK).await
    });
    assert_eq!(visit.body, "hey");
}

/// Waits until the relay has this many waiting polls.
pub(crate) async fn wait_for_polls(bench: &Bench, polls: usize) {
    let target = format!("/reversehttp?token={}", bench.token);
    for _ in 0..2000 {
        let status = bench.request("GET", &target, "", "").await.body;
        if status.contains(&format!("polls={polls}&")) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the relay never had {polls} waiting polls");
}

#[tokio::test]
async fn a_poll_may_precede_the_answer_to_the_previous_request() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let visits = async { tokio::join!(bench.visit("demo", "/1"), bench.visit("demo", "/2")) };
    let agent = async {
        let one = bench.poll(&first).await;
        let next = one.link("next");
        let two = bench.poll(&next).await;
        bench.answer(&next, &format!("HTTP/1.1 200 OK\r\n\r\n{}", &two.body[5..6])).await;
        bench.answer(&first, &format!("HTTP/1.1 200 OK\r\n\r\n{}", &one.body[5..6])).await;
    };
    let ((one, two), ()) = tokio::join!(visits, agent);
    assert_eq!((&*one.body, &*two.body), ("1", "2"));
}

#[tokio::test]
async fn a_disconnected_poll_leaves_the_queue() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let dying = bench.polling(&first).await;
    wait_for_polls(&bench, 1).await;
    drop(dying);
    wait_for_polls(&bench, 0).await;
    let (visit, _) = tokio::join!(bench.visit("demo", "/"), async {
        bench.poll(&first).await;
        bench.answer(&first, OK).await
    });
    assert_eq!(visit.body, "hey");
}

#[tokio::test]
async fn a_second_poll_of_a_url_replaces_the_first() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut ghost = bench.polling(&first).await;
    wait_for_polls(&bench, 1).await;
    let mut live = bench.polling(&first).await;
    assert_eq!(ghost.read().await.status, 204);
    let (visit, _) = tokio::join!(bench.visit("demo", "/"), async {
        assert_eq!(live.read().await.status, 200);
        bench.answer(&first, OK).await
    });
    assert_eq!(visit.body, "hey");
}

#[tokio::test]
async fn an_answer_after_its_visitor_left_is_202() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut visitor = bench.open().await;
    visitor.send("GET / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    assert_eq!(bench.poll(&first).await.status, 200);
    drop(visitor);
    assert_eq!(bench.answer(&first, OK).await.status, 202);
    assert_eq!(bench.answer(&first, OK).await.status, 409);
}

#[tokio::test]
async fn an_empty_answer_is_400_and_its_visitor_gets_502() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let (visit, answered) = tokio::join!(bench.visit("demo", "/"), async {
        bench.poll(&first).await;
        bench.answer(&first, "").await
    });
    assert_eq!((visit.status, answered.status), (502, 400));
}

#[tokio::test]
async fn waiting_polls_are_limited() {
    let bench = Bench::start();
    let mut polls = Vec::new();
    for _ in 0..ptth::internals::defaults::POLLS_MOST {
        let url = bench.registered("demo").await;
        let raw = bench.polling(&url).await;
        polls.push(raw);
    }
    wait_for_polls(&bench, ptth::internals::defaults::POLLS_MOST).await;
    let url = bench.registered("demo").await;
    let refused = bench.poll(&url).await;
    assert_eq!(refused.status, 429);
    assert!(!refused.field("Retry-After").is_empty());
}

/// Waits until the agent has registered.
pub(crate) async fn wait_for_registration(bench: &Bench) {
    let target = format!("/reversehttp?token={}", bench.token);
    let wait = async {
        while !bench.request("GET", &target, "", "").await.body.contains("name=demo") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(STEP, wait).await.expect("the agent registers again");
}

/// How long a poll of this URL is held when nothing comes.
async fn hold_time(bench: &Bench, url: &str, fields: &str) -> Duration {
    let since = Instant::now();
    assert_eq!(bench.request("GET", url, fields, "").await.status, 204);
    since.elapsed()
}

#[tokio::test]
async fn a_prefer_wait_field_shortens_the_hold_of_a_poll() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let waited = hold_time(&bench, &first, "Prefer: wait=1\r\n").await;
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(10), "{waited:?}");
    let short = Bench::short_hold();
    let first = short.registered("demo").await;
    assert!(
        hold_time(&short, &first, "Prefer: wait=20\r\n").await < Duration::from_secs(10),
        "the hold of the relay is the maximum"
    );
}

#[tokio::test]
async fn the_hold_shrinks_when_polls_are_cut_at_the_same_age() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    for _ in 0..ptth::internals::defaults::POLL_DROPS {
        let cut = bench.polling(&first).await;
        wait_for_polls(&bench, 1).await;
        tokio::time::sleep(ptth::internals::defaults::POLL_CUT + Duration::from_millis(100)).await;
        drop(cut);
        wait_for_polls(&bench, 0).await;
    }
    let waited = hold_time(&bench, &first, "").await;
    assert!(
        waited >= ptth::internals::defaults::POLL_HOLD_LEAST && waited < ptth::internals::defaults::POLL_HOLD,
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_request_lost_in_a_middlebox_is_delivered_again() {
    let bench = Bench::start();
    let first = bench.registered("demo").await;
    let mut visitor = bench.open().await;
    visitor.send("PUT /x HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: 3\r\n\r\nabc").await;
    // All of it left the relay; nothing of it arrived, so the agent polls the same URL again.
    let swallowed = bench.poll(&first).await;
    let again = bench.poll(&first).await;
    assert_eq!((again.status, &*again.body), (200, &*swallowed.body));
    assert_eq!(bench.answer(&first, OK).await.status, 202);
    assert_eq!(visitor.read().await.body, "hey");
    assert_eq!(bench.poll(&first).await.status, 410, "the request is already answered");
}
