//! Visitors that leave before the answer, where messages are complete before they are sent. `docs/polling.md` is the
//! exchange that the first test runs.

use std::path::Path;
use std::time::{Duration, Instant};

use super::comet::Peer;
use super::polling::wait_for_polls;
use super::support::{Answer, Bench, Raw};

const INSTANCE: &str = "PTTH-Instance: 5d1f6f6e0c3b;boot=1\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
const PAGE: &str = "docs/polling.md";
const SECOND: Duration = Duration::from_secs(1);

/// The bytes between an agent and its relay, with names in the place of values that differ from run to run.
#[derive(Default)]
struct Transcript {
    text: String,
    names: Vec<(String, &'static str)>,
}

impl Transcript {
    fn name(&mut self, value: &str, name: &'static str) {
        self.names.push((value.to_owned(), name));
    }

    /// The sealed part of a URL.
    fn name_url(&mut self, url: &str, name: &'static str) {
        self.name(url.rsplit('/').next().unwrap(), name);
    }

    fn add(&mut self, sender: &str, bytes: &str) {
        let text = bytes.lines().map(|line| format!("    {}\n", line.trim_end())).collect::<String>();
        self.text += &format!("\n{sender}:\n\n{}\n", text.replace("    \n", "\n").trim_end());
    }

