//! Answers of agents that mean harm, or know no better.

use serde_json::{Value, json};

use super::{Peer, response};
use crate::support::{Answer, Bench};

/// The answers that a visitor and the agent get; the text has `ID` where the id of the request goes.
async fn outcome(text: &str) -> (Answer, Answer) {
    let bench = Bench::start();
    let peer = Peer::begun(&bench).await;
    let mut visitor = bench.open().await;
    visitor.send("GET / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    let request = peer.poll().await;
    let text = text.replace("ID", request["message-id"].as_str().unwrap());
    let (visit, answered) = tokio::join!(visitor.read(), peer.post("Prefer: wait=0\r\n", &text));
    // The visitor's connection is unharmed, and the session too.
    visitor.send("GET /again HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    let (again, _) = tokio::join!(visitor.read(), async {
        let request = peer.poll().await;
        peer.ok(&request, "again").await
    });
    assert_eq!((again.status, &*again.body), (200, "again"));
    (visit, answered)
}

#[tokio::test]
async fn an_invalid_answer_is_refused() {
    let deep = format!(r#","x":{}"#, "[".repeat(200_000));
    let many = format!(r#","headers":[{}["A","b"]]"#, r#"["A","b"],"#.repeat(600));
    for rest in [
        r#","status":99"#,
        r#","status":1000"#,
        r#","status":101"#,
        r#","status":100"#,
        r#","status":199"#,
        r#","status":-200"#,
        r#","status":1e999"#,
        r#","status":200000000000000000000000000"#,
        r#","status":"200""#,
        r#","body":"no status""#,
        r#","status":200,"status":200"#,
        r#","status":200,"message-id":"ID""#,
        r#","status":200,"http-version":"HTTP/1.1""#,
        r#","status":200,"headers":[["A","b\r\nSet-Cookie: x=1"]]"#,
        r#","status":200,"headers":[["A\r\nSet-Cookie","x=1"]]"#,
        r#","status":200,"headers":[["A","b\u0000"]]"#,
        r#","status":200,"headers":[["A\u0000","b"]]"#,
        r#","status":200,"headers":[["A b","c"]]"#,
        r#","status":200,"headers":[["A","\ud83d"]]"#,
        r#","status":200,"headers":[["A","b","c"]]"#,
        r#","status":200,"headers":{"A":"b"}"#,
        r#","status":200,"body":"%%%","body-encoding":"base64""#,
        r#","status":200,"body":"x","body-encoding":"rot13""#,
        r#","status":200,"body":"\udc00""#,
        ",\"status\":200,\"body\":\"a\0b\"",
        ",\"status\":200,\"body\":\"a\r\nb\"",
        r#","status":200,}"#,
        r#","status":200}{"message-id":"ID","status":200"#,
        r#","status":200,"reason":["#,
        &deep,
        &many,
    ] {
        let (visit, answered) = outcome(&format!(r#"{{"message-id":"ID"{rest}}}"#)).await;
        assert_eq!((visit.status, answered.status), (502, 400), "{rest:.60}");
        assert!(visit.body.contains("invalid-answer") && answered.body.len() < 2000, "{answered:?}");
    }
}

#[tokio::test]
async fn an_unusual_answer_is_forwarded_with_correct_framing() {
    for rest in [
        r#","headers":[["Content-Length","1"]]"#,
        r#","headers":[["Content-Length","99"],["Content-Length","3"]]"#,
        r#","headers":[["Transfer-Encoding","chunked"],["Connection","close, x-hop"],["X-Hop","1"]]"#,
        r#","headers":[["Trailer","X-T"],["Upgrade","x"],["Connection","upgrade"]]"#,
        r#","reason":"O\r\nSet-Cookie: x=1\r\n""#,
        r#","unknown":{"a":[1,2,{"b":1e9999}]},"unknown":null"#,
    ] {
        let text = format!(r#"{{"status":200,"message-id":"ID","body":"abc"{rest}}}"#);
        let (visit, answered) = outcome(&text).await;
        assert_eq!((visit.status, answered.status), (200, 200), "{rest}: {visit:?} {answered:?}");
        assert_eq!((&*visit.body, visit.field("Content-Length")), ("abc", "3"), "{rest}");
        for gone in ["Set-Cookie", "X-Hop", "Transfer-Encoding", "Trailer", "Upgrade"] {
            assert!(!visit.head.contains(gone), "{}", visit.head);
        }
    }
}

#[tokio::test]
async fn an_answer_without_a_known_id_is_refused() {
    let bench = Bench::start();
    let peer = Peer::begun(&bench).await;
    let mut visitor = bench.open().await;
    visitor.send("GET / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n").await;
    let request = peer.poll().await;
    let id = request["message-id"].as_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    for (text, status) in [
        ("nonsense".to_owned(), 400),
        ("[]".into(), 400),
        ("null".into(), 400),
        (r#"{"status":200,"body":"x"}"#.into(), 400),
        (r#"{"x":1}"#.into(), 400),
        (format!(r#"{{"message-id":"{}","status":200}}"#, "0".repeat(32)), 404),
        (format!(r#"{{"message-id":" {id}","status":200}}"#), 404),
        (format!(r#"{{"message-id":"+{}","status":200}}"#, &id[1..]), 404),
        (r#"{"message-id":"","status":200}"#.into(), 404),
    ] {
        let heard = peer.post("Prefer: wait=0\r\n", &text).await;
        assert_eq!(heard.status, status, "{text}: {heard:?}");
    }
    assert_eq!(peer.ok(&request, "mine").await.status, 200);
    assert_eq!(visitor.read().await.body, "mine");
}

#[tokio::test]
async fn an_id_accepts_one_answer_from_its_own_agent() {
    let bench = Bench::start();
    let mine = Peer::of(&bench, "name=mine", &bench.token);
    assert_eq!(mine.post("Prefer: wait=0\r\n", "").await.status, 200);
    let other = bench.another_token(&["theirs"]);
    let theirs = Peer::of(&bench, "name=theirs", &other);
    assert_eq!(theirs.post("Prefer: wait=0\r\n", "").await.status, 200);
    let (visit, ()) = tokio::join!(bench.visit("mine", "/"), async {
        let request = mine.poll().await;
        // Somebody else's token opens nothing, whatever it knows, and spoils nothing.
        assert_eq!(theirs.ok(&request, "stolen").await.status, 404);
        let mut spoilt = response(&request, "stolen");
        spoilt["status"] = json!(99);
        assert_eq!(theirs.answer(&spoilt).await.status, 400);
        assert_eq!(mine.ok(&request, "mine").await.status, 200);
        assert_eq!(mine.ok(&request, "second").await.status, 409);
        assert_eq!(mine.answer(&spoilt).await.status, 400);
    });
    assert_eq!((visit.status, &*visit.body), (200, "mine"));
}

#[tokio::test]
async fn an_oversized_answer_is_413_for_the_agent_and_502_for_the_visitor() {
    let bench = Bench::start();
    let peer = Peer::begun(&bench).await;
    let mut visitor = bench.open().await;
    let ask = "GET / HTTP/1.1\r\nHost: demo.relay.test\r\n\r\n";

    visitor.send(ask).await;
    let request = peer.poll().await;
    let answered = peer.ok(&request, &"x".repeat(ptth::internals::defaults::COMET_MESSAGE + 1)).await;
    assert_eq!((answered.status, visitor.read().await.status), (413, 502));

    // What says its size is not even read.
    visitor.send(ask).await;
    let request = peer.poll().await;
    let mut agent = bench.open().await;
    let length = ptth::internals::defaults::JSON + 1;
    let start = "x".repeat(20_000);
    let bearer = format!("Authorization: Bearer {}\r\n", bench.token);
    let id = request["message-id"].as_str().unwrap();
    agent
        .send(&format!(
            "POST /reversehttp/_comet?name=demo HTTP/1.1\r\nHost: relay.test\r\n{bearer}\
             Content-Length: {length}\r\n\r\n{{\"message-id\":\"{id}\",\"body\":\"{start}"
        ))
        .await;
    assert_eq!((agent.read().await.status, visitor.read().await.status), (413, 502));

    // The largest that fits.
    visitor.send(ask).await;
    let request = peer.poll().await;
    let body = "\n".repeat(ptth::internals::defaults::COMET_MESSAGE);
    assert_eq!(peer.ok(&request, &body).await.status, 200);
    assert_eq!(visitor.read().await.body.len(), body.len());
}

#[tokio::test]
async fn a_truncated_answer_is_502_at_once() {
    let bench = Bench::start();
    let peer = Peer::begun(&bench).await;
    let mut visitor = bench.open().await;
    // What is not safe to repeat is not repeated.
    visitor.send("POST / HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: 0\r\n\r\n").await;
    let request: Value = peer.poll().await;
    let mut agent = bench.open().await;
    let id = request["message-id"].as_str().unwrap();
    let bearer = format!("Authorization: Bearer {}\r\n", bench.token);
    agent
        .send(&format!(
            "POST /reversehttp/_comet?name=demo HTTP/1.1\r\nHost: relay.test\r\n{bearer}\
             Transfer-Encoding: chunked\r\n\r\n40\r\n{:<64}\r\n",
            format!("{{\"message-id\":\"{id}\",")
        ))
        .await;
    agent.send("nonsense\r\n").await;
    assert_eq!(visitor.read().await.status, 502);
}
