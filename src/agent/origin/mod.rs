//! Origins: an HTTP service at an address, a URL or a unix socket; a directory; a `tower` service in this process; or
//! the sample of `ptth demo`. Each origin is a [`Handler`], so that carriers do not depend on its kind.

pub mod config;
mod connect;
#[cfg(feature = "cli")]
mod directory;
mod edit;
mod error_page;
mod failure;
pub mod host_header;
mod http;
mod http2;
mod idle;
#[cfg(feature = "cli")]
mod listing;
mod outgoing;
mod paths;
mod pool;
#[cfg(feature = "cli")]
pub mod sample;
pub mod service;
pub mod target;
pub mod trust;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use self::config::{BadOrigin, OriginConfig, ServedOrigins, serve};
pub use self::connect::Probe;
#[cfg(feature = "cli")]
use self::directory::FileServer;
pub use self::edit::{BadEdit, FieldEdit};
pub use self::host_header::{BadHostHeader, HostHeader, with_host};
use self::http::Web;
use self::http2::Web2;
pub use self::paths::{BadPrefix, PathPrefix};
#[cfg(feature = "cli")]
pub use self::sample::sample;
pub use self::service::tower;
pub use self::target::{BadTarget, OriginTarget};
pub use self::trust::{OriginTls, OriginTrust};
use crate::message::{Request, Response, interim};
use crate::net::Scope;
use crate::session::Handler;

/// Answers requests from an [`OriginTarget`].
///
/// Cancel safety: dropping the future of [`Handler::call`], or the body of its answer, cancels the request at the
/// origin by closing its HTTP/1.1 connection or resetting its HTTP/2 stream. Other requests are unaffected.
pub struct Origin {
    kind: Kind,
    target: OriginTarget,
}

enum Kind {
    Web(Arc<Web>),
    Web2(Arc<Web2>),
    #[cfg(feature = "cli")]
    Directory(FileServer),
}

impl Origin {
    /// An origin whose connections belong to `scope`. `trust` decides about the certificate of a target with TLS; its
    /// ALPN protocols are replaced. No connection is opened before the first request or probe.
    pub fn new(target: OriginTarget, scope: Scope, trust: impl Into<OriginTrust>) -> Arc<Self> {
        Self::with_listing(target, scope, trust.into(), false)
    }

    /// As [`Origin::new`]; with `listing`, a directory without `index.html` is answered with the list of its files.
    fn with_listing(target: OriginTarget, scope: Scope, trust: OriginTrust, listing: bool) -> Arc<Self> {
        // Only the program serves directories.
        #[cfg(not(feature = "cli"))]
        let _ = listing;
        let kind = match &target {
            #[cfg(feature = "cli")]
            OriginTarget::Directory(path) => Kind::Directory(FileServer::new(path, listing)),
            OriginTarget::Http2(_) => Kind::Web2(Arc::new(Web2::new(target.clone(), scope, trust))),
            OriginTarget::Web(_) | OriginTarget::Unix(_) => {
                Kind::Web(Arc::new(Web::new(target.clone(), scope, trust)))
            }
        };
        Arc::new(Self { kind, target })
    }

    /// The target of this origin.
    pub fn target(&self) -> &OriginTarget {
        &self.target
    }

    /// Checks, within [`crate::defaults::ORIGIN_CONNECT`], whether the target answers. For a port of this machine the
    /// probe tries both loopback addresses, and later connections use the address that answered. Dropping the future
    /// cancels the probe.
    pub async fn probe(&self) -> Probe {
        match &self.kind {
            Kind::Web(web) => web.probe().await,
            Kind::Web2(web) => web.probe().await,
            #[cfg(feature = "cli")]
            Kind::Directory(directory) => directory.probe(),
        }
    }
}

impl Handler for Origin {
    fn call(&self, request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        match &self.kind {
            Kind::Web(web) => Box::pin(web.clone().answer(request, interim)),
            Kind::Web2(web) => Box::pin(web.clone().answer(request, interim)),
            #[cfg(feature = "cli")]
            Kind::Directory(directory) => Box::pin(directory.clone().answer(request)),
        }
    }
}
