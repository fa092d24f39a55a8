//! An HTTP/2 server: the agent's end of a flipped connection, and the relay's server for visitors with HTTP/2. Uses the
//! h2 crate itself, because hyper's server can neither send interim responses (1xx) nor delay its 100 until the origin
//! sends one.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::discard::{DiscardedUploads, LingerPlaces};
use super::ping::silence;
use super::stream::{Raw, send_body};
use super::stream_windows::{ChargedBody, SHORT, SettingsAckTimeout};
use super::uploads::{UploadPolicy, UploadWindows};
use crate::defaults;
use crate::message::body::{BodyVerdict, RefusedBody};
use crate::message::expect::{self, BodyDemand};
use crate::message::upgrade::{self, ByteStream, Tunnel};
use crate::message::{Body, Request, Response, http2, interim};
use crate::net::Scope;
use crate::net::io::LastRead;
use crate::observe::Limit;

/// How long the last GOAWAY may take to be written: the far end may not read.
const GOAWAY_WITHIN: Duration = Duration::from_secs(1);

/// The limits of a server.
#[derive(Clone)]
pub(crate) struct Http2Terms {
    /// How many bytes of uploads may wait unread.
    pub(crate) uploads: UploadPolicy,
    /// Streams at once.
    pub(crate) streams: u32,
    /// A message's fields, in bytes.
    pub(crate) fields: u32,
    /// Streams that the far end resets before they are accepted; more end the connection.
    pub(crate) resets: usize,
    /// Streams that this end resets for faults of the far end; more end the connection. `None` is no limit.
    pub(crate) faults: Option<usize>,
    /// A PING is sent after this long without a byte from the far end.
    pub(crate) ping_every: Duration,
    /// The connection is dead when no byte arrives for this long after the PING.
    pub(crate) ping_dead: Duration,
    /// A connection without a request for this long is closed, at the latest after twice that.
    pub(crate) idle: Option<Duration>,
    /// Makes the places of connections on which the rest of an upload is discarded after an early answer. `None`: such
    /// an upload is reset at once.
    pub(crate) linger: Option<LingerPlaces>,
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The far end sent nothing for too long.
    #[error("the far end was silent for too long")]
    Silent,
    /// The far end did not acknowledge smaller windows.
    #[error(transparent)]
    SettingsAckTimeout(#[from] SettingsAckTimeout),
    /// The connection broke, or the bytes on it were not valid HTTP/2.
    #[error(transparent)]
    Connection(#[from] h2::Error),
}

impl Broken {
    /// The limit that ended the connection, if a limit did.
    #[cfg(any(test, feature = "relay"))]
    pub(crate) fn reached(&self) -> Option<Limit> {
        match self {
            Self::Silent => Some(Limit::Idle),
            Self::Connection(error)
                if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) && error.is_library() =>
            {
                Some(Limit::Resets)
            }
            Self::SettingsAckTimeout(_) | Self::Connection(_) => None,
        }
    }
}

/// Serves until the far end closes the connection, or until `leave` resolves and the requests in flight have finished.
/// `answer` is called for each request; its future is dropped when the far end resets the stream. An extended CONNECT
/// (RFC 8441) has a [`Tunnel`] in its extensions, which opens if the answer is a success. Dropping the future
/// cuts the connection.
///
/// # Errors
/// [`Broken`]
pub(crate) async fn serve<T, A, F>(
    io: T,
    last_read: LastRead,
    terms: Http2Terms,
    scope: &Scope,
    leave: impl Future<Output = ()>,
    reached: impl Fn(Limit),
    answer: A,
) -> Result<(), Broken>
where
    T: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request, interim::Sender) -> F,
    F: Future<Output = Response> + Send + 'static,
{
    let mut uploads = UploadWindows::new(terms.uploads.clone());
    let handshake = uploads.begin(&mut builder(&terms)).handshake::<_, Bytes>(io);
    let mut connection = tokio::select! {
        biased;
        () = last_read.silence(terms.ping_every + terms.ping_dead) => return Err(Broken::Silent),
        connection = handshake => connection?,
    };
    let pings = connection.ping_pong();
    let mut dead = pin!(silence(pings, last_read, terms.ping_every, terms.ping_dead));
    let mut leave = pin!(leave);
    let mut leaving = false;
    let mut idle = pin!(sleep(terms.idle));
    let mut streams = Streams::default();
    let discarded = terms.linger.map(|places| DiscardedUploads::new(places, scope));
    loop {
        let accepted = poll_fn(|cx| {
            loop {
                while let Poll::Ready(accepted) = connection.poll_accept(cx) {
                    match accepted {
                        Some(Ok((request, respond))) => {
                            if streams.enter() == terms.streams as usize {
                                reached(Limit::Streams);
                            }
                            if accept(
                                request,
                                respond,
                                (scope, &streams),
                                (&uploads, discarded.as_ref()),
                                &answer,
                            ) {
                                uploads.want();
                            }
                        }
                        Some(Err(error)) => return Poll::Ready(Err(error.into())),
                        None => return Poll::Ready(Ok(())),
                    }
                }
                // The next poll of the connection writes the new SETTINGS.
                if !uploads.update(&mut connection)? {
                    return Poll::Pending;
                }
            }
        });
        tokio::select! {
            biased;
            () = dead.as_mut() => return Err(Broken::Silent),
            () = leave.as_mut(), if !leaving => leaving = true,
            ended = accepted => return close(&mut connection, ended).await,
            () = idle.as_mut(), if !leaving => {
                if !streams.were_quiet() {
                    idle.set(sleep(terms.idle));
                    continue;
                }
                reached(Limit::Idle);
                leaving = true;
            }
        }
        connection.graceful_shutdown();
    }
}

