//! A proxy that buffers whole bodies before it forwards them, as virus scanners and some inspecting proxies do. It
//! does not support Upgrade, and it terminates TLS.

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

/// Which bodies the proxy buffers.
#[derive(Clone, Copy)]
pub(crate) struct Buffering {
    /// Those of requests.
    pub(crate) up: bool,
    /// Those of answers.
    pub(crate) down: bool,
}

/// Starts a buffering proxy in front of the server on this loopback port; returns the proxy's own port. The proxy ends
/// with the process.
pub(crate) fn buffering_proxy(relay: u16, tls: Arc<rustls::ServerConfig>, buffering: Buffering) -> u16 {
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
                spawn(async move {
                    let _ = serve(stream, acceptor, relay, buffering).await;
                });
            }
        });
    });
    port
}

#[expect(clippy::disallowed_methods, reason = "the thread belongs to this proxy")]
fn spawn(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}

async fn serve(
    stream: TcpStream,
    tls: TlsAcceptor,
    relay: u16,
    buffering: Buffering,
) -> Result<(), BoxError> {
    let io = TokioIo::new(tls.accept(stream).await?);
    let service = hyper::service::service_fn(move |request| async move {
        Ok::<_, Infallible>(forward(request, relay, buffering).await.unwrap_or_else(|error| {
            let mut response = Response::new(Body::full(error.to_string()));
            *response.status_mut() = http::StatusCode::BAD_GATEWAY;
            response
        }))
    });
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await?)
}

async fn forward(
    request: Request<Incoming>,
    relay: u16,
    buffering: Buffering,
) -> Result<Response<Body>, BoxError> {
    let stream = TcpStream::connect(("127.0.0.1", relay)).await?;
    let (mut handle, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    spawn(async move {
        let _ = connection.await;
    });
    let (mut parts, body) = request.into_parts();
    for name in [CONNECTION, UPGRADE, TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    let body = if buffering.up { buffered(body).await? } else { Body::from(body) };
    let (mut parts, body) = handle.send_request(Request::from_parts(parts, body)).await?.into_parts();
    parts.headers.remove(TRANSFER_ENCODING);
    let body = if buffering.down { buffered(body).await? } else { Body::from(body) };
    Ok(Response::from_parts(parts, body))
}

async fn buffered(body: Incoming) -> Result<Body, BoxError> {
    Ok(Body::wrap(Full::new(body.collect().await?.to_bytes())))
}
