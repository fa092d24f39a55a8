//! Reverse HTTP. A **relay** stands on the public internet. An **agent** stands next to a service, behind a firewall,
//! and only dials out. The agent opens one TLS connection to the relay and sends an HTTP `Upgrade`. After the `101` the
//! connection is flipped: on the same socket the relay becomes the HTTP client, and the agent becomes the HTTP server.
//!
//! # Parts
//!
//! | module | content |
//! |---|---|
//! | [`Relay`] | the public side: listeners, routes, forwarding |
//! | [`Agent`] | the side behind the firewall: dials, serves an origin or a tower service |
//! | [`transport`] | how an agent opens a session, one folder for each dialect |
//! | `session` | open links and their carriers: `h1`, `h2`, `envelope` |
//! | `registry` | which routes exist and which sessions serve them |
//! | `policy` | which agents may offer routes: tokens, certificates; which visitors a name admits: its rules |
//! | `http1` | HTTP/1: its codec, and both ends of a connection |
//! | `message` | bodies, fields, hop-by-hop rules, errors |
//! | `net` | sockets, cores, tasks with an owner |
//! | `tls` | which certificates are trusted, and certificates for development |
//! | `observe` | counters and the admin pages |
//! | `domain`, `defaults` | the shared types, and every default with its reason |
//! | `cli` | the `ptth` program |
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | visitor | the client that sends a public request |
//! | origin | the service behind an agent |
//! | transport | how an agent connects to a relay: a dialect of reverse HTTP |
//! | session | the links of one agent process to one relay |
//! | link | one connection of a session, or one registration of an agent that polls |
//! | carrier | carries requests over a link: `h1`, `h2` or `envelope` |
//! | offer | an agent's request to serve routes, with its rules for visitors |
//! | admission | permission for one offer, used once |
//! | claim | holds the routes of an offer until it is dropped |
//! | route | a host, or a name in the path, that leads to an agent |
//! | registration | the link of an agent that polls, at the relay: its queue of requests and its lease |
//! | exchange | one request and its answer |
//! | poll | a request by which an agent fetches the requests that wait for it |
//! | hold | how long a relay keeps a poll open while no request waits |
//! | delivery | the requests in the answer to one poll |
//! | envelope | a request or an answer that is embedded in the body of another HTTP message |
//! | spool | keep a body, in memory or in an unnamed file, until it is complete |
//! | lease | how long a route stays reserved after its last link has ended, or a registration lives without a poll |
//! | instance | the identity of an agent process: an id, random or from its state directory, and a boot |
//! | boot | counts the starts with one instance id; a process with a higher boot fences the lower ones |
//! | fence | cut the sessions of another process of the same agent, and refuse its further offers |
//! | ladder | the transports that an agent tries, the best first |
//! | rung | one step of the ladder: a transport with the carriers that it offers |
//! | climb | try the rungs above the rung in use again, in the background |
//! | grace | the time that requests in flight have to finish when a process stops |
//!
//! # The life of a public request
//!
//! 1. A listener accepts the connection on one core, where it stays. TLS selects HTTP/1.1 or HTTP/2. A connection
//!    with the ALPN id of a transport, or on a transport's own listener, is an agent's: that transport handles it
//!    from its first byte.
//! 2. A request to the relay's own authority is first offered to the transports: an agent's Upgrade ends here.
//! 3. The authority and the path of the request become a route. The registry finds its target. If the target has rules,
//!    they must admit the visitor.
//! 4. The less busy of two sessions gets the request. A connection that proves dead gives an unsent request
//!    back, and the next connection gets it. A request that was sent and whose answer was lost is repeated only
//!    if that is harmless.
//! 5. The request crosses the carrier, with `Forwarded` and `Via` and without hop-by-hop fields, its body a stream.
//! 6. The agent's [`Handler`] answers from a URL, a unix socket, a directory, or a service of
//!    the same program.
//! 7. The answer streams back, with back-pressure from end to end. The slots of the request are held until the body of
//!    the answer has ended.
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

