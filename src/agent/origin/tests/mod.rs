//! Tests with real sockets on port 0, and origins whose every byte the test writes.

#[cfg(feature = "cli")]
mod directory;
mod expect;
mod forward;
mod http2;
mod probe;
#[cfg(feature = "cli")]
mod sample;
mod service;
mod stream;
mod upgrade;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use super::{Origin, OriginTarget};
use crate::defaults;
use crate::http1::server::{self, HalfClose, ServerOptions, Service};
use crate::http1::write::Case;
use crate::message::{Body, Request, Response, interim};
use crate::net::linger::LingerLimits;
use crate::net::{Io, Scope};
use crate::session::Handler;

/// Panics if `future` hangs: no step of a test takes twenty seconds.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("no progress")
}

fn trust(roots: rustls::RootCertStore) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_root_certificates(roots).with_no_client_auth())
}

fn origin(target: &str) -> Arc<Origin> {
    Origin::new(OriginTarget::parse(target).unwrap(), Scope::new(), trust(rustls::RootCertStore::empty()))
}

fn get(path: &str) -> Request {
    http::Request::get(path).header("host", "shop.test").body(Body::empty()).unwrap()
}

async fn text(response: Response) -> String {
    let bytes = within(response.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// One end of a connection on which the test writes and reads every byte.
struct Wire<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.0.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Reads up to and including `end`.
    async fn read_until(&mut self, end: &str) -> String {
        let mut received = Vec::new();
        while !received.ends_with(end.as_bytes()) {
            match within(self.0.read_u8()).await {
                Ok(byte) => received.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&received)),
            }
        }
        String::from_utf8(received).unwrap()
    }

    async fn head(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }

    /// Reads until the other side closes or resets the connection.
    async fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = within(self.0.read_to_end(&mut bytes)).await;
        String::from_utf8(bytes).unwrap()
    }

    /// Whether no byte has arrived after all ready tasks have run.
    async fn is_quiet(&mut self) -> bool {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let mut byte = [0];
        futures_util::poll!(std::pin::pin!(self.0.read(&mut byte))).is_pending()
    }
}

/// An origin that listens, and the handler in front of it.
struct Raw {
    listener: TcpListener,
    origin: Arc<Origin>,
}

impl Raw {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = origin(&listener.local_addr().unwrap().to_string());
        Self { listener, origin }
    }

    async fn accept(&self) -> Wire<TcpStream> {
        Wire(within(self.listener.accept()).await.unwrap().0)
    }

    /// Sends one request on a fresh connection, and answers with `answer`.
    async fn fresh(&self, request: Request, answer: &str) -> (String, Response, Wire<TcpStream>) {
        let serve = async {
            let mut wire = self.accept().await;
            let head = wire.head().await;
            wire.write(answer).await;
            (head, wire)
        };
        let (response, (head, wire)) = tokio::join!(within(self.origin.answer(request)), serve);
        (head, response, wire)
    }

    /// Sends one request, which must arrive on the existing connection `wire`.
    async fn reuse(&self, wire: &mut Wire<TcpStream>, request: Request, answer: &str) -> Response {
        let serve = async {
            wire.head().await;
            wire.write(answer).await;
        };
        tokio::join!(within(self.origin.answer(request)), serve).0
    }

    fn idle(&self) -> usize {
        match &self.origin.kind {
            super::Kind::Web(web) => web.idle(),
            _ => 0,
        }
    }

    /// Lets other tasks run until the pool has `idle` connections.
    async fn wait_for_idle(&self, idle: usize) {
        for _ in 0..1_000 {
            if self.idle() == idle {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{} idle connections instead of {idle}", self.idle());
    }
}

/// A visitor's connection to `handler`, served as by a carrier. The test sends HTTP/1.1 on it.
fn visitor(handler: impl Handler + Clone) -> Wire<DuplexStream> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let config = ServerOptions {
        head: defaults::VISITOR_HEAD,
        head_within: None,
        stalled: defaults::STALLED,
        drain: defaults::DRAIN,
        linger: LingerLimits::DEFAULT,
        keep_alive: true,
        case: Case::Lower,
        half_close: HalfClose::Allowed,
        trailers_on_demand: false,
        date: false,
    };
    Scope::new().spawn(async move {
        let _ = server::serve(Io::other(far), &Served(handler), &config, std::future::pending()).await;
    });
    Wire(near)
}

struct Served<H>(H);

impl<H: Handler> Service for Served<H> {
    async fn call(&self, request: Request, interim: interim::Sender) -> Response {
        self.0.call(request, interim).await
    }
}

/// For tests that want no interim responses.
trait Answer: Handler {
    fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        self.call(request, interim::Sender::default())
    }
}

impl<H: Handler + ?Sized> Answer for H {}
