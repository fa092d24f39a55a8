//! Large streams through an agent that polls: whole, and in bounded memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, put};
use futures_util::StreamExt as _;

use crate::long::is_long;
use crate::process::Process;
use crate::site::{Agent, Relay, Site};

const BLOCK: usize = 64 << 10;
/// The number of blocks, 64 MiB in all, or 1 GiB with `--long`; and the allowed growth of relay and agent, in bytes:
/// the allocator recovers late the memory that one core has allocated and another has freed.
fn sizes() -> (u64, u64) {
    let (size, growth) = if is_long() { (1 << 30, 128 << 20) } else { (64 << 20, 48 << 20) };
    (size / BLOCK as u64, growth)
}

fn blocks() -> u64 {
    sizes().0
}

/// A block that differs from all others.
fn block(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..BLOCK / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

/// Receives blocks in pieces of any size, and compares each block with the original.
#[derive(Default)]
struct Check {
    number: u64,
    read: Vec<u8>,
}

impl Check {
    fn take(&mut self, data: &[u8]) {
        self.read.extend_from_slice(data);
        while self.read.len() >= BLOCK {
            let rest = self.read.split_off(BLOCK);
            assert!(self.read == block(self.number), "block {} differs", self.number);
            (self.read, self.number) = (rest, self.number + 1);
        }
    }

    fn blocks(&self) -> u64 {
        assert!(self.read.is_empty(), "the stream ended after {} bytes of a block", self.read.len());
        self.number
    }
}

/// An origin that sends and receives blocks, without a length.
fn origin() -> (tokio::runtime::Runtime, u16) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let down = || async {
        let all =
            futures_util::stream::iter((0..blocks()).map(|n| Ok::<_, std::io::Error>(Bytes::from(block(n)))));
        Body::from_stream(all)
    };
    let up = |body: Body| async {
        let mut check = Check::default();
        let mut stream = body.into_data_stream();
        while let Some(data) = stream.next().await {
            check.take(&data.unwrap());
        }
        check.blocks().to_string()
    };
    let app = Router::new().route("/down", get(down)).route("/up", put(up));
    runtime.spawn(async move { axum::serve(listener, app).await });
    (runtime, port)
}

/// The memory of a process, in bytes: `VmHWM` is the most so far, `VmRSS` the current memory.
fn memory(process: &Process, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn visitor(relay: &Relay) -> TcpStream {
    let visitor = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
    visitor.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    visitor
}

/// The head of an answer, byte by byte.
fn head(visitor: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        visitor.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn line(visitor: &mut impl Read) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        visitor.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap().trim().to_owned()
}

fn download(relay: &Relay) {
    let mut visitor = visitor(relay);
    write!(visitor, "GET /down HTTP/1.1\r\nHost: shop.ptth.localhost\r\n\r\n").unwrap();
    let mut visitor = std::io::BufReader::with_capacity(1 << 20, visitor);
    let head = head(&mut visitor).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("transfer-encoding: chunked"), "{head}");
    let mut check = Check::default();
    loop {
        let size = usize::from_str_radix(&line(&mut visitor), 16).unwrap();
        let mut data = vec![0; size];
        visitor.read_exact(&mut data).unwrap();
        check.take(&data);
        assert_eq!(line(&mut visitor), "");
        if size == 0 {
            return assert_eq!(check.blocks(), blocks());
        }
    }
}

fn upload(relay: &Relay) {
    let mut visitor = visitor(relay);
    let host = "Host: shop.ptth.localhost";
    write!(visitor, "PUT /up HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        .unwrap();
    for number in 0..blocks() {
        write!(visitor, "{BLOCK:x}\r\n").unwrap();
        visitor.write_all(&block(number)).unwrap();
        write!(visitor, "\r\n").unwrap();
    }
    write!(visitor, "0\r\n\r\n").unwrap();
    let mut answer = String::new();
    visitor.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("\r\n\r\n{}", blocks())),
        "{answer}"
    );
}

#[test]
fn a_stream_of_unknown_length_crosses_in_bounded_memory() {
    let site = Site::new();
    let (_runtime, port) = origin();
    let relay = site.relay_at("http://127.0.0.1:0");
    let url = format!("http://localhost:{}", relay.port);
    let agent = Agent::start(site.agent_command(&url, port.to_string()).args(["--transport", "reversehttp"]));
    let before = [&relay.process, &agent.process].map(|process| memory(process, "VmRSS"));
    for transfer in [download, upload] {
        transfer(&relay);
        let most = [&relay.process, &agent.process].map(|process| memory(process, "VmHWM"));
        let growth = [0, 1].map(|end| most[end].saturating_sub(before[end]));
        println!("relay and agent have grown by at most {growth:?} bytes");
        assert!(
            growth.iter().all(|grown| *grown < sizes().1),
            "relay and agent have grown by {growth:?} bytes"
        );
    }
}
