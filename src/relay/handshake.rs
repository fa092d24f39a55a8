//! The facts about the far end of a connection that its TLS handshake shows.

use std::sync::Arc;

use crate::domain::{Certificate, HostName};
use crate::net::Io;
use crate::tls;

/// The server name and the client certificate of a handshake. Each may be missing.
#[derive(Default)]
pub(super) struct Handshake {
    pub(super) server_name: Option<HostName>,
    pub(super) certificate: Option<Arc<Certificate>>,
}

impl Handshake {
    /// The facts of a stream whose handshake is complete.
    pub(super) fn of(io: &Io) -> Self {
        let server_name = io.server_name().and_then(|name| HostName::parse(name).ok());
        Self { server_name, certificate: io.peer().and_then(tls::peer).map(Arc::new) }
    }
}
