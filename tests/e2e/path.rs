//! A visitor's request through relay and agent to nginx and back.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::origin::Nginx;
use crate::site::{Agent, Relay, Site};
use crate::sockets;

/// The size of a file, in bytes. Its contents have no repetition, so that a wrong offset changes them.
const LARGE: usize = 64 << 20;

struct Running {
    site: Site,
    _nginx: Nginx,
    relay: Relay,
    agent: Agent,
}

fn start() -> Running {
    let site = Site::new();
    let nginx = Nginx::start(&site);
    let relay = site.relay();
    let agent = site.agent(&relay, nginx.port.to_string());
    Running { site, _nginx: nginx, relay, agent }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()
    };
    std::iter::repeat_with(word).take(bytes / 8).flatten().collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn a_visitor_reaches_nginx_over_http1_and_http2() {
    let Running { site, agent, relay, _nginx } = start();
    assert_eq!(agent.url, format!("https://shop.ptth.localhost:{}/", relay.port));
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let front = site.curl([flag, &agent.url]);
        assert_eq!((front.status, front.text().as_str()), (200, "the front page\n"), "{front:?}");
        assert_eq!(front.version, version);
        let seen = format!("{}seen?a=1&b=%20", agent.url);
        let seen = site.curl([flag, "--header", "X-Mine: kept", "--request", "DELETE", &seen]);
        assert_eq!(seen.field("x-origin"), "nginx");
        assert!(seen.field("server").starts_with("nginx"), "{}", seen.head);
        assert_eq!(seen.text(), "DELETE /seen?a=1&b=%20 shop.ptth.localhost https kept \n");
        let head = site.curl([flag, "--head", &agent.url]);
        assert_eq!((head.field("content-length"), head.body.len()), ("15", head.body.len()));
        assert_eq!(site.curl([flag, &format!("{}none", agent.url)]).status, 404);
    }
}

#[test]
fn a_large_file_arrives_whole_and_in_parts() {
    let Running { site, agent, _nginx, relay: _relay } = start();
    let large = noise(LARGE);
    site.write("www/large", &large);
    let url = format!("{}large", agent.url);
    for flag in ["--http1.1", "--http2"] {
        let got = site.curl([flag, &url]);
        assert_eq!((got.status, got.body.len()), (200, LARGE));
        assert_eq!(digest(&got.body), digest(&large));
        let part = site.curl([flag, "--range", "1000000-1999999", &url]);
        assert_eq!(part.status, 206);
        assert_eq!(part.field("content-range"), format!("bytes 1000000-1999999/{LARGE}"));
        assert!(part.body == large[1_000_000..2_000_000], "{flag}: the wrong part of the file");
    }
}

#[test]
fn an_upload_arrives_whole() {
    let Running { site, agent, _nginx, relay: _relay } = start();
    let bytes = noise(8 << 20);
    let file = format!("@{}", site.write("upload", &bytes).display());
    let url = format!("{}upload", agent.url);
    // With a length, and in chunks.
    for flags in [["--http1.1", "X-A: b"], ["--http2", "X-A: b"], ["--http1.1", "Transfer-Encoding: chunked"]]
    {
        let post = site.curl([flags[0], "--header", flags[1], "--data-binary", &file, &url]);
        assert_eq!(post.status, 200, "{post:?}");
        let stored = std::fs::read(post.text()).unwrap_or_else(|error| panic!("{error}: {post:?}"));
        assert_eq!(digest(&stored), digest(&bytes), "{flags:?}: {} bytes", stored.len());
    }
}

#[test]
fn the_agent_opens_the_only_connection() {
    let Running { site, agent, relay, _nginx } = start();
    assert_eq!(site.curl([&agent.url]).status, 200);
    let agents = sockets::of(agent.process.id());
    let to_relay: Vec<_> = agents.iter().filter(|s| s.connected && s.remote_port == relay.port).collect();
    let [link] = to_relay[..] else { panic!("not exactly one connection: {to_relay:?}") };
    assert!(!agents.iter().any(|s| s.listening), "the agent listens: {agents:?}");
    let relays = sockets::of(relay.process.id());
    assert!(relays.iter().any(|s| s.listening && s.local_port == relay.port), "{relays:?}");
    let (ours, others): (Vec<_>, Vec<_>) =
        relays.iter().filter(|s| s.connected).partition(|s| s.local_port == relay.port);
    assert!(others.is_empty(), "the relay dialled out: {others:?}");
    assert!(ours.iter().any(|s| s.remote_port == link.local_port), "{ours:?}");
}
