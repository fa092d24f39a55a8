//! A visitor with HTTP/2.

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use ptth::internals::message::Body;
use ptth::internals::net::Scope;
use ptth::internals::net::io::Duplex;
use ptth::internals::net::scope::ScopeExecutor;

use super::within;

/// See the module.
pub(crate) struct VisitorH2 {
    pub(crate) handle: SendRequest<Body>,
    scope: Scope,
}

impl VisitorH2 {
    pub(crate) async fn open(io: impl Duplex + 'static) -> Self {
        let scope = Scope::new();
        let (handle, connection) =
            http2::Builder::new(ScopeExecutor(scope.clone())).handshake(TokioIo::new(io)).await.unwrap();
        scope.spawn(async move {
            let _ = connection.await;
        });
        Self { handle, scope }
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        within("ready", self.handle.ready()).await.unwrap();
        within("an answer", self.handle.send_request(request)).await.unwrap()
    }
}

impl Drop for VisitorH2 {
    fn drop(&mut self) {
        self.scope.abort();
    }
}