/// Sends a GOAWAY with the code of an error that the h2 crate does not detect.
async fn close<T: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<T, Bytes>,
    ended: Result<(), Broken>,
) -> Result<(), Broken> {
    if matches!(ended, Err(Broken::SettingsAckTimeout(_))) {
        connection.abrupt_shutdown(Reason::SETTINGS_TIMEOUT);
        let closed = poll_fn(|cx| connection.poll_closed(cx));
        let _ = tokio::time::timeout(GOAWAY_WITHIN, closed).await;
    }
    ended
}

async fn sleep(idle: Option<Duration>) {
    match idle {
        Some(idle) => tokio::time::sleep(idle).await,
        None => std::future::pending().await,
    }
}

/// The streams of one connection.
#[derive(Default)]
struct Streams {
    /// Each stream that is being answered holds a clone.
    open: Arc<()>,
    accepted: u64,
    /// The value of `accepted` at the last call of `were_quiet`; `None` if streams were open then.
    quiet_since: Option<u64>,
}

impl Streams {
    /// Counts one more stream. Returns how many streams are open, including this one.
    fn enter(&mut self) -> usize {
        self.accepted += 1;
        Arc::strong_count(&self.open)
    }

    /// Whether no stream was open since the last call. Counted, because a clock would have to be read for each request.
    fn were_quiet(&mut self) -> bool {
        let now = (Arc::strong_count(&self.open) == 1).then_some(self.accepted);
        let before = std::mem::replace(&mut self.quiet_since, now);
        now.is_some() && before == now
    }
}

fn builder(terms: &Http2Terms) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(terms.streams)
        .max_send_buffer_size(defaults::SEND_BUFFER)
        .max_header_list_size(terms.fields)
        .max_pending_accept_reset_streams(terms.resets)
        .max_local_error_reset_streams(terms.faults)
        .enable_connect_protocol();
    builder
}

