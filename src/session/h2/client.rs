//! Sends requests on one HTTP/2 connection: the relay's end of a flipped connection, or an agent's connection to an
//! HTTP/2 origin. Uses the h2 crate itself, because hyper's client does not pass on interim responses (1xx).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::client::{ResponseFuture, SendRequest};
use h2::{PingPong, Reason};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, HOST, UPGRADE};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::budget::ReceiveBudget;
use super::stream::{Raw, Rest, send_body};
use super::stream_windows::{ChargedBody, FIRST, StreamWindows};
use crate::defaults;
use crate::message::expect::{self, Gate};
use crate::message::repeat::{self, RequestCopy};
use crate::message::upgrade::{self, Sent, Tunnel};
use crate::message::{Body, Request, Response, http2, interim};
use crate::net::Scope;
use crate::session::AnswerFault;
use crate::session::carrier::{SendError, SendErrorKind};

/// How long an Upgrade waits for a server's first SETTINGS, which come with the server's first bytes.
const SETTINGS: Duration = Duration::from_secs(1);

/// One connection. It closes once every client and every stream of it is dropped.
#[derive(Clone)]
pub(crate) struct Http2Client {
    handle: SendRequest<Bytes>,
    pub(super) closed: Arc<AtomicBool>,
    scope: Scope,
    windows: Arc<StreamWindows>,
    /// How many streams the far end takes at once: [`defaults::STREAMS`] until its SETTINGS have come.
    streams: Arc<AtomicUsize>,
    /// Notified whenever frames may have been read.
    polled: Arc<Notify>,
}

