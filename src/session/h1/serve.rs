//! The agent's end: an HTTP/1.1 server on the connection that it opened.

use std::future::pending;
use std::sync::Arc;

use http_body::Body as _;

use crate::defaults;
use crate::http1;
use crate::http1::server::{self, HalfClose, ServerOptions, Service};
use crate::http1::write::Case;
use crate::message::{Request, Response, hop, interim};
use crate::net::linger::{LingerLimits, LingerPlace};
use crate::net::{Io, Scope};
use crate::session::{Ended, Handler, Load};

/// A head has no time limit: the agent has verified the relay, and the relay itself limits slow visitors.
const CONFIG: ServerOptions = ServerOptions {
    head: defaults::H1_HOP_HEAD,
    head_within: None,
    stalled: defaults::STALLED,
    drain: defaults::H1_DRAIN,
    linger: LingerLimits::DEFAULT,
    keep_alive: true,
    case: Case::Lower,
    half_close: HalfClose::Cancels,
    trailers_on_demand: false,
    date: false,
};

/// Serves until the relay closes the connection, the connection is upgraded, the link is retired, or `scope` stops. See
/// [`crate::session::serve_half`].
pub async fn run(mut io: Io, handler: Arc<dyn Handler>, load: Arc<Load>, scope: Scope) -> Ended {
    io.keep_alive();
    let leave = async {
        tokio::select! {
            biased;
            () = scope.stopping() => {}
            () = load.retired() => {}
        }
    };
    match server::serve(io, &Loading { handler, load: &load }, &CONFIG, leave).await {
        Ok(server::ConnectionEnd::Closed) => Ended::Closed,
        Ok(server::ConnectionEnd::Upgraded) => Ended::Upgraded,
        // A relay that is killed cuts an idle connection without an announcement. That is an end, not a fault.
        Err(error) if error.is_end() => Ended::Closed,
        Err(error) => Ended::Failed(error.to_string()),
    }
}

/// Serves one request on a stream in memory, for a carrier whose requests have no stream of their own.
///
/// # Errors
/// As [`server::serve`].
pub(in crate::session) async fn once(io: Io, handler: Arc<dyn Handler>) -> Result<(), http1::Error> {
    let config = ServerOptions { half_close: HalfClose::Allowed, keep_alive: false, ..CONFIG };
    server::serve(io, &Plain(handler), &config, pending()).await.map(|_| ())
}

struct Plain(Arc<dyn Handler>);

impl Service for Plain {
    async fn call(&self, request: Request, interim: interim::Sender) -> Response {
        let mut response = self.0.call(request, interim).await;
        hop::strip_answer(&mut response);
        response
    }
}

/// Counts the requests that it serves.
struct Loading<'a> {
    handler: Arc<dyn Handler>,
    load: &'a Arc<Load>,
}

impl Service for Loading<'_> {
    async fn call(&self, mut request: Request, interim: interim::Sender) -> Response {
        let loaded = Arc::new(self.load.enter());
        // An answer may end before the upload of its request. The connection is busy until both have ended.
        if !request.body().is_end_stream() {
            request.body_mut().hold(loaded.clone());
        }
        let mut response = self.handler.call(request, interim).await;
        hop::strip_answer(&mut response);
        response.body_mut().hold(loaded);
        response
    }

    /// The connection takes no request while it lingers.
    fn linger(&self) -> LingerPlace {
        LingerPlace { evicted: None, guard: Some(Box::new(self.load.enter())) }
    }
}
