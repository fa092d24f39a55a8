//! A relay with tokens in memory, a TLS and a plain listener.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ptth::internals::domain::{HostName, Name, Secret};
use ptth::internals::net::Cores;
use ptth::internals::net::io::Duplex;
use ptth::internals::net::nets::Nets;
use ptth::internals::policy::{Grants, Tokens};
use ptth::internals::relay::Relay;
use ptth::internals::relay::config::{Listen, RelayConfig};
use ptth::internals::tls;
use ptth::internals::tls::dev::{self, CertHost, DevCerts};
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::{Head, TestOrigin, VisitorH2, Wire, within};

/// The domain of every relay here.
pub(crate) const DOMAIN: &str = "ptth.localhost";

/// The host of a name.
pub(crate) fn named(name: &str) -> String {
    format!("{name}.{DOMAIN}")
}

/// One CA for all tests, because making a CA takes longer than a scenario.
pub(crate) fn certs() -> &'static DevCerts {
    static CERTS: OnceLock<DevCerts> = OnceLock::new();
    CERTS.get_or_init(|| {
        let domain = HostName::parse(DOMAIN).unwrap();
        dev::ephemeral(&[CertHost::Name(domain.clone()), CertHost::Wildcard(domain)]).unwrap()
    })
}

/// The client configuration of an agent or a visitor, which trusts the CA of the tests.
pub(crate) fn trust(alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
    tls::client_config_from_pem(certs().ca.cert.as_bytes(), alpn).unwrap()
}

/// The server configuration of a relay, or of a proxy in front of a relay.
pub(crate) fn server() -> Arc<rustls::ServerConfig> {
    let pair = &certs().relay;
    tls::server_config_from_pem(pair.cert.as_bytes(), pair.key.as_bytes(), &[]).unwrap()
}

/// The settings of a relay.
pub(crate) struct Plan {
    pub(crate) tokens: Tokens,
    /// The address of the listeners.
    pub(crate) address: IpAddr,
    /// The number of threads. With 0 the relay runs on the caller's runtime, and uses its clock.
    pub(crate) cores: usize,
    pub(crate) answer: Option<Duration>,
    pub(crate) trusted_proxies: Nets,
    pub(crate) proxy_protocol: Nets,
    /// Changes other settings.
    pub(crate) change: Box<dyn FnOnce(&mut RelayConfig)>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            tokens: Tokens::in_memory(),
            address: Ipv4Addr::LOCALHOST.into(),
            cores: 2,
            answer: None,
            trusted_proxies: Nets::default(),
            proxy_protocol: Nets::default(),
            change: Box::new(|_| {}),
        }
    }
}

/// See the module.
pub(crate) struct TestRelay {
    relay: Relay,
    pub(crate) tokens: Tokens,
    front: Front,
}

impl Deref for TestRelay {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

impl TestRelay {
    pub(crate) fn start() -> Self {
        Self::planned(Plan::default())
    }

    pub(crate) fn planned(plan: Plan) -> Self {
        let Plan { tokens, address, cores, answer, trusted_proxies, proxy_protocol, change } = plan;
        let mut config = RelayConfig::new(HostName::parse(DOMAIN).unwrap(), tokens.clone());
        let at = SocketAddr::new(address, 0);
        config.listen = vec![Listen::tls(at), Listen::plain(at)];
        if address.is_ipv6() {
            // There is one loopback address of IPv6, and a trusted proxy needs an address of its own.
            config.listen.push(Listen::plain((Ipv4Addr::LOCALHOST, 0).into()));
        }
        config.tls = Some(server().into());
        config.cores = cores;
        config.trusted_proxies = trusted_proxies;
        config.proxy_protocol = proxy_protocol;
        config.answer = answer.unwrap_or(config.answer);
        // All connections of the tests come from one address.
        config.connections_per_address = config.connections;
        change(&mut config);
        let relay = if cores > 0 { Relay::start(config) } else { Relay::start_on(config, Cores::ambient()) };
        let relay = relay.unwrap();
        let [tls, plain, rest @ ..] = relay.addresses() else { panic!("two listeners") };
        let proxies = rest.first().filter(|_| address.is_ipv6()).unwrap_or(plain).address;
        let front = Front { tls: tls.address, plain: plain.address, proxies };
        Self { front, tokens, relay }
    }

