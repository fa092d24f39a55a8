//! Heads beyond all measure, in both directions, and what would be large only when it is unpacked.

use bytes::Bytes;
use http::Response;
use ptth::internals::message::{Body, Request};
use ptth::internals::session::handler::handler_fn;
use tokio::io::AsyncWriteExt;

use crate::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, block, frame,
};
use crate::program::{MIB, Program};
use crate::support::{QUIET, STEP, TestOrigin, TestRelay, named, run, serve};
use crate::world::{NAME, On, connect, raw, status};

/// A request that is too large in one way.
struct Row {
    what: &'static str,
    method: String,
    target: String,
    fields: Vec<(String, String)>,
}

fn row(what: &'static str) -> Row {
    Row { what, method: "GET".into(), target: "/too-large".into(), fields: Vec::new() }
}

fn rows() -> Vec<Row> {
    let fields = |count: usize| (0..count).map(|n| (format!("x-{n}"), "y".to_owned())).collect();
    vec![
        Row { fields: vec![("x".into(), "y".repeat(100_000))], ..row("a line of 100 kB") },
        Row { fields: vec![("x".into(), "y".repeat(200_000))], ..row("a line of 200 kB") },
        Row { fields: vec![("x".repeat(100_000), "y".into())], ..row("a name of 100 kB") },
        Row { target: format!("/{}", "y".repeat(100_000)), ..row("a target of 100 kB") },
        Row { target: format!("/{}", "y".repeat(200_000)), ..row("a target of 200 kB") },
        Row { method: "Y".repeat(200_000), ..row("a method of 200 kB") },
        Row { fields: fields(5_000), ..row("5,000 fields") },
        Row {
            fields: (0..100_000).map(|n| ("cookie".to_owned(), format!("name_{n}=x"))).collect(),
            ..row("100,000 crumbs: zrok CVE-2026-40303")
        },
    ]
}

impl Row {
    fn lines(&self) -> Vec<u8> {
        let fields: String = self.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{} {} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", self.method, self.target, named(NAME)).into()
    }

    /// The same for HTTP/2, in frames of the size that every server takes.
    fn frames(&self) -> Vec<u8> {
        let host = named(NAME);
        let pseudo = [
            (":method", &*self.method),
            (":scheme", "http"),
            (":authority", &*host),
            (":path", &*self.target),
        ];
        let all = [block(&pseudo), block(&self.fields)].concat();
        let parts: Vec<_> = all.chunks(16_384).collect();
        let part = |(n, part): (usize, &&[u8])| {
            let kind = if n == 0 { HEADERS } else { CONTINUATION };
            let end = if n + 1 == parts.len() { END_HEADERS } else { 0 };
            frame(kind, end | if n == 0 { END_STREAM } else { 0 }, 1, part)
        };
        parts.iter().enumerate().flat_map(part).collect()
    }
}

/// A29: heads beyond all measure are refused by either version, and no error of ours; Envoy CVE-2026-73550, RFC 6585 §5.
pub(crate) async fn oversized_heads_are_refused(on: On) {
    let world = on.world().await;
    for row in rows() {
        let got = raw(&world.relay, &row.lines(), STEP).await;
        // Who is refused in the middle of what it sends may see no more than the end of the connection.
        let status = status(&got);
        assert!(status == 0 || (400..500).contains(&status), "{}: {status}", row.what);
        world.is_healthy().await;

        let mut visitor = Frames::client(connect(world.relay.plain).await).await;
        visitor.send(row.frames()).await;
        let answer = visitor.until(STEP, |f| [HEADERS, RST_STREAM, GOAWAY].contains(&f.kind)).await;
        // An answer of 431, 400 or 404, a reset, or the end of the connection.
        let refused =
            answer.as_ref().is_none_or(|f| f.kind != HEADERS || !f.has_status(200) && !f.has_status(500));
        assert!(refused, "{}: {answer:?}", row.what);
        world.is_healthy().await;
    }
    assert!(world.origin.whole().iter().all(|r| r.target() == "/honest"), "an oversized head passed");
}

