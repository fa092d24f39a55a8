//! Agents that take requests and let their visitors wait: in silence, byte by byte, or by taking nothing in.

use std::time::{Duration, Instant};

use futures_util::future::{join_all, pending};
use ptth::internals::defaults;
use ptth::internals::session::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::foreign::{Foreign, Stranger};
use crate::frames::{CONTINUATION, END_HEADERS, HEADERS, block, frame, literal};
use crate::recorder::Recorder;
use crate::support::{Plan, TestRelay, Wire, is_long, named, serve};
use crate::world::{On, PROMPT, connect, honest, status};

/// Until the head of an answer, at these relays.
const ANSWER: Duration = Duration::from_secs(1);
/// Between two bytes of an agent that drips: ten times as fast as one a second, and as hopeless.
const DRIP: Duration = Duration::from_millis(100);
/// An upload that is larger than what an agent takes in by itself, in bytes.
const UPLOAD: usize = 1 << 20;

/// How an agent lets its visitors wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It says nothing.
    Silent,
    /// It begins to answer, and goes on byte by byte.
    Drip,
    /// It takes in nothing of what comes: a window of 0, or one that nobody reads from.
    Deaf,
}

/// As many as one agent may have, or nearly so many where they are polls.
fn count(on: On) -> usize {
    match (is_long(), on.carrier) {
        (false, _) => 30,
        (true, Kind::Envelope) => defaults::POLLS_MOST - 4,
        (true, _) => 100,
    }
}

/// A15; RFC 9113 §10.5: every visitor of such an agent is told by the deadline, and those of others do not notice.
pub(crate) async fn a_stalling_agent_delays_only_its_visitors(on: On) {
    for how in [How::Silent, How::Drip, How::Deaf] {
        let relay = TestRelay::planned(Plan { answer: Some(ANSWER), ..Plan::default() });
        let origin = Recorder::start().await;
        let _honest = serve(&on.agent(&relay, "honest"), origin.handler()).await;
        let calm = honest_wait(&relay).await;
        let token = relay.token(&["stalls"]);
        let settings = if how == How::Deaf { &[(4, 0)][..] } else { &[] };
        let agent = Stranger { settings, ..Stranger::new(on, relay.plain, "stalls", token.expose()) };
        let links = join_all((0..count(on)).map(|_| agent.connect())).await;
        let links = links.into_iter().map(|link| link.expect("the relay admits the agent"));
        let stalling = join_all(links.map(|link| stall(how, link, relay.plain, token.expose())));
        let visitors = join_all((0..count(on)).map(|_| visit(how, &relay)));
        let beside = async {
            let (told, busy) = tokio::join!(visitors, honest_wait(&relay));
            (told, busy)
        };
        let (told, busy) = tokio::select! {
            done = beside => done,
            _ = stalling => unreachable!("a stalling agent does not end"),
        };
        for (status, took) in &told {
            assert!(
                [502, 503, 504].contains(status) && *took < PROMPT * 2,
                "{how:?}: {status} after {took:?}"
            );
        }
        assert!(told.iter().any(|(status, _)| *status == 504), "{how:?}: no visitor got a 504: {told:?}");
        println!("{on} {how:?}: honest visitors {calm:?} before, {busy:?} under load");
        // Each of them was answered, and soon. Whether they waited longer than before shows on a quiet machine alone.
        // Messages of comet are encoded without optimisation here, which takes half a second on two slow cores.
        let longest = (2 * calm).max(Duration::from_secs(1));
        assert!(!is_long() || busy < longest, "{how:?}: {calm:?} before, {busy:?} under load");
    }
}

/// How long honest visitors wait: the worst but one of twenty and more.
async fn honest_wait(relay: &TestRelay) -> Duration {
    let mut took = Vec::new();
    for _ in 0..40 {
        let began = Instant::now();
        honest(relay, "honest").await;
        took.push(began.elapsed());
    }
    took.sort();
    took[took.len() - 2]
}

/// A visitor; its status, and when it was told.
async fn visit(how: How, relay: &TestRelay) -> (u16, Duration) {
    let began = Instant::now();
    let host = named("stalls");
    let head = match how {
        How::Deaf => format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {UPLOAD}\r\n\r\n"
        ),
        _ => format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    };
    let (mut reader, mut writer) = connect(relay.plain).await.into_split();
    let sending = async {
        let _ = writer.write_all(head.as_bytes()).await;
        if how == How::Deaf {
            let _ = writer.write_all(&vec![b'x'; UPLOAD]).await;
        }
        pending::<()>().await
    };
    let mut got = Vec::new();
    let reading = async { while let Ok(Ok(1..)) = timeout(PROMPT * 2, reader.read_buf(&mut got)).await {} };
    tokio::select! {
        () = reading => {}
        () = sending => unreachable!("the sender does not end"),
    }
    (status(&got), began.elapsed())
}

/// Never ends.
async fn stall(how: How, mut link: Foreign, at: std::net::SocketAddr, token: &str) {
    if how == How::Deaf && !matches!(link, Foreign::H2(_)) {
        // What has arrived stays where it is.
        return pending().await;
    }
    link.request().await;
    if how != How::Drip {
        if let Foreign::H2(frames) = &mut link {
            while frames.until(PROMPT * 4, |_| false).await.is_some() {}
        }
        return pending().await;
    }
    match &mut link {
        Foreign::H1(wire) => {
            wire.send("HTTP/1.1 200 OK\r\nX: ").await;
            while wire.try_send("y").await.is_ok() {
                tokio::time::sleep(DRIP).await;
            }
        }
        Foreign::H2(frames) => {
            frames.send(frame(HEADERS, 0, 1, block(&[(":status", "200")]))).await;
            let bytes = literal(b"x", &[b'y'; 100]);
            for byte in &bytes {
                if !frames.send(frame(CONTINUATION, 0, 1, [*byte])).await {
                    break;
                }
                tokio::time::sleep(DRIP).await;
            }
            frames.send(frame(CONTINUATION, END_HEADERS, 1, [])).await;
        }
        Foreign::Poll(_, path) => {
            let mut wire = Wire::new(connect(at).await);
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: ptth.localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000\r\n\r\n"
            );
            wire.send(head).await;
            for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().chain([b'y'; 900].iter()) {
                if wire.try_send([*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(DRIP).await;
            }
        }
    }
    pending().await
}