    /// A token for exactly these names.
    pub(crate) fn token(&self, names: &[&str]) -> Secret {
        let names = names.iter().map(|name| Name::parse(name).unwrap());
        self.tokens.issue(Grants::names(names)).unwrap().1
    }

    /// The URL for an agent.
    pub(crate) fn url(&self) -> String {
        format!("https://{DOMAIN}:{}/", self.tls.port())
    }

    /// Every listener, in the order of the configuration.
    pub(crate) fn listeners(&self) -> &[Listen] {
        self.relay.addresses()
    }

    /// The address of the admin listener.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.relay.admin()
    }

    /// Stops as an operator would; returns how many connections were cut.
    pub(crate) async fn stop(self) -> usize {
        within("stopping the relay", self.relay.stop()).await
    }
}

/// The addresses that visitors connect to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Front {
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    /// For connections from other IPv4 addresses of this machine.
    pub(crate) proxies: SocketAddr,
}

impl Front {
    /// A visitor's connection, without TLS.
    pub(crate) async fn visitor(&self) -> Wire {
        Wire::new(connect(self.plain).await)
    }

    /// A visitor's connection from another address of this machine.
    pub(crate) async fn visitor_from(&self, address: std::net::IpAddr) -> Wire {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        let stream = within("connecting", socket.connect(self.proxies)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire::new(stream)
    }

    /// A TLS connection with this ALPN.
    pub(crate) async fn tls_as(&self, host: &str, alpn: &[u8]) -> impl Duplex + use<> {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let connecting = TlsConnector::from(trust(&[alpn])).connect(name, connect(self.tls).await);
        within("a TLS handshake", connecting).await.unwrap()
    }

    /// A visitor's connection with TLS.
    pub(crate) async fn visitor_tls(&self, host: &str) -> Wire {
        Wire::new(self.tls_as(host, b"http/1.1").await)
    }

    /// A visitor with HTTP/2 and TLS.
    pub(crate) async fn visitor_h2(&self, host: &str) -> VisitorH2 {
        VisitorH2::open(self.tls_as(host, b"h2").await).await
    }

    /// Sends a request from a new visitor and receives its head at a new connection of `origin`.
    pub(crate) async fn begin(&self, request: &str, origin: &TestOrigin) -> (Wire, Wire, Head) {
        let mut visitor = self.visitor().await;
        visitor.send(request).await;
        let mut origin = origin.accept().await;
        let head = origin.head().await;
        (visitor, origin, head)
    }

    /// Asserts that a new request for `host` reaches the origin and is answered.
    pub(crate) async fn works(&self, host: &str, origin: &TestOrigin) {
        let request = format!("GET /still HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut visitor = self.visitor().await;
        visitor.send(request).await;
        let mut origin = tokio::select! {
            origin = origin.accept() => origin,
            (answer, body) = visitor.message() => panic!("the origin got no request: {answer:?} {body}"),
        };
        let head = origin.head().await;
        assert_eq!(head.first, "GET /still HTTP/1.1");
        // `Connection: close` prevents another request on this connection while it closes.
        origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nworks").await;
        let (head, body) = visitor.message().await;
        assert_eq!((head.status(), &*body), (200, "works"));
    }

    /// Sends one request on a connection of its own, and receives the whole answer.
    pub(crate) async fn fetch(&self, request: &str) -> (Head, String) {
        let mut visitor = self.visitor().await;
        visitor.send(request).await;
        visitor.message().await
    }
}

/// A TCP connection without Nagle's algorithm.
pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    let stream = within("connecting", TcpStream::connect(address)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
