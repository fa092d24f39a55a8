//! What slow visitors may cost a relay.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::PATIENCE;
use crate::site::{Agent, Relay, Site};

const VISITORS: usize = 1_000;
const MIB: usize = 1 << 20;
/// What the relay is told with `--buffer-mib`.
const BUDGET: usize = 128 * MIB;
/// What a visitor's connection costs beside it: 72 KiB that wait for its socket, a window of 16 KiB and a frame of as
/// much, its task, and what allocators round up.
const CONNECTION: usize = 160 << 10;

/// Opens connections, asks on each, takes the start of each answer and nothing more, and waits for its input to end.
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
    assert visitor.recv(12) == b"HTTP/1.1 200", "a visitor has no answer"
print("all", flush=True)
sys.stdin.read()
"#;

/// What is resident of a process, in bytes.
fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// The most that is resident, until it has not grown for a second.
fn settled(pid: u32) -> usize {
    let (mut most, mut since) = (resident(pid), Instant::now());
    let until = Instant::now() + PATIENCE;
    while since.elapsed() < Duration::from_secs(1) && Instant::now() < until {
        std::thread::yield_now();
        let now = resident(pid);
        if now > most + MIB / 4 {
            (most, since) = (now, Instant::now());
        }
    }
    most
}

/// How much the relay grows by a crowd of visitors, in bytes.
fn growth(site: &Site, target: &str) -> usize {
    let mut command = site.relay_command("http://127.0.0.1:0");
    command.args(["--buffer-mib", &(BUDGET / MIB).to_string()]);
    let relay = Relay::start(&mut command);
    let pid = relay.process.child.id();
    let url = format!("http://localhost:{}", relay.port);
    let _agent = Agent::start(&mut site.agent_command(&url, target));
    let before = settled(pid);
    let mut crowd = Command::new("python3");
    crowd.args(["-c", SLOW_READERS, "shop.ptth.localhost", &relay.port.to_string(), &VISITORS.to_string()]);
    let mut crowd = crowd.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(crowd.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "all\n");
    let after = settled(pid);
    drop(crowd.stdin.take());
    assert!(crowd.wait().unwrap().success());
    let grown = after.saturating_sub(before);
    println!("{VISITORS} slow readers: {} MiB, and {} MiB more", before / MIB, grown / MIB);
    grown
}

#[test]
fn a_thousand_slow_readers_cost_no_more_than_the_budget() {
    let site = Site::new();
    fs::create_dir(site.at("files")).unwrap();
    File::create(site.at("files/large")).unwrap().set_len(1 << 30).unwrap();
    let grown = growth(&site, site.at("files").to_str().unwrap());
    assert!(grown < BUDGET + VISITORS * CONNECTION, "{} MiB", grown / MIB);
}