#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "cli")]
mod cli;
mod defaults;
mod domain;
#[cfg(any(test, fuzzing))]
mod fuzzing;
mod http1;
mod message;
mod net;
mod observe;
#[cfg(feature = "relay")]
mod policy;
#[cfg(feature = "relay")]
mod registry;
#[cfg(feature = "relay")]
mod relay;
mod session;
mod tls;
pub mod transport;

#[cfg(feature = "agent")]
pub use agent::config::AgentConfig;
#[cfg(feature = "agent")]
pub use agent::origin::{
    BadEdit, BadHostHeader, BadOrigin, BadPrefix, BadTarget, FieldEdit, HostHeader, OriginConfig,
    OriginTarget, OriginTls, PathPrefix,
};
#[cfg(feature = "agent")]
pub use agent::{Agent, AgentBuilder, BuildError, Fatal, ForwardError, Serving, Status};
pub use domain::{
    AgentId, AnswerLimit, Below, Certificate, Facts, HostName, Instance, Malformed, Name, Offer, Refusal,
    RefusalKind, Route, Secret, SessionId, Visitor, Wanted,
};
pub use message::interim::Sender as InterimSender;
pub use message::store::SpoolBudget;
pub use message::upgrade::{ByteStream, Tunnel};
pub use message::{Body, BoxError, Request, Response};
pub use net::dial::{
    BadProxy, DialError, DialRoute, DialTarget, Proxies, Proxy, ProxyError, ProxyFault, ProxyKind,
};
pub use net::flag::Listener as FlagListener;
pub use net::io::{Duplex, Tcp};
#[cfg(feature = "relay")]
pub use net::nets::Nets;
pub use net::{Core, Cores, Io, Scope};
pub use observe::exchange::{Exchange, Fault, Party, RequestId, RequestLine, Sink, Via};
pub use observe::{Limit, LimitObserver};
#[cfg(feature = "relay")]
pub use policy::{
    BadRules, FieldSecret, Grants, Limits, Prefix, Rules, StoreError, TokenRecord, Tokens, User, Verified,
};
#[cfg(feature = "relay")]
pub use registry::directory::{Announcement, Change, Directory, DirectoryError, Generation, RelayId};
#[cfg(feature = "relay")]
pub use relay::config::{Admin, BadDestination, ClientCerts, Destination, Listen, RelayConfig, Routing};
#[cfg(feature = "relay")]
pub use relay::{BadHttps, BadTransport, Relay, StartError};
pub use session::carrier::Carrier;
pub use session::{
    Ended, Handler, Kind, Link, Load, Loaded, ReceiveBudget, SendError, SendErrorKind, Slot, handler_fn,
};
pub use tls::files::FileError;
pub use tls::pin::{BadPin, Pin};
pub use tls::{
    CertificateSlot, CertificateStore, PairFiles, Reloaded, Replaced, ServerCertificate, ServerTls, TlsError,
};

/// The modules of this crate, for its own program and tests. Nothing here is stable.
#[doc(hidden)]
pub mod internals {
    #[cfg(feature = "agent")]
    pub mod agent {
        pub use crate::agent::*;
    }
    #[cfg(feature = "cli")]
    pub mod cli {
        pub use crate::cli::*;
    }
    pub mod defaults {
        pub use crate::defaults::*;
    }
    pub mod domain {
        pub use crate::domain::*;
    }
    #[cfg(any(test, fuzzing))]
    pub mod fuzzing {
        pub use crate::fuzzing::*;
    }
    pub mod http1 {
        pub use crate::http1::*;
    }
    pub mod message {
        pub use crate::message::*;
    }
    pub mod net {
        pub use crate::net::*;
    }
    pub mod observe {
        pub use crate::observe::*;
    }
    #[cfg(feature = "relay")]
    pub mod policy {
        pub use crate::policy::*;
    }
    #[cfg(feature = "relay")]
    pub mod registry {
        pub use crate::registry::*;
    }
    #[cfg(feature = "relay")]
    pub mod relay {
        pub use crate::relay::*;
    }
    pub mod session {
        pub use crate::session::*;
    }
    pub mod tls {
        pub use crate::tls::*;
    }
}

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