/// Begins to answer. Returns whether the request has a long upload.
fn accept<F: Future<Output = Response> + Send + 'static>(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    (scope, streams): (&Scope, &Streams),
    (uploads, discarded): (&UploadWindows, Option<&Arc<DiscardedUploads>>),
    answer: impl Fn(Request, interim::Sender) -> F,
) -> bool {
    let open = streams.open.clone();
    let (mut parts, receiver) = request.into_parts();
    if http2::is_malformed(&parts.headers) {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return false;
    }
    upgrade::join_cookies(&mut parts.headers);
    let length = length(&parts.headers);
    let head = parts.method == Method::HEAD;
    if parts.method == Method::CONNECT {
        if length.is_some_and(|length| length > 0) {
            // The body of a CONNECT could not be distinguished from the bytes of the stream behind the answer.
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return false;
        }
        parts.headers.remove(CONTENT_LENGTH);
        let (opener, tunnel) = Tunnel::later();
        parts.extensions.insert(tunnel);
        let (sender, interim) = interim::channel();
        let answer = answer(Request::from_parts(parts, Body::empty()), sender);
        let then = AfterHead::Open(opener, receiver, uploads.charge(None));
        scope.spawn_light(exchange(answer, respond, (interim, None, None), (then, None, open)));
        // A tunnel is no long upload: it lasts, and seldom carries much.
        return false;
    }
    let discarded = discarded.filter(|_| !receiver.is_end_stream());
    let (unread, rest) = discarded.map(|_| oneshot::channel()).unzip();
    let discard: Option<DiscardFuture> = match (discarded.cloned(), rest) {
        (Some(discarded), Some(rest)) => Some(Box::pin(discarded.discard(rest))),
        _ => None,
    };
    let mut body = Body::received(receiver, length, unread);
    let long = !body.is_end_stream() && length.is_none_or(|length| length > SHORT);
    if long && let Some(charged) = uploads.charge(length) {
        body.observe(Box::new(charged));
    }
    let verdict = body.verdict();
    let mut request = Request::from_parts(parts, body);
    let demand = expect::on_demand(&mut request);
    let (sender, interim) = interim::channel();
    let answer = answer(request, sender);
    let then = if head { AfterHead::End } else { AfterHead::Body };
    scope.spawn_light(exchange(answer, respond, (interim, demand, verdict), (then, discard, open)));
    long
}

/// The length in `Content-Length`. The h2 crate checks that the body has this length.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Discards the rest of the upload once nobody reads it. Polled only after the head of the answer was sent.
type DiscardFuture = BoxFuture<'static, ()>;

/// What follows the head of an answer.
enum AfterHead {
    /// Its body.
    Body,
    /// Nothing: the request was a HEAD.
    End,
    /// The stream itself, if the answer is a success.
    Open(oneshot::Sender<Box<dyn ByteStream>>, RecvStream, Option<ChargedBody>),
}

async fn exchange(
    answer: impl Future<Output = Response>,
    mut respond: SendResponse<Bytes>,
    (interim, demand, verdict): (interim::Receiver, Option<Arc<BodyDemand>>, Option<BodyVerdict>),
    (then, discard, open): (AfterHead, Option<DiscardFuture>, Arc<()>),
) {
    let Some(response) = answered(answer, &mut respond, (interim, demand)).await else { return };
    if verdict.and_then(|verdict| verdict.get()) == Some(RefusedBody::Malformed) {
        return respond.send_reset(Reason::PROTOCOL_ERROR);
    }
    let (mut parts, body) = response.into_parts();
    let opens = matches!(then, AfterHead::Open(..)) && parts.status.is_success();
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
    let ends = !opens && (bodiless || matches!(then, AfterHead::End) || body.is_end_stream());
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
        AfterHead::Open(opener, receiver, charged) if opens => {
            // The receiver of the stream may be dropped by now. The stream is then dropped, which closes it.
            let _ = opener.send(Box::new(Raw::new(stream, receiver, (charged, Some(open)))));
        }
        _ => {
            let send = async {
                if !ends {
                    send_body(body, stream, Reason::INTERNAL_ERROR).await;
                }
            };
            match discard {
                Some(discard) => {
                    tokio::join!(send, discard);
                }
                None => send.await,
            }
        }
    }
}

