//! How much slower polling is than a flipped connection: a ratio, because the speed of the machine does not matter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ptth::internals::session::Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::library::agent;
use crate::long::is_long;
use crate::origin::Nginx;
use crate::site::{Relay, Site};

const VISITORS: usize = 64;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
/// The least ratio of the request rate of polling to that of `ptth10` with carrier `h1`.
const LEAST: f64 = 0.25;

/// Sends requests on one connection until `until`, and returns the number of answers.
async fn visit(port: u16, request: Arc<str>, until: Instant) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut count, mut read) = (0, Vec::new());
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).await.unwrap();
        read.clear();
        while !read.ends_with(b"the front page\n") {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0, "{}", String::from_utf8_lossy(&read));
        }
        assert!(read.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&read));
        count += 1;
    }
    count
}

/// Requests a second.
fn round(port: u16, name: &str) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request: Arc<str> = format!("GET / HTTP/1.1\r\nHost: {name}.ptth.localhost\r\n\r\n").into();
    let until = Instant::now() + ROUND;
    let all = (0..VISITORS).map(|_| visit(port, request.clone(), until));
    let counts = runtime.block_on(futures_util::future::join_all(all));
    counts.iter().sum::<usize>() as f64 / ROUND.as_secs_f64()
}

#[test]
fn polling_reaches_a_quarter_of_the_request_rate_of_ptth10() {
    if !is_long() {
        return println!("takes half a minute: set PTTH_LONG=1");
    }
    let site = Site::new();
    let nginx = Nginx::start(&site);
    let [flipped, polled] = ["flipped", "polled"].map(|name| (name, site.token(name)));
    let relay = Relay::start(site.relay_command("127.0.0.1:0").args(["--listen", "http://127.0.0.1:0"]));
    let public: u16 = relay.process.line(1).rsplit(':').next().unwrap().parse().unwrap();
    let target = format!("http://127.0.0.1:{}", nginx.port);
    let agent =
        |(name, token): &(&str, String), transport| agent(&site, &relay, &target, (name, token), transport);
    let _flipped = agent(&flipped, ("ptth10", Kind::H1));
    let _polled = agent(&polled, ("reversehttp", Kind::Envelope));
    // Interleaved, so that other load on the machine slows both.
    let mut ratios: Vec<_> = (0..ROUNDS)
        .map(|number| {
            let (flipped, polled) = (round(public, "flipped"), round(public, "polled"));
            println!("round {number}: flipped {flipped:.0}/s, polled {polled:.0}/s: {:.2}", polled / flipped);
            polled / flipped
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ROUNDS / 2];
    println!("median {median:.2}");
    assert!(median >= LEAST, "{ratios:.2?}");
}
