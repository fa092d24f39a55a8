//! The server side of a connection: requests are answered one after the other, in order.
//!
//! One task drives a connection: it reads heads, polls the answer and writes the answer. The task that polls the body
//! of a request reads the connection itself, so the bytes of a body are read only on demand. While no body is
//! outstanding, the driver watches for the end of the stream, because a visitor that has left needs no answer.

//!
//! # When the far end closes its sending direction
//! This may mean that it has sent everything and waits for the answer, or that it has closed the connection and is gone.
//! TCP has the same FIN for both, and TLS the same `close_notify`. Only a write distinguishes them: a far end that is
//! gone answers it with a reset. So the server writes a byte string at once that belongs to the answer in any case: the
//! first bytes of its head, or a leading zero of the next chunk's size. After a reset the request is cancelled. In the
//! middle of a body with another framing nothing can be written ahead of the body; there, the end of the stream cancels
//! the request. See [`HalfClose`].
//!
//! While an upload is not read, the end of the stream stays behind it, mostly in the buffers of the far end. So the
//! server writes the first bytes of its head one by one, 1, 2, 4, … seconds after the last read. The kernel of a far end
//! that is gone answers such a byte with a reset.
//!
//! # When the answer precedes the end of the upload
//! A short rest of the upload is drained, and the connection serves the next request. Otherwise the server closes its
//! sending direction and discards what arrives, because a far end that sends first and reads afterwards would lose the
//! answer to a reset (RFC 9112 §9.6). See [`LingerLimits`].

mod attend;
mod connection;
mod linger;
mod timer;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use http::header::{CONNECTION, DATE};
use http::{HeaderMap, HeaderValue, Method, Request as HttpRequest, StatusCode, Version, response};
use http_body::Body as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::connection::{Incoming, ProbePlace, ServerConnection};
use self::timer::Timer;
use super::body::{Decoder, Encoder, write_frame};
use super::head::{self, RequestHead, Search};
use super::output::Output;
use super::write::{self, BodyFraming, Case};
use super::{BadHead, Error, declared};
use crate::message::upgrade::{ByteStream, Tunnel};
use crate::message::{Body, Request, Response, framing, hop, interim};
use crate::net::Io;
use crate::net::linger::{Linger, LingerLimits, LingerPlace};

/// Answers the requests of one connection.
pub trait Service {
    /// Answers a request. Interim responses are sent through `interim` before the future resolves. The future is
    /// dropped when the far end has closed the connection. A request for an Upgrade has a [`Tunnel`] among its
    /// extensions, which opens after a 101.
    fn call(&self, request: Request, interim: interim::Sender) -> impl Future<Output = Response> + Send;

    /// The answer to an invalid head. The connection is closed after this answer.
    fn refuse(&self, bad: BadHead) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status_of(bad);
        response
    }

    /// Whether the sender of the current request may close its sending direction and still read. Else that cancels the
    /// request, whatever [`ServerOptions::half_close`] is.
    fn allows_half_close(&self) -> bool {
        true
    }

    /// A place for a connection that lingers after its last answer.
    fn linger(&self) -> LingerPlace {
        LingerPlace::default()
    }
}

/// The status for an invalid head.
pub fn status_of(bad: BadHead) -> StatusCode {
    match bad {
        BadHead::Bytes(_) | BadHead::Fields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        BadHead::Target => StatusCode::URI_TOO_LONG,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// How a connection is served.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// The most bytes in a head.
    pub head: usize,
    /// The time until a head is complete, including the idle time before the head. `None`: no limit.
    pub head_within: Option<Duration>,
    /// How long the far end may read or send nothing in the middle of a message.
    pub stalled: Duration,
    /// How long a short rest of an unwanted upload is read, so that the connection can stay open.
    pub drain: Duration,
    /// How long the connection lingers after its last answer while the far end sends.
    pub linger: LingerLimits,
    /// Whether the connection may stay open for further requests.
    pub keep_alive: bool,
    /// How names of fields are spelled.
    pub case: Case,
    /// What it means that the far end closes its sending direction.
    pub half_close: HalfClose,
    /// Whether trailers are sent only if the request has `TE: trailers` (RFC 9110 §6.5.1).
    pub trailers_on_demand: bool,
    /// Whether an answer without a `Date` gets a `Date` (RFC 9110 §6.6.1).
    pub date: bool,
}

/// What it means that the far end closes its sending direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfClose {
    /// The far end is gone: the current request is cancelled.
    Cancels,
    /// The far end still reads.
    Allowed,
    /// The far end still reads, unless it answers a probe with a reset. See the module.
    Probed,
}

