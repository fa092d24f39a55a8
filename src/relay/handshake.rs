//! What a TLS handshake shows of the far end.

use std::sync::Arc;

use crate::domain::{Certificate, HostName};
use crate::net::Io;
use crate::tls;

/// The far end of a connection, as far as its TLS handshake shows it.
#[derive(Default)]
pub(super) struct Handshake {
    pub(super) server_name: Option<HostName>,
    pub(super) certificate: Option<Arc<Certificate>>,
}

impl Handshake {
    /// That of a stream behind its handshake.
    pub(super) fn of(io: &Io) -> Self {
        let server_name = io.server_name().and_then(|name| HostName::parse(name).ok());
        Self { server_name, certificate: io.peer().and_then(tls::peer).map(Arc::new) }
    }
}
