//! The client side of a connection: one request at a time.
//!
//! No task drives a connection. The task that awaits the answer writes the request and reads the head; the task that
//! polls the body of the answer reads the connection. Only an upload that continues after the head of its answer runs
//! as a task of its own, because it must continue whether or not the answer is read.

mod beside;

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{Method, StatusCode, request, response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::time::Sleep;

use super::body::{BadBody, Decoder, Encoder, Piece, write_frame};
use super::head::{self, MessageFacts, Search};
use super::output::{Input, Output};
use super::stall::StallDetector;
use super::write::{self, BodyFraming, Case};
use super::{Error, declared};
use crate::defaults;
use crate::message::body::{FrameSource, PolledFrame};
use crate::message::upgrade::Tunnel;
use crate::message::{Body, BoxError, Request, Response, expect, interim, repeat};
use crate::net::flag::Listener;
use crate::net::{Io, Scope};

/// A connection between two requests.
pub struct Connection {
    /// `None` after a [`Closer`] has closed the connection.
    io: Arc<Mutex<Option<Io>>>,
    input: Input,
    output: Output,
    stall: Option<Arc<StallDetector>>,
    /// Resolves when the connection is to be closed at once, together with its exchange.
    cut: Option<Listener>,
    /// Responses are parsed without the leniency for responses of origins.
    strict: bool,
}

/// Takes a connection back when its exchange is over. If the home is dropped instead, the connection is closed.
pub trait Home: Send + Unpin + Sized + 'static {
    /// Receives the head of the answer. Returns whether the connection may be used again.
    fn answered(&mut self, _head: &response::Parts) -> bool {
        true
    }

    /// Takes the connection after the exchange. The connection is ready for the next request.
    fn put_back(self, connection: Box<Connection>);

    /// The owner of an upload that continues after the head of its answer.
    fn scope(&self) -> &Scope;
}

/// Why there is no answer.
#[derive(Debug)]
pub struct NotAnswered {
    /// The error.
    pub error: Error,
    /// The request, if no byte of it was written and nothing was taken from its body.
    pub unsent: Option<Box<Request>>,
    /// The request, if it was sent and a repeat does no harm.
    pub repeatable: Option<Box<Request>>,
}

impl Connection {
    /// A connection on which nothing was sent yet.
    pub fn new(io: Io) -> Box<Self> {
        let io = Arc::new(Mutex::new(Some(io)));
        let (input, output) = (Input::default(), Output::default());
        Box::new(Self { io, input, output, stall: None, cut: None, strict: false })
    }

    /// As [`Connection::new`], for the link to an agent: `stall` measures its pace, the connection is closed when `cut`
    /// resolves, and answers are parsed as strictly as requests.
    pub fn link(io: Io, stall: Arc<StallDetector>, cut: Listener) -> Box<Self> {
        let mut connection = Self::new(io);
        (connection.stall, connection.cut, connection.strict) = (Some(stall), Some(cut), true);
        connection
    }

    /// A handle that can close the connection even while no task polls its exchange.
    pub fn closer(&self) -> Closer {
        Closer(self.io.clone())
    }

    /// Polls the stream. An error of kind `ConnectionAborted` means that this end has cut or closed the connection.
    fn poll_io<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Io, &mut Input, &mut Output, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let aborted = || Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        if let Some(cut) = &mut self.cut
            && Pin::new(cut).poll(cx).is_ready()
        {
            return aborted();
        }
        match &mut *self.io.lock() {
            Some(io) => poll(io, &mut self.input, &mut self.output, cx),
            None => aborted(),
        }
    }

    /// Resolves when the far end has closed the connection or has sent unsolicited bytes.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_io(cx, |io, input, _, cx| input.poll_fill(io, cx)).map(|_| ())
    }

    /// Whether a request can be sent, as far as this end can detect.
    pub fn is_open(&mut self) -> bool {
        self.input.bytes.is_empty() && self.poll_closed(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let polled = self.poll_io(cx, |io, input, _, cx| input.poll_fill(io, cx));
        if let Some(stall) = &self.stall {
            stall.read(match &polled {
                Poll::Ready(Ok(read)) => Poll::Ready(*read),
                Poll::Ready(Err(_)) => Poll::Ready(0),
                Poll::Pending => Poll::Pending,
            });
        }
        polled
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.output.written();
        let polled = self.poll_io(cx, |io, _, output, cx| output.poll_flush(io, cx));
        if let Some(stall) = &self.stall {
            stall.wrote((self.output.written() - before) as usize);
        }
        polled
    }
}

