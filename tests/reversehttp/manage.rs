//! Wire §1.9, and what survives what.

use std::time::Duration;

use super::support::{Answer, Bench, Raw};

fn private_path(answer: &Answer) -> String {
    format!("/{}", answer.field("Location").splitn(4, '/').nth(3).unwrap())
}

/// A poll that the relay has.
async fn waiting_poll(bench: &Bench, url: &str) -> Raw {
    let open = bench.polling(url).await;
    super::polling::wait_for_polls(bench, 1).await;
    open
}

/// A request of this visitor in the agent's hand, and the next poll, which waits.
async fn request_in_flight(bench: &Bench, first: &str) -> (Raw, String, Raw) {
    let mut visitor = bench.open().await;
    visitor.send("GET / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    let next = bench.poll(first).await.link("next");
    let open = waiting_poll(bench, &next).await;
    (visitor, next, open)
}

#[tokio::test]
async fn the_gateway_lists_only_the_registrations_of_the_token() {
    let bench = Bench::start();
    bench.registered("mine").await;
    let other = bench.another_token(&["theirs"]);
    bench.register(&format!("name=theirs&token={other}")).await;
    assert_eq!(bench.request("GET", "/reversehttp", "", "").await.status, 403);
    assert_eq!(bench.request("GET", "/reversehttp?token=wrong", "", "").await.status, 403);
    let bearer = format!("Authorization: Bearer {}\r\n", bench.token);
    let status = bench.request("GET", "/reversehttp", &bearer, "").await;
    assert_eq!((status.status, status.field("Content-Type")), (200, "application/x-www-form-urlencoded"));
    assert_eq!(status.body, "name=mine&lease=30&polls=0&waiting=0&unanswered=0");
    let page = bench.request("GET", "/reversehttp", &format!("{bearer}Accept: text/html\r\n"), "").await;
    assert!(page.body.contains("name=mine&amp;lease=30") && !page.body.contains("theirs"), "{page:?}");
}

#[tokio::test]
async fn a_private_url_shows_and_changes_the_lease() {
    let bench = Bench::start();
    let answer = bench.register(&format!("name=demo&token={}&lease=1", bench.token)).await;
    let private = private_path(&answer);
    assert_eq!(bench.request("GET", &private, "", "").await.body, "name=demo&lease=30");
    assert_eq!(bench.request("PUT", &private, "", "lease=90&name=other").await.status, 204);
    assert_eq!(bench.request("GET", &private, "", "").await.body, "name=demo&lease=90");
    let token = format!("token={}&lease=60", bench.token);
    assert_eq!(bench.request("PUT", &private, "", &token).await.status, 204);
    let other = bench.another_token(&["x"]);
    assert_eq!(bench.request("PUT", &private, "", &format!("token={other}")).await.status, 403);
    assert_eq!(bench.request("PUT", &private, "", "lease=x").await.status, 400);
    assert_eq!(bench.request("POST", &private, "", "").await.status, 405);
    // One kind of URL is not the other.
    let request = answer.link("first").replace("/request/", "/private/");
    assert_eq!(bench.request("DELETE", &request, "", "").await.status, 404);
    assert_eq!(bench.poll(&private.replace("/private/", "/request/")).await.status, 404);
}

#[tokio::test]
async fn delete_ends_polls_and_lets_requests_in_flight_finish() {
    let bench = Bench::start();
    let answer = bench.register(&format!("name=demo&token={}", bench.token)).await;
    let (private, first) = (private_path(&answer), answer.link("first"));
    let (mut visitor, next, mut open) = request_in_flight(&bench, &first).await;
    assert_eq!(bench.request("DELETE", &private, "", "").await.status, 204);
    assert_eq!(open.read().await.status, 410);
    assert_eq!(bench.answer(&first, "HTTP/1.1 200 OK\r\n\r\nlast").await.status, 202);
    assert_eq!(visitor.read().await.body, "last");
    assert_eq!(bench.poll(&next).await.status, 410);
    assert_eq!(bench.request("DELETE", &private, "", "").await.status, 404);
    assert_eq!(bench.request("GET", &private, "", "").await.status, 404);
    // A new registration of the same name is another one.
    let fresh = bench.register(&format!("name=demo&token={}", bench.token)).await;
    assert_eq!(fresh.status, 201);
    assert_eq!(bench.poll(&next).await.status, 410);
}

#[tokio::test]
async fn a_request_url_stays_valid_after_a_restart() {
    let bench = Bench::start();
    let answer = bench.register(&format!("name=demo&token={}", bench.token)).await;
    let (private, first) = (private_path(&answer), answer.link("first"));
    let bench = bench.restarted().await;
    assert_eq!(bench.visit("demo", "/").await.status, 404, "no agent has polled yet");
    let mut open = waiting_poll(&bench, &first).await;
    let (visit, ()) = tokio::join!(bench.visit("demo", "/"), async {
        assert_eq!(open.read().await.status, 200);
        bench.answer(&first, "HTTP/1.1 200 OK\r\n\r\nback").await;
    });
    assert_eq!(visit.body, "back");
    // The private URL of before still ends it.
    assert_eq!(bench.request("DELETE", &private, "", "").await.status, 204);
    // Without the key, old URLs say nothing.
    let mut bench = bench;
    bench.config.polling = ptth::transport::Polling::default();
    let bench = bench.restarted().await;
    assert_eq!(bench.poll(&first).await.status, 404);
}

#[tokio::test]
async fn a_url_is_refused_after_its_name_moved_to_another_token() {
    let bench = Bench::with(|config| config.lease = Duration::ZERO);
    let answer = bench.register(&format!("name=demo&token={}", bench.token)).await;
    let first = answer.link("first");
    let bench = bench.restarted().await;
    let other = bench.another_token(&["demo"]);
    assert_eq!(bench.register(&format!("name=demo&token={other}")).await.status, 201);
    assert_eq!(bench.poll(&first).await.status, 403);
}

#[tokio::test]
async fn a_stopping_relay_accepts_answers_to_requests_in_flight() {
    let bench = Bench::with(|config| config.grace = Duration::from_secs(20));
    let answer = bench.register(&format!("name=demo&token={}", bench.token)).await;
    let first = answer.link("first");
    let (mut visitor, _, mut open) = request_in_flight(&bench, &first).await;
    let at = bench.at;
    let mut stopping = Box::pin(bench.relay.stop());
    assert!(futures_util::poll!(&mut stopping).is_pending());
    let sent_away = open.read().await;
    assert_eq!(sent_away.status, 503);
    assert!(!sent_away.field("Retry-After").is_empty());
    let message = "HTTP/1.1 200 OK\r\n\r\nlast";
    let length = message.len();
    // On a connection of its own, as the old clients do.
    let stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let mut late = Raw { stream, read: Vec::new() };
    late.send(&format!("POST {first} HTTP/1.1\r\nHost: {at}\r\nContent-Length: {length}\r\n\r\n{message}"))
        .await;
    assert_eq!(late.read().await.status, 202);
    assert_eq!(visitor.read().await.body, "last");
    assert_eq!(stopping.await, 0);
}
