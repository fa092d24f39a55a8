//! Reverse HTTP. A **relay** stands on the public internet; an **agent** stands next to a service, behind a firewall,
//! and only ever dials out. The agent opens one TLS connection to the relay and sends an HTTP `Upgrade`; on the `101`
//! the two swap roles on that same socket: the relay becomes the HTTP client, the agent the HTTP server. What flows
//! back down is HTTP itself.
//!
//! # Parts
//!
//! | module | is |
//! |---|---|
//! | [`Relay`] | the public side: listeners, routes, forwarding |
//! | [`Agent`] | the side behind the firewall: dials, serves an origin or a tower service |
//! | [`transport`] | ways to open a session, one folder for each dialect |
//! | [`session`] | open links and their carriers: `h1`, `h2`, `envelope` |
//! | [`registry`] | which routes exist and which sessions speak for them |
//! | [`policy`] | who may offer: tokens, certificates; who may visit: the rules of a name |
//! | [`http1`] | HTTP/1: its codec, and both ends of a connection |
//! | [`message`] | bodies, fields, hop-by-hop rules, errors |
//! | [`net`] | sockets, cores, tasks with an owner |
//! | [`tls`] | who is believed, and certificates for development |
//! | [`observe`] | counters and the admin pages |
//! | [`domain`], [`defaults`] | the nouns, and every default with its reason |
//! | [`cli`] | the `ptth` program |
//!
//! # Words
//!
//! | word | is |
//! |---|---|
//! | visitor | sends a public request |
//! | origin | the service that an agent speaks for |
//! | transport | how an agent connects to a relay: a dialect of reverse HTTP |
//! | session | the links of one agent process to one relay |
//! | link | one connection of a session, or one registration of an agent that polls |
//! | carrier | takes requests across a link: `h1`, `h2` or `envelope` |
//! | offer | the routes that an agent asks for |
//! | admission | permission for one offer, used once |
//! | claim | holds the routes of an offer until it is dropped |
//! | route | a host, or a name in the path, that leads to an agent |
//! | registration | a session of an agent that polls: its queue and its lease |
//! | exchange | one request and its answer |
//! | delivery | the requests in the answer to one poll |
//!
//! # The life of a public request
//!
//! 1. A listener accepts it on one core, where it stays; TLS says HTTP/1.1 or HTTP/2. A connection with the ALPN id of
//!    a transport, or on a listener of its own, is an agent's, and is that transport's from its first byte.
//! 2. On the relay's own authority it is first offered to the transports: an agent's Upgrade ends here.
//! 3. Its authority and path become a route; the registry finds the target, whose rules, if it has any, must let the
//!    visitor in.
//! 4. The less busy of two sessions gets it. A connection that proves dead gives the request back, and the next one
//!    gets it; what was sent and lost is repeated only if that is harmless.
//! 5. It crosses the carrier, with `Forwarded` and `Via` and without hop-by-hop fields, its body a stream.
//! 6. The agent's [`session::Handler`] answers: a URL, a unix socket, a directory, or a service of the same program.
//! 7. The answer streams back, with back-pressure from end to end. Slots are held until its body has ended.
//!
//! # Serving a program's own service
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let app = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
//! let agent = ptth::Agent::builder().relay("https://relay.example.org").name("shop").token("ptth_…").build()?;
//! agent.serve(app)?.ended().await?;
//! # Ok(())
//! # }
//! ```

pub mod agent;
pub mod cli;
pub mod defaults;
pub mod domain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http1;
pub mod message;
pub mod net;
pub mod observe;
pub mod policy;
pub mod registry;
pub mod relay;
pub mod session;
pub mod tls;
pub mod transport;

pub use agent::Agent;
pub use message::Body;
pub use relay::Relay;

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