/// Writes the preface. The returned future drives the connection, and resolves when the connection has ended. The
/// caller sends the PINGs.
///
/// # Errors
/// When the connection breaks at once.
pub(crate) async fn open<T>(
    io: T,
    scope: &Scope,
    budget: &Arc<ReceiveBudget>,
) -> Result<(Http2Client, impl Future<Output = ()> + Send + use<T>, Option<PingPong>), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let windows = StreamWindows::new(budget.clone(), FIRST);
    let (handle, mut connection) = h2::client::Builder::new()
        .initial_window_size(windows.window())
        .initial_connection_window_size(budget.connection_window())
        .initial_max_send_streams(defaults::STREAMS as usize)
        .max_header_list_size(defaults::FIELDS)
        .max_send_buffer_size(defaults::SEND_BUFFER)
        .enable_push(false)
        // Many visitors may hang up at once. Frames that still arrive for their streams are no fault of the far end,
        // and must not end the connection for all visitors.
        .max_concurrent_reset_streams(defaults::STREAMS as usize)
        .max_local_error_reset_streams(None)
        .handshake(io)
        .await?;
    let pings = connection.ping_pong();
    let closed = Arc::<AtomicBool>::default();
    let (streams, polled) =
        (Arc::new(AtomicUsize::new(defaults::STREAMS as usize)), Arc::<Notify>::default());
    let (stream_limit, frames_read) = (streams.clone(), polled.clone());
    let client = Http2Client {
        handle,
        closed: closed.clone(),
        scope: scope.clone(),
        windows: windows.clone(),
        streams,
        polled,
    };
    let driver = async move {
        let ended = poll_fn(|cx| {
            loop {
                let before = windows.update(|size| connection.set_initial_window_size(size));
                let ended = connection.poll_unpin(cx);
                let limit = connection.max_concurrent_send_streams().min(defaults::STREAMS as usize);
                stream_limit.store(limit, Ordering::Relaxed);
                frames_read.notify_waiters();
                // The next poll of the connection writes the new SETTINGS.
                match before.and_then(|_| windows.update(|size| connection.set_initial_window_size(size))) {
                    Ok(true) if ended.is_pending() => {}
                    Ok(_) => return ended,
                    Err(timeout) => {
                        tracing::warn!(error = %timeout, "a connection is cut");
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        });
        let ended = ended.await;
        tracing::debug!(?ended, "an HTTP/2 connection ended");
        closed.store(true, Ordering::Release);
    };
    Ok((client, driver, pings))
}

impl Http2Client {
    /// Whether the connection takes no more requests.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// How many requests the far end takes at once (SETTINGS_MAX_CONCURRENT_STREAMS, RFC 9113 §5.1.2). More requests
    /// would wait inside the h2 crate, from where they cannot be sent elsewhere.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Sends one request, with an absolute target and without hop-by-hop fields but those of an Upgrade. Dropping the
    /// future cancels the request.
    ///
    /// # Errors
    /// [`SendError`]; it holds the request if the request may be sent again.
    pub(crate) async fn exchange(
        &self,
        mut request: Request,
        interim: &interim::Sender,
    ) -> Result<Response, SendError> {
        let mut handle = self.handle.clone();
        let _expected = self.windows.count_request();
        if poll_fn(|cx| handle.poll_ready(cx)).await.is_err() {
            // The connection has ended, or the far end has sent GOAWAY.
            self.closed.store(true, Ordering::Release);
            return Err(SendErrorKind::Closed.unsent(request));
        }
        request.headers_mut().remove(HOST);
        *request.version_mut() = http::Version::HTTP_2;
        if request.headers().contains_key(UPGRADE) {
            return self.connect(handle, request, interim).await;
        }
        if request.body().is_end_stream() {
            let harmless = repeat::is_harmless(&request);
            let copy = RequestCopy::of(&request);
            let head = http::Request::from_parts(request.into_parts().0, ());
            let answered = match handle.send_request(head, true) {
                Ok((response, mut stream)) => {
                    let answered = answer(response, None, interim).await;
                    if answered.as_ref().is_err_and(Lost::is_invalid) {
                        stream.send_reset(Reason::PROTOCOL_ERROR);
                    }
                    answered
                }
                Err(error) => Err(Lost::before(&error)),
            };
            return match answered {
                Ok(response) => Ok(self.received(response)),
                Err(lost) => Err(self.send_error(&lost, Some(copy.into_request()), harmless)),
            };
        }
        // Boxed, so that the futures of the many requests without a body are not as large.
        Box::pin(self.upload(handle, request, interim)).await
    }

    /// Sends a request with its body. With `Expect` in the request, the body waits behind a gate.
    async fn upload(
        &self,
        mut handle: SendRequest<Bytes>,
        request: Request,
        interim: &interim::Sender,
    ) -> Result<Response, SendError> {
        let (gate, passage) = expect::hold_back(&request).unzip();
        let (parts, mut body) = request.into_parts();
        // Dropping the gate refuses the body that waits behind it, so such a request is never sent again.
        let request = http::Request::from_parts(parts, ());
        let copy = gate.is_none().then(|| RequestCopy::of(&request));
        let resendable = |body| copy.zip(body).map(|(copy, body)| copy.into_request().map(|_| body));
        let (response, stream) = match handle.send_request(request, false) {
            Ok(sent) => sent,
            Err(error) => return Err(self.send_error(&Lost::before(&error), resendable(Some(body)), false)),
        };
        let mut answer = pin!(answer(response, gate.clone(), interim));
        let mut upload = Box::pin(async move {
            let mut stream = stream;
            if let Some(passage) = passage {
                let opened = tokio::select! {
                    biased;
                    opened = passage => opened,
                    // The client sends the body without a 100.
                    () = poll_fn(|cx| body.poll_arrived(cx)) => Ok(()),
                };
                if opened.is_err() {
                    stream.send_reset(Reason::CANCEL);
                    return Rest::default();
                }
            }
            send_body(body, stream, Reason::CANCEL).await
        });
        let mut timeout = pin!(open_after_timeout(gate.clone()));
        let (answered, rest) = tokio::select! {
            biased;
            answered = &mut answer => match answered {
                // The upload ends with its stream.
                Err(Lost { unprocessed: true, .. }) => (answered, upload.await),
                // The drop of the upload resets the stream.
                Err(ref lost) if lost.is_invalid() => (answered, Rest::default()),
                _ => {
                    // An early answer does not end the upload.
                    self.scope.spawn_light(async { drop(upload.await) });
                    (answered, Rest::default())
                }
            },
            rest = &mut upload => (answer.await, rest),
            never = &mut timeout => match never {},
        };
        let answered = match answered {
            Ok(answered) => answered,
            Err(lost) => return Err(self.send_error(&lost, resendable(rest.whole()), false)),
        };
        let mut response = self.received(answered);
        if let Some(gate) = gate {
            response.body_mut().hold(gate);
        }
        Ok(response)
    }

    /// Watches the body of the answer, unless it is short.
    fn received(&self, response: http::Response<h2::RecvStream>) -> Response {
        let mut response = response.map(Body::from);
        let announced =
            response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if !response.body().is_end_stream()
            && let Some(charged) = self.windows.charge(announced)
        {
            response.body_mut().observe(Box::new(charged));
        }
        response
    }

    async fn connect(
        &self,
        mut handle: SendRequest<Bytes>,
        mut request: Request,
        interim: &interim::Sender,
    ) -> Result<Response, SendError> {
        // The far end announces in its SETTINGS whether it takes an extended CONNECT (RFC 8441 §3).
        let deadline = Instant::now() + SETTINGS;
        loop {
            let polled = self.polled.notified();
            if handle.is_extended_connect_protocol_enabled() {
                break;
            }
            if tokio::time::timeout_at(deadline, polled).await.is_err() {
                return Err(SendErrorKind::NoUpgrade.unsent(request));
            }
        }
        let Some(sent) = upgrade::to_connect(&mut request) else {
            return Err(SendErrorKind::NoUpgrade.unsent(request));
        };
        let head = http::Request::from_parts(request.into_parts().0, ());
        let failed = |lost: Lost| self.send_error(&lost, None, false);
        let (response, sender) = handle.send_request(head, false).map_err(|e| failed(Lost::before(&e)))?;
        let response = answer(response, None, interim).await.map_err(failed)?;
        Ok(connected(response, sender, sent, self.windows.charge(None)))
    }

    /// The error of a request. The error contains `request` if the far end has not processed it, or if a repeat is
    /// `harmless`.
    fn send_error(&self, lost: &Lost, request: Option<Request>, harmless: bool) -> SendError {
        if lost.unprocessed && lost.kind == SendErrorKind::Closed {
            // The far end has sent GOAWAY, or the connection has ended.
            self.closed.store(true, Ordering::Release);
        }
        match (request, lost.kind) {
            (Some(request), kind) if lost.unprocessed => kind.unsent(request),
            (Some(request), SendErrorKind::Closed) if harmless => SendErrorKind::Closed.repeatable(request),
            (_, SendErrorKind::Busy) => SendErrorKind::Closed.error(),
            (_, kind) => kind.error(),
        }
    }
}

/// A success status opens the stream; a response with any other status is an ordinary answer.
fn connected(
    response: http::Response<h2::RecvStream>,
    mut sender: h2::SendStream<Bytes>,
    sent: Sent,
    charged: Option<ChargedBody>,
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
    response.extensions_mut().insert(Tunnel::ready(Raw::new(sender, receiver, (charged, None))));
    response
}

/// Awaits the head of an answer. Interim responses before it go to `interim`, but a 100 opens the gate if there is one.
async fn answer(
    mut response: ResponseFuture,
    gate: Option<Arc<Gate>>,
    interim: &interim::Sender,
) -> Result<http::Response<h2::RecvStream>, Lost> {
    let mut count = 0;
    poll_fn(move |cx| {
        loop {
            // Polling for the answer itself would discard the interim responses before it.
            let Some(head) = ready!(response.poll_informational(cx)) else {
                return response.poll_unpin(cx).map(|head| match head {
                    Ok(head) if http2::is_malformed(head.headers()) => Err(Lost::invalid(AnswerFault::Blank)),
                    head => head.map_err(|error| Lost::of(&error)),
                });
            };
            let head = head.map_err(|error| Lost::of(&error))?;
            if http2::is_malformed(head.headers()) {
                return Poll::Ready(Err(Lost::invalid(AnswerFault::Blank)));
            }
            count += 1;
            match (head.status(), &gate) {
                // HTTP/2 has no 101 (RFC 9113 §8.6).
                (StatusCode::SWITCHING_PROTOCOLS, _) => {
                    return Poll::Ready(Err(Lost::invalid(AnswerFault::UnrequestedUpgrade)));
                }
                _ if count > defaults::INTERIM => {
                    return Poll::Ready(Err(Lost::invalid(AnswerFault::Interims)));
                }
                (StatusCode::CONTINUE, Some(gate)) => gate.open(),
                _ => interim.send(head),
            }
        }
    })
    .await
}

/// Opens the gate after [`defaults::ORIGIN_CONTINUE`], because a far end that ignores `Expect` never sends a 100. Never
/// resolves.
async fn open_after_timeout(gate: Option<Arc<Gate>>) -> std::convert::Infallible {
    if let Some(gate) = gate {
        tokio::time::sleep(defaults::ORIGIN_CONTINUE).await;
        gate.open();
    }
    std::future::pending().await
}

/// Why a request has no answer.
#[derive(PartialEq, Eq)]
struct Lost {
    kind: SendErrorKind,
    /// The far end has not processed the request: sending it again repeats nothing.
    unprocessed: bool,
}

impl Lost {
    fn invalid(fault: AnswerFault) -> Self {
        Self { kind: SendErrorKind::Invalid(fault), unprocessed: false }
    }

    fn is_invalid(&self) -> bool {
        matches!(self.kind, SendErrorKind::Invalid(_))
    }

    /// The request was sent. The far end has not processed a refused stream (RFC 9113 §8.7), nor a stream above the
    /// last stream of a GOAWAY (§6.8). A GOAWAY by itself ends no other streams.
    fn of(error: &h2::Error) -> Self {
        tracing::debug!(%error, "a request failed over HTTP/2");
        if error.is_library() {
            // This end resets a stream or ends a connection only for a fault of the far end.
            return Self::invalid(AnswerFault::Http2);
        }
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        let kind = if refused { SendErrorKind::Busy } else { SendErrorKind::Closed };
        Self { kind, unprocessed: error.is_remote() && (refused || error.is_go_away()) }
    }

    /// The request was not sent: the connection had just ended, or the far end had just sent GOAWAY.
    fn before(error: &h2::Error) -> Self {
        let ended = error.is_io() || error.is_go_away() && error.is_remote();
        Self { unprocessed: ended, ..Self::of(error) }
    }
}