/// How a connection ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The connection was closed between two messages.
    Closed,
    /// Another protocol runs on the connection.
    Upgraded,
}

/// Serves a connection until it ends or switches protocols, or until `stop` resolves and the current request is
/// answered. Dropping the future closes the connection.
///
/// # Errors
/// [`Error`]; the connection is closed.
pub async fn serve<S: Service>(
    io: Io,
    service: &S,
    config: &ServerOptions,
    stop: impl Future<Output = ()>,
) -> Result<ConnectionEnd, Error> {
    let connection = Arc::new(Mutex::new(ServerConnection::new(io)));
    let mut server = Server {
        connection,
        service,
        config,
        stop: pin!(stop),
        stopping: false,
        interim: interim::Receiver::default(),
        timer: Timer::default(),
        linger: None,
        check_at: None,
        dated: None,
    };
    server.run().await
}

/// The facts about a request that are kept until its answer is written.
struct RequestContext {
    method: Method,
    version: Version,
    keep_alive: bool,
    takes_trailers: bool,
    tunnel: Option<oneshot::Sender<Box<dyn ByteStream>>>,
}

enum NextStep {
    Next,
    Close,
    Upgraded,
}

struct Server<'a, S, F> {
    connection: Arc<Mutex<ServerConnection>>,
    service: &'a S,
    config: &'a ServerOptions,
    stop: Pin<&'a mut F>,
    stopping: bool,
    interim: interim::Receiver,
    timer: Timer,
    /// The limits of an upload that is being discarded.
    linger: Option<Linger>,
    /// When a half-closed connection is checked for a reset next; `None` before its probe.
    check_at: Option<Instant>,
    /// The cached value of `Date`, and the second that it is for.
    dated: Option<(u64, HeaderValue)>,
}

