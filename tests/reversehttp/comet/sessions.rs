//! Who may have a session, when it begins and what ends it.

use serde_json::json;

use super::{NOTHING, Peer};
use crate::support::{Bench, STEP};

#[tokio::test]
async fn a_session_requires_a_token() {
    let bench = Bench::short_hold();
    let other = bench.another_token(&["theirs"]);
    assert_eq!(bench.request("POST", "/reversehttp/_comet?name=demo", "", "").await.status, 401);
    for (query, token, status) in [
        ("name=demo", "ptth_000000000000_x", 401),
        ("name=demo", &*other, 403),
        ("host=www.example.org", &bench.token, 403),
        ("name=a.b", &bench.token, 400),
        ("name=demo&session=a/b", &bench.token, 400),
        ("name=demo&session=", &bench.token, 400),
        ("", &bench.token, 400),
        ("", &*other, 200),
        ("name=theirs", &*other, 200),
    ] {
        let heard = Peer::of(&bench, query, token).post("", "").await;
        assert_eq!(heard.status, status, "{query}: {heard:?}");
    }
    // A name that is held is nobody else's.
    let held = Peer::of(&bench, "name=theirs", &bench.token).post("", "").await;
    assert_eq!(held.status, 403, "{held:?}");
    let basic = base64(&format!("x:{}", bench.token));
    let basic = format!("Authorization: Basic {basic}\r\n");
    assert_eq!(bench.request("POST", "/reversehttp/_comet?name=demo", &basic, "").await.status, 200);
    let malformed = Peer::new(&bench).post("PTTH-Instance: a b\r\n", "").await;
    assert_eq!(malformed.status, 400);
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn a_newer_process_replaces_an_older_process() {
    let bench = Bench::start();
    let peer = Peer::new(&bench);
    let (old, new) = ("PTTH-Instance: i;boot=1\r\n", "PTTH-Instance: i;boot=2\r\n");
    let mut waiting = peer.polling(old).await;
    // Whoever comes first: either the open poll ends, or it is never let in.
    let begun = peer.post(&format!("{new}Prefer: wait=0\r\n"), "").await;
    assert_eq!(begun.status, 200);
    assert_eq!(waiting.read().await.status, 409);
    assert_eq!(peer.post(old, "").await.status, 409);
}

#[tokio::test]
async fn comet_serves_only_its_path_and_leaves_upgrades_to_others() {
    let bench = Bench::short_hold();
    let peer = Peer::new(&bench);
    for method in ["GET", "PUT"] {
        assert_eq!(peer.request(method, "", "").await.status, 405, "{method}");
    }
    for path in ["/reversehttp/_comet/", "/reversehttp/_cometx", "/_comet"] {
        let bearer = format!("Authorization: Bearer {}\r\n", bench.token);
        let heard = bench.request("POST", &format!("{path}?name=demo"), &bearer, "").await;
        assert_eq!(heard.status, 404, "{path}");
    }
    assert_eq!(peer.post("ALPN: h2\r\n", "").await.status, 426);
    assert_eq!(peer.post("Connection: Upgrade\r\nUpgrade: PTTH/0.9\r\n", "").await.status, 101);
    let asked = bench.request("OPTIONS", "/reversehttp/_comet", "Origin: https://page.test\r\n", "").await;
    assert_eq!((asked.status, asked.field("Allow")), (204, "POST, DELETE, OPTIONS"));
    assert!(asked.field("Access-Control-Allow-Headers").contains("Authorization"), "{asked:?}");
    let refused = bench.request("POST", "/reversehttp/_comet", "Origin: https://page.test\r\n", "").await;
    assert_eq!((refused.status, refused.field("Access-Control-Allow-Origin")), (401, "*"));
}

#[tokio::test]
async fn a_probe_begins_no_session() {
    let bench = Bench::start();
    let peer = Peer::new(&bench);
    let asked = peer.post("PTTH-Probe: ?1\r\n", "").await;
    assert_eq!((asked.status, &*asked.body), (200, NOTHING));
    assert!(asked.link_url("related").starts_with("http://demo.relay.test:"));
    assert_eq!(peer.request("DELETE", "", "").await.status, 404);
}

#[tokio::test]
async fn delete_ends_polls_and_lets_requests_in_flight_finish() {
    let bench = Bench::start();
    let peer = Peer::of(&bench, "name=demo&session=s1", &bench.token);
    assert_eq!(peer.request("DELETE", "", "").await.status, 404);
    assert_eq!(peer.post("Prefer: wait=0\r\n", "").await.status, 200);
    let visit = bench.visit("demo", "/");
    let agent = async {
        let request = peer.poll().await;
        let mut waiting = peer.polling("").await;
        assert_eq!(peer.request("DELETE", "", "").await.status, 204);
        assert_eq!(waiting.read().await.status, 410);
        assert_eq!(peer.request("DELETE", "", "").await.status, 404);
        // An answer begins nothing, and is taken.
        let answered = peer.post("", &super::response(&request, "late").to_string()).await;
        assert_eq!((answered.status, &*answered.body), (200, NOTHING));
        assert_eq!(peer.post("", "").await.status, 410, "a named session stays ended");
    };
    let (visit, ()) = tokio::join!(visit, agent);
    assert_eq!((visit.status, &*visit.body), (200, "late"));
    assert_eq!(bench.visit("demo", "/").await.status, 503);

    let unnamed = Peer::begun(&bench).await;
    assert_eq!(unnamed.request("DELETE", "", "").await.status, 204);
    assert_eq!(unnamed.post("Prefer: wait=0\r\n", "").await.status, 200, "the next poll begins a session");
}

#[tokio::test]
async fn a_revoked_token_ends_its_polls_and_its_answers_are_refused() {
    let bench = Bench::start();
    let peer = Peer::begun(&bench).await;
    let mut visitor = bench.open().await;
    visitor.send("POST / HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: 0\r\n\r\n").await;
    let request = peer.poll().await;
    let mut waiting = peer.polling("").await;
    assert!(bench.config.tokens.revoke(&bench.id).unwrap());
    assert_eq!(waiting.read().await.status, 401);
    assert_eq!(peer.post("", "").await.status, 401);
    assert_eq!(peer.ok(&request, "x").await.status, 401);
    assert_eq!(visitor.read().await.status, 502, "its session was closed");
}

#[tokio::test]
async fn after_a_restart_the_next_poll_begins_a_session_and_an_answer_does_not() {
    let bench = Bench::short_hold();
    Peer::begun(&bench).await;
    assert_eq!(bench.visit("demo", "/").await.status, 503);
    let bench = bench.restarted().await;
    assert_eq!(bench.visit("demo", "/").await.status, 404);
    let peer = Peer::new(&bench);
    let unknown = json!({"message-id": "0".repeat(32), "status": 200});
    assert_eq!(peer.answer(&unknown).await.status, 404, "an answer begins no session");
    assert_eq!(bench.visit("demo", "/").await.status, 404);
    assert_eq!(peer.post("", "").await.body, NOTHING);
    assert_eq!(bench.visit("demo", "/").await.status, 503);
}

#[tokio::test]
async fn waiting_polls_are_limited() {
    let bench = Bench::start();
    let peer = Peer::begun(&bench).await;
    let mut polls = Vec::new();
    for _ in 0..ptth::internals::defaults::POLLS_MOST {
        polls.push(peer.polling("").await);
    }
    let most = async {
        loop {
            let one_more = peer.post("Prefer: wait=1\r\n", "").await;
            if one_more.status == 429 {
                return one_more;
            }
            assert_eq!((one_more.status, &*one_more.body), (200, NOTHING));
        }
    };
    let refused = tokio::time::timeout(STEP, most).await.expect("a poll is refused");
    assert!(!refused.field("Retry-After").is_empty());
    // Each of them is still good for a request.
    let (visit, ()) = tokio::join!(bench.visit("demo", "/"), async {
        let first = polls[0].read().await;
        let request = serde_json::from_str(&first.body).unwrap();
        assert_eq!(peer.ok(&request, "first").await.status, 200);
    });
    assert_eq!(visit.body, "first");
}
