//! The limits of visitors' connections hold for streams too.

use std::net::Ipv4Addr;
use std::time::Duration;

use ptth::internals::defaults;
use ptth::internals::relay::config::Listen;
use tokio::runtime::Builder;
use tokio::time::Instant;

use crate::line::{Line, PREFACE};
use crate::support::relay::connect;
use crate::support::{Plan, Wire, run, within};
use crate::world::{NAME, call, limit_reached, own_listeners, planned, refused, relay, served};

/// Waits until so many streams have reached the transport.
async fn wait_for_streams(line: &Line, mut count: usize) {
    within("streams at the transport", async {
        while count > 0 {
            count -= line.taken().len();
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[test]
fn unadmitted_streams_count_against_their_address() {
    run(async {
        let line = Line::new();
        let relay = relay(&line, |config| config.connections_per_address = 2);
        let [tls, plain] = own_listeners(&relay);
        let token = relay.token(&[NAME]);
        let mut held = [Wire::new(connect(plain).await), Wire::new(connect(plain).await)];
        wait_for_streams(&line, 2).await;
        for address in [plain, tls, relay.plain] {
            Wire::new(connect(address).await).closed().await;
        }
        limit_reached(&relay, "connections-per-address", 3).await;
        assert!(line.taken().is_empty());
        // A session holds no connection permit: visitors get through beside it.
        for stream in &mut held {
            stream.send([format!("{NAME} {}\n", token.expose()).as_bytes(), PREFACE].concat()).await;
            stream.exact(9).await;
        }
        drop(held);
        let agent = crate::world::Agent::start(&line, call("http", plain.port(), Some(token)), "in");
        let _agent = agent.await;
        served(&relay, "in").await;
    });
}

/// What is beyond `--connections` may only be an agent's, and a stream is.
#[test]
fn a_relay_full_of_visitors_accepts_streams() {
    run(async {
        let line = Line::new();
        let relay = relay(&line, |config| config.connections = 1);
        let [_, plain] = own_listeners(&relay);
        let token = relay.token(&[NAME]);
        let held = Wire::new(connect(plain).await);
        wait_for_streams(&line, 1).await;
        let agent = crate::world::Agent::start(&line, call("http", plain.port(), Some(token)), "in");
        let _agent = agent.await;
        limit_reached(&relay, "connections", 1).await;
        drop(held);
        served(&relay, "in").await;
    });
}

/// A stream has as long as the handshake in front of it, whatever it has sent; on this test's clock.
#[test]
fn a_stream_that_is_not_admitted_in_time_is_closed() {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let line = Line::new();
        let relay = planned(&line, Plan { cores: 0, ..Plan::default() });
        let [tls, plain] = own_listeners(&relay);
        for (address, first, deadline) in [
            (plain, "", defaults::STREAM),
            (plain, "half a li", defaults::STREAM),
            (tls, "", defaults::HANDSHAKE),
        ] {
            let mut wire = Wire::new(connect(address).await);
            wire.send(first).await;
            let began = Instant::now();
            wire.closed().await;
            let took = began.elapsed();
            let late = deadline + Duration::from_secs(1);
            assert!((deadline - Duration::from_secs(1)..late).contains(&took), "{took:?}");
        }
        assert_eq!(line.taken().len(), 2);
        limit_reached(&relay, "handshake", 3).await;
    });
}

/// A token must not cross a network in the clear, on this listener neither.
#[test]
fn a_remote_plain_stream_needs_allow_plain() {
    run(async {
        for allow in [false, true] {
            let line = Line::new();
            let relay = relay(&line, move |config| {
                config.listen[3] = Listen::plain((Ipv4Addr::UNSPECIFIED, 0).into()).of("line");
                config.allow_plain = allow;
            });
            let port = own_listeners(&relay)[1].port();
            let mut wire = Wire::new(connect((Ipv4Addr::LOCALHOST, port).into()).await);
            wire.send("a line\n").await;
            wire.finish().await;
            wire.rest().await;
            assert_eq!(line.taken().len(), usize::from(allow));
            refused(&relay, "not-yours", u64::from(!allow)).await;
        }
    });
}

/// A load balancer that says whose connection it is says so in front of a stream as well.
#[test]
fn a_stream_may_use_the_proxy_protocol() {
    run(async {
        let line = Line::new();
        let proxy_protocol = ["127.0.0.1/32".parse::<ipnet::IpNet>().unwrap()].into_iter().collect();
        let relay = planned(&line, Plan { proxy_protocol, ..Plan::default() });
        let token = relay.token(&[NAME]);
        let mut wire = Wire::new(connect(own_listeners(&relay)[1]).await);
        let header = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
        let line_sent = format!("{header}{NAME} {}\n", token.expose());
        wire.send([line_sent.as_bytes(), PREFACE].concat()).await;
        wire.exact(9).await;
        assert_eq!(line.taken()[0].facts.remote, "192.0.2.7:56324".parse().unwrap());
        let mut stranger = Wire::new(connect(own_listeners(&relay)[1]).await);
        stranger.send(format!("{NAME} {}\n", token.expose())).await;
        stranger.closed().await;
        assert!(line.taken().is_empty());
    });
}
