//! The relay's end: an HTTP/2 client on a connection that it did not open.

use std::any::Any;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong};
use http::header::{CONTENT_LENGTH, EXPECT, HOST, UPGRADE};
use http_body::Body as _;

use super::goaway::{GoAway, Tapped};
use super::stream::{Raw, upload};
use super::windows::{Told, Windows};
use crate::defaults;
use crate::message::upgrade::{self, Sent, Tunnel};
use crate::message::{Body, Request, Response};
use crate::net::flag::Flag;
use crate::net::io::LastRead;
use crate::net::{Io, Scope};
use crate::session::Driver;
use crate::session::carrier::{Carrier, SendError, SendErrorKind, Slot};

/// An agent's first SETTINGS come with its first bytes; an Upgrade that is earlier waits this long for them.
const SETTINGS: Duration = Duration::from_secs(1);

struct H2 {
    handle: SendRequest<Bytes>,
    closed: Arc<AtomicBool>,
    /// Raised once the agent has said that it takes extended CONNECT (RFC 8441 §3).
    extended_connect: Arc<Flag>,
    last_read: LastRead,
    goaway: GoAway,
    scope: Scope,
    windows: Arc<Windows>,
}

/// Opens the relay's end and writes the preface.
///
/// # Errors
/// When the connection breaks at once.
pub async fn open(
    mut io: Io,
    scope: &Scope,
    windows: &Arc<Windows>,
) -> Result<(Box<dyn Carrier>, Driver), h2::Error> {
    io.keep_alive();
    let last_read = io.last_read();
    let mut told = Told::new(windows.clone());
    let (tapped, goaway) = Tapped::sender(io);
    let (handle, mut connection) = h2::client::Builder::new()
        .initial_window_size(told.size())
        .initial_connection_window_size(defaults::CONNECTION_WINDOW)
        .initial_max_send_streams(defaults::STREAMS as usize)
        .max_header_list_size(defaults::FIELDS)
        .max_send_buffer_size(defaults::SEND_BUFFER)
        .enable_push(false)
        // Visitors hang up in crowds. What still arrives for their streams is no fault of the agent's, and must not
        // end the connection for everybody.
        .max_concurrent_reset_streams(defaults::STREAMS as usize)
        .max_local_error_reset_streams(None)
        .handshake(tapped)
        .await?;
    let carrier = H2 {
        handle: handle.clone(),
        closed: Arc::default(),
        extended_connect: Arc::default(),
        last_read: last_read.clone(),
        goaway,
        scope: scope.clone(),
        windows: windows.clone(),
    };
    let (closed, extended_connect) = (carrier.closed.clone(), carrier.extended_connect.clone());
    let pings = connection.ping_pong();
    let driver = async move {
        let connection = poll_fn(|cx| {
            if told.update(&mut connection).is_err() {
                tracing::warn!("an agent does not acknowledge smaller windows: its connection is cut");
                return Poll::Ready(Ok(()));
            }
            let polled = connection.poll_unpin(cx);
            if !extended_connect.is_raised() && handle.is_extended_connect_protocol_enabled() {
                extended_connect.raise();
            }
            polled
        });
        tokio::select! {
            ended = connection => tracing::debug!(?ended, "a flipped connection ended"),
            () = silence(pings, last_read) => tracing::info!("an agent was silent for too long: its connection is cut"),
        }
        closed.store(true, Ordering::Release);
    };
    Ok((Box::new(carrier), Box::pin(driver)))
}

/// Resolves when the far end has not been heard for too long. Whatever comes in counts; only an idle connection is
/// asked. A PING is asked once and waited for until it is answered, since another may not be sent before.
async fn silence(pings: Option<PingPong>, last_read: LastRead) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        let quiet = last_read.elapsed();
        if quiet < defaults::PING_EVERY {
            tokio::time::sleep(defaults::PING_EVERY - quiet).await;
            continue;
        }
        let asked = Instant::now();
        if pings.send_ping(Ping::opaque()).is_err() {
            // The connection is about to end by itself.
            return std::future::pending().await;
        }
        loop {
            let waited = asked.elapsed().min(last_read.elapsed());
            let Some(left) = defaults::PING_DEAD.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return;
            };
            match tokio::time::timeout(left, poll_fn(|cx| pings.poll_pong(cx))).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => return std::future::pending().await,
                // Something else came in meanwhile: the far end lives, and the answer is on its way.
                Err(_) => {}
            }
        }
    }
}

