//! Whether the visitors of one agent slow those of another.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::long::is_long;
use crate::origin::GatedService;
use crate::process::PATIENCE;
use crate::site::{Agent, Relay, Site};

/// More visitors than the relay accepts for one name: its agent has no free slot, and the queue is full.
const CROWD: usize = 2_000;
/// The least number of requests that the agent has in flight then.
const IN_FLIGHT: usize = 1_000;
/// Requests of one measurement.
const REQUESTS: usize = 400;

/// Starts a service that answers each request at once, and returns its port. It ends with the process.
fn quick() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = |mut stream: TcpStream| {
        let mut head = [0; 4096];
        while stream.read(&mut head).is_ok_and(|read| read > 0) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    port
}

/// Reads one answer, and returns the time since the request was sent.
fn response_time(visitor: &mut TcpStream, sent: Instant) -> Duration {
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"\r\n\r\nok") {
        let read = visitor.read(&mut piece).unwrap();
        answer.extend_from_slice(&piece[..read]);
        assert!(read > 0 && answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    }
    sent.elapsed()
}

/// The 99th percentile of the response times.
fn p99(relay: &Relay) -> Duration {
    let mut visitor = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
    visitor.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let sent = Instant::now();
        visitor.write_all(b"GET / HTTP/1.1\r\nHost: calm.ptth.localhost\r\n\r\n").unwrap();
        times.push(response_time(&mut visitor, sent));
    }
    times.sort();
    times[REQUESTS * 99 / 100]
}

/// One agent is full, and its visitors wait or are answered 503; those of another are served, and on a quiet machine as
/// quickly as before.
#[test]
fn a_full_agent_does_not_slow_another() {
    let site = Site::new();
    site.secret("calm", &site.token("calm"));
    // All of them come from one address.
    let mut relay = site.relay_command("http://127.0.0.1:0");
    let relay = Relay::start(relay.args(["--connections-per-address", "16384"]));
    let url = format!("http://localhost:{}", relay.port);
    let service = GatedService::start();
    let _full = Agent::start(&mut site.agent_command(&url, service.port.to_string()));
    let mut calm = site.agent_of("calm", "calm", &url, quick().to_string());
    let _calm = Agent::start(&mut calm);

    let head = "GET /wait/x HTTP/1.1\r\nHost: shop.ptth.localhost\r\n\r\n";
    let crowd = |count: usize| -> Vec<TcpStream> {
        let connect = |_| {
            let mut visitor = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
            visitor.write_all(head.as_bytes()).unwrap();
            visitor
        };
        (0..count).map(connect).collect()
    };
    // Other tests run beside this one: a measurement that was disturbed is made again.
    let mut report = String::new();
    for round in 1..=5 {
        let before = p99(&relay);
        let waiting = crowd(CROWD);
        service.wait_for_requests(round * IN_FLIGHT);
        let during = p99(&relay);
        drop(waiting);
        let ratio = during.as_secs_f64() / before.as_secs_f64();
        report =
            format!("p99 {before:?} alone, {during:?} beside {CROWD} visitors of a full agent: {ratio:.2}");
        println!("{report}");
        if ratio <= 2.0 || !is_long() {
            return;
        }
    }
    panic!("{report}");
}
