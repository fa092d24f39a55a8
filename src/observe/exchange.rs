//! One record for each request. The record is filled while the request is handled, and handed over once: at the end of
//! the answer's body, or when the visitor has disconnected. Metrics and access log are derived from the record.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;
use tracing::Span;
use tracing::field::Empty;

use crate::domain::{ErrorCode, Route, SessionId};
use crate::message::body::{BodyEvent, Observer};
use crate::message::{Body, Response, fields};

/// The most bytes in an `X-Request-Id` of a trusted proxy.
const GIVEN_ID_BYTES: usize = 128;

/// The longest `error` of `Proxy-Status` that is recorded, in bytes.
const ERROR_BYTES: usize = 64;

/// Identifies one request in the log, on error pages and at the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestId {
    /// Random: 128 bits, so that the id of another request cannot be guessed.
    Drawn(u128),
    /// The id from a proxy in front.
    Given(HeaderValue),
}

impl RequestId {
    /// A fresh id.
    pub fn draw() -> Self {
        Self::Drawn(rand::random())
    }

    /// The id from a proxy in front, if it is valid: printable, without spaces, and not too long.
    pub fn given(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let fits = (1..=GIVEN_ID_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        fits.then(|| Self::Given(value.clone()))
    }

    /// As the value of `X-Request-Id`.
    pub fn value(&self) -> HeaderValue {
        match self {
            Self::Drawn(id) => {
                let mut value = HeaderValue::from_bytes(&hex(*id)).unwrap_or(HeaderValue::from_static(""));
                // The id never recurs. It would evict recurring fields from HPACK's dynamic table (RFC 7541 §7.1.3).
                value.set_sensitive(true);
                value
            }
            Self::Given(value) => value.clone(),
        }
    }
}

fn hex(id: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(id.to_be_bytes()) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drawn;
        let bytes = match self {
            Self::Drawn(id) => {
                drawn = hex(*id);
                &drawn[..]
            }
            Self::Given(value) => value.as_bytes(),
        };
        f.write_str(std::str::from_utf8(bytes).unwrap_or_default())
    }
}

/// The sender of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Party {
    /// A visitor. The request is for an agent or for a page of the relay.
    #[default]
    Visitor,
    /// An agent. The request is a registration, a poll, or the POST of an answer.
    Agent,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The hop that failed: `visitor`, `relay`, `agent` or `origin`.
    pub hop: &'static str,
    /// A stable identifier of the reason, for machines.
    pub code: Cow<'static, str>,
}

/// The visitor left before the answer had ended.
const VISITOR_GONE: Fault = Fault { hop: "visitor", code: Cow::Borrowed(ErrorCode::VisitorGone.as_str()) };
/// The body of the answer broke off.
const ANSWER_BROKEN: Fault = Fault { hop: "agent", code: Cow::Borrowed(ErrorCode::AnswerBroken.as_str()) };

/// The facts about a request that only the log needs.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RequestLine {
    /// When the request began.
    pub at: Option<SystemTime>,
    /// The address of the sender.
    pub visitor: Option<SocketAddr>,
    /// The method. `None` if the head was refused unread.
    pub method: Option<Method>,
    /// The requested host, as it was sent.
    pub host: Box<str>,
    /// Path and query.
    pub target: Option<Box<str>>,
    /// The visitor's own `X-Request-Id`, which passes unchanged.
    pub own_id: Option<HeaderValue>,
}

/// One request and its answer. See the module.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exchange {
    /// The id of the request.
    pub id: RequestId,
    /// The sender of the request.
    pub party: Party,
    /// The facts for the log. `None` without a sink.
    pub line: Option<Box<RequestLine>>,
    /// The status of the answer. `None` if there was no answer.
    pub status: Option<StatusCode>,
    /// Bytes of the request's body, or bytes from the visitor after a 101.
    pub received: u64,
    /// Bytes of the answer's body, or bytes to the visitor after a 101.
    pub sent: u64,
    /// The time from the request's head to the answer's head.
    pub first_byte: Option<Duration>,
    /// The time from the request's head to the end of the exchange.
    pub total: Option<Duration>,
    /// The route of the request.
    pub route: Option<Route>,
    /// The session that the request was sent to last.
    pub session: Option<SessionId>,
    /// The transport and the carrier of that session's connection.
    pub via: Option<Via>,
    /// How often the request was sent again.
    pub retries: u32,
    /// Why the request failed.
    pub fault: Option<Fault>,
}

/// The kind of connection to an agent that carried a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Via {
    /// The transport.
    pub transport: &'static str,
    /// The carrier.
    pub carrier: &'static str,
}

/// Receives records.
pub trait Sink: Send + Sync {
    /// An exchange has ended. Must not block: this runs on a core of the data plane.
    fn ended(&self, exchange: &Exchange);

    /// The number of records that the sink had no room for, if its room is bounded.
    fn dropped(&self) -> Option<Arc<AtomicU64>> {
        None
    }
}