impl<S: Service, F: Future<Output = ()>> Server<'_, S, F> {
    async fn run(&mut self) -> Result<ConnectionEnd, Error> {
        loop {
            match self.head().await {
                Ok(Some(head)) => match self.exchange(head).await? {
                    NextStep::Next => {}
                    NextStep::Upgraded => return Ok(ConnectionEnd::Upgraded),
                    NextStep::Close => {
                        self.close(false).await;
                        return Ok(ConnectionEnd::Closed);
                    }
                },
                Ok(None) => {
                    self.close(false).await;
                    return Ok(ConnectionEnd::Closed);
                }
                Err(Error::Head(bad)) => {
                    self.refuse(bad).await?;
                    return Err(Error::Head(bad));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Awaits the head of the next request. `None` when the connection ends or the server stops before a head.
    async fn head(&mut self) -> Result<Option<RequestHead>, Error> {
        let until = self.config.head_within.map(|within| Instant::now() + within);
        let mut search = Search::default();
        self.connection.lock().input.release();
        poll_fn(|cx| {
            self.check_stop(cx);
            let mut connection = self.connection.lock();
            let ServerConnection { io, input, half_closed, .. } = &mut *connection;
            loop {
                if let Some(head) = search.take(&mut input.bytes, self.config.head)? {
                    return Poll::Ready(Ok(Some(head::request(&head)?)));
                }
                if *half_closed || self.stopping && input.bytes.is_empty() {
                    return Poll::Ready(Ok(None));
                }
                match input.poll_fill(io, cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0)) if input.bytes.is_empty() => return Poll::Ready(Ok(None)),
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Error::Closed)),
                    Poll::Pending => break,
                }
            }
            let late = |until| self.timer.poll_until(until, cx).map(|()| Err(Error::HeadLate));
            until.map_or(Poll::Pending, late)
        })
        .await
    }

    fn check_stop(&mut self, cx: &mut Context<'_>) {
        self.stopping = self.stopping || self.stop.as_mut().poll(cx).is_ready();
    }

    async fn exchange(&mut self, head: RequestHead) -> Result<NextStep, Error> {
        let RequestHead { mut parts, facts, decoder } = head;
        let bodiless = decoder.is_done();
        let old = parts.version < Version::HTTP_11;
        let opener = (facts.upgrade && bodiless && !old).then(|| {
            let (opener, tunnel) = Tunnel::connection();
            parts.extensions.insert(tunnel);
            opener
        });
        let context = RequestContext {
            method: parts.method.clone(),
            version: parts.version,
            keep_alive: facts.keep_alive && self.config.keep_alive,
            takes_trailers: !self.config.trailers_on_demand
                || facts.te && hop::takes_trailers(&parts.headers),
            tunnel: opener,
        };
        // HTTP/1.0 has no interim responses (RFC 9110 §15.2).
        let interim = if old { interim::Sender::default() } else { self.interim.renew() };
        let request = HttpRequest::from_parts(parts, self.body(decoder, facts.expects_continue && !old));
        let response = {
            let mut answer = pin!(self.service.call(request, interim));
            poll_fn(|cx| self.poll_answer(answer.as_mut(), cx)).await?
        };
        self.respond(response, context).await
    }

    fn body(&mut self, decoder: Decoder, awaits_continue: bool) -> Body {
        if decoder.is_done() {
            return Body::empty();
        }
        let mut connection = self.connection.lock();
        connection.decoder = decoder;
        connection.awaits_continue = awaits_continue;
        [connection.body_dropped, connection.body_failed] = [false; 2];
        self.linger = None;
        connection.last_read = Instant::now();
        drop(connection);
        Body::from_source(Incoming { connection: self.connection.clone(), done: false })
    }

    fn poll_answer(
        &mut self,
        answer: Pin<&mut impl Future<Output = Response>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Error>> {
        self.check_stop(cx);
        // The answer may poll the body of the request, which takes the lock.
        let polled = answer.poll(cx);
        let mut connection = self.connection.lock();
        for head in self.interim.take(cx) {
            connection.put_head(|out| write::interim(out, &head, self.config.case));
        }
        drop(connection);
        match polled {
            Poll::Ready(response) => Poll::Ready(Ok(response)),
            Poll::Pending => self.poll_attend(Some(ProbePlace::Head), cx).map(|never| match never? {}),
        }
    }

    async fn respond(&mut self, response: Response, context: RequestContext) -> Result<NextStep, Error> {
        let (mut parts, body) = response.into_parts();
        parts.version = context.version;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let opener = context.tunnel.ok_or(Error::UnrequestedUpgrade)?;
            return self.switch(&parts, opener).await;
        }
        let closes = {
            let mut connection = self.connection.lock();
            // Without a 100 the client may send or omit the body. The next bytes are ambiguous: the connection closes.
            let unread = std::mem::take(&mut connection.awaits_continue);
            // The body of a refused request may be dropped a moment after the answer.
            let refused = parts.status.is_client_error() || parts.status.is_server_error();
            let unwanted = (connection.body_dropped || refused) && connection.is_rest_long();
            unread || connection.half_closed || unwanted
        };
        let (announced, encoder) = announce(&parts, &body, &context);
        let keep_alive = context.keep_alive && !self.stopping && !closes && encoder != Some(Encoder::Close);
        let keep_alive = self.write_head(&mut parts, announced, keep_alive);
        match encoder {
            Some(encoder) => self.send(body, encoder, context.takes_trailers).await?,
            None => {
                drop(body);
                poll_fn(|cx| self.poll_written(cx)).await?;
            }
        }
        let read = self.settle().await;
        Ok(if keep_alive && read && !self.stopping { NextStep::Next } else { NextStep::Close })
    }

    /// Writes the head of an answer. `keep_alive`: the connection may stay open. Returns whether it stays open.
    fn write_head(&mut self, parts: &mut response::Parts, announced: BodyFraming, keep_alive: bool) -> bool {
        let closes = closes(&parts.headers);
        let option = match (keep_alive, parts.version) {
            _ if closes => None,
            (true, Version::HTTP_10) => Some("keep-alive"),
            (false, Version::HTTP_11) => Some("close"),
            _ => None,
        };
        if self.config.date && !parts.headers.contains_key(DATE) {
            parts.headers.insert(DATE, self.date());
        }
        let case = self.config.case;
        let mut connection = self.connection.lock();
        connection.put_head(|out| write::response(out, parts, announced, option, case));
        keep_alive && !closes
    }

    fn date(&mut self) -> HeaderValue {
        let now = SystemTime::now();
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match &self.dated {
            Some((dated, value)) if *dated == second => value.clone(),
            _ => {
                let text = httpdate::fmt_http_date(now);
                let value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
                self.dated = Some((second, value.clone()));
                value
            }
        }
    }

    /// Writes the body of an answer. If the body breaks off, the connection ends after all bytes of the body so far.
    async fn send(&mut self, body: Body, mut encoder: Encoder, trailers: bool) -> Result<(), Error> {
        let (mut body, mut broken) = (Some(body), None);
        poll_fn(|cx| {
            self.check_stop(cx);
            loop {
                let full = self.connection.lock().output.len() >= Output::FULL;
                let mut waits = false;
                if let Some(taken) = body.as_mut().filter(|_| !full) {
                    // The answer may echo the body of the request. Polling that body takes the lock.
                    match Pin::new(&mut *taken).poll_frame(cx) {
                        Poll::Pending => waits = true,
                        Poll::Ready(frame) => {
                            let ends = taken.is_end_stream();
                            let output = &mut self.connection.lock().output;
                            match write_frame(frame, ends, &mut encoder, trailers, output) {
                                Ok(false) => continue,
                                Ok(true) => {}
                                Err(error) => broken = Some(error),
                            }
                            body = None;
                        }
                    }
                }
                ready!(self.poll_written(cx))?;
                match (&body, broken.take()) {
                    (_, Some(error)) => return Poll::Ready(Err(Error::Answer(error))),
                    (None, None) => return Poll::Ready(Ok(())),
                    (Some(_), None) if waits => {
                        let place = (encoder == Encoder::Chunked).then_some(ProbePlace::Chunk);
                        return self.poll_attend(place, cx).map(|never| match never? {});
                    }
                    (Some(_), None) => {}
                }
            }
        })
        .await
    }

    async fn switch(
        &mut self,
        parts: &response::Parts,
        opener: oneshot::Sender<Box<dyn ByteStream>>,
    ) -> Result<NextStep, Error> {
        let case = self.config.case;
        self.connection.lock().put_head(|out| write::response(out, parts, BodyFraming::Nothing, None, case));
        poll_fn(|cx| self.poll_written(cx)).await?;
        let mut connection = self.connection.lock();
        let early = std::mem::take(&mut connection.input.bytes).freeze();
        // The replacement is never used: the connection serves no further request.
        let io = std::mem::replace(&mut connection.io, Io::other(tokio::io::empty()));
        // If the receiver is dropped, dropping the stream closes it.
        let _ = opener.send(Box::new(io.with_early(early)));
        Ok(NextStep::Upgraded)
    }

    async fn refuse(&mut self, bad: BadHead) -> Result<(), Error> {
        let response = self.service.refuse(bad);
        let version = response.version();
        let context = RequestContext {
            method: Method::GET,
            version,
            keep_alive: false,
            takes_trailers: false,
            tunnel: None,
        };
        let (mut parts, body) = response.into_parts();
        let (announced, encoder) = announce(&parts, &body, &context);
        self.write_head(&mut parts, announced, false);
        match encoder {
            Some(encoder) => self.send(body, encoder, false).await?,
            None => poll_fn(|cx| self.poll_written(cx)).await?,
        }
        self.close(true).await;
        Ok(())
    }
}

/// How the head of an answer announces its body, and how the body is written, if there is one.
fn announce(head: &response::Parts, body: &Body, context: &RequestContext) -> (BodyFraming, Option<Encoder>) {
    let declared = declared(&head.headers);
    if framing::is_bodiless(&context.method, head.status) || head.status.is_informational() {
        // The answer to a HEAD has the length of the answer to a GET (RFC 9110 §8.6).
        let never = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&head.status);
        let exact = || body.size_hint().exact().filter(|length| *length > 0);
        let announced = match declared.or_else(exact) {
            Some(length) if context.method == Method::HEAD && !never => BodyFraming::Length(length),
            _ => BodyFraming::Nothing,
        };
        return (announced, None);
    }
    match declared.or(body.size_hint().exact()) {
        Some(0) => (BodyFraming::Length(0), None),
        Some(length) => (BodyFraming::Length(length), Some(Encoder::Length(length))),
        None if context.version == Version::HTTP_10 => (BodyFraming::Nothing, Some(Encoder::Close)),
        None => (BodyFraming::Chunks, Some(Encoder::Chunked)),
    }
}

fn closes(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().flat_map(hop::list).any(|option| option.eq_ignore_ascii_case("close"))
}
