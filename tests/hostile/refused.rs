//! Requests that an agent refuses before it has looked at them (RFC 9113 §6.8, §8.7): they are sent again, whatever
//! their method is, unless part of a body has gone.

use ptth::internals::session::Kind;

use crate::foreign::{Foreign, Stranger};
use crate::frames::{DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM, frame};
use crate::support::{STEP, TestRelay, Wire, named};
use crate::world::{NAME, On};

const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

async fn agent(on: On, relay: &TestRelay, token: &str) -> Frames {
    match Stranger::new(on, relay.plain, NAME, token).connect().await {
        Ok(Foreign::H2(agent)) => agent,
        _ => panic!("no connection with HTTP/2"),
    }
}

async fn visitor(relay: &TestRelay, method: &str, length: usize, body: &str) -> Wire {
    let mut visitor = relay.visitor().await;
    let fields = format!("Host: {}\r\nContent-Length: {length}\r\n", named(NAME));
    visitor.send(format!("{method} / HTTP/1.1\r\n{fields}\r\n{body}")).await;
    visitor
}

async fn next(agent: &mut Frames, kind: u8) -> Frame {
    agent.until(STEP, |frame| frame.kind == kind).await.unwrap_or_else(|| panic!("no frame of kind {kind}"))
}

/// The next request, unless its visitor has an answer before.
async fn request(agent: &mut Frames, visitor: &mut Wire) -> u32 {
    tokio::select! {
        asked = next(agent, HEADERS) => asked.stream,
        (head, _) = visitor.message() => panic!("the agent got no request: {}", head.first),
    }
}

async fn answer(agent: &mut Frames, stream: u32) {
    assert!(agent.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, [0x88])).await);
}

pub(crate) async fn a_refused_stream_is_retried(on: On) {
    if on.carrier != Kind::H2 {
        return;
    }
    let relay = TestRelay::start();
    let token = relay.token(&[NAME]);
    let mut agent = agent(on, &relay, token.expose()).await;
    for (method, body) in [("DELETE", ""), ("GET", ""), ("POST", ""), ("POST", "hi")] {
        let mut visitor = visitor(&relay, method, body.len(), body).await;
        let mut stream = 0;
        for _ in 0..3 {
            let last = std::mem::replace(&mut stream, request(&mut agent, &mut visitor).await);
            assert!(stream > last);
            if !body.is_empty() {
                assert_eq!(next(&mut agent, DATA).await.payload, body.as_bytes());
            }
            agent.send(frame(RST_STREAM, 0, stream, REFUSED_STREAM)).await;
        }
        stream = request(&mut agent, &mut visitor).await;
        answer(&mut agent, stream).await;
        assert_eq!(visitor.head().await.status(), 200, "{method} {body}");
    }
    // Somebody who refuses all has to be left in peace.
    let mut visitor = visitor(&relay, "DELETE", 0, "").await;
    let refused = async {
        loop {
            let stream = next(&mut agent, HEADERS).await.stream;
            agent.send(frame(RST_STREAM, 0, stream, REFUSED_STREAM)).await;
        }
    };
    tokio::select! {
        () = refused => {}
        (head, body) = visitor.message() => assert_eq!(head.status(), 503, "{body}"),
    }
}

pub(crate) async fn a_partly_sent_body_is_not_retried(on: On) {
    if on.carrier != Kind::H2 {
        return;
    }
    let relay = TestRelay::start();
    let token = relay.token(&[NAME]);
    let mut agent = agent(on, &relay, token.expose()).await;
    let mut visitor = visitor(&relay, "POST", 4, "ha").await;
    let stream = next(&mut agent, DATA).await.stream;
    agent.send(frame(RST_STREAM, 0, stream, REFUSED_STREAM)).await;
    assert_eq!(visitor.head().await.status(), 502);
}

pub(crate) async fn requests_beyond_a_goaway_move_to_the_next_connection(on: On) {
    if on.carrier != Kind::H2 {
        return;
    }
    let relay = TestRelay::start();
    let token = relay.token(&[NAME]);
    let mut first = agent(on, &relay, token.expose()).await;
    let mut stays = visitor(&relay, "PUT", 0, "").await;
    let stays_on = next(&mut first, HEADERS).await.stream;
    let mut goes = visitor(&relay, "DELETE", 0, "").await;
    assert!(next(&mut first, HEADERS).await.stream > stays_on);
    first.send(frame(GOAWAY, 0, 0, [stays_on.to_be_bytes(), [0; 4]].concat())).await;
    let mut second = agent(on, &relay, token.expose()).await;
    let stream = request(&mut second, &mut goes).await;
    answer(&mut second, stream).await;
    assert_eq!(goes.head().await.status(), 200);
    answer(&mut first, stays_on).await;
    assert_eq!(stays.head().await.status(), 200);
}
