//! The agent's end: an HTTP/2 server on the connection that it opened.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::goaway::Tapped;
use crate::defaults;
use crate::message::{Body, upgrade};
use crate::net::scope::Light;
use crate::net::{Io, Scope};
use crate::session::{Ended, Handler, Load};

/// Streams that the relay may reset before they were looked at. Visitors that hang up become resets, and the relay
/// is one that this agent has verified: hyper's guard against strangers would end everybody's requests here.
const RESETS: usize = 100_000;

/// Longer than any connection lives.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
const SILENT: &str = "the relay was silent for too long";

/// Serves until the relay goes or `scope` stops. See [`crate::session::serve_half`].
pub async fn run(mut io: Io, handler: Arc<dyn Handler>, load: Arc<Load>, scope: Scope) -> Ended {
    io.keep_alive();
    let last_read = io.last_read();
    let (tapped, goaway) = Tapped::receiver(io);
    let service = service_fn(|mut request: http::Request<Incoming>| {
        let loaded = load.enter();
        let upgraded = upgrade::from_connect(&mut request);
        let answer = handler.call(request.map(Body::from));
        async move {
            let mut response = answer.await;
            if upgraded {
                upgrade::to_connected(&mut response);
            }
            response.body_mut().hold(loaded);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = builder(&scope).serve_connection(TokioIo::new(tapped), service);
    let mut connection = pin!(connection);
    let mut told = pin!(goaway.received());
    let mut dead = pin!(last_read.silence(defaults::PING_EVERY + defaults::PING_DEAD));
    let mut leaving = false;
    let ended = loop {
        tokio::select! {
            biased;
            () = dead.as_mut() => return Ended::Failed(SILENT.into()),
            () = scope.stopping() => break None,
            () = load.retired() => break None,
            () = told.as_mut(), if !leaving => {
                leaving = true;
                load.leave();
            }
            ended = connection.as_mut() => break Some(ended),
        }
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                () = dead => return Ended::Failed(SILENT.into()),
                ended = connection => ended,
            }
        }
    };
    match ended {
        Ok(()) => Ended::Closed,
        Err(error) => Ended::Failed(describe(&error)),
    }
}

fn builder(scope: &Scope) -> http2::Builder<Light> {
    let mut builder = http2::Builder::new(Light(scope.child()));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(defaults::STREAM_WINDOW)
        .initial_connection_window_size(defaults::CONNECTION_WINDOW)
        .max_concurrent_streams(defaults::STREAMS)
        .max_header_list_size(defaults::FIELDS)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(None)
        .enable_connect_protocol()
        .keep_alive_interval(defaults::PING_EVERY)
        // hyper only asks. If it also judged, it would end every stream as if it were complete, and an origin would
        // keep half an upload for a whole one; so the silence is ours to notice, and the connection is dropped.
        .keep_alive_timeout(NEVER)
        .auto_date_header(false);
    builder
}

fn describe(error: &hyper::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    cause.unwrap_or_else(|| error.to_string())
}
