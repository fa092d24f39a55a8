//! An agent that was let in and means harm: to the visitors of its own name, and to those of others.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use ptth::internals::domain::Secret;
use ptth::internals::session::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frames::*;
use crate::program::{MIB, Program};
use crate::recorder::Recorder;
use crate::support::{Plan, TestRelay, Wire, named, offer, run, serve, within};
use crate::world::{On, connect, honest, raw, status};

/// Until the head of an answer, at these relays.
const ANSWER: Duration = Duration::from_secs(1);
/// No visitor waits longer, whatever an agent does: five times [`ANSWER`] and [`SILENT`].
const DEADLINE: Duration = Duration::from_secs(20);
/// A visitor's connection that is silent for so long has got all that it gets.
const SILENT: Duration = Duration::from_secs(3);

fn relay() -> TestRelay {
    TestRelay::planned(Plan { answer: Some(ANSWER), ..Plan::default() })
}

/// The connection of an agent whose every byte the case writes, behind the 101.
async fn flipped(on: On, relay: &TestRelay, name: &str, token: &Secret) -> TcpStream {
    let bearer = format!("Authorization: Bearer {}\r\n", token.expose());
    let mut agent = connect(relay.plain).await;
    agent.write_all(offer((on.transport, on.carrier), relay, name, &bearer).as_bytes()).await.unwrap();
    let head = head(&mut agent).await;
    assert_eq!(status(&head), 101, "{}", String::from_utf8_lossy(&head));
    agent
}

