//! Where a scenario runs: one relay, one origin, one agent between them.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;

use ptth::internals::agent::Serving;
use ptth::internals::session::Kind;
use ptth::transport;

use crate::exceptions::is_excepted;
use crate::holder::{Buffering, buffering_proxy};
use crate::logins::handler;
use crate::support::{AgentPlan, Front, Head, Plan, TestOrigin, TestRelay, Wire, named, run, serve};

/// The name that the agent of a world claims.
pub(crate) const NAME: &str = "shop";

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
    /// Runs a scenario over every transport and carrier, each on a thread of its own.
    pub(crate) fn each<F: Future<Output = ()> + 'static>(scenario: &'static str, body: fn(On) -> F) {
        let carriers = |t: &&'static dyn transport::Transport| {
            let transport = t.name();
            t.carriers().iter().map(move |carrier| Self { transport, carrier: *carrier })
        };
        let here = |on: &Self| !is_excepted(scenario, on.transport);
        let threads = transport::ALL.iter().flat_map(carriers).filter(here).map(|on| {
            let thread = std::thread::Builder::new().name(format!("{scenario} on {on}"));
            (on, thread.spawn(move || run(body(on))).unwrap())
        });
        let threads: Vec<_> = threads.collect();
        let failed: Vec<_> = threads
            .into_iter()
            .filter_map(|(on, thread)| thread.join().is_err().then(|| on.to_string()))
            .collect();
        assert!(failed.is_empty(), "{scenario} fails on {}", failed.join(", "));
    }

    /// Whether nothing of a message crosses before all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.transport == "comet"
    }

    /// A plan for an agent of `relay` that claims [`NAME`].
    pub(crate) fn agent(&self, relay: &TestRelay) -> AgentPlan {
        self.agent_at(&relay.url(), relay)
    }

    /// As [`On::agent`], by way of another address.
    pub(crate) fn agent_at(&self, url: &str, relay: &TestRelay) -> AgentPlan {
        AgentPlan::new(url, NAME, relay.token(&[NAME]), self.transport, self.carrier)
    }

    /// A relay of this plan, and an agent of it for the origin at an address. Both end when the second value is dropped.
    pub(crate) async fn front(self, origin: SocketAddr, plan: Plan) -> (Front, Box<dyn Any>) {
        let relay = TestRelay::planned(plan);
        let agent = serve(&self.agent(&relay), handler(origin)).await;
        (*relay, Box::new((relay, agent)))
    }

    /// Relay, origin and agent, connected.
    pub(crate) async fn world(self) -> World {
        self.world_with(TestOrigin::start().await).await
    }

    /// As [`On::world`], with this origin.
    pub(crate) async fn world_with(self, origin: TestOrigin) -> World {
        let relay = TestRelay::start();
        let agent = serve(&self.agent(&relay), origin.handler()).await;
        World { relay, origin, agent }
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) relay: TestRelay,
    pub(crate) origin: TestOrigin,
    pub(crate) agent: Serving,
}

impl World {
    /// An agent that polls by way of a middlebox that holds bodies back.
    pub(crate) async fn held(holds: Buffering) -> Self {
        let on = On { transport: "reversehttp", carrier: Kind::Envelope };
        let relay = TestRelay::start();
        let port = buffering_proxy(relay.plain.port(), crate::support::relay::server(), holds);
        let origin = TestOrigin::start().await;
        let plan = on.agent_at(&format!("https://ptth.localhost:{port}/"), &relay);
        let agent = serve(&plan, origin.handler()).await;
        Self { relay, origin, agent }
    }

    /// A request head for the world's agent; `rest` are further fields, each with its line end.
    pub(crate) fn head(method: &str, target: &str, rest: &str) -> String {
        format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{rest}\r\n", named(NAME))
    }

    /// Sends a head from a new visitor and receives it at a new connection of the origin.
    pub(crate) async fn begin(&self, method: &str, target: &str, rest: &str) -> (Wire, Wire, Head) {
        self.begin_with(method, target, rest, "").await
    }

    /// As [`World::begin`], with a body behind the head.
    pub(crate) async fn begin_with(
        &self,
        method: &str,
        target: &str,
        rest: &str,
        body: &str,
    ) -> (Wire, Wire, Head) {
        self.relay.begin(&format!("{}{body}", Self::head(method, target, rest)), &self.origin).await
    }

    /// That a fresh request still gets through.
    pub(crate) async fn still_works(&self) {
        self.relay.works(&named(NAME), &self.origin).await;
    }
}
