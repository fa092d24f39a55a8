//! A relay that means harm, against our agent: it reaches the one origin that was configured, in well-formed requests,
//! and costs a bounded amount of memory.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use ptth::internals::domain::Secret;
use ptth::internals::session::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::floods::{self, PATIENCE};
use crate::frames::{END_HEADERS, END_STREAM, Frames, HEADERS, frame, request};
use crate::process::Process;
use crate::program::{MIB, peak, resident};
use crate::recorder::Recorder;
use crate::site::Site;
use crate::support::{AgentPlan, named, within};
use crate::world::{NAME, On, status};

/// What an agent may grow by all that a relay does.
const GROWTH: usize = 128 * MIB;

/// A relay that lets everybody in, and does as the case says.
struct Toy {
    listener: TcpListener,
    on: On,
}

impl Toy {
    async fn start(on: On) -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), on }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The agent's next connection, behind the 101.
    async fn next(&self) -> TcpStream {
        let (mut stream, _) = within("waiting for the agent", self.listener.accept()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("an offer", stream.read_u8()).await.unwrap());
        }
        let token = if self.on.transport == "ptth" { "ptth" } else { "PTTH/1.0" };
        let alpn = self.on.carrier.alpn_field();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {token}\r\nALPN: {alpn}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream
    }

    /// An honest request on the agent's next connection.
    async fn honest(&self) {
        let stream = self.next().await;
        let answered = match self.on.carrier {
            Kind::H2 => {
                let mut frames = Frames::client(stream).await;
                frames
                    .send(frame(
                        HEADERS,
                        END_HEADERS | END_STREAM,
                        1,
                        request("GET", &named(NAME), "/honest"),
                    ))
                    .await;
                let answer = frames.until(crate::support::STEP, |f| f.kind == HEADERS).await;
                answer.is_some_and(|f| f.has_status(200))
            }
            _ => {
                let head = format!("GET /honest HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME));
                status(&fetch_raw(stream, head.as_bytes()).await) == 200
            }
        };
        assert!(answered, "an honest request was not answered");
    }
}

/// Sends bytes; what comes back until the end, or until nothing comes for a while.
async fn fetch_raw(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        let _ = writer.write_all(bytes).await;
        std::future::pending::<()>().await
    };
    let reading = async {
        while let Ok(Ok(1..)) = tokio::time::timeout(PATIENCE * 2, reader.read_buf(&mut got)).await {}
    };
    tokio::select! {
        () = reading => {}
        () = sending => unreachable!("the sender does not end"),
    }
    got
}

fn agent(toy: &Toy, origin: &Recorder) -> ptth::internals::agent::Serving {
    let url = format!("http://{}/", toy.address());
    AgentPlan::new(&url, NAME, Secret::new("not-looked-at"), toy.on.transport, toy.on.carrier)
        .start(origin.handler())
}

/// A19, A21 on `h2`: each flood on an agent of its own, which serves again afterwards.
pub(crate) async fn an_agent_survives_the_floods_of_its_relay(on: On) {
    if on.carrier != Kind::H2 {
        return;
    }
    let origin = Arc::new(Recorder::start().await);
    let one = |flood: floods::Flood| {
        let origin = origin.clone();
        async move {
            let toy = Toy::start(on).await;
            let _agent = agent(&toy, &origin);
            let mut relay = Frames::client(toy.next().await).await;
            relay.send(&flood.before).await;
            relay.flood(flood.most.min(10_000), PATIENCE, &flood.unit).await;
            toy.honest().await;
        }
    };
    stream::iter(floods::all(&named(NAME)).into_iter().map(one)).buffer_unordered(6).collect::<()>().await;
    origin.whole();
}

