//! The relay's end: an HTTP/2 client on a connection that it did not open.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use http::StatusCode;
use http::header::{HOST, UPGRADE};
use http_body::Body as _;

use super::goaway::{GoAway, Tapped};
use super::ping::silence;
use super::stream::{Raw, send_body};
use crate::defaults;
use crate::message::expect::{self, Gate};
use crate::message::upgrade::{self, Sent, Tunnel};
use crate::message::{Body, Request, Response, interim};
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
}

/// Opens the relay's end and writes the preface.
///
/// # Errors
/// When the connection breaks at once.
pub async fn open(mut io: Io, scope: &Scope) -> Result<(Box<dyn Carrier>, Driver), h2::Error> {
    let last_read = io.last_read();
    let (tapped, goaway) = Tapped::sender(io);
    let (handle, mut connection) = h2::client::Builder::new()
        .initial_window_size(defaults::STREAM_WINDOW)
        .initial_connection_window_size(defaults::CONNECTION_WINDOW)
        .initial_max_send_streams(defaults::STREAMS as usize)
        .max_header_list_size(defaults::FIELDS)
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
    };
    let (closed, extended_connect) = (carrier.closed.clone(), carrier.extended_connect.clone());
    let pings = connection.ping_pong();
    let driver = async move {
        let connection = poll_fn(|cx| {
            let polled = connection.poll_unpin(cx);
            if !extended_connect.is_raised() && handle.is_extended_connect_protocol_enabled() {
                extended_connect.raise();
            }
            polled
        });
        tokio::select! {
            ended = connection => tracing::debug!(?ended, "a flipped connection ended"),
            () = silence(pings, last_read, defaults::PING_EVERY, defaults::PING_DEAD) => tracing::info!("an agent was silent for too long: its connection is cut"),
        }
        closed.store(true, Ordering::Release);
    };
    Ok((Box::new(carrier), Box::pin(driver)))
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
        *request.version_mut() = http::Version::HTTP_2;
        if request.headers().contains_key(UPGRADE) {
            return self.connect(handle, request).await;
        }
        let gate = expect::hold_back(&mut request);
        let (parts, body) = request.into_parts();
        let end = body.is_end_stream();
        let sent = handle.send_request(http::Request::from_parts(parts, ()), end);
        let (response, stream) = sent.map_err(failed)?;
        let mut answer = pin!(answer(response, gate.clone()));
        if end {
            return answer.await.map(|response| response.map(Body::from));
        }
        let mut upload = Box::pin(send_body(body, stream, Reason::CANCEL));
        let mut impatient = pin!(open_in_the_end(gate.clone()));
        let answer = tokio::select! {
            biased;
            answer = &mut answer => {
                // An answer that came early does not end the upload.
                self.scope.spawn_light(upload);
                answer
            }
            () = &mut upload => answer.await,
            never = &mut impatient => match never {},
        };
        let mut response = answer?.map(Body::from);
        if let Some(gate) = gate {
            response.body_mut().hold(gate);
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
        let response = answer(response, None).await?;
        Ok(connected(response, sender, sent))
    }
}

/// A success opens the stream; anything else is an ordinary answer.
fn connected(
    response: http::Response<h2::RecvStream>,
    mut sender: h2::SendStream<Bytes>,
    sent: Sent,
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
    response.extensions_mut().insert(Tunnel::ready(Raw::new(sender, receiver)));
    response
}

/// Awaits the head of an answer. What comes before it is said, but a 100, which opens the gate.
async fn answer(
    mut response: ResponseFuture,
    gate: Option<Arc<Gate>>,
) -> Result<http::Response<h2::RecvStream>, SendError> {
    let mut count = 0;
    poll_fn(move |cx| {
        loop {
            // A look for the answer itself would throw away what stands in front of it.
            let Some(head) = ready!(response.poll_informational(cx)) else {
                return response.poll_unpin(cx).map_err(failed);
            };
            let head = head.map_err(failed)?;
            count += 1;
            match (head.status(), &gate) {
                // There is no such thing in HTTP/2 (RFC 9113 §8.6).
                (StatusCode::SWITCHING_PROTOCOLS, _) => {
                    return Poll::Ready(Err(SendErrorKind::Invalid.error()));
                }
                _ if count > defaults::INTERIM => return Poll::Ready(Err(SendErrorKind::Invalid.error())),
                (StatusCode::CONTINUE, Some(gate)) => gate.open(),
                _ => interim::say(head),
            }
        }
    })
    .await
}

/// Opens the gate when nobody says 100, as an agent that does not know `Expect` would never. Never resolves.
async fn open_in_the_end(gate: Option<Arc<Gate>>) -> std::convert::Infallible {
    if let Some(gate) = gate {
        tokio::time::sleep(defaults::ORIGIN_CONTINUE).await;
        gate.open();
    }
    std::future::pending().await
}

fn failed(error: h2::Error) -> SendError {
    tracing::debug!(%error, "a request failed on a flipped connection");
    let invalid = error.is_library() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR);
    SendError { kind: if invalid { SendErrorKind::Invalid } else { SendErrorKind::Closed }, unsent: None }
}
