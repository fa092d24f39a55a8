//! Where requests are served: an HTTP service at an address, a URL or a unix socket; a directory; a `tower` service in
//! this process; or the sample of `ptth demo`. Each is a [`Handler`], so that no carrier knows which.

mod connect;
mod directory;
mod failure;
mod http;
mod http2;
mod login;
mod outgoing;
mod pool;
pub mod sample;
pub mod service;
pub mod target;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use self::connect::Probe;
use self::directory::FileServer;
use self::http::Web;
use self::http2::Web2;
pub use self::sample::sample;
pub use self::service::tower;
pub use self::target::{BadTarget, OriginTarget};
use crate::message::{Request, Response, interim};
use crate::net::Scope;
use crate::session::Handler;

/// A [`OriginTarget`] that answers requests.
///
/// Cancel safety: dropping the future of [`Handler::call`], or the body of its answer, cancels the request at the
/// origin by closing the one connection that it was on. Nothing of another request is lost.
pub struct Origin {
    kind: Kind,
    target: OriginTarget,
}

enum Kind {
    Web(Arc<Web>),
    Web2(Arc<Web2>),
    Directory(FileServer),
}

impl Origin {
    /// An origin whose connections belong to `scope`. `tls` says whom an `https` target may be; its ALPN is ours.
    /// Nothing is opened before the first request or probe.
    pub fn new(target: OriginTarget, scope: Scope, tls: Arc<rustls::ClientConfig>) -> Arc<Self> {
        let kind = match &target {
            OriginTarget::Directory(path) => Kind::Directory(FileServer::new(path)),
            OriginTarget::Http2(_) => Kind::Web2(Arc::new(Web2::new(target.clone(), scope, tls))),
            OriginTarget::Web(_) | OriginTarget::Unix(_) => {
                Kind::Web(Arc::new(Web::new(target.clone(), scope, tls)))
            }
        };
        Arc::new(Self { kind, target })
    }

    /// What it serves.
    pub fn target(&self) -> &OriginTarget {
        &self.target
    }

    /// Asks, within [`crate::defaults::ORIGIN_CONNECT`], whether anybody answers. For a port of this machine both
    /// loopback addresses are asked, and the one that answered is used from then on. Dropping the future gives up.
    pub async fn probe(&self) -> Probe {
        match &self.kind {
            Kind::Web(web) => web.probe().await,
            Kind::Web2(web) => web.probe().await,
            Kind::Directory(directory) => directory.probe(),
        }
    }
}

impl Handler for Origin {
    fn call(&self, request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        match &self.kind {
            Kind::Web(web) => Box::pin(web.clone().answer(request, interim)),
            Kind::Web2(web) => Box::pin(web.clone().answer(request, interim)),
            Kind::Directory(directory) => Box::pin(directory.clone().answer(request)),
        }
    }
}
