//! The agent's end: an HTTP/1.1 server on the connection that it opened.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::interject;
use super::trailers::Trailing;
use crate::message::Body;
use crate::net::{Io, Scope};
use crate::session::{Ended, Handler, Load};

/// Serves until the relay closes, the connection becomes another protocol, or `scope` stops. See
/// [`crate::session::serve_half`].
pub async fn run(mut io: Io, handler: Arc<dyn Handler>, load: Arc<Load>, scope: Scope) -> Ended {
    io.keep_alive();
    let upgraded = Arc::new(AtomicBool::new(false));
    let inserts = io.inserts();
    let service = service_fn(|request: http::Request<Incoming>| {
        let loaded = Arc::new(load.enter());
        // An answer may end before the upload that it answers; the connection is busy until both have.
        let upload = (!request.body().is_end_stream()).then(|| loaded.clone());
        let mut request = request.map(Body::from);
        if let Some(upload) = upload {
            request.body_mut().hold(upload);
        }
        let version = request.version();
        let answer = handler.call(request);
        let (upgraded, inserts) = (upgraded.clone(), inserts.clone());
        async move {
            let mut response = interject(version, answer, &inserts).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                upgraded.store(true, Ordering::Release);
            }
            response.body_mut().hold(loaded);
            Ok::<_, Infallible>(response.map(|body| Trailing::new(body, Some(&inserts))))
        }
    });
    // No timer: hyper's deadline for heads would also end a connection that only waits for its next request.
    let mut builder = http1::Builder::new();
    let connection =
        builder.auto_date_header(false).serve_connection(TokioIo::new(io), service).with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        () = scope.stopping() => None,
        () = load.retired() => None,
        ended = connection.as_mut() => Some(ended),
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match ended {
        Ok(()) if upgraded.load(Ordering::Acquire) => Ended::Upgraded,
        Ok(()) => Ended::Closed,
        // A relay that is killed cuts an idle connection without a word: that is an end, not a fault.
        Err(error) if error.is_incomplete_message() || error.is_canceled() => Ended::Closed,
        Err(error) => Ended::Failed(error.to_string()),
    }
}