/// Awaits the answer, and sends interim responses meanwhile. `None` when the far end has reset the stream.
async fn answered(
    answer: impl Future<Output = Response>,
    respond: &mut SendResponse<Bytes>,
    (interim, demand): (interim::Receiver, Option<Arc<BodyDemand>>),
) -> Option<Response> {
    let mut answer = pin!(answer);
    poll_fn(|cx| {
        let polled = answer.as_mut().poll(cx);
        for head in interim.take(cx) {
            // If this fails, sending the answer fails too, and that failure is logged.
            let _ = respond.send_informational(head);
        }
        if let Poll::Ready(response) = polled {
            return Poll::Ready(Some(response));
        }
        if demand.as_ref().is_some_and(|demand| demand.take(cx)) {
            let mut head = interim::Head::new(());
            *head.status_mut() = StatusCode::CONTINUE;
            let _ = respond.send_informational(head);
        }
        respond.poll_reset(cx).map(|_| None)
    })
    .await
}
#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::net::Io;
    use crate::session::h2::ReceiveBudget;

    /// Serves `client` with two streams at once; requests to `/hold` get no answer. Returns the limits that were
    /// reached.
    async fn limits(far: DuplexStream, client: impl Future) -> Vec<Limit> {
        let terms = Http2Terms {
            uploads: UploadPolicy::Stream(ReceiveBudget::new(1 << 20)),
            streams: 2,
            fields: 1 << 14,
            resets: 3,
            faults: Some(3),
            ping_every: Duration::from_secs(30),
            ping_dead: Duration::from_secs(30),
            idle: Some(Duration::from_secs(90)),
            linger: None,
        };
        let (scope, reports) = (Scope::new(), Mutex::default());
        let answer = async |request: Request| {
            if request.uri().path() == "/hold" {
                std::future::pending::<()>().await;
            }
            Response::new(Body::empty())
        };
        let answer = |request, _| Box::pin(answer(request));
        let reached = |limit| Mutex::<Vec<_>>::lock(&reports).push(limit);
        let leave = std::future::pending();
        let mut io = Io::other(far);
        let last_read = io.last_read();
        let serving = serve(io, last_read, terms, &scope, leave, reached, answer);
        // A client that has left breaks the pipe while the server still writes.
        if let (Err(broken), _) = tokio::join!(serving, client) {
            reports.lock().extend(broken.reached());
        }
        reports.into_inner()
    }

    async fn served(client: impl AsyncFnOnce(h2::client::SendRequest<Bytes>)) -> Vec<Limit> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let exchange = async {
            let (handle, connection) = h2::client::handshake(near).await.unwrap();
            tokio::join!(connection, client(handle))
        };
        limits(far, exchange).await
    }

    fn get(path: &str) -> http::Request<()> {
        http::Request::get(format!("http://a.test{path}")).body(()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed() {
        let began = tokio::time::Instant::now();
        let reached = served(async |mut handle| {
            handle.send_request(get("/"), true).unwrap().0.await.unwrap();
            std::future::poll_fn(|cx| handle.poll_ready(cx)).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1_000)).await;
            assert!(handle.send_request(get("/"), true).is_err(), "it is closed");
        })
        .await;
        assert!(began.elapsed() >= Duration::from_secs(90));
        assert_eq!(reached, [Limit::Idle]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_request_in_flight_is_not_idle() {
        let reached = served(async |mut handle| {
            let (held, _) = handle.send_request(get("/hold"), true).unwrap();
            let answer = tokio::time::timeout(Duration::from_secs(4 * 3600), held).await;
            assert!(answer.is_err(), "the request was answered");
        })
        .await;
        assert_eq!(reached, []);
    }

    /// CVE-2023-44487: streams that are reset before the server has accepted them.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_resets_every_stream_reaches_the_reset_limit() {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        for id in (1..40_u8).step_by(2) {
            bytes.extend([0, 0, 11, 1, 5, 0, 0, 0, id]);
            bytes.extend(b"\x82\x86\x84\x41\x06a.test");
            bytes.extend([0, 0, 4, 3, 0, 0, 0, 0, id, 0, 0, 0, 8]);
        }
        near.write_all(&bytes).await.unwrap();
        let read = async {
            let mut all = Vec::new();
            near.read_to_end(&mut all).await
        };
        assert_eq!(limits(far, read).await, [Limit::Resets]);
    }

    #[tokio::test(start_paused = true)]
    async fn reaching_the_stream_limit_is_reported() {
        let reached = served(async |handle| {
            let mut handle = handle.ready().await.unwrap();
            let one = handle.send_request(get("/hold"), true).unwrap();
            let mut handle = handle.ready().await.unwrap();
            let two = handle.send_request(get("/hold"), true).unwrap();
            let _ = tokio::time::timeout(Duration::from_secs(1), one.0).await;
            drop(two);
        })
        .await;
        assert_eq!(reached, [Limit::Streams]);
    }
}
