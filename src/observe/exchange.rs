//! One record for each request: it is filled on the way, and handed over once, at the end of the answer's body or when
//! the visitor has gone. The metrics are counted from it, and the access log is written from it.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tracing::Span;
use tracing::field::Empty;

use super::Metrics;
use crate::domain::{Route, SessionId};
use crate::message::body::Meter;
use crate::message::{Body, Response, fields};

/// An `X-Request-Id` of a trusted proxy may have so many bytes.
const GIVEN: usize = 128;

/// The longest word of `Proxy-Status` that is recorded.
const WORD: usize = 64;

/// Names one request in the log, on error pages and at the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestId {
    /// Random: 128 bits, so that the id of another request cannot be guessed.
    Drawn(u128),
    /// That of a proxy in front.
    Given(HeaderValue),
}

impl RequestId {
    /// A fresh one.
    pub fn draw() -> Self {
        Self::Drawn(rand::random())
    }

    /// That of a proxy in front, if it is one: printable, without spaces, and not long.
    pub fn given(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let fits = (1..=GIVEN).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        fits.then(|| Self::Given(value.clone()))
    }

    /// As the value of `X-Request-Id`.
    pub fn value(&self) -> HeaderValue {
        match self {
            Self::Drawn(id) => {
                let mut value = HeaderValue::from_bytes(&hex(*id)).unwrap_or(HeaderValue::from_static(""));
                // It never comes again, and would push the fields that do out of the table of HTTP/2 (RFC 7541 §7.1.3).
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

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Party {
    /// A visitor's, for an agent or for a page of the relay.
    #[default]
    Visitor,
    /// An agent's own: a registration, a poll, the POST of an answer.
    Agent,
}

/// Why a request did not end as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: `visitor`, `relay`, `agent` or `origin`.
    pub hop: &'static str,
    /// A stable word for machines.
    pub code: Cow<'static, str>,
}

/// The visitor went before the answer had ended.
const VISITOR_GONE: Fault = Fault { hop: "visitor", code: Cow::Borrowed("visitor-gone") };
/// The body of the answer broke off.
const ANSWER_BROKEN: Fault = Fault { hop: "agent", code: Cow::Borrowed("answer-broken") };

/// What is read from a request for the log.
#[derive(Debug, Clone, Default)]
pub struct RequestLine {
    /// When it began.
    pub at: Option<SystemTime>,
    /// Who sent it.
    pub visitor: Option<SocketAddr>,
    /// Its method; none where the head was refused unread.
    pub method: Option<Method>,
    /// The host that it is for, as it was sent.
    pub host: Box<str>,
    /// Path and query.
    pub target: Option<Box<str>>,
    /// The visitor's own `X-Request-Id`, which passes unchanged.
    pub own_id: Option<HeaderValue>,
}

/// One request and its answer. See the module.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Its name.
    pub id: RequestId,
    /// Whose it is.
    pub party: Party,
    /// What was asked; only where there is a sink.
    pub line: Option<Box<RequestLine>>,
    /// The status of the answer; none where there was no answer.
    pub status: Option<StatusCode>,
    /// Bytes of the request's body, or behind a 101 from the visitor.
    pub received: u64,
    /// Bytes of the answer's body, or behind a 101 to the visitor.
    pub sent: u64,
    /// From the request's head to the answer's.
    pub first_byte: Option<Duration>,
    /// From the request's head to the end.
    pub total: Option<Duration>,
    /// The route that it took.
    pub route: Option<Route>,
    /// The session that it went to last.
    pub session: Option<SessionId>,
    /// How that session's agent connected, and what runs on its connection.
    pub via: Option<Via>,
    /// How often it was sent again.
    pub retries: u32,
    /// Why it did not end as it should.
    pub fault: Option<Fault>,
}

/// By which connection of an agent a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// The transport.
    pub transport: &'static str,
    /// The carrier.
    pub carrier: &'static str,
}

/// Takes records.
pub trait Sink: Send + Sync {
    /// An exchange has ended. Must not block: this runs on a core of the data plane.
    fn ended(&self, exchange: &Exchange);

