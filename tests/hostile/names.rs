//! Whose name it is, and for whom a request is.

use std::time::Duration;

use futures_util::future::join_all;
use ptth::internals::domain::Secret;
use ptth::internals::relay::config::RelayConfig;
use ptth::internals::session::Kind;
use rand::seq::IndexedRandom as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::foreign::{Stranger, head};
use crate::frames::{Frames, HEADERS};
use crate::recorder::Recorder;
use crate::support::{Plan, QUIET, STEP, TestRelay, Wire, is_long, named, serve, within};
use crate::world::{NAME, On, connect, honest, raw, status};

/// Agents that want one name at once, and how many names.
fn race() -> (usize, usize) {
    if is_long() { (50, 200) } else { (20, 5) }
}

/// Asks for a name; the status, and the connection that keeps it.
async fn claim(on: On, relay: &TestRelay, name: &str, token: &Secret) -> (u16, TcpStream) {
    let mut stream = connect(relay.plain).await;
    let offer = Stranger::new(on, relay.plain, name, token.expose()).offer();
    stream.write_all(offer.as_bytes()).await.unwrap();
    (head(&mut stream).await.status(), stream)
}

/// Waits until requests come on a flipped connection: what was let in and went before that never held the name.
async fn in_use(on: On, relay: &TestRelay, name: &str, stream: TcpStream) {
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", named(name));
    let asking = raw(relay, ask.as_bytes(), STEP);
    let arriving = async {
        match on.carrier {
            Kind::Envelope => {}
            Kind::H1 => assert_eq!(Wire::new(stream).head().await.first, "GET / HTTP/1.1"),
            Kind::H2 => {
                let mut frames = Frames::server(stream, &[]).await;
                assert!(frames.until(STEP, |f| f.kind == HEADERS).await.is_some());
            }
        }
    };
    tokio::select! {
        () = arriving => {}
        got = asking => panic!("an answer without the owner: {}", String::from_utf8_lossy(&got)),
    }
}

/// A1, frp #5222: one of many owns a name, and its lease keeps strangers out until it is back.
pub(crate) async fn a_contested_name_has_one_owner(on: On) {
    let relay = TestRelay::start();
    let (agents, rounds) = race();
    for round in 0..rounds {
        let name = format!("wanted-{round}");
        let tokens: Vec<_> = (0..agents).map(|_| relay.token(&[&name])).collect();
        let tried = join_all(tokens.iter().map(|token| claim(on, &relay, &name, token))).await;
        let won: Vec<_> =
            tried.iter().enumerate().filter(|(_, (status, _))| *status < 400).map(|(n, _)| n).collect();
        let refused = tried.iter().filter(|(status, _)| *status == 403).count();
        assert_eq!(
            (won.len(), refused),
            (1, agents - 1),
            "{:?}",
            tried.iter().map(|(s, _)| *s).collect::<Vec<_>>()
        );
        // Its link is cut: the name is its own for the time of the lease.
        let owner = won[0];
        let link = tried.into_iter().nth(owner).unwrap().1;
        in_use(on, &relay, &name, link).await;
        let strangers = tokens.iter().enumerate().filter(|(n, _)| *n != owner);
        for (stranger, _) in join_all(strangers.map(|(_, token)| claim(on, &relay, &name, token))).await {
            assert_eq!(stranger, 403, "a stranger took the name");
        }
        let (back, _) = claim(on, &relay, &name, &tokens[owner]).await;
        assert!(back < 400, "the owner cannot reconnect: {back}");
    }
}

/// sish #374: an agent that goes at any byte of its registration, and one that goes with its last, leave nothing behind.
pub(crate) async fn a_registration_cut_at_any_byte_leaves_no_claim(on: On) {
    const OTHER: &str = "other";
    let change = |config: &mut RelayConfig| config.lease = Duration::from_millis(300);
    let relay = TestRelay::planned(Plan { change: Box::new(change), ..Plan::default() });
    let (mine, theirs) = (relay.token(&[NAME, OTHER]), relay.token(&[NAME, OTHER]));
    let text = Stranger::new(on, relay.plain, NAME, mine.expose()).offer();
    for cut in 1..text.len() {
        let mut stream = connect(relay.plain).await;
        stream.write_all(&text.as_bytes()[..cut]).await.unwrap();
    }
    let (free, _kept) = claim(on, &relay, NAME, &theirs).await;
    assert!(free < 400, "{free}: an incomplete registration holds the name");
    if on.carrier == Kind::Envelope {
        // Whoever polls is not connected: a whole registration stands for its lease.
        return;
    }
    let text = Stranger::new(on, relay.plain, OTHER, mine.expose()).offer();
    for round in 0..20 {
        let mut stream = connect(relay.plain).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        match round % 3 {
            0 => stream.set_zero_linger().unwrap(),
            1 => drop(stream.read_u8().await),
            _ => {}
        }
    }
    // Some were let in, and had the name for as long as a lease.
    let free = async {
        loop {
            match claim(on, &relay, OTHER, &theirs).await {
                (403, _) => tokio::time::sleep(QUIET).await,
                (status, link) => return (status, link),
            }
        }
    };
    let (free, link) = within("the name being free again", free).await;
    assert!(free < 400, "{free}");
    in_use(on, &relay, OTHER, link).await;
}

