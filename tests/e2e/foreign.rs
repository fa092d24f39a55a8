//! An agent of another author: the npm package `reverse-http`, unmodified, over PTTH/1.0. And our agent at a relay of
//! another author.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::node::modules;
use crate::process::Process;
use crate::site::{Relay, Site, ptth};

struct Running {
    site: Site,
    relay: Relay,
    agent: Process,
    url: String,
}

fn start() -> Running {
    let site = Site::new();
    let relay = site.relay_at("http://127.0.0.1:0");
    let token = std::fs::read_to_string(site.at("token")).unwrap();
    let mut node = Command::new("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/reverse_http.js"))
        .arg(modules("reverse-http", "1.3.0"));
    node.args([&relay.port.to_string(), "/reversehttp?name=shop", token.trim()]);
    let agent = Process::start(&mut node);
    assert_eq!(agent.line(0), "connected", "{agent} {}", relay.process);
    let url = format!("http://shop.ptth.localhost:{}/", relay.port);
    Running { site, relay, agent, url }
}

#[test]
fn consecutive_requests_are_answered() {
    let Running { site, relay, agent, url } = start();
    for number in 0..10 {
        let got = site.curl([format!("{url}{number}")]);
        assert_eq!(got.status, 200, "{got:?} {}", relay.process);
        assert_eq!(got.text(), format!("GET /{number} shop.ptth.localhost:{} 0\n", relay.port));
    }
    assert_eq!(agent.out.all(), ["connected"], "the agent connected more than once; {agent}");
}

#[test]
fn bodies_with_a_length_and_chunked_bodies_arrive() {
    let Running { site, relay: _relay, agent: _agent, url } = start();
    let body: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let file = format!("@{}", site.write("body", &body).display());
    let url = format!("{url}echo");
    for (header, framing) in [("X-A: b", "300000"), ("Transfer-Encoding: chunked", "chunked")] {
        let got = site.curl(["--header", header, "--data-binary", &file, &url]);
        assert_eq!((got.status, got.field("x-framing")), (200, framing), "{got:?}");
        assert!(got.body == body, "{} bytes came back", got.body.len());
    }
}

#[test]
fn a_request_during_a_reconnect_is_answered() {
    let Running { site, relay, agent, url } = start();
    assert_eq!(site.curl([&url]).status, 200);
    // Node closes a connection that was idle for five seconds, and the library connects again.
    let started = Instant::now();
    relay.process.logs(" agent connection ended ");
    let answer = site.curl([&url]);
    assert_eq!(answer.status, 200, "{answer:?} {agent} {}", relay.process);
    println!("the connection was closed and the next request answered after {:?}", started.elapsed());
    for _ in 0..3 {
        assert_eq!(site.curl([&url]).status, 200, "{}", relay.process);
    }
    assert_eq!(agent.out.all(), ["connected", "connected"], "{agent}");
}

#[test]
fn the_library_reports_the_refusal_of_a_wrong_token() {
    let site = Site::new();
    let relay = site.relay_at("http://127.0.0.1:0");
    let mut node = Command::new("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/reverse_http.js"))
        .arg(modules("reverse-http", "1.3.0"));
    let mut agent = Process::start(node.args([&relay.port.to_string(), "/reversehttp?name=shop", "wrong"]));
    assert_eq!(agent.line(0), "error: Unexpected response to PTTH/1.0 Upgrade request");
    assert_eq!(agent.ends(), 1);
}

/// A relay may admit an agent without announcing a public URL.
#[test]
fn an_agent_reports_that_the_relay_announces_no_url() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = format!("http://{}", listener.local_addr().unwrap());
    let admitting = std::thread::spawn(move || {
        let (mut agent, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            agent.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        agent
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: PTTH/1.0\r\n\r\n",
            )
            .unwrap();
        agent
    });
    let agent = Process::start(ptth().args(["agent", "3000", "--relay", &relay, "--transport", "ptth10"]));
    let _connection = admitting.join().unwrap();
    assert_eq!(agent.line(0), format!("connected to {relay}/, which announced no public URL"), "{agent}");
    assert!(agent.line(1).starts_with("target: "), "{agent}");
    let line = agent.logs("connected");
    assert!(line.contains("announced no public URL") && !line.contains("urls=\"\""), "{line}");
}