/// A29 from behind: what a service says at too great a length is an answer or a 502, and nobody else's affair.
pub(crate) async fn oversized_answers_affect_only_their_visitor(on: On) {
    let (relay, origin) = (TestRelay::start(), TestOrigin::start().await);
    let _agent = serve(&on.agent(&relay, NAME), origin.handler()).await;
    let fields: String = (0..5_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let cookies: String = (0..5_000).map(|n| format!("Set-Cookie: name_{n}=x\r\n")).collect();
    for (what, fields) in [
        ("a line of 100 kB", format!("X: {}\r\n", "y".repeat(100_000))),
        ("a line of 1 MB", format!("X: {}\r\n", "y".repeat(1_000_000))),
        ("5,000 fields", fields),
        ("5,000 cookies", cookies),
    ] {
        let ask = format!("GET /{{}} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", named(NAME));
        let answering = async {
            let mut wire = origin.accept().await;
            wire.head().await;
            let answer =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n{fields}\r\nok");
            // The agent may hang up in the middle of it.
            let _ = wire.try_send(answer).await;
            wire
        };
        let large = ask.replace("{}", "large");
        let (got, _wire) = tokio::join!(raw(&relay, large.as_bytes(), STEP), answering);
        assert!([200, 502].contains(&status(&got)), "{what}: {}", status(&got));
        assert!(status(&got) != 200 || got.ends_with(b"ok"), "{what}: the answer is truncated");
        let answering = async {
            let mut wire = origin.accept().await;
            assert_eq!(wire.head().await.first, "GET /next HTTP/1.1");
            wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nnext").await;
        };
        let next = ask.replace("{}", "next");
        let (got, ()) = tokio::join!(raw(&relay, next.as_bytes(), STEP), answering);
        assert!(got.ends_with(b"next"), "{what}: {}", String::from_utf8_lossy(&got));
    }
}

/// A29, zrok CVE-2026-40303: what many visitors have said of heads that never end costs little.
#[test]
fn unfinished_heads_use_little_memory() {
    run(async {
        const VISITORS: usize = 200;
        let program = Program::start(&[], &[]).await;
        let address = ([127, 0, 0, 1], program.relay.port).into();
        program.is_healthy().await;
        let before = program.relay_memory();
        let cookies: String = (0..100_000).map(|n| format!("name_{n}=x; ")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nCookie: {cookies}", named(NAME));
        let held = futures_util::future::join_all((0..VISITORS).map(|number| {
            // Half of them stay below the bound. The others say what is taken, and the relay may hang up on them.
            let said = if number % 2 == 0 { &head[..70_000] } else { &head };
            async move {
                let mut visitor = connect(address).await;
                let _ = tokio::time::timeout(4 * QUIET, visitor.write_all(said.as_bytes())).await;
                visitor
            }
        }))
        .await;
        program.is_healthy().await;
        let grown = program.relay_memory().saturating_sub(before);
        println!("{VISITORS} unfinished heads: {} MiB more", grown / MIB);
        assert!(grown < 48 * MIB, "{} MiB more", grown / MIB);
        drop(held);
    });
}

/// A29: nothing here could be made to unpack a bomb: what is packed passes as it is, and no library is there to open it.
pub(crate) async fn compressed_bodies_are_not_decompressed(on: On) {
    /// 64 KiB that gzip or brotli would open to many MiB; to whoever passes them on they are letters.
    const PACKED: &[u8] = &[0x1f; 64 << 10];
    let relay = TestRelay::start();
    let bomb = |request: Request| async move {
        let coding = request.uri().path().trim_start_matches('/').to_owned();
        let sent = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
        assert!(sent.is_empty() || sent == PACKED, "an upload was decompressed");
        Response::builder()
            .header("content-encoding", coding)
            .body(Body::full(Bytes::from_static(PACKED)))
            .unwrap()
    };
    let _agent = serve(&on.agent(&relay, NAME), std::sync::Arc::new(handler_fn(bomb))).await;
    for coding in ["gzip", "br", "deflate", "zstd", "gzip, gzip, gzip"] {
        let path = coding.replace(", ", "-");
        let ask = format!(
            "POST /{path} HTTP/1.1\r\nHost: {}\r\nAccept-Encoding: {coding}\r\nContent-Encoding: {coding}\r\n\
             Content-Length: {}\r\n\r\n",
            named(NAME),
            PACKED.len()
        );
        let mut visitor = relay.visitor().await;
        visitor.send([ask.as_bytes(), PACKED].concat()).await;
        let head = visitor.head().await;
        assert_eq!((head.status(), head.get("content-encoding")), (200, Some(&*path)), "{coding}");
        assert!(visitor.body(&head).await == PACKED, "{coding}: the body was changed");
    }
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    for library in ["flate2", "brotli", "async-compression", "zstd", "miniz_oxide"] {
        assert!(!lock.contains(&format!("name = \"{library}\"")), "{library}");
    }
}