/// A20, A21; CVE-2026-40910's kin: whatever a request names, it goes to the one origin.
pub(crate) async fn an_agent_dials_only_its_origin(on: On) {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = elsewhere.local_addr().unwrap();
    let origin = Recorder::start().await;
    let toy = Toy::start(on).await;
    let _agent = agent(&toy, &origin);
    let hosts = [
        "169.254.169.254".to_owned(),
        other.to_string(),
        "localhost".into(),
        "metadata.google.internal".into(),
        "[::1]:22".into(),
    ];
    if on.carrier == Kind::H2 {
        let mut relay = Frames::client(toy.next().await).await;
        for (number, host) in hosts.iter().enumerate() {
            for (place, fields) in [
                request("GET", host, "/latest/meta-data"),
                request("CONNECT", host, "/"),
                request("GET", &named(NAME), &format!("http://{host}/")),
            ]
            .iter()
            .enumerate()
            {
                let id = 2 * (3 * number + place) as u32 + 1;
                relay.send(frame(HEADERS, END_HEADERS | END_STREAM, id, fields)).await;
                relay.until(PATIENCE, |f| f.stream == id).await;
            }
        }
    } else {
        for host in &hosts {
            for text in [
                format!(
                    "GET http://{host}/latest/meta-data HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                    named(NAME)
                ),
                format!("GET /latest/meta-data HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
                format!(
                    "GET /two-hosts HTTP/1.1\r\nHost: {}\r\nHost: {host}\r\nConnection: close\r\n\r\n",
                    named(NAME)
                ),
                format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
                format!(
                    "GET //{host}/ HTTP/1.1\r\nHost: {}\r\nX-Forwarded-Host: {host}\r\nConnection: close\r\n\r\n",
                    named(NAME)
                ),
            ] {
                fetch_raw(toy.next().await, text.as_bytes()).await;
            }
        }
    }
    let seen = origin.whole();
    assert!(!seen.is_empty() && seen.iter().all(|r| r.target().starts_with('/')), "{seen:?}");
    let dialled = tokio::time::timeout(PATIENCE, elsewhere.accept()).await;
    assert!(dialled.is_err(), "the agent dialled another address than its origin");
}

/// A21: heads and bodies without end, in a process whose memory is measured.
pub(crate) async fn a_relay_cannot_fill_the_memory_of_an_agent(on: On) {
    let (site, origin, toy) = (Site::new(), Recorder::start().await, Toy::start(on).await);
    let url = format!("http://{}", toy.address());
    let mut command = site.agent_command(&url, origin.address().to_string());
    let agent = Process::start(command.args(["--transport", on.transport]));
    fill(on, &toy, &agent).await;
}

async fn fill(on: On, toy: &Toy, agent: &Process) {
    let carrier_first = toy.next().await;
    let before = resident(agent.id());
    if on.carrier == Kind::H2 {
        let wanted = ["CONTINUATION", "HPACK", "crumbs", "padding", "SETTINGS", "rapid reset of uploads"];
        let mut relay = Some(carrier_first);
        for flood in floods::all(&named(NAME)) {
            if !wanted.iter().any(|word| flood.name.contains(word)) {
                continue;
            }
            let mut frames = Frames::client(match relay.take() {
                Some(relay) => relay,
                None => toy.next().await,
            })
            .await;
            frames.send(&flood.before).await;
            frames.flood(flood.most, PATIENCE, &flood.unit).await;
        }
    } else {
        let host = named(NAME);
        let post = format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let line = format!("X-{}: {}\r\n", "a".repeat(100), "b".repeat(8_000));
        let mut relay = Some(carrier_first);
        for (first, then) in [
            (format!("GET / HTTP/1.1\r\nHost: {host}\r\n"), line.repeat(100)),
            ("GET / HTTP/1.1\r\n".into(), "X: y\r\n".repeat(100_000)),
            ("GET /".into(), "a".repeat(MIB)),
            (format!("{post}5;"), "0".repeat(MIB)),
            (format!("{post}1\r\nx\r\n0\r\n"), "X: y\r\n".repeat(100_000)),
        ] {
            let stream = match relay.take() {
                Some(stream) => stream,
                None => toy.next().await,
            };
            endless(stream, &first, &then).await;
        }
    }
    let grown = peak(agent.id()).saturating_sub(before);
    println!("{on}: endless requests cost the agent {} MiB", grown / MIB);
    assert!(grown < GROWTH, "{on}: {} MiB more", grown / MIB);
    toy.honest().await;
}

/// Sends without end: until the agent hangs up or takes no more, or has been sent a gigabyte.
async fn endless(mut stream: TcpStream, first: &str, then: &str) {
    let mut sent = stream.write_all(first.as_bytes()).await.map_or(usize::MAX, |()| 0);
    while sent < 1 << 30 {
        match tokio::time::timeout(PATIENCE * 3, stream.write_all(then.as_bytes())).await {
            Ok(Ok(())) => sent += then.len(),
            _ => break,
        }
    }
}

/// A27: an answer that is no 101 is no session, however it looks, and nothing behind it is a request.
pub(crate) async fn only_a_101_opens_a_session(on: On) {
    let origin = Recorder::start().await;
    let upgrade = if on.transport == "ptth" { "ptth" } else { "PTTH/1.0" };
    let request = "GET /too-early HTTP/1.1\r\nHost: x\r\n\r\n";
    for answer in [
        format!(
            "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\nContent-Length: 0\r\n\r\n{request}"
        ),
        format!("HTTP/1.1 204 No Content\r\nUpgrade: {upgrade}\r\n\r\n{request}"),
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{request}"),
        format!(
            "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n{request}"
        ),
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\nALPN: h3\r\n\r\n{request}"
        ),
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n{request}"
        ),
        request.to_owned(),
        "\0\0\0\x04\0\0\0\0\0".to_owned(),
    ] {
        // An answer that is not HTTP ends the agent, so each answer is for a new one.
        let toy = Toy::start(on).await;
        let _agent = agent(&toy, &origin);
        let (mut stream, _) = within("the agent's first try", toy.listener.accept()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("an offer", stream.read_u8()).await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let ended = within("the agent hanging up", stream.read_to_end(&mut rest)).await;
        assert!(ended.is_err() || rest.is_empty(), "{answer:?}: {:?}", String::from_utf8_lossy(&rest));
    }
    let toy = Toy::start(on).await;
    let _agent = agent(&toy, &origin);
    toy.honest().await;
    let targets: Vec<_> = origin.whole().iter().map(|r| r.target().to_owned()).collect();
    assert_eq!(targets, ["/honest"]);
}
