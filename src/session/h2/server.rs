//! An HTTP/2 server: the agent's end of a flipped connection, and what visitors with HTTP/2 speak to. On the h2 crate
//! itself, because hyper's server can neither send interim responses (1xx) nor wait with its 100 for the origin's.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::ping::silence;
use super::stream::{Raw, send_body};
use crate::message::expect::{self, Asked};
use crate::message::upgrade::{Duplex, Tunnel};
use crate::message::{Body, Request, Response, hop, interim};
use crate::net::Scope;
use crate::net::io::LastRead;

/// What a server grants, and endures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// For one upload, in bytes.
    pub(crate) stream_window: u32,
    /// For all uploads of a connection, in bytes.
    pub(crate) connection_window: u32,
    /// At once.
    pub(crate) streams: u32,
    /// A message's fields, in bytes.
    pub(crate) fields: u32,
    /// Streams that were reset before they were looked at; more end the connection.
    pub(crate) resets: usize,
    /// Streams that this end resets for faults of the other; more end the connection. `None` is no limit.
    pub(crate) faults: Option<usize>,
    /// A connection that was silent for this long is asked.
    pub(crate) ping_every: Duration,
    /// And is dead when it does not answer for this long.
    pub(crate) ping_dead: Duration,
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// Nothing was heard for too long.
    #[error("the far end was silent for too long")]
    Silent,
    /// The connection broke, or what came on it was not HTTP/2.
    #[error(transparent)]
    Connection(#[from] h2::Error),
}

/// Serves until the far end goes, or until `leave` resolves and what is in flight has finished. `answer` is called for
/// each request; its future is dropped when the far end resets the stream. An extended CONNECT (RFC 8441) comes with a
/// [`Tunnel`] in its extensions, which opens if the answer is a success. Dropping the future cuts everything.
///
/// # Errors
/// [`Broken`]
pub(crate) async fn serve<T, A, F>(
    io: T,
    last_read: LastRead,
    terms: Terms,
    scope: &Scope,
    leave: impl Future<Output = ()>,
    answer: A,
) -> Result<(), Broken>
where
    T: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request) -> F,
    F: Future<Output = Response> + Send + 'static,
{
    let handshake = builder(terms).handshake::<_, Bytes>(io);
    let mut connection = tokio::select! {
        biased;
        () = last_read.silence(terms.ping_every + terms.ping_dead) => return Err(Broken::Silent),
        connection = handshake => connection?,
    };
    let pings = connection.ping_pong();
    let mut dead = pin!(silence(pings, last_read, terms.ping_every, terms.ping_dead));
    let mut leave = pin!(leave);
    let mut leaving = false;
    loop {
        let accepted = poll_fn(|cx| {
            while let Poll::Ready(accepted) = connection.poll_accept(cx) {
                match accepted {
                    Some(Ok((request, respond))) => accept(request, respond, scope, &answer),
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                    None => return Poll::Ready(Ok(())),
                }
            }
            Poll::Pending
        });
        tokio::select! {
            biased;
            () = dead.as_mut() => return Err(Broken::Silent),
            () = leave.as_mut(), if !leaving => leaving = true,
            ended = accepted => return Ok(ended?),
        }
        connection.graceful_shutdown();
    }
}

fn builder(terms: Terms) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(terms.stream_window)
        .initial_connection_window_size(terms.connection_window)
        .max_concurrent_streams(terms.streams)
        .max_header_list_size(terms.fields)
        .max_pending_accept_reset_streams(terms.resets)
        .max_local_error_reset_streams(terms.faults)
        .enable_connect_protocol();
    builder
}

fn accept<F: Future<Output = Response> + Send + 'static>(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    scope: &Scope,
    answer: impl Fn(Request) -> F,
) {
    let (mut parts, receiver) = request.into_parts();
    let length = length(&parts.headers);
    let head = parts.method == Method::HEAD;
    if parts.method == Method::CONNECT {
        if length.is_some_and(|length| length > 0) {
            // Nobody could tell it from what is said behind the answer.
            return respond.send_reset(Reason::PROTOCOL_ERROR);
        }
        parts.headers.remove(CONTENT_LENGTH);
        let (opened, tunnel) = Tunnel::later();
        parts.extensions.insert(tunnel);
        let answer = answer(Request::from_parts(parts, Body::empty()));
        return scope.spawn_light(exchange(answer, respond, None, Then::Open(opened, receiver)));
    }
    let mut request = Request::from_parts(parts, Body::received(receiver, length));
    let asked = expect::on_demand(&mut request);
    let answer = answer(request);
    let then = if head { Then::End } else { Then::Body };
    scope.spawn_light(exchange(answer, respond, asked, then));
}

/// The length that the fields say. h2 has seen to it that the bytes will be as many.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What follows the head of an answer.
enum Then {
    /// Its body.
    Body,
    /// Nothing: the request was a HEAD.
    End,
    /// The stream itself, if the answer is a success.
    Open(oneshot::Sender<Box<dyn Duplex>>, RecvStream),
}

async fn exchange(
    answer: impl Future<Output = Response>,
    mut respond: SendResponse<Bytes>,
    asked: Option<Arc<Asked>>,
    then: Then,
) {
    let Some(response) = answered(answer, &mut respond, asked).await else { return };
    let (mut parts, body) = response.into_parts();
    let _ = hop::strip(&mut parts.headers);
    let opens = matches!(then, Then::Open(..)) && parts.status.is_success();
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
    let ends = !opens && (bodiless || matches!(then, Then::End) || body.is_end_stream());
    if !ends
        && !opens
        && let Some(length) = body.size_hint().exact()
    {
        parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    let stream = match respond.send_response(http::Response::from_parts(parts, ()), ends) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "an answer could not be sent");
            return respond.send_reset(Reason::INTERNAL_ERROR);
        }
    };
    match then {
        Then::Open(opened, receiver) if opens => {
            // Who asked for it may have left meanwhile; the drop closes the stream then.
            let _ = opened.send(Box::new(Raw::new(stream, receiver, None)));
        }
        _ if ends => {}
        _ => send_body(body, stream, Reason::INTERNAL_ERROR).await,
    }
}

/// Awaits the answer, and sends meanwhile what comes before it. `None` when the far end has reset the stream.
async fn answered(
    answer: impl Future<Output = Response>,
    respond: &mut SendResponse<Bytes>,
    asked: Option<Arc<Asked>>,
) -> Option<Response> {
    let mut answer = pin!(answer);
    poll_fn(|cx| {
        let (polled, said) = interim::collect(|| answer.as_mut().poll(cx));
        for head in said {
            // Where this fails, so does the answer, which is where it is told.
            let _ = respond.send_informational(head);
        }
        if let Poll::Ready(response) = polled {
            return Poll::Ready(Some(response));
        }
        if asked.as_ref().is_some_and(|asked| asked.take(cx)) {
            let mut head = interim::Head::new(());
            *head.status_mut() = StatusCode::CONTINUE;
            let _ = respond.send_informational(head);
        }
        respond.poll_reset(cx).map(|_| None)
    })
    .await
}
