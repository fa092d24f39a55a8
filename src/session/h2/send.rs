//! The relay's end: an HTTP/2 client on a connection that it did not open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use http::header::{EXPECT, HOST, UPGRADE};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::goaway::{GoAway, Tapped};
use crate::defaults;
use crate::message::{Body, Request, Response, upgrade};
use crate::net::io::LastRead;
use crate::net::scope::Light;
use crate::net::{Io, Scope};
use crate::session::Driver;
use crate::session::carrier::{Carrier, SendError, SendErrorKind, Slot};

struct H2 {
    handle: SendRequest<Body>,
    closed: Arc<AtomicBool>,
    /// What the agent's SETTINGS say, once they are here.
    extended_connect: watch::Receiver<Option<bool>>,
    last_read: LastRead,
    goaway: GoAway,
}

/// Opens the relay's end and writes the preface.
///
/// # Errors
/// When the connection breaks at once.
pub async fn open(io: Io, scope: &Scope) -> Result<(Box<dyn Carrier>, Driver), hyper::Error> {
    let last_read = io.last_read();
    let (tapped, goaway) = Tapped::sender(io);
    let (handle, mut connection) = http2::Builder::new(Light(scope.clone()))
        .timer(TokioTimer::new())
        .initial_stream_window_size(defaults::STREAM_WINDOW)
        .initial_connection_window_size(defaults::CONNECTION_WINDOW)
        .initial_max_send_streams(defaults::STREAMS as usize)
        .max_header_list_size(defaults::FIELDS)
        .keep_alive_interval(defaults::PING_EVERY)
        .keep_alive_timeout(defaults::PING_DEAD)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(tapped))
        .await?;
    let closed = Arc::new(AtomicBool::new(false));
    let (settled, extended_connect) = watch::channel(None);
    let carrier = H2 { handle, closed: closed.clone(), extended_connect, last_read, goaway: goaway.clone() };
    let driver = async move {
        let ended = tokio::select! {
            biased;
            ended = &mut connection => ended,
            () = goaway.settled() => {
                // The frame has only just been read: its reader is another task, and goes first.
                tokio::task::yield_now().await;
                settled.send_replace(Some(connection.is_extended_connect_protocol_enabled()));
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a flipped connection ended");
        }
        closed.store(true, Ordering::Release);
    };
    Ok((Box::new(carrier), Box::pin(driver)))
}

impl Carrier for H2 {
    fn send(&self, request: Request, slot: Slot) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(self.exchange(request, slot))
    }

    fn capacity(&self) -> usize {
        defaults::STREAMS as usize
    }

    fn drain(&self) {
        self.goaway.send();
    }

    fn is_late(&self) -> bool {
        self.last_read.elapsed() > defaults::PING_EVERY + defaults::PING_LATE
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) || self.handle.is_closed()
    }
}

impl H2 {
    /// The first request may be faster than the agent's SETTINGS, so this waits for them. Cancel safe.
    async fn can_upgrade(&self) -> bool {
        let mut settled = self.extended_connect.clone();
        let known = tokio::time::timeout(defaults::FLIP, settled.wait_for(Option::is_some)).await;
        known.is_ok_and(|known| known.is_ok_and(|enabled| *enabled == Some(true)))
    }

    async fn exchange(&self, mut request: Request, slot: Slot) -> Result<Response, SendError> {
        request.headers_mut().remove(HOST);
        // Polling the visitor's body is what answers its Expect, so there is none left to pass on.
        request.headers_mut().remove(EXPECT);
        *request.version_mut() = http::Version::HTTP_2;
        let mut sent = None;
        if request.headers().contains_key(UPGRADE) {
            if !self.can_upgrade().await {
                return Err(SendErrorKind::NoUpgrade.unsent(request));
            }
            sent = upgrade::to_connect(&mut request);
        }
        let mut handle = self.handle.clone();
        match handle.try_send_request(request).await {
            Ok(response) => {
                let mut response = response.map(Body::from);
                if let Some(sent) = sent {
                    upgrade::from_connected(&mut response, sent);
                }
                slot.keep_with(&mut response);
                Ok(response)
            }
            Err(mut error) => {
                tracing::debug!(error = %error.error(), "a request failed on a flipped connection");
                let kind = SendErrorKind::Closed;
                Err(match error.take_message() {
                    // What became a CONNECT cannot be turned back for another kind of carrier.
                    Some(request) if sent.is_none() => {
                        self.closed.store(true, Ordering::Release);
                        kind.unsent(request)
                    }
                    _ => kind.error(),
                })
            }
        }
    }
}