/// Closes a connection. See [`Connection::closer`].
pub struct Closer(Arc<Mutex<Option<Io>>>);

impl Closer {
    /// Closes the connection now. The stream after a 101 is not affected.
    pub fn close(&self) {
        drop(self.0.lock().take());
    }
}

/// Sends a request in origin form. `Host` comes from its fields alone. Interim responses go to `interim`, except a 100,
/// which releases a body that waits for it. Dropping the future, or later the body of the answer, cancels the request
/// by closing the connection: HTTP/1.1 has no other way to cancel a request.
///
/// After a 101 the home is returned, and the connection becomes the [`Tunnel`] of the response.
///
/// # Errors
/// [`NotAnswered`]
pub async fn send<H: Home>(
    mut connection: Box<Connection>,
    request: Request,
    home: H,
    interim: &interim::Sender,
) -> Result<(Response, Option<H>), NotAnswered> {
    if !connection.is_open() {
        return Err(NotAnswered { error: Error::Closed, unsent: Some(Box::new(request)), repeatable: None });
    }
    let (parts, mut body) = request.into_parts();
    if declared(&parts.headers) == Some(0) && !body.is_end_stream() {
        // For the far end the head alone is a complete request. So the head is not sent if the body is invalid.
        match tokio::time::timeout(defaults::EMPTY_BODY, expect_empty(&mut body)).await {
            Ok(Ok(())) => body = Body::empty(),
            Ok(Err(error)) => {
                home.put_back(connection);
                return Err(NotAnswered { error, unsent: None, repeatable: None });
            }
            Err(_) => {}
        }
    }
    let (announced, encoder) = announce(&parts, &body);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    connection.output.with(|out| {
        write::request(out, (&parts.method, target), &parts.headers, announced, Case::Lower);
    });
    let bodiless = encoder.is_none();
    let waits = !bodiless && expect::expects_continue(&parts.headers);
    let upload = encoder.map(|encoder| ClientUpload {
        body,
        encoder,
        gate: waits.then(|| Box::pin(tokio::time::sleep(defaults::ORIGIN_CONTINUE))),
    });
    let written_before = connection.output.written();
    let mut exchange = ClientExchange {
        connection,
        home: Some(home),
        method: parts.method.clone(),
        upload,
        taken: false,
        upload_failed: None,
        broken: None,
        decoder: Decoder::length(0),
        early: false,
        keep_alive: true,
    };
    let mut search = Search::default();
    let mut interims = 0;
    let answered = poll_fn(|cx| exchange.poll_answer(cx, &mut search, (&mut interims, interim))).await;
    match answered {
        Ok(head) => Ok(exchange.into_response(head)),
        Err(error) => {
            let untouched = exchange.connection.output.written() == written_before && !exchange.taken;
            let body = exchange.upload.map_or_else(Body::empty, |upload| upload.body);
            let request = Box::new(Request::from_parts(parts, body));
            Err(match untouched {
                true => NotAnswered { error, unsent: Some(request), repeatable: None },
                false => {
                    let repeatable = bodiless && repeat::is_harmless(&request);
                    NotAnswered { error, unsent: None, repeatable: repeatable.then_some(request) }
                }
            })
        }
    }
}

/// Reads a body that was announced as empty. Cancel safe.
async fn expect_empty(body: &mut Body) -> Result<(), Error> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Error::Request)?;
        if frame.data_ref().is_some_and(|data| !data.is_empty()) {
            return Err(Error::Request(BadBody::TooLong.into()));
        }
    }
    Ok(())
}

/// How the head of a request announces its body, and how the body is written, if there is one.
fn announce(parts: &request::Parts, body: &Body) -> (BodyFraming, Option<Encoder>) {
    let declared = declared(&parts.headers);
    if body.is_end_stream() {
        // RFC 9110 §8.6: a method that expects content has its length. Some servers answer 411 without.
        let expects_content = [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method);
        let announced = declared == Some(0) || expects_content;
        return (if announced { BodyFraming::Length(0) } else { BodyFraming::Nothing }, None);
    }
    match declared.or(body.size_hint().exact()) {
        Some(length) => (BodyFraming::Length(length), Some(Encoder::Length(length))),
        None => (BodyFraming::Chunks, Some(Encoder::Chunked)),
    }
}

