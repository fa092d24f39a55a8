//! A box that takes whole bodies in before it lets them on, as virus scanners and some inspecting proxies do, and that
//! knows nothing of Upgrades. TLS ends in it.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;

use http::header::{CONNECTION, TRANSFER_ENCODING, UPGRADE};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ptth::internals::message::{Body, BoxError};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;

/// Which bodies it holds.
#[derive(Clone, Copy)]
pub(crate) struct Holds {
    /// Those of requests.
    pub(crate) up: bool,
    /// Those of answers.
    pub(crate) down: bool,
}

/// Starts a buffering proxy in front of the server on this loopback port; returns the proxy's own port. The proxy ends
/// with the process.
pub(crate) fn buffering_proxy(relay: u16, tls: Arc<rustls::ServerConfig>, holds: Holds) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let acceptor = TlsAcceptor::from(tls);
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                start(async move {
                    let _ = serve(stream, acceptor, relay, holds).await;
                });
            }
        });
    });
    port
}

#[expect(clippy::disallowed_methods, reason = "the whole thread is this box's")]
fn start(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, relay: u16, holds: Holds) -> Result<(), BoxError> {
    let io = TokioIo::new(tls.accept(stream).await?);
    let service = hyper::service::service_fn(move |request| async move {
        Ok::<_, Infallible>(pass(request, relay, holds).await.unwrap_or_else(|error| {
            let mut response = Response::new(Body::full(error.to_string()));
            *response.status_mut() = http::StatusCode::BAD_GATEWAY;
            response
        }))
    });
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await?)
}

async fn pass(request: Request<Incoming>, relay: u16, holds: Holds) -> Result<Response<Body>, BoxError> {
    let stream = TcpStream::connect(("127.0.0.1", relay)).await?;
    let (mut handle, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    start(async move {
        let _ = connection.await;
    });
    let (mut parts, body) = request.into_parts();
    for name in [CONNECTION, UPGRADE, TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    let body = if holds.up { whole(body).await? } else { Body::from(body) };
    let (mut parts, body) = handle.send_request(Request::from_parts(parts, body)).await?.into_parts();
    parts.headers.remove(TRANSFER_ENCODING);
    let body = if holds.down { whole(body).await? } else { Body::from(body) };
    Ok(Response::from_parts(parts, body))
}

async fn whole(body: Incoming) -> Result<Body, BoxError> {
    Ok(Body::wrap(Full::new(body.collect().await?.to_bytes())))
}
