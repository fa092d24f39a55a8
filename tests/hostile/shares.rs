//! What one agent, or the crowd at one agent, may take of a relay that others use too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use ptth::internals::defaults;
use ptth::internals::message::{Body, Response};
use ptth::internals::policy::Grants;
use ptth::internals::relay::config::RelayConfig;
use ptth::internals::session::{Handler, Kind, handler_fn};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::foreign::{Stranger, head};
use crate::recorder::Recorder;
use crate::support::{Plan, TestRelay, is_long, named, run, serve};
use crate::world::{On, PROMPT, connect, honest, raw};

/// Beside an abuse an honest visitor may wait so much longer, or as long as a busy machine makes anybody wait.
const BUSY: Duration = Duration::from_millis(250);

/// The time that all but one in a hundred honest visitors stay below; each is answered.
async fn p99(relay: &TestRelay) -> Duration {
    let mut times = Vec::new();
    for _ in 0..100 {
        let asked = Instant::now();
        honest(relay, "honest").await;
        times.push(asked.elapsed());
    }
    times.sort();
    times[98]
}

/// That honest visitors are answered, and on a quiet machine do not wait `times` as long as before.
async fn is_fair(relay: &TestRelay, before: Duration, times: u32, beside: &str) {
    let now = p99(relay).await;
    println!("{beside}: p99 {before:?} before, {now:?} under load");
    let fair = now <= (times * before).max(BUSY);
    assert!(fair || !is_long(), "{beside}: p99 {before:?} before, {now:?} under load");
}

/// Comes as `count` processes, several at once; the connections that were let in.
async fn admitted(on: On, relay: &TestRelay, token: &str, count: usize) -> Vec<tokio::net::TcpStream> {
    let offers = stream::iter(0..count).map(|number| async move {
        let fields = format!("PTTH-Instance: greedy-{number};boot=1\r\n");
        let agent = Stranger { fields: &fields, ..Stranger::new(on, relay.plain, "greedy", token) };
        let mut stream = connect(relay.plain).await;
        stream.write_all(agent.offer().as_bytes()).await.unwrap();
        (head(&mut stream).await, stream)
    });
    let mut offers = offers.buffer_unordered(16);
    let mut held = Vec::new();
    while let Some((head, stream)) = offers.next().await {
        if head.status() < 400 {
            held.push(stream);
            continue;
        }
        assert_eq!(head.status(), 429, "{head:?}");
        assert!(head.get("retry-after").is_some(), "{head:?}");
    }
    held
}

/// A17: the connections of one agent have a bound, also for those that come at once, and those of others are none of
/// its business.
pub(crate) async fn one_agent_does_not_take_all_connections(on: On) {
    // On a slow machine the relay closes the first of a thousand, which answer no PING, before the last has come.
    let most = if is_long() { defaults::CONNECTIONS_PER_AGENT } else { 64 };
    let change = Box::new(move |config: &mut RelayConfig| config.connections_per_agent = most);
    let relay = TestRelay::planned(Plan { change, ..Plan::default() });
    let origin = Recorder::start().await;
    let _honest = serve(&on.agent(&relay, "honest"), origin.handler()).await;
    let before = p99(&relay).await;
    let token = relay.token(&["greedy"]);
    let held = admitted(on, &relay, token.expose(), most + 64).await;
    assert!(held.len() <= most, "{} connections of one agent, with a limit of {most}", held.len());
    is_fair(&relay, before, 2, &format!("{on}: {} connections of one agent", held.len())).await;
    drop(held);
}

/// A17: nor do its polls take all that a relay can hold.
pub(crate) async fn one_agent_does_not_take_all_polls(on: On) {
    if on.carrier != Kind::Envelope {
        return;
    }
    let polls = if is_long() { 10_000 } else { 1_000 };
    let (relay, origin) = (TestRelay::start(), Recorder::start().await);
    let _honest = serve(&on.agent(&relay, "honest"), origin.handler()).await;
    let before = p99(&relay).await;
    let token = relay.token(&["greedy"]);
    let agent = Stranger::new(on, relay.plain, "greedy", token.expose());
    let answers: Vec<_> = stream::iter(0..polls)
        .map(|_| async {
            let mut link = agent.connect().await.expect("the relay admits the agent");
            link.poll_answer(Duration::from_secs(2)).await.map_or_else(|| Err(link), Ok)
        })
        .buffer_unordered(100)
        .collect()
        .await;
    let (mut waiting, mut refused) = (0, 0);
    for answer in answers {
        // Some have been held for long enough, and others wait in their place.
        let told = match answer {
            Ok(head) => Some(head),
            Err(mut link) => link.poll_answer(Duration::from_millis(1)).await,
        };
        match told {
            None => waiting += 1,
            Some(head) if head.status() == 429 => {
                assert!(head.get("retry-after").is_some(), "{head:?}");
                refused += 1;
            }
            Some(head) => assert!([200, 204].contains(&head.status()), "{head:?}"),
        }
    }
    assert!(waiting <= defaults::POLLS_MOST && refused > polls / 2, "{waiting} wait, {refused} were refused");
    is_fair(&relay, before, 2, &format!("{on}: {polls} polls of one agent, of which {waiting} wait")).await;
}

