//! The memory that slow visitors, and visitors of slow services, may cost a relay and an agent.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ptth::internals::defaults;

use crate::process::PATIENCE;
use crate::site::{Agent, Relay, Site};

const VISITORS: usize = 1_000;
const MIB: usize = 1 << 20;
/// The value of `--buffer-mib`, in bytes.
const BUDGET: usize = 64 * MIB;
/// The memory of a visitor's connection beside the budget: 72 KiB that wait for its socket, a window of 16 KiB and a
/// frame of as much, its task, and the overhead of the allocator.
const CONNECTION: usize = 160 << 10;
/// The same for a connection that sends: one buffer is on its way to the agent, one is being processed, and one is read
/// ahead.
const SENDING: usize = 4 * defaults::VISITOR_HEAD;
/// The same for a connection with HTTP/2: its first window, and the frames that cross it.
const SENDING_H2: usize = CONNECTION + defaults::VISITOR_FIRST_WINDOW as usize;
/// The memory of an upload at an agent beside its budget: a window of 16 KiB, a frame of as much, and the bytes that
/// wait for the service's socket, with the buffers that contain them.
const UPLOAD: usize = defaults::VISITOR_HEAD + (128 << 10);

/// Opens connections, sends a request on each, reads only the start of each answer, and waits for the end of its input.
const SLOW_READERS: &str = r#"
import socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
visitors = []
for _ in range(count):
    visitor = socket.create_connection(("127.0.0.1", port), 60)
    visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    visitor.sendall(f"GET /large HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    visitors.append(visitor)
for visitor in visitors:
    assert visitor.recv(12) == b"HTTP/1.1 200", "a visitor received no answer"
print("all", flush=True)
sys.stdin.read()
"#;

/// Opens connections, and sends on each as much of a long body as is accepted.
const WRITERS: &str = r#"
import select, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
visitors, poll, piece, most = {}, select.poll(), b"x" * 65536, 16 << 20
for _ in range(count):
    visitor = socket.create_connection(("127.0.0.1", port), 60)
    visitor.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    visitor.sendall(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {1 << 30}\r\n\r\n".encode())
    visitor.setblocking(False)
    visitors[visitor.fileno()] = [visitor, 0]
    poll.register(visitor, select.POLLOUT)
while ready := poll.poll(2000):
    for number, _ in ready:
        visitors[number][1] += visitors[number][0].send(piece)
        assert visitors[number][1] < most, "a visitor can send without limit"
print("all", flush=True)
sys.stdin.read()
"#;

/// A crowd of visitors that stay connected until [`Crowd::leave`].
struct Crowd(Child);

impl Crowd {
    /// Waits until each of them is stuck.
    fn gather(script: &str, port: u16) -> Self {
        let mut crowd = Command::new("python3");
        crowd.args(["-c", script, "shop.ptth.localhost", &port.to_string(), &VISITORS.to_string()]);
        let mut crowd = crowd.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(crowd.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "all\n");
        Self(crowd)
    }

    fn leave(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

/// A service that takes every connection and reads nothing.
fn stalled_service() -> String {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = service.local_addr().unwrap().to_string();
    // Ends with the process: it waits in accept.
    std::thread::spawn(move || service.incoming().map(Result::unwrap).collect::<Vec<TcpStream>>());
    target
}

/// Uploads over HTTP/2, each on a connection of its own, as far as windows allow. Dropping the tasks ends them.
async fn uploads_over_http2(port: u16) -> tokio::task::JoinSet<()> {
    let mut connections = tokio::task::JoinSet::new();
    let mut stuck = Vec::new();
    for _ in 0..VISITORS {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut handle, connection) = h2::client::handshake(stream).await.unwrap();
        connections.spawn(async move { drop(connection.await) });
        let request = http::Request::post("http://shop.ptth.localhost/").body(()).unwrap();
        let (answer, mut upload) = handle.send_request(request, false).unwrap();
        let (report, reported) = tokio::sync::oneshot::channel();
        stuck.push(reported);
        connections.spawn(async move {
            let (mut report, mut sent) = (Some(report), 0);
            loop {
                upload.reserve_capacity(64 << 10);
                let more = std::future::poll_fn(|cx| upload.poll_capacity(cx));
                let Ok(more) = tokio::time::timeout(Duration::from_secs(2), more).await else {
                    let _ = report.take().map(|report| report.send(sent));
                    continue;
                };
                let Some(Ok(more)) = more else { break };
                sent += more;
                upload.send_data(Bytes::from(vec![b'x'; more]), false).unwrap();
            }
            drop((answer, handle));
        });
    }
    for reported in stuck {
        let sent = reported.await.unwrap();
        assert!(sent < 16 * MIB, "a visitor can send without limit");
    }
    connections
}

/// The resident memory of a process, in bytes.
fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// The highest resident memory, measured until it has not grown for a second.
fn settled(pid: u32) -> usize {
    let (mut most, mut since) = (resident(pid), Instant::now());
    let deadline = Instant::now() + PATIENCE;
    while since.elapsed() < Duration::from_secs(1) && Instant::now() < deadline {
        std::thread::yield_now();
        let now = resident(pid);
        if now > most + MIB / 4 {
            (most, since) = (now, Instant::now());
        }
    }
    most
}

/// Runs `crowd` at a relay with a budget and an agent. Returns the growth of the two, in bytes.
fn growth<T>(label: &str, target: &str, site: &Site, crowd: impl FnOnce(u16) -> T) -> (usize, usize, T) {
    let mut command = site.relay_command("http://127.0.0.1:0");
    command.args(["--buffer-mib", &(BUDGET / MIB).to_string()]);
    let relay = Relay::start(&mut command);
    let url = format!("http://localhost:{}", relay.port);
    let agent = Agent::start(&mut site.agent_command(&url, target));
    let pids = [relay.process.child.id(), agent.process.child.id()];
    let before = pids.map(settled);
    let crowd = crowd(relay.port);
    let after = pids.map(settled);
    let [at_relay, at_agent] = [0, 1].map(|n| after[n].saturating_sub(before[n]));
    println!("{VISITORS} {label}: the relay grew by {} MiB, the agent by {}", at_relay / MIB, at_agent / MIB);
    (at_relay, at_agent, crowd)
}

#[test]
fn a_thousand_slow_readers_cost_no_more_than_the_budget() {
    let site = Site::new();
    fs::create_dir(site.at("files")).unwrap();
    File::create(site.at("files/large")).unwrap().set_len(1 << 30).unwrap();
    let target = site.at("files").to_str().unwrap().to_owned();
    let crowd = |port| Crowd::gather(SLOW_READERS, port);
    let (at_relay, _, crowd) = growth("slow readers of 1 GiB", &target, &site, crowd);
    crowd.leave();
    assert!(at_relay < BUDGET + VISITORS * CONNECTION, "{} MiB", at_relay / MIB);
}

#[test]
fn a_thousand_unread_uploads_cost_no_more_than_the_budget() {
    let site = Site::new();
    let crowd = |port| Crowd::gather(WRITERS, port);
    let (at_relay, at_agent, crowd) = growth("uploads of 1 GiB", &stalled_service(), &site, crowd);
    crowd.leave();
    assert!(at_relay < BUDGET + VISITORS * SENDING, "{} MiB at the relay", at_relay / MIB);
    assert!(at_agent < defaults::AGENT_BUFFERS + VISITORS * UPLOAD, "{} MiB at the agent", at_agent / MIB);
}

#[test]
fn a_thousand_unread_http2_uploads_cost_no_more_than_the_budget() {
    let site = Site::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let crowd = |port| runtime.block_on(uploads_over_http2(port));
    let (at_relay, at_agent, crowd) = growth("uploads over HTTP/2", &stalled_service(), &site, crowd);
    drop(crowd);
    assert!(at_relay < BUDGET + VISITORS * SENDING_H2, "{} MiB at the relay", at_relay / MIB);
    assert!(at_agent < defaults::AGENT_BUFFERS + VISITORS * UPLOAD, "{} MiB at the agent", at_agent / MIB);
}
