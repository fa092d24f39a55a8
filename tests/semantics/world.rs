//! Where a case runs: what stands between its visitor and its origin.

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ptth::internals::agent::Serving;
use ptth::internals::session::Kind;
use ptth::transport;

use crate::logins::handler;
use crate::nginx::Nginx;
use crate::support::{AgentPlan, Front, Head, Plan, TestOrigin, TestRelay, Wire, named, serve};

/// The name that the agent of a world claims.
pub(crate) const NAME: &str = "shop";

/// The host of that agent.
pub(crate) fn host() -> String {
    named(NAME)
}

/// A column of the table: a relay and an agent, by their carrier or their transport, or nginx in their place. On the
/// columns `…Ipv6`, relay, origin and visitor have the address `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum On {
    H2,
    H1,
    Envelope,
    Comet,
    Nginx,
    H2Ipv6,
    H1Ipv6,
    EnvelopeIpv6,
    CometIpv6,
}

impl On {
    /// The columns of the document.
    pub(crate) const ALL: [Self; 6] =
        [Self::H2, Self::H1, Self::Envelope, Self::Comet, Self::H2Ipv6, Self::Nginx];
    /// Further columns of the long run.
    pub(crate) const LONG: [Self; 3] = [Self::H1Ipv6, Self::EnvelopeIpv6, Self::CometIpv6];

    /// The same column with IPv4 addresses.
    pub(crate) fn base(self) -> Self {
        match self {
            Self::H2Ipv6 => Self::H2,
            Self::H1Ipv6 => Self::H1,
            Self::EnvelopeIpv6 => Self::Envelope,
            Self::CometIpv6 => Self::Comet,
            base => base,
        }
    }

    /// The address of relay, origin and visitor.
    pub(crate) fn address(self) -> IpAddr {
        if self.base() == self { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
    }

    /// The transport and the carrier; a carrier is that of the first transport that has it.
    fn transport_and_carrier(self) -> Option<(&'static str, Kind)> {
        let first = |carrier: Kind| {
            let has = |t: &&&dyn transport::Transport| t.carriers().contains(&carrier);
            transport::ALL.iter().find(has).map(|t| (t.name(), carrier))
        };
        match self.base() {
            Self::H2 => first(Kind::H2),
            Self::H1 => first(Kind::H1),
            Self::Envelope => first(Kind::Envelope),
            Self::Comet => Some(("comet", Kind::Envelope)),
            _ => None,
        }
    }

    /// Whether nothing of a message crosses before all of it is there.
    pub(crate) fn is_whole(self) -> bool {
        self.base() == Self::Comet
    }

    /// The case's origin and what is in front of it.
    pub(crate) async fn world(self) -> World {
        self.world_behind(Before::Nobody).await
    }

    /// The same with something in front of it at [`FRONT`].
    pub(crate) async fn world_behind(self, before: Before) -> World {
        self.world_between(before, Speaks::Http1).await
    }

    /// A world whose origin speaks HTTP/2.
    pub(crate) async fn world_of_http2(self) -> World {
        self.world_between(Before::Nobody, Speaks::Http2).await
    }

    /// A world of a relay, whose agent sends these rules for visitors.
    pub(crate) async fn world_with(self, rules: &str) -> World {
        self.relayed(Plan::default(), Speaks::Http1, Some(rules)).await
    }

    async fn world_between(self, before: Before, speaks: Speaks) -> World {
        if self != Self::Nginx {
            return self.relayed(before.plan(), speaks, None).await;
        }
        let origin = TestOrigin::start().await;
        let nginx = Nginx::start(origin.address(), before, speaks);
        World { relay: nginx.front, origin, _between: Between::Nginx(nginx) }
    }

    /// All of a world on the runtime of the caller, which may have a clock of its own.
    pub(crate) async fn world_on_this_clock(self) -> World {
        self.relayed(Plan { cores: 0, ..Plan::default() }, Speaks::Http1, None).await
    }

    /// A relay of this plan and a plan for an agent of it.
    fn plans(self, plan: Plan) -> (TestRelay, AgentPlan) {
        let (transport, carrier) = self.transport_and_carrier().expect("there is no relay on nginx");
        let relay = TestRelay::planned(Plan { address: self.address(), ..plan });
        // Names under `localhost` are tried at 127.0.0.1 first, where another test may have the same port.
        let url = if self == self.base() { relay.url() } else { format!("http://{}/", relay.plain) };
        let agent = AgentPlan::new(&url, NAME, relay.token(&[NAME]), transport, carrier);
        (relay, agent)
    }

    async fn relayed(self, plan: Plan, speaks: Speaks, rules: Option<&str>) -> World {
        let origin = TestOrigin::start_on(self.address()).await;
        let (relay, mut plan) = self.plans(plan);
        plan.config.visitors = rules.map(Into::into);
        let handler = match speaks {
            Speaks::Http1 => origin.handler(),
            Speaks::Http2 => origin.handler_h2(),
        };
        let agent = serve(&plan, handler).await;
        World { relay: *relay, origin, _between: Between::Relay(relay, agent) }
    }

    /// A relay, and an agent of it whose origin is the relay.
    pub(crate) async fn looped(self) -> (Front, Box<dyn Any>) {
        let (relay, agent) = self.plans(Plan::default());
        let agent = serve(&agent, handler(relay.plain)).await;
        (*relay, Box::new((relay, agent)))
    }

    /// A relay of this plan and an agent for the origin at an address, or nginx. They end when the second value is
    /// dropped.
    pub(crate) async fn front(self, origin: SocketAddr, plan: Plan) -> (Front, Box<dyn Any>) {
        if self == Self::Nginx {
            let nginx = Nginx::start(origin, Before::Nobody, Speaks::Http1);
            return (nginx.front, Box::new(nginx));
        }
        let (relay, agent) = self.plans(plan);
        let agent = serve(&agent, handler(origin)).await;
        (*relay, Box::new((relay, agent)))
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H2 => "h2",
            Self::H1 => "h1",
            Self::Envelope => "envelope",
            Self::Comet => "comet",
            Self::Nginx => "nginx",
            Self::H2Ipv6 => "[::1]",
            Self::H1Ipv6 => "h1 on [::1]",
            Self::EnvelopeIpv6 => "envelope on [::1]",
            Self::CometIpv6 => "comet on [::1]",
        })
    }
}

/// What an origin is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// An address that a load balancer or a proxy has here; visitors and agents have another.
pub(crate) const FRONT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Who is believed at [`FRONT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Nobody,
    /// A proxy, which says in fields who the visitor is.
    Proxy,
    /// A load balancer, which says it with the PROXY protocol.
    Balancer,
}

impl Before {
    fn plan(self) -> Plan {
        let front = || std::iter::once(FRONT.into()).collect();
        match self {
            Self::Nobody => Plan::default(),
            Self::Proxy => Plan { trusted_proxies: front(), ..Plan::default() },
            Self::Balancer => Plan { proxy_protocol: front(), ..Plan::default() },
        }
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) relay: Front,
    pub(crate) origin: TestOrigin,
    _between: Between,
}

/// It ends with its world.
#[expect(dead_code, reason = "held until it is dropped")]
enum Between {
    Relay(TestRelay, Serving),
    Nginx(Nginx),
}

impl World {
    /// A request head for the world's agent; `rest` are further fields, each with its line end.
    pub(crate) fn head(method: &str, target: &str, rest: &str) -> String {
        format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{rest}\r\n", host())
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
        self.relay.works(&host(), &self.origin).await;
    }
}