/// A17: nor its names. One offer asks for no more than a few, and a token that may claim any name holds no more than a
/// relay can look through.
#[test]
fn one_agent_does_not_take_all_names() {
    run(async {
        let on = On { transport: "ptth10", carrier: Kind::H2 };
        let (relay, origin) = (TestRelay::start(), Recorder::start().await);
        let _honest = serve(&on.agent(&relay, "honest"), origin.handler()).await;
        let before = p99(&relay).await;
        let token = relay.tokens.issue(Grants::any()).unwrap().1;
        let offer = async |names: std::ops::Range<usize>| {
            let query: Vec<_> = names.clone().map(|n| format!("name=n{n}")).collect();
            let mut stream = connect(relay.plain).await;
            let offer = format!(
                "POST /reversehttp?{} HTTP/1.1\r\nHost: ptth.localhost\r\nConnection: Upgrade\r\nUpgrade: PTTH/1.0\r\n\
                 ALPN: h2\r\nPTTH-Instance: i{};boot=1\r\nAuthorization: Bearer {}\r\n\r\n",
                query.join("&"),
                names.start,
                token.expose()
            );
            stream.write_all(offer.as_bytes()).await.unwrap();
            (head(&mut stream).await, stream)
        };
        let (told, _) = offer(0..5_000).await;
        assert_eq!(told.status(), 400, "5,000 names in one offer: {told:?}");
        let (mut held, mut refused) = (Vec::new(), None);
        for start in (0..2 * defaults::ROUTES_PER_AGENT).step_by(defaults::ROUTES_PER_OFFER) {
            let (told, stream) = offer(start..start + defaults::ROUTES_PER_OFFER).await;
            match told.status() {
                101 => held.push(stream),
                _ => {
                    refused = Some(told);
                    break;
                }
            }
        }
        let refused = refused.expect("a refused offer");
        assert_eq!(refused.status(), 429, "{refused:?}");
        assert!(refused.get("retry-after").is_some(), "{refused:?}");
        assert!(held.len() * defaults::ROUTES_PER_OFFER <= defaults::ROUTES_PER_AGENT);
        let names = held.len() * defaults::ROUTES_PER_OFFER;
        is_fair(&relay, before, 2, &format!("{names} names of one agent")).await;
        // A11, Caddy CVE-2026-27588: a host is told in any spelling among many as well as alone.
        let shop = named("honest");
        for host in [shop.to_uppercase(), format!("{shop}."), format!("{shop}:443"), format!("{shop}.:1")] {
            let got = relay.fetch(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(got.0.status(), 200, "{host}");
        }
    });
}

/// A service that answers eight at once, and each after ten milliseconds.
fn limited() -> Arc<dyn Handler> {
    let places = Arc::new(Semaphore::new(8));
    Arc::new(handler_fn(move |_| {
        let places = places.clone();
        async move {
            let _place = places.acquire().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            Response::new(Body::empty())
        }
    }))
}

/// A18: a crowd of twice what one tenant can answer, and more. Every visitor of the other is answered, and does not
/// wait three times as long.
pub(crate) async fn a_crowd_at_one_tenant_starves_no_other(on: On) {
    let (relay, origin) = (TestRelay::start(), Recorder::start().await);
    let _a = serve(&on.agent(&relay, "crowded"), limited()).await;
    let _b = serve(&on.agent(&relay, "honest"), origin.handler()).await;
    let before = p99(&relay).await;
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", named("crowded"));
    let one = || async {
        loop {
            raw(&relay, ask.as_bytes(), PROMPT).await;
        }
    };
    let beside = format!("{on}: a crowd of 64");
    tokio::select! {
        () = is_fair(&relay, before, 3, &beside) => {}
        _ = futures_util::future::join_all((0..64).map(|_| one())) => unreachable!("the crowd does not end"),
    }
}