    /// Counts the records that it had no room for, if it has a bound.
    fn dropped(&self) -> Option<Counter> {
        None
    }
}

/// Who gets the records of one connection. Each connection has one of its own: a count that all cores share would
/// travel between them with each request.
#[derive(Clone, Default)]
pub struct Observers {
    /// Counts them.
    pub metrics: Option<Arc<Metrics>>,
    /// Writes them down.
    pub sink: Option<Arc<dyn Sink>>,
}

/// Bytes that pass elsewhere while a record is open.
#[derive(Debug, Default)]
pub struct Bytes {
    /// From the visitor.
    pub received: AtomicU64,
    /// To the visitor.
    pub sent: AtomicU64,
}

/// A record that is open. Dropping it hands it over.
pub struct Recording {
    exchange: Exchange,
    observers: Arc<Observers>,
    begun: Option<Instant>,
    elsewhere: Option<Arc<Bytes>>,
    /// How long the answer's body is, where that is known.
    length: Option<u64>,
    ended: bool,
    span: Span,
}

impl Recording {
    /// Opens a record. Its clock runs only where somebody reads it.
    pub fn open(observers: &Arc<Observers>, id: RequestId) -> Box<Self> {
        let seen = observers.sink.is_some();
        let line = seen.then(|| Box::new(RequestLine { at: Some(SystemTime::now()), ..Default::default() }));
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
        let begun = seen.then(Instant::now);
        let span = tracing::debug_span!("request", id = %exchange.id, route = Empty, session = Empty);
        Box::new(Self {
            exchange,
            observers: observers.clone(),
            begun,
            elsewhere: None,
            length: None,
            ended: false,
            span,
        })
    }

    /// What is recorded so far.
    pub fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    /// The name of the request.
    pub fn id(&self) -> &RequestId {
        &self.exchange.id
    }

    /// The span of what is done for it; none is created unless the log is at DEBUG.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// What was asked, where somebody reads it.
    pub fn line(&mut self) -> Option<&mut RequestLine> {
        self.exchange.line.as_deref_mut()
    }

    /// The request takes this route.
    pub fn takes(&mut self, route: &Route) {
        if self.begun.is_some() {
            self.exchange.route = Some(route.clone());
        }
        if !self.span.is_disabled() {
            self.span.record("route", tracing::field::display(route));
        }
    }

    /// It fails, at this hop and for this reason.
    pub fn fails(&mut self, hop: &'static str, code: impl Into<Cow<'static, str>>) {
        self.exchange.fault = Some(Fault { hop, code: code.into() });
    }

    /// Records a failure that the agent found at its origin, by its word in `Proxy-Status` (RFC 9209 §2.3).
    pub fn failed_behind(&mut self, response: &Response) {
        if !response.status().is_server_error() {
            return;
        }
        let status = response.headers().get(fields::PROXY_STATUS);
        let error = status.and_then(|status| status.to_str().ok()?.strip_prefix("ptth-agent; error="));
        let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
        if let Some(error) = error.filter(|error| error.len() <= WORD && error.chars().all(is_word)) {
            self.fails("origin", error.to_owned());
        }
    }

    /// It is sent to this session, for the first time or again. Returns where the session notes by which connection.
    pub fn sends(&mut self, session: SessionId) -> &mut Option<Via> {
        self.exchange.retries += u32::from(self.exchange.session.is_some());
        self.exchange.session = Some(session);
        if !self.span.is_disabled() {
            self.span.record("session", tracing::field::display(session));
        }
        &mut self.exchange.via
    }

    /// Takes the record, for a task that outlives the answer's head. Nobody reads what is recorded in its place.
    pub fn take(self: &mut Box<Self>) -> Box<Self> {
        let silent = Self::open(&Arc::default(), self.exchange.id.clone());
        std::mem::replace(self, silent)
    }

    /// Counts what passes elsewhere: an upload, or both ways behind a 101.
    pub fn elsewhere(&mut self) -> Arc<Bytes> {
        self.elsewhere.get_or_insert_default().clone()
    }

    /// Counts the body of a request.
    pub fn upload(&mut self, body: &mut Body) {
        if !body.is_end_stream() {
            body.measure(Box::new(UploadMeter(self.elsewhere())));
        }
    }

