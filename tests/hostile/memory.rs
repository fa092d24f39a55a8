//! The memory that a crowd of visitors may cost a relay and its agent with the default configuration.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ptth::internals::net::Scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::frames::{END_HEADERS, END_STREAM, Frames, HEADERS, SETTINGS, block, frame, request, values};
use crate::program::{MIB, resident};
use crate::site::{Agent, Relay, Site};
use crate::support::{Wire, limit, named, run, within};
use crate::world::{NAME, connect};

/// The most by which a process may grow.
const GROWTH: usize = 64 * MIB;
/// The most that is left of the growth a minute after the crowd has gone.
const LEFT: usize = 20 * MIB;
/// 99 of 100 honest visitors wait for less, beside each crowd.
const PROMPT: Duration = Duration::from_millis(300);
/// The size of an answer to `/large`, and of an upload.
const LARGE: usize = 10_000_000;

static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];

/// An origin that never answers `/slow`, and answers `/large` with [`LARGE`] bytes.
async fn origin(listener: TcpListener, scope: Scope) {
    while let Ok((stream, _)) = listener.accept().await {
        scope.spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) {
    let mut read = Vec::new();
    loop {
        while !read.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return;
            }
        }
        if read.starts_with(b"GET /slow") || read.starts_with(b"POST") {
            drop(read);
            return std::future::pending().await;
        }
        let mut left = if read.starts_with(b"GET /large") { LARGE } else { 2 };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n");
        let mut sent = stream.write_all(head.as_bytes()).await;
        while left > 0 && sent.is_ok() {
            let piece = &PIECE[..left.min(PIECE.len())];
            sent = stream.write_all(piece).await;
            left -= piece.len();
        }
        if sent.is_err() {
            return;
        }
        read.clear();
    }
}

/// Relay and agent in processes of their own, and an origin here.
struct Crowded {
    relay: Relay,
    agent: Agent,
    _site: Site,
    /// The threads of the origin and of the crowds, so that an honest visitor waits for relay and agent alone.
    others: [Option<Runtime>; 2],
}

impl Crowded {
    fn start() -> Self {
        let site = Site::new();
        let thread = |_| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let others = [(); 2].map(thread);
        let relay = Relay::start(&mut site.relay_command("http://127.0.0.1:0"));
        let url = format!("http://localhost:{}", relay.port);
        let _entered = others[0].enter();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let scope = Scope::new();
        scope.spawn(origin(listener, scope.clone()));
        let agent = Agent::start(&mut site.agent_command(&url, target));
        drop(_entered);
        Self { relay, agent, _site: site, others: others.map(Some) }
    }

    /// Lets crowds in.
    fn admit(&self, crowds: &[Crowd]) -> Scope {
        let _entered = self.others[1].as_ref().unwrap().enter();
        let crowd = Scope::new();
        crowds.iter().for_each(|(_, come)| come(self.address(), &crowd));
        crowd
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.relay.port).into()
    }

    fn memory(&self) -> [usize; 2] {
        [self.relay.process.id(), self.agent.process.id()].map(resident)
    }

    /// How long an honest visitor waits.
    async fn honest(&self) -> Duration {
        let began = Instant::now();
        let mut visitor = Wire::new(connect(self.address()).await);
        visitor.send(format!("GET /honest HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME))).await;
        let (head, _) = within("an honest visitor's answer", visitor.message()).await;
        assert_eq!(head.status(), 200);
        began.elapsed()
    }

    /// Honest visitors, one after the other, for so long: the wait of the slowest but one in a hundred, and the largest
    /// growth of relay and agent.
    async fn observe(&self, before: [usize; 2], long: Duration) -> (Duration, [usize; 2]) {
        let (began, mut waits, mut most) = (Instant::now(), Vec::new(), before);
        while began.elapsed() < long || waits.len() < 100 {
            waits.push(self.honest().await);
            let now = self.memory();
            most = [most[0].max(now[0]), most[1].max(now[1])];
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        waits.sort_unstable();
        (waits[waits.len() * 99 / 100 - 1], grown(before, most))
    }
}

impl Drop for Crowded {
    fn drop(&mut self) {
        self.others.each_mut().into_iter().filter_map(Option::take).for_each(Runtime::shutdown_background);
    }
}

fn grown(before: [usize; 2], now: [usize; 2]) -> [usize; 2] {
    [0, 1].map(|at| now[at].saturating_sub(before[at]))
}

/// A connection with HTTP/2 that asks for `count` streams of one path, and reads whatever comes.
async fn streams(at: SocketAddr, window: Option<u32>, count: u32, head: Vec<u8>) {
    let mut visitor = Frames::client(connect(at).await).await;
    if let Some(window) = window {
        visitor.send(frame(SETTINGS, 0, 0, values(&[(4, window)]))).await;
    }
    for n in 0..count {
        visitor.send(frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head)).await;
    }
    while visitor.until(Duration::from_secs(600), |_| false).await.is_some() {}
}

/// 200 streams on each of five connections, without a window for their answers.
fn zero_windows(at: SocketAddr, scope: &Scope) {
    for _ in 0..5 {
        scope.spawn(streams(at, Some(0), 200, request("GET", &named(NAME), "/large")));
    }
}

/// Heads of thousands of cookie crumbs, as many as fit, on each stream of two connections.
fn crumbs(at: SocketAddr, scope: &Scope) {
    let crumb = block(&[("cookie", "a=b")]);
    let head = [request("GET", &named(NAME), "/slow"), crumb.repeat(1_200)].concat();
    for _ in 0..2 {
        scope.spawn(streams(at, None, 200, head.clone()));
    }
}

/// As many fields as fit, each with a name of its own.
fn fields(at: SocketAddr, scope: &Scope) {
    let names: Vec<_> = (0..1_200).map(|n| (format!("x{n}"), "y")).collect();
    let head = [request("GET", &named(NAME), "/slow"), block(&names)].concat();
    let parts: Vec<_> = head.chunks(16_384).collect();
    assert_eq!(parts.len(), 1);
    for _ in 0..2 {
        scope.spawn(streams(at, None, 200, head.clone()));
    }
}

async fn write_and_stall(at: SocketAddr, head: String, body: usize) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    socket.set_send_buffer_size(8 << 10).unwrap();
    let mut stream = socket.connect(at).await.unwrap();
    let _ = stream.write_all(head.as_bytes()).await;
    let mut left = body;
    while left > 0 {
        let piece = left.min(64 << 10);
        if stream.write_all(&vec![b'x'; piece]).await.is_err() {
            break;
        }
        left -= piece;
    }
    // Reads a little, so that the relay does not take it for dead.
    let _ = stream.read(&mut [0; 16]).await;
    std::future::pending::<()>().await;
}

