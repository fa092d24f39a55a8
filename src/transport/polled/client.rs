//! HTTP/1.1 connections to one relay. Each request in flight has a connection, and later requests reuse idle
//! connections.

use std::time::Duration;

use http::HeaderValue;
use http::header::{HOST, USER_AGENT};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::time::Instant;

use super::base::Base;
use crate::defaults;
use crate::http1::embedded::{ReadError, whole};
use crate::message::{Body, BoxError, Request};
use crate::net::dial::{DialError, DialRoute, DialTarget, dial_via};
use crate::net::{Io, Scope};
use crate::transport::{AgentCredentials, Call, OpenError, place};

/// An idle connection is used again only within this time. Relays, and the boxes before them, close connections that
/// are idle for longer.
const IDLE: Duration = Duration::from_secs(10);

/// See the module.
pub(in crate::transport) struct Client {
    place: DialTarget,
    base: Base,
    via: DialRoute,
    credentials: AgentCredentials,
    idle: Mutex<Vec<(Instant, SendRequest<Body>)>>,
}

impl Client {
    pub(in crate::transport) fn new(call: &Call) -> Self {
        let (place, base) = (place(&call.relay), Base::new(&call.relay));
        Self {
            place,
            base,
            via: call.via.clone(),
            credentials: call.credentials.clone(),
            idle: Mutex::default(),
        }
    }

    pub(in crate::transport) fn base(&self) -> &Base {
        &self.base
    }

    /// Sends one request on a connection of its own, and reads the whole answer.
    pub(in crate::transport) async fn send_alone(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> Result<http::Response<Body>, OpenError> {
        let broken = |e: hyper::Error| OpenError::Broken(e.to_string());
        let exchange = async {
            let (mut handle, connection) = self.connect().await?;
            let answer = async {
                let request = self.with_common_fields(request.map(Body::full));
                let answer = handle.send_request(request).await.map_err(broken)?;
                let (parts, body) = answer.into_parts();
                let body = match whole(Body::from(body), defaults::FORM).await {
                    Ok(body) => body,
                    Err(error @ ReadError::Broken(_)) if parts.status.is_success() => {
                        return Err(OpenError::Broken(format!("the relay's answer broke off: {error}")));
                    }
                    Err(error) => {
                        // The status of a refusal matters more than its body. A body that is too large is another
                        // program's page, and the head shows that.
                        tracing::debug!(%error, "the body of the relay's answer could not be read");
                        bytes::Bytes::new()
                    }
                };
                drop(handle);
                Ok(http::Response::from_parts(parts, Body::full(body)))
            };
            tokio::join!(answer, connection).0
        };
        tokio::time::timeout(defaults::UPGRADE, exchange)
            .await
            .unwrap_or_else(|_| Err(OpenError::Broken("the relay did not answer the registration".into())))
    }

    /// Sends one request. `scope` drives the connection, which is free for the next request when the answer's body has
    /// ended. A request that an old connection returned unsent is sent on a fresh connection. Dropping the future gives
    /// up the request and its connection.
    ///
    /// # Errors
    /// The connection could not be opened, or broke.
    pub(in crate::transport) async fn send(
        self: &Arc<Self>,
        request: Request,
        scope: &Scope,
    ) -> Result<http::Response<Body>, BoxError> {
        self.send_timed(request, scope, &mut None).await
    }

    /// As [`Client::send`]. Sets `since` to the time when the request was put on an open connection.
    ///
    /// # Errors
    /// As those of [`Client::send`].
    pub(super) async fn send_timed(
        self: &Arc<Self>,
        request: Request,
        scope: &Scope,
        since: &mut Option<Instant>,
    ) -> Result<http::Response<Body>, BoxError> {
        let mut request = self.with_common_fields(request);
        loop {
            *since = None;
            let idle = self.take_idle();
            let fresh = idle.is_none();
            let mut handle = match idle {
                Some(handle) => handle,
                None => self.open(scope).await?,
            };
            if handle.ready().await.is_ok() {
                *since = Some(Instant::now());
                match handle.try_send_request(request).await {
                    Ok(answer) => return Ok(self.reuse_after_body(answer, handle)),
                    Err(mut error) => match error.take_message() {
                        Some(unsent) if !fresh => request = unsent,
                        _ => return Err(error.into_error().into()),
                    },
                }
            } else if fresh {
                return Err("the relay closed the connection at once".into());
            }
        }
    }

    /// A connection, and the future that drives it.
    pub(in crate::transport) async fn connect(
        &self,
    ) -> Result<(SendRequest<Body>, Connection<TokioIo<Io>, Body>), DialError> {
        let mut io = dial_via(&self.via, &self.place, &self.credentials.tls(), defaults::CONNECT).await?;
        // A waiting poll is silent: only the kernel's keep-alive detects that the relay is gone.
        io.keep_alive();
        let connected = http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(io)).await;
        connected
            .map_err(|e| DialError::Connect { target: self.place.clone(), source: std::io::Error::other(e) })
    }

    async fn open(&self, scope: &Scope) -> Result<SendRequest<Body>, DialError> {
        let (handle, connection) = self.connect().await?;
        scope.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the relay ended");
            }
        });
        Ok(handle)
    }

    /// The request with the fields that each of our requests carries.
    pub(in crate::transport) fn with_common_fields(&self, mut request: Request) -> Request {
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::try_from(self.base.authority()) {
            headers.insert(HOST, host);
        }
        let name = HeaderValue::from_static(concat!("ptth/", env!("CARGO_PKG_VERSION")));
        headers.insert(USER_AGENT, name);
        request
    }

    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        // The connections are in the order of their return.
        let expired = idle.partition_point(|(since, _)| now.duration_since(*since) >= IDLE);
        idle.drain(..expired);
        while let Some((_, handle)) = idle.pop() {
            if !handle.is_closed() {
                return Some(handle);
            }
        }
        None
    }

    fn reuse_after_body(
        self: &Arc<Self>,
        answer: http::Response<Incoming>,
        handle: SendRequest<Body>,
    ) -> http::Response<Body> {
        let mut answer = answer.map(Body::from);
        answer.body_mut().hold(IdleOnDrop { client: self.clone(), handle: Some(handle) });
        answer
    }
}

/// Puts a connection among the idle connections when dropped.
struct IdleOnDrop {
    client: Arc<Client>,
    handle: Option<SendRequest<Body>>,
}

impl Drop for IdleOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.client.idle.lock().push((Instant::now(), handle));
        }
    }
}