    /// The head of the answer is there.
    pub fn answered(&mut self, status: StatusCode) {
        self.exchange.status = Some(status);
        self.exchange.first_byte = self.begun.map(|begun| begun.elapsed());
    }

    /// What was recorded is all of it: nothing more follows.
    pub fn ends(&mut self) {
        self.ended = true;
    }

    /// Goes with the body of the answer, to its end. `head`: the request was a HEAD, whose answer has no body.
    pub fn follow(mut self: Box<Self>, head: bool, response: &mut Response) {
        let status = response.status();
        self.answered(status);
        let bodiless = head || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        if bodiless || response.body().is_end_stream() {
            self.ended = true;
            return;
        }
        self.length = response.body().size_hint().exact().or_else(|| {
            let value = response.headers().get(CONTENT_LENGTH)?;
            value.to_str().ok()?.parse().ok()
        });
        response.body_mut().measure(self);
    }

    fn hand_over(&mut self) {
        let exchange = &mut self.exchange;
        if let Some(bytes) = &self.elsewhere {
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

impl Meter for Recording {
    fn passed(&mut self, bytes: usize, last: bool) {
        self.exchange.sent += bytes as u64;
        self.ended |= last || self.length == Some(self.exchange.sent);
    }

    fn broke(&mut self) {
        self.exchange.fault.get_or_insert(ANSWER_BROKEN);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.hand_over();
    }
}

struct UploadMeter(Arc<Bytes>);

impl Meter for UploadMeter {
    fn passed(&mut self, bytes: usize, _: bool) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
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
    struct Kept(Mutex<Vec<Exchange>>);

    impl Sink for Kept {
        fn ended(&self, exchange: &Exchange) {
            self.0.lock().push(exchange.clone());
        }
    }

    fn recording() -> (Box<Recording>, Arc<Kept>) {
        let kept = Arc::<Kept>::default();
        let observers = Observers { metrics: None, sink: Some(kept.clone()) };
        (Recording::open(&Arc::new(observers), RequestId::Drawn(0xab)), kept)
    }

    #[test]
    fn an_id_has_32_digits_and_a_given_one_is_printable() {
        assert_eq!(RequestId::Drawn(0xab).to_string(), format!("{:032x}", 0xab));
        assert_eq!(RequestId::Drawn(u128::MAX).value(), "f".repeat(32));
        assert_ne!(RequestId::draw(), RequestId::draw());
        let given = |text: &str| RequestId::given(&HeaderValue::from_bytes(text.as_bytes()).unwrap());
        assert_eq!(given("a-1").unwrap().to_string(), "a-1");
        for bad in ["", "a b", "\t", "é", &"x".repeat(GIVEN + 1)] {
            assert_eq!(given(bad), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_record_is_handed_over_once_at_the_end_of_the_body() {
        let (recording, kept) = recording();
        let mut response = Response::new(Body::full("abc"));
        recording.follow(false, &mut response);
        assert!(kept.0.lock().is_empty(), "the body has not ended");
        response.into_body().collect().await.unwrap();
        let all = kept.0.lock();
        let [exchange] = &all[..] else { panic!("{all:?}") };
        assert_eq!((exchange.sent, &exchange.fault, exchange.status), (3, &None, Some(StatusCode::OK)));
        assert!(exchange.total >= exchange.first_byte && exchange.total.is_some());
    }

    #[tokio::test]
    async fn a_visitor_that_goes_is_recorded() {
        let (recording, kept) = recording();
        let mut response = Response::new(Body::full("abc"));
        recording.follow(false, &mut response);
        drop(response);
        assert_eq!(kept.0.lock()[0].fault, Some(VISITOR_GONE));
    }

    #[tokio::test]
    async fn an_upload_is_counted() {
        let (mut recording, kept) = recording();
        let mut body = Body::full("12345");
        recording.upload(&mut body);
        body.collect().await.unwrap();
        recording.follow(true, &mut Response::new(Body::full("not sent")));
        let all = kept.0.lock();
        assert_eq!((all[0].received, all[0].sent, &all[0].fault), (5, 0, &None));
    }
}