impl Carrier for H2 {
    fn send(&self, request: Request, slot: Slot) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(async move {
            let mut response = self.exchange(request).await?;
            slot.keep_with(&mut response);
            Ok(response)
        })
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
        self.closed.load(Ordering::Acquire)
    }
}

impl H2 {
    async fn exchange(&self, mut request: Request) -> Result<Response, SendError> {
        let mut handle = self.handle.clone();
        if poll_fn(|cx| handle.poll_ready(cx)).await.is_err() {
            // Gone, or the agent has said that it goes.
            self.closed.store(true, Ordering::Release);
            return Err(SendErrorKind::Closed.unsent(request));
        }
        request.headers_mut().remove(HOST);
        // Polling the visitor's body is what answers its Expect, so there is none left to pass on.
        request.headers_mut().remove(EXPECT);
        *request.version_mut() = http::Version::HTTP_2;
        if request.headers().contains_key(UPGRADE) {
            return self.connect(handle, request).await;
        }
        let (parts, body) = request.into_parts();
        let end = body.is_end_stream();
        let sent = handle.send_request(http::Request::from_parts(parts, ()), end);
        let (mut response, stream) = sent.map_err(failed)?;
        if end {
            return self.received(response.await);
        }
        let mut upload = Box::pin(upload(body, stream));
        let answer = tokio::select! {
            biased;
            answer = &mut response => answer,
            () = &mut upload => return self.received(response.await),
        };
        // An answer that came early does not end the upload.
        self.scope.spawn_light(upload);
        self.received(answer)
    }

    fn received(
        &self,
        answer: Result<http::Response<h2::RecvStream>, h2::Error>,
    ) -> Result<Response, SendError> {
        let mut response = answer.map_err(failed)?.map(Body::from);
        let said =
            response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if !response.body().is_end_stream()
            && let Some(counted) = self.windows.enter(said)
        {
            response.body_mut().hold(counted);
        }
        Ok(response)
    }

    async fn connect(
        &self,
        mut handle: SendRequest<Bytes>,
        mut request: Request,
    ) -> Result<Response, SendError> {
        if tokio::time::timeout(SETTINGS, self.extended_connect.listen()).await.is_err() {
            return Err(SendErrorKind::NoUpgrade.unsent(request));
        }
        let Some(sent) = upgrade::to_connect(&mut request) else {
            return Err(SendErrorKind::NoUpgrade.unsent(request));
        };
        let head = http::Request::from_parts(request.into_parts().0, ());
        let (response, sender) = handle.send_request(head, false).map_err(failed)?;
        let response = answer(response).await?;
        Ok(connected(response, sender, sent, self.windows.enter(None)))
    }
}

/// A success opens the stream; anything else is an ordinary answer.
fn connected(
    response: http::Response<h2::RecvStream>,
    mut sender: h2::SendStream<Bytes>,
    sent: Sent,
    counted: Option<Box<dyn Any + Send>>,
) -> Response {
    if !response.status().is_success() {
        let _ = sender.send_data(Bytes::new(), true);
        let mut response = response.map(Body::from);
        upgrade::from_connected(&mut response, sent);
        return response;
    }
    let (parts, receiver) = response.into_parts();
    let mut response = Response::from_parts(parts, Body::empty());
    upgrade::from_connected(&mut response, sent);
    response.extensions_mut().insert(Tunnel::ready(Raw::new(sender, receiver, counted)));
    response
}

async fn answer(response: ResponseFuture) -> Result<http::Response<h2::RecvStream>, SendError> {
    response.await.map_err(failed)
}

fn failed(error: h2::Error) -> SendError {
    tracing::debug!(%error, "a request failed on a flipped connection");
    let invalid = error.is_library() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR);
    SendError { kind: if invalid { SendErrorKind::Invalid } else { SendErrorKind::Closed }, unsent: None }
}