/// The receivers of the records of one connection. Each connection has its own value: a reference count that all cores
/// share would move between their caches with each request.
#[derive(Clone, Default)]
pub struct Observers {
    /// Counts the records.
    pub metrics: Option<Arc<dyn Sink>>,
    /// Receives the records.
    pub sink: Option<Arc<dyn Sink>>,
    /// The URL below which the relay has a page for each error code.
    pub error_pages: Option<Arc<str>>,
}

/// Byte counts that are updated outside of the record while the record is open.
#[derive(Debug, Default)]
pub struct Bytes {
    /// From the visitor.
    pub received: AtomicU64,
    /// To the visitor.
    pub sent: AtomicU64,
}

/// A record that is open. Dropping the recording hands the record over.
pub struct Recording {
    exchange: Exchange,
    observers: Arc<Observers>,
    begun: Option<Instant>,
    shared_bytes: Option<Arc<Bytes>>,
    /// The length of the answer's body, if known.
    length: Option<u64>,
    ended: bool,
    span: Span,
}

impl Recording {
    /// Opens a record. Times are measured only if there is a sink.
    pub fn open(observers: &Arc<Observers>, id: RequestId) -> Box<Self> {
        let has_sink = observers.sink.is_some();
        let line =
            has_sink.then(|| Box::new(RequestLine { at: Some(SystemTime::now()), ..Default::default() }));
        let exchange = Exchange {
            id,
            party: Party::Visitor,
            line,
            status: None,
            received: 0,
            sent: 0,
            first_byte: None,
            total: None,
            route: None,
            session: None,
            via: None,
            retries: 0,
            fault: None,
        };
        let begun = has_sink.then(Instant::now);
        let span = tracing::debug_span!("request", id = %exchange.id, route = Empty, session = Empty);
        Box::new(Self {
            exchange,
            observers: observers.clone(),
            begun,
            shared_bytes: None,
            length: None,
            ended: false,
            span,
        })
    }

    /// The record so far.
    pub fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    /// The id of the request.
    pub fn id(&self) -> &RequestId {
        &self.exchange.id
    }

    /// The tracing span of the request. It is disabled unless the log is at DEBUG.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// The URL below which the relay has a page for each error code, if known.
    pub fn error_pages(&self) -> Option<&str> {
        self.observers.error_pages.as_deref()
    }

    /// The facts for the log. `None` without a sink.
    pub fn line(&mut self) -> Option<&mut RequestLine> {
        self.exchange.line.as_deref_mut()
    }

    /// Records the route of the request.
    pub fn record_route(&mut self, route: &Route) {
        if self.begun.is_some() {
            self.exchange.route = Some(route.clone());
        }
        if !self.span.is_disabled() {
            self.span.record("route", tracing::field::display(route));
        }
    }

    /// Records a failure, with its hop and its reason.
    pub fn record_failure(&mut self, hop: &'static str, code: impl Into<Cow<'static, str>>) {
        self.exchange.fault = Some(Fault { hop, code: code.into() });
    }

    /// Records a failure that the agent found at its origin, by the `error` in `Proxy-Status` (RFC 9209 §2.3).
    pub fn record_origin_failure(&mut self, response: &Response) {
        if !response.status().is_server_error() {
            return;
        }
        let status = response.headers().get(fields::PROXY_STATUS);
        let error = status.and_then(|status| status.to_str().ok()?.strip_prefix("ptth-agent; error="));
        let is_valid = |c: char| c.is_ascii_lowercase() || c == '_';
        if let Some(error) = error.filter(|error| error.len() <= ERROR_BYTES && error.chars().all(is_valid)) {
            self.record_failure("origin", error.to_owned());
        }
    }

    /// Records that the request is sent to this session, for the first time or again. Returns the place where the
    /// session records the connection.
    pub fn record_attempt(&mut self, session: SessionId) -> &mut Option<Via> {
        self.exchange.retries += u32::from(self.exchange.session.is_some());
        self.exchange.session = Some(session);
        if !self.span.is_disabled() {
            self.span.record("session", tracing::field::display(session));
        }
        &mut self.exchange.via
    }

    /// Takes the record, for a task that outlives the answer's head. A record without observers replaces it.
    pub fn take(self: &mut Box<Self>) -> Box<Self> {
        let silent = Self::open(&Arc::default(), self.exchange.id.clone());
        std::mem::replace(self, silent)
    }

    /// The counts for an upload, or for both directions after a 101. Another task may update them.
    pub fn shared_bytes(&mut self) -> Arc<Bytes> {
        self.shared_bytes.get_or_insert_default().clone()
    }

    /// Counts the bytes of a request's body.
    pub fn upload(&mut self, body: &mut Body) {
        if !body.is_end_stream() {
            let bytes = self.shared_bytes();
            body.observe(Box::new(move |event| {
                if let BodyEvent::Frame { bytes: more, .. } = event {
                    bytes.received.fetch_add(more as u64, Ordering::Relaxed);
                }
            }));
        }
    }