/// chisel CVE-2026-48113: being let in for one name opens no other.
pub(crate) async fn a_token_claims_no_other_name(on: On) {
    let relay = TestRelay::start();
    let (mine, theirs) = (relay.token(&["mine"]), relay.token(&["theirs"]));
    let (_first, _kept) = claim(on, &relay, "mine", &mine).await;
    for name in [
        "theirs",
        "THEIRS",
        "mine,theirs",
        "ptth",
        "mine&name=theirs",
        "theirs.ptth.localhost",
        "..",
        "%74heirs",
    ] {
        let (status, _) = claim(on, &relay, name, &mine).await;
        assert!((400..404).contains(&status), "{name}: {status}");
    }
    let (free, _kept) = claim(on, &relay, "theirs", &theirs).await;
    assert!(free < 400, "{free}");
}

/// A11; frp CVE-2026-40910, CVE-2022-23632, Caddy CVE-2026-27588: every request reaches the one right tenant, or none.
pub(crate) async fn no_request_reaches_the_wrong_tenant(on: On) {
    let relay = TestRelay::start();
    let origins = [Recorder::start().await, Recorder::start().await];
    let _a = serve(&on.agent(&relay, "a"), origins[0].handler()).await;
    let _b = serve(&on.agent(&relay, "b"), origins[1].handler()).await;
    let (a, b) = (named("a"), named("b"));
    // Each with the tenant that it is for: the authority of the target is over the Host.
    let rows: Vec<(String, String, Option<usize>)> = vec![
        ("/".into(), format!("Host: {}\r\n", a.to_uppercase()), Some(0)),
        ("/".into(), format!("Host: {a}.\r\n"), Some(0)),
        ("/".into(), format!("Host: {a}:443\r\nX-Forwarded-Host: {b}\r\nForwarded: host={b}\r\n"), Some(0)),
        ("/".into(), format!("Host: {b}:0\r\nX-Host: {a}\r\nX-Original-URL: http://{a}/\r\n"), Some(1)),
        (format!("http://{b}/"), format!("Host: {a}\r\n"), Some(1)),
        (format!("http://{b}:80/x"), format!("Host: {b}\r\nX-Forwarded-Server: {a}\r\n"), Some(1)),
        (format!("http://{a}@{b}/"), format!("Host: {a}\r\n"), None),
        (format!("http://{a}\\@{b}/"), format!("Host: {a}\r\n"), None),
        ("/".into(), format!("Host: {a}, {b}\r\n"), None),
        ("/".into(), format!("Host: {a},{b}\r\n"), None),
        ("/".into(), format!("Host: {a}\r\nHost: {b}\r\n"), None),
        ("/".into(), format!("Host: {a} {b}\r\n"), None),
        ("/".into(), format!("Host: {a}@{b}\r\n"), None),
        ("/".into(), format!("Host: {a}#@{b}\r\n"), None),
        ("/".into(), format!("Host: {a}/{b}\r\n"), None),
        ("/".into(), format!("Host: {a}?{b}\r\n"), None),
        ("/".into(), format!("Host: {a}%00.{b}\r\n"), None),
        ("/".into(), format!("Host: {a}\0.{b}\r\n"), None),
        ("/".into(), format!("Host: {a}\r\n {b}\r\n"), None),
        ("/".into(), format!("Host: {a}..\r\n"), None),
        ("/".into(), format!("Host: .{a}\r\n"), None),
        ("/".into(), format!("Host: x.{a}\r\n"), None),
        ("/".into(), format!("Host: {a}x\r\n"), None),
        ("/".into(), format!("Host: {a}:80:{b}\r\n"), None),
        ("/".into(), format!("Host: [{a}]\r\n"), None),
        ("/".into(), "Host: \u{430}.ptth.localhost\r\n".into(), None),
        ("/".into(), "Host: xn--80a.ptth.localhost\r\n".into(), None),
        ("/".into(), "Host: %61.ptth.localhost\r\n".into(), None),
        ("/".into(), "Host:\r\n".into(), None),
    ];
    let mut random = rand::rng();
    for number in 0..if is_long() { 5_000 } else { 400 } {
        let (target, fields, tenant) = rows.choose(&mut random).unwrap();
        let ask = format!("GET {target} HTTP/1.1\r\n{fields}X-Number: {number}\r\nConnection: close\r\n\r\n");
        let answer = raw(&relay, ask.as_bytes(), STEP).await;
        let found: Vec<_> = origins
            .iter()
            .map(|o| o.whole().iter().any(|r| r.all("x-number") == [number.to_string()]))
            .collect();
        let wanted = [*tenant == Some(0), *tenant == Some(1)];
        assert_eq!(found, wanted, "{ask:?}: {}", String::from_utf8_lossy(&answer));
        assert!(tenant.is_some() == (status(&answer) == 200), "{ask:?}: {}", status(&answer));
    }
    for request in origins[0].whole() {
        assert_ne!(request.all("x-forwarded-host"), [&*b], "{request:?}");
    }
    honest(&relay, "a").await;
    honest(&relay, "b").await;
}
