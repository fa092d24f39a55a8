//! A name whose agent comes again and again, and leaves connections behind that nobody can tell from live ones.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use ptth::internals::defaults;
use socket2::{SockFilter, SockRef};
use tokio::time::Instant;

use crate::foreign::{Foreign, Stranger};
use crate::program::{MIB, resident};
use crate::site::{Relay, Site, poll};
use crate::slow::descriptors;
use crate::support::{Wire, is_long, named};
use crate::world::{NAME, On, connect};

/// A filter program that takes no packet (`BPF_RET | BPF_K`, length 0).
const NOTHING: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];
/// For the relay to close what is over.
const SPARE: Duration = Duration::from_secs(10);
/// As many at once stay below what one address may have.
const MOST: usize = 800;
/// Between two looks at who has the name.
const EVERY: usize = 20;

/// frp #5424, #5222, #5202: each time the last connection is half-open, and there is always one owner, never two, and
/// nothing is left of the others. Two connections are of each process, and then a newer boot of it comes.
pub(crate) async fn thousands_of_reconnects_leak_nothing(on: On) {
    let rounds = if is_long() { 5_000 } else { 400 };
    let site = Site::new();
    let stranger = site.token(NAME).trim().to_owned();
    let relay = Relay::start(&mut site.relay_command("http://127.0.0.1:0"));
    let at = ([127, 0, 0, 1], relay.port).into();
    let token = std::fs::read_to_string(site.at("token")).unwrap().trim().to_owned();
    let before = descriptors(&relay.process);
    let (mut held, mut warm) = (Vec::new(), 0);
    let mut recent = VecDeque::new();
    for round in 0..rounds {
        let fields = format!("PTTH-Instance: box;boot={}\r\n", 1 + round / 2);
        let agent = Stranger { fields: &fields, ..Stranger::new(on, at, NAME, &token) };
        let stream = connect(at).await;
        let socket = SockRef::from(&stream).try_clone().unwrap();
        let mut link =
            agent.connect_over(stream).await.unwrap_or_else(|status| panic!("round {round}: {status}"));
        if round % EVERY == 0 {
            arrives(at, &mut link).await;
            let other = Stranger::new(on, at, NAME, &stranger);
            assert_eq!(other.connect().await.err(), Some(403), "round {round}: two owners");
        }
        if round == rounds / 4 {
            warm = resident(relay.process.id());
        }
        // From now on nothing arrives at it, not even for the kernel, and nobody at the far end is told.
        socket.attach_filter(&NOTHING).unwrap();
        held.push(link);
        // What is older than this has been replaced; no descriptor of this process is needed for it.
        if held.len() > 64 {
            held.remove(0);
        }
        // The relay cannot know that the far end of a poll is gone before the time for its next request is over.
        recent.push_back(Instant::now());
        while let Some(began) = recent.front().copied()
            && (recent.len() > MOST || began + defaults::HEAD + SPARE < Instant::now())
        {
            // One address may have no more than so many connections.
            tokio::time::sleep_until(began + defaults::HEAD + SPARE).await;
            recent.pop_front();
        }
        let most = before + held.len() + recent.len() + EVERY;
        assert!(descriptors(&relay.process) <= most, "round {round}: descriptors leak");
    }
    // The name is held to the last.
    let fields = format!("PTTH-Instance: box;boot={rounds}\r\n");
    let last = Stranger { fields: &fields, ..Stranger::new(on, at, NAME, &token) };
    let mut link = last.connect().await.expect("the owner reconnects");
    arrives(at, &mut link).await;
    drop((held, link));
    let left = || descriptors(&relay.process);
    let few = || (left() <= before + 1).then_some(());
    // A connection of a poll whose end never arrived is silent, and has `defaults::HEAD` for that.
    let gone = poll(few).or_else(|| poll(few));
    assert!(gone.is_some(), "{on}: {} descriptors, {before} at the start", left());
    let grown = resident(relay.process.id()).saturating_sub(warm);
    println!("{on}: {rounds} reconnects, {} KiB more since the first quarter", grown >> 10);
    assert!(grown < 8 * MIB, "{on}: {} MiB more", grown / MIB);
}

/// A visitor's request comes over this link, and over no other.
async fn arrives(at: SocketAddr, link: &mut Foreign) {
    let mut visitor = Wire::new(connect(at).await);
    visitor.send(format!("GET /owner HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME))).await;
    link.request().await;
}