/// A hundred visitors that do not read an answer of 10 MB.
fn slow_readers(at: SocketAddr, scope: &Scope) {
    for _ in 0..100 {
        let head = format!("GET /large HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME));
        scope.spawn(write_and_stall(at, head, 0));
    }
}

/// A hundred uploads of 10 MB that the agent's service does not read.
fn unread_uploads(at: SocketAddr, scope: &Scope) {
    for _ in 0..100 {
        let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: {LARGE}\r\n\r\n", named(NAME));
        scope.spawn(write_and_stall(at, head, LARGE));
    }
}

/// A thousand visitors with heads of 58 KiB, whose service does not answer.
fn large_heads(at: SocketAddr, scope: &Scope) {
    let fields: String = (0..8).map(|n| format!("X-{n}: {}\r\n", "y".repeat(7_400))).collect();
    let head = format!("GET /slow HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", named(NAME));
    for _ in 0..1_000 {
        let head = head.clone();
        scope.spawn(async move {
            let mut visitor = connect(at).await;
            let _ = visitor.write_all(head.as_bytes()).await;
            let mut read = Vec::new();
            while let Ok(1..) = visitor.read_buf(&mut read).await {}
        });
    }
}

type Crowd = (&'static str, fn(SocketAddr, &Scope));

/// Lets crowds in, and out again. A minute later, `left_over` bytes of the growth may be left.
fn endure(crowds: &[Crowd], left_over: usize) {
    run(async {
        let world = Crowded::start();
        for _ in 0..20 {
            world.honest().await;
        }
        let before = world.memory();
        let crowd = world.admit(crowds);
        let (wait, most) = world.observe(before, Duration::from_secs(8)).await;
        crowd.abort();
        let gone = Instant::now();
        let left = loop {
            world.honest().await;
            let left = grown(before, world.memory());
            if left.iter().all(|left| *left < left_over) || gone.elapsed() > Duration::from_secs(60) {
                break left;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let names: Vec<_> = crowds.iter().map(|(name, _)| *name).collect();
        let [most_mib, left_mib] = [most, left].map(|sizes| sizes.map(|size| size / MIB));
        let report = format!(
            "{names:?}: relay and agent +{most_mib:?} MiB, 99 % of honest visitors within {wait:?}; \
             {:?} later +{left_mib:?} MiB",
            gone.elapsed()
        );
        println!("{report}");
        let fits = most.iter().all(|most| *most <= GROWTH) && left.iter().all(|left| *left <= left_over);
        assert!(fits && wait <= limit(PROMPT), "{report}");
    });
}

/// Each crowd is a row, and becomes a test of its name.
macro_rules! crowds {
    ($($name:ident: $title:literal, $come:ident, $left:ident;)+) => {
        const CROWDS: &[Crowd] = &[$(($title, $come)),+];

        $(
            #[test]
            fn $name() {
                endure(&[($title, $come)], $left);
            }
        )+
    };
}

// A17, A29. Relay and agent do not read an upload that its service does not read. So they detect only after
// `defaults::STALLED` that its visitor has left, and keep what they have read until then.
crowds! {
    zero_windows_use_little_memory: "1,000 streams with a window of zero", zero_windows, LEFT;
    cookie_crumbs_use_little_memory: "480,000 cookie crumbs", crumbs, LEFT;
    many_fields_use_little_memory: "480,000 fields", fields, LEFT;
    slow_readers_use_little_memory: "100 slow readers of 10 MB", slow_readers, LEFT;
    unread_uploads_use_little_memory: "100 unread uploads of 10 MB", unread_uploads, GROWTH;
    large_heads_use_little_memory: "1,000 heads of 58 KiB", large_heads, LEFT;
}

#[test]
#[ignore = "not met: relay and agent grow by up to 200 MiB each, and honest visitors wait for seconds or get a 503"]
fn all_crowds_at_once_use_little_memory() {
    endure(CROWDS, LEFT);
}
