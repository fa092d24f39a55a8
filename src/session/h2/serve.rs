//! The agent's end: an HTTP/2 server on the connection that it opened.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use http::StatusCode;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::goaway::Tapped;
use super::room::Room;
use super::server::{self, Broken, Terms};
use super::windows::Windows;
use crate::defaults;
use crate::message::upgrade::{self, Tunnel};
use crate::message::{Body, BoxError, Request, Response, authority};
use crate::net::splice::splice;
use crate::net::{Io, Scope};
use crate::session::{Ended, Handler, Load};

/// Bytes on their way between the stream of an Upgrade and whoever answers it.
const BUFFER: usize = 64 << 10;

fn terms(windows: Arc<Windows>) -> Terms {
    Terms {
        room: Room::Stream(windows),
        streams: defaults::STREAMS,
        fields: defaults::FIELDS,
        // Visitors that hang up become resets, and the relay is one that this agent has verified: a guard against
        // strangers would end everybody's requests here.
        resets: 100_000,
        faults: None,
        ping_every: defaults::PING_EVERY,
        ping_dead: defaults::PING_DEAD,
        idle: None,
    }
}

/// Serves until the relay goes or `scope` stops. See [`crate::session::serve_half`].
pub async fn run(
    mut io: Io,
    handler: Arc<dyn Handler>,
    load: Arc<Load>,
    windows: Arc<Windows>,
    scope: Scope,
) -> Ended {
    io.keep_alive();
    let last_read = io.last_read();
    let (tapped, goaway) = Tapped::receiver(io);
    let tasks = scope.child();
    let answer = |mut request: Request| {
        let loaded = load.enter();
        let answer = match upgrade::from_connect(&mut request) {
            false => handler.call(request),
            true => Box::pin(switched(request, handler.clone(), tasks.clone())),
        };
        async move {
            let mut response = answer.await;
            response.body_mut().hold(loaded);
            response
        }
    };
    let leave = async {
        tokio::select! {
            biased;
            () = scope.stopping() => {}
            () = load.retired() => {}
        }
    };
    let served = server::serve(tapped, last_read, terms(windows), &tasks, leave, |_| {}, answer);
    let mut served = pin!(served);
    let served = tokio::select! {
        biased;
        () = goaway.received() => {
            load.leave();
            served.await
        }
        served = served.as_mut() => served,
    };
    match served {
        Ok(()) => Ended::Closed,
        Err(Broken::Silent) => Ended::Failed("the relay was silent for too long".into()),
        Err(error @ Broken::Deaf(_)) => Ended::Failed(error.to_string()),
        Err(Broken::Connection(error)) => Ended::Failed(error.to_string()),
    }
}

/// Lets a connection in memory answer an Upgrade: handlers are promised hyper's own stream behind their 101, and hyper
/// makes one for its own connections alone.
async fn switched(mut request: Request, handler: Arc<dyn Handler>, tasks: Scope) -> Response {
    let tunnel = Tunnel::take(request.extensions_mut());
    authority::to_origin_form(&mut request);
    let (near, far) = tokio::io::duplex(BUFFER);
    tasks.spawn(async move {
        let service = service_fn(move |request: http::Request<Incoming>| {
            let answer = handler.call(request.map(Body::from));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.keep_alive(false).half_close(true).auto_date_header(false);
        if let Err(error) = builder.serve_connection(TokioIo::new(far), service).with_upgrades().await {
            tracing::debug!(%error, "an upgrade ended");
        }
    });
    let asked = async {
        let (mut handle, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        tasks.spawn(async move {
            // What goes wrong is heard at the other end.
            let _ = connection.with_upgrades().await;
        });
        handle.send_request(request).await
    };
    let mut response = match asked.await {
        Ok(response) => response.map(Body::from),
        Err(error) => {
            tracing::debug!(%error, "an upgrade was not answered");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            return response;
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let (Some(near), Some(far)) = (Tunnel::take(response.extensions_mut()), tunnel)
    {
        tasks.spawn(async move {
            let joined = async {
                let (mut near, mut far) = futures_util::future::try_join(near, far).await?;
                splice(&mut near, &mut far).await?;
                Ok::<_, BoxError>(())
            };
            if let Err(error) = joined.await {
                tracing::debug!(%error, "an upgraded stream broke");
            }
        });
    }
    upgrade::to_connected(&mut response);
    response
}
