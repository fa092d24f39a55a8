//! Where an abuse happens: one relay, one recording origin, one agent between them, over every transport and carrier.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ptth::internals::agent::Serving;
use ptth::internals::session::Kind;
use ptth::transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::recorder::Recorder;
use crate::support::{AgentPlan, Plan, TestRelay, limit, named, run, serve, within};

/// The name that the agent of a world claims.
pub(crate) const NAME: &str = "shop";

/// How long an honest visitor waits at most beside an abuse, on a machine that runs all tests at once.
pub(crate) const PROMPT: Duration = Duration::from_secs(5);

/// Over what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct On {
    pub(crate) transport: &'static str,
    pub(crate) carrier: Kind,
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.transport, self.carrier)
    }
}

impl On {
    /// Every transport with each of its carriers.
    pub(crate) fn all() -> Vec<Self> {
        let carriers = |t: &&'static dyn transport::Transport| {
            let transport = t.name();
            t.carriers().iter().map(move |carrier| Self { transport, carrier: *carrier })
        };
        transport::ALL.iter().flat_map(carriers).collect()
    }

    /// Those whose connections are flipped.
    pub(crate) fn flipped() -> Vec<Self> {
        Self::all().into_iter().filter(|on| on.carrier != Kind::Envelope).collect()
    }

    /// Runs a case over these, each on a thread of its own.
    pub(crate) fn each<F: Future<Output = ()> + 'static>(
        all: Vec<Self>,
        case: &'static str,
        body: fn(Self) -> F,
    ) {
        let threads: Vec<_> = all
            .into_iter()
            .map(|on| {
                let thread = std::thread::Builder::new().name(format!("{case} on {on}"));
                (on, thread.spawn(move || run(body(on))).unwrap())
            })
            .collect();
        let failed: Vec<_> = threads
            .into_iter()
            .filter_map(|(on, thread)| thread.join().is_err().then(|| on.to_string()))
            .collect();
        assert!(failed.is_empty(), "{case} fails on {}", failed.join(", "));
    }

    /// A plan for an agent of `relay` that claims `name`.
    pub(crate) fn agent(&self, relay: &TestRelay, name: &str) -> AgentPlan {
        AgentPlan::new(&relay.url(), name, relay.token(&[name]), self.transport, self.carrier)
    }

    /// Relay, origin and agent, connected.
    pub(crate) async fn world(self) -> World {
        self.world_with(Plan::default()).await
    }

    /// As [`On::world`], with a relay of this plan.
    pub(crate) async fn world_with(self, plan: Plan) -> World {
        let (relay, origin) = (TestRelay::planned(plan), Recorder::start().await);
        let agent = serve(&self.agent(&relay, NAME), origin.handler()).await;
        World { relay, origin, _agent: agent }
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) relay: TestRelay,
    pub(crate) origin: Recorder,
    _agent: Serving,
}

impl World {
    /// That an honest visitor is answered, and soon.
    pub(crate) async fn is_healthy(&self) {
        honest(&self.relay, NAME).await;
    }
}

/// An honest visitor of a name: it is answered, and soon.
pub(crate) async fn honest(relay: &TestRelay, name: &str) {
    let asked = Instant::now();
    let (head, body) = relay.fetch(&format!("GET /honest HTTP/1.1\r\nHost: {}\r\n\r\n", named(name))).await;
    assert_eq!((head.status(), &*body), (200, "ok"), "{head:?}");
    assert!(asked.elapsed() < limit(PROMPT), "an honest visitor waited for {:?}", asked.elapsed());
}

/// A TCP connection with nothing held back.
pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    let stream = within("connecting", TcpStream::connect(address)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends bytes to a relay's plain port as a visitor would; what comes back until the connection ends or is silent for
/// `patience`.
pub(crate) async fn raw(relay: &TestRelay, bytes: &[u8], patience: Duration) -> Vec<u8> {
    let mut stream = connect(relay.plain).await;
    // A refusal may come, and the connection go, before all of it is out.
    let _ = within("sending", stream.write_all(bytes)).await;
    let mut read = Vec::new();
    while let Ok(Ok(1..)) = tokio::time::timeout(patience, stream.read_buf(&mut read)).await {}
    read
}

/// The status of the first answer in what came back; 0 for none.
pub(crate) fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}