    fn named(&self) -> String {
        self.names.iter().fold(self.text.clone(), |text, (value, name)| text.replace(value, name))
    }
}

const INTRODUCTION: &str = "# A cancelled request, byte by byte

An agent that announces `PTTH-Instance` with its registration (`reversehttp`), or with each POST (`comet`), gets a name for
each request that a poll brings: `PTTH-Request: ID`. When the visitor of such a request leaves before its answer, the relay
ends a poll that waits, or the next one, with `PTTH-Cancelled: ID, …`. The status is 204 on `reversehttp`; on `comet` the
response is 200 with `{}`. The agent then drops the request, and sends no answer to it; an answer that is on its way is
discarded. `PTTH-Gone` is the earlier name of the field, sent beside it. Without `PTTH-Instance` the exchange has none of
these fields. An agent keeps a poll open while it has requests in hand; an ID may arrive before its request.

These are the bytes of a test (`tests/reversehttp/cancelled.rs`), with names in the place of random values.
`PTTH_DOCS=1 cargo test --test reversehttp cancelled` writes this page.
";

/// An agent's connection to the relay, and the request on it.
async fn sent(bench: &Bench, transcript: &mut Transcript, request: &str) -> Raw {
    let mut raw = bench.open().await;
    raw.send(request).await;
    transcript.add("The agent", request);
    raw
}

async fn received(raw: &mut Raw, transcript: &mut Transcript) -> Answer {
    let answer = raw.read().await;
    let date = answer.field("Date").to_owned();
    transcript.name(&date, "DATE");
    transcript.add("The relay", &format!("{}{}", answer.head, answer.body));
    answer
}

#[tokio::test]
async fn the_poll_of_an_agent_with_an_instance_is_answered_with_the_cancelled_id() {
    let bench = Bench::start();
    let mut transcript = Transcript::default();
    transcript.name(&bench.at.to_string(), "relay.test");
    transcript.name(&bench.at.port().to_string(), "PORT");
    transcript.name(&bench.token, "TOKEN");
    let form = format!("name=demo&token={}", bench.token);
    let length = format!("Content-Length: {}\r\n", form.len());
    let post = format!("POST /reversehttp HTTP/1.1\r\nHost: {}\r\n{INSTANCE}{length}\r\n{form}", bench.at);
    let registered = received(&mut sent(&bench, &mut transcript, &post).await, &mut transcript).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let first = registered.link("first");
    transcript.name_url(&first, "FIRST");
    transcript.name_url(registered.field("Location"), "PRIVATE");
    transcript.name_url(&registered.link("probe"), "PROBE");

    let get = |url: &str| format!("GET {url} HTTP/1.1\r\nHost: {}\r\nPrefer: wait=25\r\n\r\n", bench.at);
    let mut poll = sent(&bench, &mut transcript, &get(&first)).await;
    let mut visitor = bench.open().await;
    visitor.send("GET /slow HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    let request = received(&mut poll, &mut transcript).await;
    let (id, next) = (request.field("Ptth-Request").to_owned(), request.link("next"));
    assert!(request.status == 200 && !id.is_empty(), "{request:?}");
    transcript.name_url(&next, "NEXT");
    transcript.name(&id, "ID");
    let field =
        |name: &str| request.body.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    transcript.name(&field("X-Request-Id: "), "REQUEST");
    let visitor_port = visitor.stream.local_addr().unwrap().port().to_string();
    transcript.name(&visitor_port, "PORT");

    let mut poll = sent(&bench, &mut transcript, &get(&next)).await;
    wait_for_polls(&bench, 1).await;
    drop(visitor);
    let left = Instant::now();
    let cancelled = received(&mut poll, &mut transcript).await;
    assert!(left.elapsed() < SECOND, "{:?}", left.elapsed());
    assert_eq!((cancelled.status, cancelled.field("Ptth-Cancelled")), (204, &*id), "{cancelled:?}");
    transcript.name_url(&cancelled.link("next"), "NEXT");

    let page = format!("{INTRODUCTION}{}", transcript.named());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("PTTH_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, page, "{PAGE} differs from the exchange");
}

/// A request in the hand of an agent that registered with these fields, and its URL.
async fn in_hand(bench: &Bench, fields: &str) -> (Raw, Answer, String) {
    let form = format!("name=demo&token={}", bench.token);
    let url = bench.request("POST", "/reversehttp", fields, &form).await.link("first");
    let mut visitor = bench.open().await;
    visitor.send("GET /slow HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    let request = bench.poll(&url).await;
    (visitor, request, url)
}

/// Waits until the relay knows that the visitor of the only request has left.
async fn wait_until_none_is_unanswered(bench: &Bench) {
    let target = format!("/reversehttp?token={}", bench.token);
    for _ in 0..2_000 {
        if bench.request("GET", &target, "", "").await.body.contains("unanswered=0") {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the relay does not notice that a visitor has left");
}

#[tokio::test]
async fn without_a_waiting_poll_the_next_poll_is_answered_at_once() {
    let bench = Bench::start();
    let (visitor, request, url) = in_hand(&bench, INSTANCE).await;
    drop(visitor);
    wait_until_none_is_unanswered(&bench).await;
    let began = Instant::now();
    let cancelled = bench.poll(&request.link("next")).await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!((cancelled.status, cancelled.field("Ptth-Cancelled")), (204, request.field("Ptth-Request")));
    // The id is announced once, and an answer that is on its way is accepted and discarded.
    let next = cancelled.link("next");
    let mut poll = bench.polling(&next).await;
    wait_for_polls(&bench, 1).await;
    assert_eq!(bench.answer(&url, OK).await.status, 202);
    let (visit, second) = tokio::join!(bench.visit("demo", "/"), async {
        let second = poll.read().await;
        bench.answer(&next, OK).await;
        second
    });
    assert_eq!((second.status, second.field("Ptth-Cancelled"), visit.status), (200, "", 200));
}

#[tokio::test]
async fn an_agent_without_an_instance_sees_no_difference() {
    let bench = Bench::with(|config| config.polling.hold = Duration::from_millis(300));
    let (visitor, request, _) = in_hand(&bench, "").await;
    let mut poll = bench.polling(&request.link("next")).await;
    wait_for_polls(&bench, 1).await;
    let began = Instant::now();
    drop(visitor);
    wait_until_none_is_unanswered(&bench).await;
    let quiet = poll.read().await;
    assert!(began.elapsed() >= Duration::from_millis(200), "the poll was cut short");
    assert_eq!(quiet.status, 204);
    for answer in [request, quiet] {
        assert!(!answer.head.to_lowercase().contains("ptth-"), "{}", answer.head);
    }
}

#[tokio::test]
async fn comet_names_its_requests_and_cancels_them() {
    for instance in [INSTANCE, ""] {
        let bench = Bench::with(|config| config.polling.hold = Duration::from_millis(300));
        let peer = Peer::new(&bench);
        assert_eq!(peer.post(&format!("{instance}Prefer: wait=0\r\n"), "").await.status, 200);
        let mut visitor = bench.open().await;
        visitor.send("GET /slow HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
        let request = peer.post(instance, "").await;
        assert!(request.body.contains("/slow"), "{request:?}");
        let id = request.field("Ptth-Request").to_owned();
        let mut poll = peer.polling(instance).await;
        let began = Instant::now();
        drop(visitor);
        let answer = poll.read().await;
        assert_eq!((answer.status, &*answer.body, answer.field("Ptth-Cancelled")), (200, "{}", &*id));
        assert!(began.elapsed() < SECOND && id.is_empty() == instance.is_empty(), "{:?}", began.elapsed());
    }
}