    /// Records the status of the answer and the time of its head.
    pub fn record_status(&mut self, status: StatusCode) {
        self.exchange.status = Some(status);
        self.exchange.first_byte = self.begun.map(|begun| begun.elapsed());
    }

    /// Marks the record as complete: nothing more follows.
    pub fn mark_complete(&mut self) {
        self.ended = true;
    }

    /// Measures the body of the answer, to its end. `is_head`: the request was a HEAD, whose answer has no body.
    pub fn follow(mut self: Box<Self>, is_head: bool, response: &mut Response) {
        let status = response.status();
        self.record_status(status);
        let bodiless = is_head || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        if bodiless || response.body().is_end_stream() {
            self.ended = true;
            return;
        }
        self.length = response.body().size_hint().exact().or_else(|| {
            let value = response.headers().get(CONTENT_LENGTH)?;
            value.to_str().ok()?.parse().ok()
        });
        response.body_mut().observe(self);
    }

    fn hand_over(&mut self) {
        let exchange = &mut self.exchange;
        if let Some(bytes) = &self.shared_bytes {
            exchange.received += bytes.received.load(Ordering::Relaxed);
            exchange.sent += bytes.sent.load(Ordering::Relaxed);
        }
        if !self.ended && exchange.fault.is_none() {
            exchange.fault = Some(VISITOR_GONE);
        }
        exchange.total = self.begun.map(|begun| begun.elapsed());
        if let Some(metrics) = &self.observers.metrics {
            metrics.ended(exchange);
        }
        if let Some(sink) = &self.observers.sink {
            sink.ended(exchange);
        }
    }
}

impl Observer for Recording {
    fn event(&mut self, event: BodyEvent) {
        match event {
            BodyEvent::Pending => {}
            BodyEvent::Frame { bytes, last } => {
                self.exchange.sent += bytes as u64;
                self.ended |= last || self.length == Some(self.exchange.sent);
            }
            BodyEvent::End => self.ended = true,
            BodyEvent::Broken => {
                self.exchange.fault.get_or_insert(ANSWER_BROKEN);
            }
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// The id that a trusted proxy gave to a request, or a fresh one.
pub fn id_of(headers: &http::HeaderMap, trusted: bool) -> RequestId {
    let given = || RequestId::given(headers.get(fields::X_REQUEST_ID)?);
    trusted.then(given).flatten().unwrap_or_else(RequestId::draw)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Records(Mutex<Vec<Exchange>>);

    impl Sink for Records {
        fn ended(&self, exchange: &Exchange) {
            self.0.lock().push(exchange.clone());
        }
    }

    fn recording() -> (Box<Recording>, Arc<Records>) {
        let records = Arc::<Records>::default();
        let observers = Observers { sink: Some(records.clone()), ..Observers::default() };
        (Recording::open(&Arc::new(observers), RequestId::Drawn(0xab)), records)
    }

    #[test]
    fn a_drawn_id_has_32_digits_and_a_given_id_is_printable() {
        assert_eq!(RequestId::Drawn(0xab).to_string(), format!("{:032x}", 0xab));
        assert_eq!(RequestId::Drawn(u128::MAX).value(), "f".repeat(32));
        assert_ne!(RequestId::draw(), RequestId::draw());
        let given = |text: &str| RequestId::given(&HeaderValue::from_bytes(text.as_bytes()).unwrap());
        assert_eq!(given("a-1").unwrap().to_string(), "a-1");
        for bad in ["", "a b", "\t", "é", &"x".repeat(GIVEN_ID_BYTES + 1)] {
            assert_eq!(given(bad), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_record_is_handed_over_once_at_the_end_of_the_body() {
        let (recording, records) = recording();
        let mut response = Response::new(Body::full("abc"));
        recording.follow(false, &mut response);
        assert!(records.0.lock().is_empty(), "the body has not ended");
        response.into_body().collect().await.unwrap();
        let all = records.0.lock();
        let [exchange] = &all[..] else { panic!("{all:?}") };
        assert_eq!((exchange.sent, &exchange.fault, exchange.status), (3, &None, Some(StatusCode::OK)));
        assert!(exchange.total >= exchange.first_byte && exchange.total.is_some());
    }

    #[tokio::test]
    async fn a_visitor_that_disconnects_is_recorded() {
        let (recording, records) = recording();
        let mut response = Response::new(Body::full("abc"));
        recording.follow(false, &mut response);
        drop(response);
        assert_eq!(records.0.lock()[0].fault, Some(VISITOR_GONE));
    }

    #[tokio::test]
    async fn an_upload_is_counted() {
        let (mut recording, records) = recording();
        let mut body = Body::full("12345");
        recording.upload(&mut body);
        body.collect().await.unwrap();
        recording.follow(true, &mut Response::new(Body::full("not sent")));
        let all = records.0.lock();
        assert_eq!((all[0].received, all[0].sent, &all[0].fault), (5, 0, &None));
    }
}
