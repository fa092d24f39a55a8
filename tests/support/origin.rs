//! An origin that sends only the bytes that the scenario writes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ptth::internals::agent::origin::{Origin, OriginTarget};
use ptth::internals::net::Scope;
use ptth::internals::session::Handler;
use tokio::net::{TcpListener, TcpSocket};

use super::{QUIET, Wire, within};

/// See the module.
pub(crate) struct TestOrigin {
    listener: TcpListener,
}

impl TestOrigin {
    pub(crate) async fn start() -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into()).await
    }

    pub(crate) async fn start_on(address: IpAddr) -> Self {
        Self { listener: TcpListener::bind((address, 0)).await.unwrap() }
    }

    /// With small buffers in the kernel, so that most of the bytes that are accepted were read by a program.
    pub(crate) fn with_small_buffers() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        socket.set_send_buffer_size(64 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { listener: socket.listen(16).unwrap() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The handler of an agent that serves this origin.
    pub(crate) fn handler(&self) -> std::sync::Arc<dyn Handler> {
        self.handler_of("http")
    }

    /// The same for an origin with HTTP/2.
    pub(crate) fn handler_h2(&self) -> std::sync::Arc<dyn Handler> {
        self.handler_of("h2c")
    }

    fn handler_of(&self, scheme: &str) -> std::sync::Arc<dyn Handler> {
        let target = OriginTarget::parse(&format!("{scheme}://{}", self.address())).unwrap();
        Origin::new(target, Scope::new(), ptth::internals::tls::client_config_for_none().unwrap())
    }

    /// The next connection of the agent.
    pub(crate) async fn accept(&self) -> Wire {
        let (stream, _) = within("waiting for the agent", self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire::new(stream)
    }

    /// Asserts that no connection arrives for a while.
    pub(crate) async fn quiet(&self) {
        assert!(tokio::time::timeout(QUIET, self.listener.accept()).await.is_err(), "unexpected connection");
    }
}