/// Answers of HTTP/1.1 that two readers might cut in different places; each with what a visitor may make of it.
#[expect(clippy::too_many_lines, reason = "a table, and nothing else")]
fn answers() -> Vec<(&'static str, String, &'static [u16])> {
    const PLANTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted";
    const NO: &[u16] = &[502, 504, 0];
    let with = |fields: &str, rest: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n{rest}");
    let fields: String = (0..20_000).map(|n| format!("X-{n}: y\r\n")).collect();
    vec![
        ("two answers", with("Content-Length: 2\r\n", &format!("ok{PLANTED}")), &[200]),
        ("a length that is too short", with("Content-Length: 2\r\n", "okplanted"), &[200]),
        ("two lengths", with("Content-Length: 2\r\nContent-Length: 40\r\n", &format!("ok{PLANTED}")), NO),
        ("a length with a sign", with("Content-Length: +2\r\n", &format!("ok{PLANTED}")), NO),
        ("a list of lengths", with("Content-Length: 2, 40\r\n", &format!("ok{PLANTED}")), NO),
        ("a length that is not a number", with("Content-Length: x\r\n", PLANTED), NO),
        ("a fold", with("X-A: b\r\n Set-Cookie: planted=1\r\nContent-Length: 0\r\n", ""), NO),
        ("NUL in a value", with("X-A: b\0c\r\nContent-Length: 0\r\n", ""), NO),
        ("a bare CR in a value", with("X-A: b\rX-Planted: planted\r\nContent-Length: 0\r\n", ""), NO),
        ("a blank in a name", with("X A: b\r\nContent-Length: 0\r\n", ""), NO),
        ("a blank before the colon", with("Content-Length : 0\r\n", ""), NO),
        ("no colon", with("planted\r\nContent-Length: 0\r\n", ""), NO),
        ("an unknown coding", with("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), &[502, 504, 0, 200]),
        (
            "a chunk with a sign",
            with("Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n0\r\n\r\n"),
            &[200, 502],
        ),
        (
            "a chunk size beyond 64 bits",
            with("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nx"),
            &[200, 502],
        ),
        ("a chunk without an end", with("Transfer-Encoding: chunked\r\n", "2\r\nokplanted"), &[200, 502]),
        (
            "an answer behind chunks",
            with("Transfer-Encoding: chunked\r\n", &format!("2\r\nok\r\n0\r\n\r\n{PLANTED}")),
            &[200],
        ),
        ("status 000", "HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n".into(), NO),
        ("status 99", "HTTP/1.1 99 OK\r\nContent-Length: 0\r\n\r\n".into(), NO),
        ("status 1000", "HTTP/1.1 1000 OK\r\nContent-Length: 0\r\n\r\n".into(), NO),
        ("status -1", "HTTP/1.1 -1 OK\r\nContent-Length: 0\r\n\r\n".into(), NO),
        (
            "an unsolicited 101",
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n{PLANTED}"),
            NO,
        ),
        (
            "a line end in the reason",
            "HTTP/1.1 200 OK\rSet-Cookie: planted=1\r\nContent-Length: 0\r\n\r\n".into(),
            NO,
        ),
        ("another version", "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n".into(), NO),
        ("no HTTP at all", "planted\r\n\r\n".into(), NO),
        (
            "a 204 with a body",
            format!("HTTP/1.1 204 No Content\r\nContent-Length: 40\r\n\r\n{PLANTED}"),
            &[204],
        ),
        (
            "a 304 with a body",
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 40\r\n\r\n{PLANTED}"),
            &[304],
        ),
        (
            "thousands of hints",
            format!("{}{PLANTED}", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(5_000)),
            &[103, 200, 502, 504, 0],
        ),
        ("thousands of fields", with(&fields, ""), NO),
        ("a field of a megabyte", with(&format!("X: {}\r\n", "y".repeat(1 << 20)), ""), NO),
        ("a status line without end", format!("HTTP/1.1 200 {}", "y".repeat(1 << 20)), NO),
    ]
}

/// A5, A6 on `h1`; RUSTSEC-2017-0002, CWE-113.
pub(crate) async fn a_split_answer_reaches_only_its_visitor(on: On) {
    if on.carrier != Kind::H1 {
        return;
    }
    let relay = relay();
    let (origin, relay) = (Recorder::start().await, &relay);
    let _honest = serve(&on.agent(relay, "honest"), origin.handler()).await;
    let one = |(number, (what, answer, allowed)): (usize, (&'static str, String, &'static [u16]))| async move {
        let name = format!("evil-{number}");
        let token = relay.token(&[&name]);
        let mut agent = Wire::new(flipped(on, relay, &name, &token).await);
        let ask = format!("GET /first HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", named(&name));
        let attack = async {
            assert_eq!(agent.head().await.first, "GET /first HTTP/1.1");
            // The relay may hang up in the middle of it.
            let _ = agent.try_send(&answer).await;
            agent
        };
        let asked = Instant::now();
        let (got, agent) = tokio::join!(raw(relay, ask.as_bytes(), SILENT), attack);
        let text = String::from_utf8_lossy(&got).into_owned();
        drop(agent);
        let mut faults = Vec::new();
        if !allowed.contains(&status(&got)) || asked.elapsed() > DEADLINE {
            faults.push(format!("{what}: {:?} in {:?}", text.lines().next(), asked.elapsed()));
        }
        let hints = what == "thousands of hints";
        if !hints && (text.matches("HTTP/1.1 ").count() > 1 || text.contains("planted")) {
            faults.push(format!("{what}: more than its own answer: {text}"));
        }
        // Nobody who comes later gets what is left of it.
        let mut next = Wire::new(flipped(on, relay, &name, &token).await);
        let ask = format!("GET /next HTTP/1.1\r\nHost: {}\r\n\r\n", named(&name));
        let answer = async {
            assert_eq!(next.head().await.first, "GET /next HTTP/1.1", "{what}");
            next.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext").await;
        };
        let ((_, body), ()) = tokio::join!(relay.fetch(&ask), answer);
        assert_eq!(body, "next", "{what}");
        honest(relay, "honest").await;
        faults
    };
    let faults: Vec<_> =
        stream::iter(answers().into_iter().enumerate().map(one)).buffer_unordered(8).concat().await;
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A protocol violation that an agent on `h2` commits once it has a request.
struct Violation {
    what: &'static str,
    settings: Vec<(u16, u32)>,
    /// Sent at once.
    first: Vec<u8>,
    /// Sent when the request is there, so many times.
    then: Vec<u8>,
    times: u32,
    upload: bool,
    allowed: &'static [u16],
}

const NO: &[u16] = &[500, 502, 503, 504];

fn violation(what: &'static str, then: Vec<u8>) -> Violation {
    Violation { what, settings: vec![], first: vec![], then, times: 1, upload: false, allowed: NO }
}

fn answer_head(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, block(fields))
}

#[expect(clippy::too_many_lines, reason = "a table, and nothing else")]
fn violations() -> Vec<Violation> {
    let ok = frame(HEADERS, END_HEADERS, 1, block(&[(":status", "200")]));
    let mut all = vec![
        Violation { settings: vec![(3, 0)], ..violation("no stream is allowed", vec![]) },
        Violation { settings: vec![(4, 0)], upload: true, ..violation("no upload byte is allowed", vec![]) },
        Violation { settings: vec![(4, 0xffff_ffff)], ..violation("a window beyond 2^31", vec![]) },
        Violation { settings: vec![(5, 1)], ..violation("a frame size below the minimum", vec![]) },
        Violation { settings: vec![(2, 1)], ..violation("a server that enables push", vec![]) },
        violation("no frame at all", vec![]),
        violation("GOAWAY", frame(GOAWAY, 0, 0, [0; 8])),
        Violation { first: frame(GOAWAY, 0, 0, [0; 8]), ..violation("GOAWAY at once", vec![]) },
        Violation {
            times: 1_000,
            ..violation(
                "GOAWAY without end",
                frame(GOAWAY, 0, 0, [&[0x7f, 0xff, 0xff, 0xff][..], &[0; 4]].concat()),
            )
        },
        violation(
            "a promise",
            frame(
                PUSH_PROMISE,
                END_HEADERS,
                1,
                [&2_u32.to_be_bytes()[..], &request("GET", "other.test", "/")].concat(),
            ),
        ),
        violation(
            "an answer on a stream of its own",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, block(&[(":status", "200")])),
        ),
        violation(
            "an answer to a future request",
            frame(HEADERS, END_HEADERS | END_STREAM, 7, block(&[(":status", "200")])),
        ),
        violation("REFUSED_STREAM", frame(RST_STREAM, 0, 1, 7_u32.to_be_bytes())),
        violation("reset", frame(RST_STREAM, 0, 1, 2_u32.to_be_bytes())),
        violation("DATA before a head", frame(DATA, END_STREAM, 1, "planted")),
        violation("a window update of 0", frame(WINDOW_UPDATE, 0, 1, [0; 4])),
        violation("a window update of 0 for the connection", frame(WINDOW_UPDATE, 0, 0, [0; 4])),
        violation(
            "an oversized frame",
            [&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 20_000]].concat(),
        ),
        violation("no HTTP/2 at all", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted".to_vec()),
        Violation {
            times: 3_000,
            allowed: &[103, 502, 503, 504],
            ..violation(
                "hints without end",
                frame(HEADERS, END_HEADERS, 1, block(&[(":status", "103"), ("link", "</a>")])),
            )
        },
        Violation {
            times: 2_000,
            ..violation("CONTINUATION without end", frame(CONTINUATION, 0, 1, literal(b"x", &[b'y'; 4_000])))
        }
        .behind(frame(HEADERS, 0, 1, block(&[(":status", "200")]))),
        Violation { times: 20_000, ..violation("SETTINGS without end", frame(SETTINGS, 0, 0, [])) },
        Violation { times: 20_000, ..violation("PING without end", frame(PING, 0, 0, [0; 8])) },
        violation(
            "an HPACK bomb",
            [frame(
                HEADERS,
                END_HEADERS,
                1,
                [&block(&[(":status", "200")])[..], &indexed(b"x", &[b'y'; 4_000]), &[0xbe; 12_000]].concat(),
            )]
            .concat(),
        ),
    ];
    for (what, fields) in [
        ("no status", &[("x-a", "b")][..]),
        ("two statuses", &[(":status", "200"), (":status", "204")]),
        ("status 000", &[(":status", "000")]),
        ("status 99", &[(":status", "99")]),
        ("status 1000", &[(":status", "1000")]),
        ("status 20x", &[(":status", "20x")]),
        ("status 101", &[(":status", "101")]),
        ("a status behind a field", &[("x-a", "b"), (":status", "200")]),
        ("CR LF in a value", &[(":status", "200"), ("x-a", "b\r\nset-cookie: planted=1")]),
        ("LF in a value", &[(":status", "200"), ("x-a", "b\nset-cookie: planted=1")]),
        ("NUL in a value", &[(":status", "200"), ("x-a", "b\0")]),
        ("CR LF in a name", &[(":status", "200"), ("x-a\r\nset-cookie", "planted=1")]),
        ("a colon in a name", &[(":status", "200"), ("set-cookie:planted", "1")]),
        ("a blank before a value", &[(":status", "200"), ("x-a", " planted")]),
        ("a tab behind a value", &[(":status", "200"), ("x-a", "planted\t")]),
        ("upper case", &[(":status", "200"), ("X-A", "b")]),
        ("connection", &[(":status", "200"), ("connection", "x-a")]),
        ("transfer-encoding", &[(":status", "200"), ("transfer-encoding", "chunked")]),
        ("upgrade", &[(":status", "200"), ("upgrade", "planted")]),
        ("a length and no body", &[(":status", "200"), ("content-length", "9")]),
        ("two lengths", &[(":status", "200"), ("content-length", "0"), ("content-length", "9")]),
    ] {
        all.push(violation(what, answer_head(fields)));
    }
    // The head is out when these are noticed: the answer is cut, and never taken for a whole one.
    for (what, data) in [
        (
            "more than the length",
            [
                frame(HEADERS, END_HEADERS, 1, block(&[(":status", "200"), ("content-length", "2")])),
                frame(DATA, END_STREAM, 1, "okplanted"),
            ]
            .concat(),
        ),
        (
            "trailers without END_STREAM",
            [ok.clone(), frame(HEADERS, END_HEADERS, 1, block(&[("x-planted", "1")]))].concat(),
        ),
        (
            "trailers with CR LF",
            [ok.clone(), frame(HEADERS, END_HEADERS | END_STREAM, 1, block(&[("x-a", "b\r\nx-planted: 1")]))]
                .concat(),
        ),
        (
            "trailers with a blank before a value",
            [ok.clone(), frame(HEADERS, END_HEADERS | END_STREAM, 1, block(&[("x-a", " planted")]))].concat(),
        ),
        (
            "NO_ERROR behind the head",
            [ok.clone(), frame(DATA, 0, 1, "ok"), frame(RST_STREAM, 0, 1, [0; 4])].concat(),
        ),
        ("a reset behind the head", [ok.clone(), frame(RST_STREAM, 0, 1, 2_u32.to_be_bytes())].concat()),
    ] {
        all.push(Violation { allowed: &[200, 500, 502, 503, 504, 0], ..violation(what, data) });
    }
    // The library leaves it out.
    let path = answer_head(&[(":status", "200"), (":path", "/planted")]);
    all.push(Violation { allowed: &[200, 502], ..violation("a path in an answer", path) });
    let flood = Violation {
        times: 2_000,
        allowed: &[200, 502, 0],
        ..violation("DATA beyond the window", frame(DATA, 0, 1, [0; 16_384]))
    };
    all.push(flood.behind(ok));
    all
}

impl Violation {
    /// With this in front when the request is there: the rest is repeated.
    fn behind(mut self, head: Vec<u8>) -> Self {
        self.then = [head, self.then.repeat(self.times as usize)].concat();
        self.times = 1;
        self
    }

    /// Sends the violation, until the relay closes the connection or the visitor is answered.
    async fn perform(&self, agent: TcpStream) {
        let mut frames = Frames::server(agent, &self.settings).await;
        frames.send(&self.first).await;
        if frames.until(DEADLINE, |f| f.kind == HEADERS).await.is_none() {
            return;
        }
        for _ in 0..self.times {
            if !frames.send(&self.then).await {
                return;
            }
        }
        while frames.until(DEADLINE, |_| false).await.is_some() {}
    }
}

/// A15, A19 from behind; Envoy CVE-2026-73513, CWE-113.
pub(crate) async fn h2_violations_of_an_agent_affect_only_its_visitor(on: On) {
    if on.carrier != Kind::H2 {
        return;
    }
    let relay = relay();
    let (origin, relay) = (Recorder::start().await, &relay);
    let _honest = serve(&on.agent(relay, "honest"), origin.handler()).await;
    let one = |(number, violation): (usize, Violation)| async move {
        let name = format!("evil-{number}");
        let agent = flipped(on, relay, &name, &relay.token(&[&name])).await;
        let host = named(&name);
        let ask = match violation.upload {
            true => [
                format!(
                    "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n"
                )
                .into_bytes(),
                vec![b'x'; 300_000],
            ]
            .concat(),
            false => format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes(),
        };
        let asked = Instant::now();
        let got = tokio::select! {
            got = raw(relay, &ask, SILENT) => got,
            // The agent stays connected after its violation.
            () = async { violation.perform(agent).await; std::future::pending().await } => {
                unreachable!("the agent stays connected")
            }
        };
        let text = String::from_utf8_lossy(&got).into_owned();
        let took = asked.elapsed();
        honest(relay, "honest").await;
        let fine = violation.allowed.contains(&status(&got)) && took < DEADLINE;
        // A body that broke off has no end.
        let whole = status(&got) == 200 && text.ends_with("0\r\n\r\n");
        match fine && !whole && !text.contains("planted") {
            true => None,
            false => Some(format!("{}: {:?} in {took:?}", violation.what, &text[..text.len().min(300)])),
        }
    };
    let faults: Vec<_> = stream::iter(violations().into_iter().enumerate().map(one))
        .buffer_unordered(8)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A5, A19: what an agent sends without end costs a relay little. In a process whose memory is measured.
#[test]
fn an_agent_cannot_fill_the_memory_of_a_relay() {
    run(async {
        let program = Program::start(&[], &[]).await;
        let address = ([127, 0, 0, 1], program.relay.port).into();
        program.is_healthy().await;
        let before = program.relay_memory();
        let ok = "HTTP/1.1 200 OK\r\n".to_owned();
        let endless = [
            (Kind::H1, format!("{ok}X: "), "y".repeat(16 << 10)),
            (Kind::H1, ok.clone(), "X: y\r\n".repeat(4_000)),
            (Kind::H1, String::new(), "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(400)),
            (Kind::H1, format!("{ok}Transfer-Encoding: chunked\r\n\r\n5;"), "a".repeat(16 << 10)),
            (Kind::H1, format!("{ok}Transfer-Encoding: chunked\r\n\r\n0\r\n"), "X: y\r\n".repeat(4_000)),
        ]
        .map(|(kind, first, then)| (kind, first.into_bytes(), then.into_bytes()));
        let ok = block(&[(":status", "200")]);
        let hint = frame(HEADERS, END_HEADERS, 1, block(&[(":status", "103"), ("link", "</a>")]));
        let framed = [
            (frame(HEADERS, 0, 1, &ok), frame(CONTINUATION, 0, 1, literal(b"x", &[b'y'; 8_000]))),
            (frame(HEADERS, END_HEADERS, 1, &ok), frame(DATA, 0, 1, [0; 16_384])),
            (Vec::new(), hint.repeat(400)),
            (Vec::new(), frame(SETTINGS, 0, 0, []).repeat(1_000)),
        ]
        .map(|(first, then)| (Kind::H2, first, then));
        for (number, (kind, first, then)) in endless.into_iter().chain(framed).enumerate() {
            let name = format!("evil-{number}");
            let token = Secret::new(program.site.token(&name).trim());
            // The relay looks for new tokens twice a second.
            let mut agent = loop {
                match try_flipped(address, kind, &name, &token).await {
                    Some(agent) => break agent,
                    None => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            let attack = async {
                let mut sent = 0;
                let mut agent = match kind {
                    Kind::H2 => {
                        let mut frames = Frames::server(agent, &[]).await;
                        frames.until(DEADLINE, |f| f.kind == HEADERS).await.expect("a request");
                        frames
                    }
                    _ => {
                        head(&mut agent).await;
                        Frames::new(agent)
                    }
                };
                let mut alive = agent.send(&first).await;
                while alive && sent < 64 * MIB {
                    alive = agent.send(&then).await;
                    sent += then.len();
                }
            };
            let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", named(&name));
            let mut visitor = connect(address).await;
            visitor.write_all(ask.as_bytes()).await.unwrap();
            // Long enough for 64 MiB, or for a relay that has stopped to read.
            let _ = tokio::time::timeout(Duration::from_secs(2), attack).await;
            program.is_healthy().await;
        }
        let grown = program.relay_memory().saturating_sub(before);
        assert!(grown < 64 * MIB, "{} MiB more", grown / MIB);
    });
}

async fn try_flipped(at: SocketAddr, kind: Kind, name: &str, token: &Secret) -> Option<TcpStream> {
    let mut agent = connect(at).await;
    let (alpn, token) = (kind.alpn_field(), token.expose());
    let offer = format!(
        "POST /reversehttp?name={name} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: PTTH/1.0\r\n\
         ALPN: {alpn}\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    agent.write_all(offer.as_bytes()).await.unwrap();
    (status(&head(&mut agent).await) == 101).then_some(agent)
}

/// A head, byte by byte: what follows is another's.
async fn head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a head", stream.read_u8()).await.unwrap());
    }
    head
}