/// The body of a request that is being sent.
struct ClientUpload {
    body: Body,
    encoder: Encoder,
    /// Holds the body back until a 100 arrives (RFC 9110 §10.1.1), until its sender sends it without a 100, or until
    /// the timer ends: many servers ignore `Expect`.
    gate: Option<Pin<Box<Sleep>>>,
}

impl ClientUpload {
    /// The next frame, once the body may be sent.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        if let Some(gate) = &mut self.gate {
            if self.body.poll_arrived(cx).is_pending() {
                ready!(gate.as_mut().poll(cx));
            }
            self.gate = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

/// The state of a request and of its answer.
struct ClientExchange<H> {
    connection: Box<Connection>,
    home: Option<H>,
    method: Method,
    upload: Option<ClientUpload>,
    /// The body of the request was read at least in part, so the request cannot be sent again.
    taken: bool,
    /// Why the upload failed. The answer may arrive nevertheless.
    upload_failed: Option<Error>,
    /// Why the body of the request broke off.
    broken: Option<BoxError>,
    decoder: Decoder,
    /// The answer began before the end of the upload.
    early: bool,
    keep_alive: bool,
}

impl<H: Home> ClientExchange<H> {
    /// Writes as much of the request as possible. Resolves when all of it is written or the upload has failed.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let mut waits = false;
            if self.connection.output.len() < Output::FULL
                && let Some(upload) = &mut self.upload
            {
                match upload.poll_frame(cx) {
                    Poll::Pending => waits = true,
                    Poll::Ready(frame) => {
                        self.taken = true;
                        let ends = upload.body.is_end_stream();
                        let output = &mut self.connection.output;
                        match write_frame(frame, ends, &mut upload.encoder, true, output) {
                            Ok(false) => {}
                            Ok(true) => self.upload = None,
                            Err(error) => (self.upload, self.broken) = (None, Some(error)),
                        }
                    }
                }
                if let Some(stall) = &self.connection.stall {
                    stall.uploads(waits && self.upload.as_ref().is_some_and(|upload| upload.gate.is_none()));
                }
            }
            if let Err(error) = ready!(self.connection.poll_flush(cx)) {
                self.keep_alive = false;
                return Poll::Ready(Err(Error::Io(error)));
            }
            // Reported after the flush: an agent that receives nothing before the close delays its next connection.
            if let Some(error) = self.broken.take() {
                return Poll::Ready(Err(Error::Request(error)));
            }
            match self.upload {
                None => return Poll::Ready(Ok(())),
                Some(_) if waits => return Poll::Pending,
                Some(_) => {}
            }
        }
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        search: &mut Search,
        (interims, interim): (&mut usize, &interim::Sender),
    ) -> Poll<Result<response::Parts, Error>> {
        loop {
            if self.upload_failed.is_none()
                && let Poll::Ready(Err(error)) = self.poll_upload(cx)
            {
                match error {
                    // The far end may have answered before it closed the connection.
                    Error::Io(_) => self.upload_failed = Some(error),
                    error => return Poll::Ready(Err(error)),
                }
            }
            let head = search.take(&mut self.connection.input.bytes, defaults::H1_ANSWER_HEAD)?;
            let Some(head) = head else {
                let error = match ready!(self.connection.poll_fill(cx)) {
                    Ok(1..) => continue,
                    Ok(0) => Error::Closed,
                    Err(error) => Error::Io(error),
                };
                return Poll::Ready(Err(self.upload_failed.take().unwrap_or(error)));
            };
            let length = head.len();
            let read = head::response(&head, &self.method, self.connection.strict)?;
            let status = read.parts.status;
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                self.decoder = read.decoder;
                self.decide_keep_alive(&read.parts, read.facts);
                return Poll::Ready(Ok(read.parts));
            }
            *interims += 1;
            if *interims > defaults::INTERIM || length > defaults::INTERIM_BYTES {
                return Poll::Ready(Err(Error::Interims));
            }
            match &mut self.upload {
                Some(upload) if status == StatusCode::CONTINUE => upload.gate = None,
                _ => interim.send(http::Response::from_parts(read.parts, ())),
            }
        }
    }

    /// Decides whether the connection can be reused after an answer with this head.
    fn decide_keep_alive(&mut self, head: &response::Parts, facts: MessageFacts) {
        self.keep_alive &= facts.keep_alive && self.decoder.is_delimited();
        if let Some(home) = &mut self.home {
            self.keep_alive &= home.answered(head);
        }
        self.early = self.upload.is_some() || self.upload_failed.is_some();
        // An answer without a 100 before it means that the body is not wanted, and so does an answer that is no success
        // and closes the connection (RFC 9112 §9.6). The rest of a failed upload is dropped as well.
        let gated = self.upload.as_ref().is_some_and(|upload| upload.gate.is_some());
        let refused = !facts.keep_alive && !head.status.is_success() && !head.status.is_informational();
        if self.upload_failed.is_some() || gated || refused && self.upload.is_some() {
            self.upload = None;
            self.keep_alive = false;
        }
    }

    fn into_response(self, head: response::Parts) -> (Response, Option<H>) {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let Connection { io, input, .. } = *self.connection;
            let mut response = Response::from_parts(head, Body::empty());
            if let Some(io) = io.lock().take() {
                response.extensions_mut().insert(Tunnel::ready(io.with_early(input.bytes.freeze())));
            }
            return (response, self.home);
        }
        let body = match (&self.upload, self.decoder.is_done()) {
            (None, true) => {
                self.finish();
                Body::empty()
            }
            (None, false) => Body::from_source(AnswerAfterUpload(Some(self))),
            (Some(_), _) => beside::body(self),
        };
        (Response::from_parts(head, body), None)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Error>> {
        loop {
            match self.decoder.next(&mut self.connection.input.bytes) {
                // The answer is complete without its trailers. The rest of them is not read.
                Err(BadBody::Trailers) => {
                    (self.keep_alive, self.decoder) = (false, Decoder::length(0));
                    return Poll::Ready(Ok(Piece::End(None)));
                }
                next => {
                    if let Some(piece) = next? {
                        return Poll::Ready(Ok(piece));
                    }
                }
            }
            match ready!(self.connection.poll_fill(cx)) {
                Ok(1..) => continue,
                Ok(0) => {}
                // A far end that closes without reading the upload sends a reset instead of the end of its stream.
                Err(error) if self.early && error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return Poll::Ready(Err(Error::Io(error))),
            }
            self.keep_alive = false;
            self.decoder.end_of_stream()?;
        }
    }

    /// Resolves when the far end has closed its sending direction after the answer: it discards the rest of the upload.
    fn poll_unwanted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.decoder.is_done() {
            true => self.connection.poll_closed(cx),
            false => Poll::Pending,
        }
    }

    /// Returns the connection to its home after the end of both messages.
    fn finish(self) {
        // Bytes that are in the buffer now are unsolicited.
        let reuse = self.keep_alive && self.upload_failed.is_none() && self.connection.input.bytes.is_empty();
        if let Some(home) = self.home.filter(|_| reuse) {
            home.put_back(self.connection);
        }
    }
}

fn frame_of(piece: Result<Piece, Error>) -> Option<Result<Frame<Bytes>, BoxError>> {
    match piece {
        Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
        Ok(Piece::End(trailers)) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
        Err(error) => Some(Err(error.into())),
    }
}

/// How many bytes of the answer are still to come, if that is known.
fn left_of<H>(exchange: Option<&ClientExchange<H>>) -> Option<u64> {
    exchange.map_or(Some(0), |exchange| exchange.decoder.left())
}

/// The body of an answer whose request is written completely. Polling it reads the connection.
struct AnswerAfterUpload<H: Home>(Option<ClientExchange<H>>);

impl<H: Home> FrameSource for AnswerAfterUpload<H> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let Some(exchange) = &mut self.0 else { return Poll::Ready(None) };
        let piece = ready!(exchange.poll_piece(cx));
        // The last piece ends the body: the connection is free before the consumer gets that piece.
        let over = piece.is_err() || exchange.decoder.is_done();
        if let Some(exchange) = self.0.take_if(|_| over)
            && piece.is_ok()
        {
            exchange.finish();
        }
        Poll::Ready(frame_of(piece))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn length(&self) -> Option<u64> {
        left_of(self.0.as_ref())
    }
}
