//! The access log: one line for each request of a visitor. Cores of the data plane put lines into a queue in memory and
//! never wait; one thread takes the lines and writes them. When the queue is full, lines are dropped and counted.
//!
//! From a request, a line takes only the method, the host, the target and the ids: no `Authorization`, no `Cookie`, no
//! body. The query is left out unless an option includes it, because queries carry secrets.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use parking_lot::{Condvar, Mutex};
use time::OffsetDateTime;

use super::exchange::{Exchange, Party, RequestLine, Sink};
use super::json;
use crate::defaults;

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: the fields that each request has, then `name=value`.
    Text,
    /// For programs: one JSON object.
    Json,
}

/// See the module.
pub struct AccessLog {
    format: Format,
    /// Whether the query is shown.
    query: bool,
    dropped: Arc<AtomicU64>,
    queue: Mutex<LineQueue>,
    filled: Condvar,
    closing: Condvar,
}

#[derive(Default)]
struct LineQueue {
    lines: Vec<u8>,
    /// Lines that were dropped since the last batch was taken.
    dropped: u64,
    closed: bool,
}

/// Lines that are to be written.
pub struct Batch {
    /// Whole lines.
    pub lines: Vec<u8>,
    /// The number of lines that were dropped since the last batch.
    pub dropped: u64,
}

impl AccessLog {
    /// A log without a writer. `query`: lines contain the query of the request.
    pub fn new(format: Format, query: bool) -> Arc<Self> {
        let queue = Mutex::new(LineQueue {
            lines: Vec::with_capacity(defaults::ACCESS_BATCH),
            ..LineQueue::default()
        });
        let (filled, closing) = (Condvar::new(), Condvar::new());
        Arc::new(Self { format, query, dropped: Arc::default(), queue, filled, closing })
    }

    /// Waits for lines and takes them; `spare` becomes the queue's buffer. `None` when the log is closed and empty.
    pub fn take(&self, mut spare: Vec<u8>) -> Option<Batch> {
        spare.clear();
        let mut queue = self.queue.lock();
        while queue.lines.is_empty() && queue.dropped == 0 {
            if queue.closed {
                return None;
            }
            self.filled.wait(&mut queue);
        }
        let lines = std::mem::replace(&mut queue.lines, spare);
        Some(Batch { lines, dropped: std::mem::take(&mut queue.dropped) })
    }

    /// Lets lines gather for `time`, or until the log is closed.
    pub fn gather(&self, time: Duration) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            self.closing.wait_for(&mut queue, time);
        }
    }

    /// Closes the log: no line follows, but the lines in the queue can still be taken.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_all();
        self.closing.notify_all();
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.queue.lock();
        if queue.closed || queue.lines.len() + line.len() > defaults::ACCESS_QUEUE {
            queue.dropped += 1;
            drop(queue);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = queue.lines.is_empty();
        queue.lines.extend_from_slice(line);
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
    }
}

impl Sink for AccessLog {
    fn ended(&self, exchange: &Exchange) {
        let Some(line) = exchange.line.as_deref().filter(|_| exchange.party == Party::Visitor) else {
            return;
        };
        let mut text = String::with_capacity(defaults::ACCESS_LINE);
        match self.format {
            Format::Text => {
                // Writing to a string cannot fail.
                let _ = self.text(&mut text, exchange, line);
                text.push('\n');
                self.push(text.as_bytes());
            }
            Format::Json => {
                time(&mut text, line);
                let mut out = Vec::with_capacity(defaults::ACCESS_LINE);
                json::write(&mut out, &text, (exchange, line), self.split(line));
                out.push(b'\n');
                self.push(&out);
            }
        }
    }

    fn dropped(&self) -> Option<Arc<AtomicU64>> {
        Some(self.dropped.clone())
    }
}

impl AccessLog {
    /// The path, and the query if it is shown. Both are `None` if the head was refused unread.
    fn split<'a>(&self, line: &'a RequestLine) -> (Option<&'a str>, Option<&'a str>) {
        let Some(target) = line.target.as_deref() else { return (None, None) };
        match target.split_once('?') {
            Some((path, query)) => (Some(path), self.query.then_some(query)),
            None => (Some(target), None),
        }
    }

    /// Writes a line of text. Fields that every line has are written without `format!`, because lines are written on a
    /// core of the data plane.
    fn text(&self, out: &mut String, exchange: &Exchange, line: &RequestLine) -> fmt::Result {
        let (path, query) = self.split(line);
        time(out, line);
        out.push(' ');
        match line.visitor {
            Some(visitor) => address(out, visitor)?,
            None => out.push('-'),
        }
        out.push(' ');
        out.push_str(line.method.as_ref().map_or("-", |method| method.as_str()));
        out.push(' ');
        escaped(out, &line.host);
        out.push(' ');
        escaped(out, path.unwrap_or_default());
        if let Some(query) = query {
            out.push('?');
            escaped(out, query);
        }
        out.push(' ');
        out.push_str(exchange.status.as_ref().map_or("-", StatusCode::as_str));
        for (name, bytes) in [(" in=", exchange.received), (" out=", exchange.sent)] {
            out.push_str(name);
            number(out, bytes);
        }
        for (name, duration) in [(" first=", exchange.first_byte), (" total=", exchange.total)] {
            if let Some(duration) = duration {
                out.push_str(name);
                millis(out, duration);
                out.push_str("ms");
            }
        }
        if let Some(route) = &exchange.route {
            write!(out, " route={route}")?;
        }
        if let Some(session) = exchange.session {
            out.push_str(" session=s");
            number(out, session.0);
        }
        if let Some(via) = exchange.via {
            for part in [" transport=", via.transport, " carrier=", via.carrier] {
                out.push_str(part);
            }
        }
        if exchange.retries > 0 {
            write!(out, " retries={}", exchange.retries)?;
        }
        if let Some(fault) = &exchange.fault {
            write!(out, " failed={}/{}", fault.hop, fault.code)?;
        }
        out.push_str(" id=");
        write!(out, "{}", exchange.id)?;
        if let Some(own) = &line.own_id {
            out.push_str(" visitor-id=");
            escaped(out, &String::from_utf8_lossy(own.as_bytes()));
        }
        Ok(())
    }
}

/// RFC 3339, in UTC, with milliseconds.
fn time(out: &mut String, line: &RequestLine) {
    let Some(at) = line.at else { return out.push('-') };
    let at = OffsetDateTime::from(at);
    number(out, at.year().unsigned_abs());
    let (month, day) = (u8::from(at.month()), at.day());
    for (mark, part) in [('-', month), ('-', day), ('T', at.hour()), (':', at.minute()), (':', at.second())] {
        out.push(mark);
        padded(out, part, 2);
    }
    out.push('.');
    padded(out, at.millisecond(), 3);
    out.push('Z');
}

/// Milliseconds, with microseconds after the point.
fn millis(out: &mut String, duration: Duration) {
    // 64 bits of microseconds last for half a million years.
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1000);
    out.push('.');
    padded(out, micros % 1000, 3);
}

fn number(out: &mut String, number: impl itoa::Integer) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// A number with zeros in front.
fn padded(out: &mut String, number: impl itoa::Integer, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number);
    out.extend(std::iter::repeat_n('0', width.saturating_sub(digits.len())));
    out.push_str(digits);
}

/// As `SocketAddr` displays itself.
fn address(out: &mut String, address: SocketAddr) -> fmt::Result {
    let SocketAddr::V4(v4) = address else { return write!(out, "{address}") };
    for (mark, part) in ["", ".", ".", "."].into_iter().zip(v4.ip().octets()) {
        out.push_str(mark);
        number(out, part);
    }
    out.push(':');
    number(out, v4.port());
    Ok(())
}

/// Writes a text from the visitor: control characters and spaces are escaped, an empty text is `-`.
fn escaped(out: &mut String, text: &str) {
    if text.is_empty() {
        out.push('-');
    } else if text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        out.push_str(text);
    } else {
        text.chars().for_each(|c| match c {
            ' ' => out.push_str("\\x20"),
            c => out.extend(c.escape_default()),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::{HeaderValue, Method};

    use super::*;
    use crate::domain::{HostName, Route, SessionId};
    use crate::observe::exchange::{Fault, RequestId, Via};

    fn exchange() -> Exchange {
        let line = RequestLine {
            at: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_796_047_628_123)),
            visitor: Some("192.0.2.7:5000".parse().unwrap()),
            method: Some(Method::GET),
            host: "shop.test".into(),
            target: Some("/a?secret=1".into()),
            own_id: Some(HeaderValue::from_bytes(b"a \"\xff").unwrap()),
        };
        Exchange {
            id: RequestId::Drawn(7),
            party: Party::Visitor,
            line: Some(Box::new(line)),
            status: Some(StatusCode::OK),
            received: 1,
            sent: 2,
            first_byte: Some(Duration::from_micros(1_234)),
            total: Some(Duration::from_micros(20_000)),
            route: Some(Route::Host(HostName::parse("shop.test").unwrap())),
            session: Some(SessionId(3)),
            via: Some(Via { transport: "ptth10", carrier: "h2" }),
            retries: 1,
            fault: Some(Fault { hop: "visitor", code: "visitor-gone".into() }),
        }
    }

    fn line(format: Format, query: bool, exchange: &Exchange) -> String {
        let log = AccessLog::new(format, query);
        log.ended(exchange);
        String::from_utf8(log.take(Vec::new()).unwrap().lines).unwrap()
    }

    #[test]
    fn a_line_contains_every_field_of_a_request_except_its_query() {
        let text = line(Format::Text, false, &exchange());
        assert_eq!(
            text,
            "2026-11-30T14:07:08.123Z 192.0.2.7:5000 GET shop.test /a 200 in=1 out=2 first=1.234ms total=20.000ms \
             route=shop.test session=s3 transport=ptth10 carrier=h2 retries=1 failed=visitor/visitor-gone \
             id=00000000000000000000000000000007 visitor-id=a\\x20\\\"\\u{fffd}\n"
        );
        assert!(line(Format::Text, true, &exchange()).contains(" /a?secret=1 "));
        let json: serde_json::Value = serde_json::from_str(&line(Format::Json, true, &exchange())).unwrap();
        assert_eq!((&json["path"], &json["query"]), (&"/a".into(), &"secret=1".into()));
        assert_eq!((&json["status"], &json["total_ms"]), (&200.into(), &20.0.into()));
        assert_eq!((&json["failed_hop"], &json["visitor_id"]), (&"visitor".into(), &"a \"\u{fffd}".into()));
        assert!(!line(Format::Json, false, &exchange()).contains("secret"));
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut exchange = exchange();
        exchange.line.as_mut().unwrap().host = "a\u{1b}[2J\r\nb\u{9b}".into();
        for format in [Format::Text, Format::Json] {
            let line = line(format, false, &exchange);
            assert!(line.trim_end_matches('\n').chars().all(|c| !c.is_control()), "{line:?}");
        }
    }

    #[test]
    fn requests_of_agents_have_no_line() {
        let log = AccessLog::new(Format::Text, false);
        log.ended(&Exchange { party: Party::Agent, ..exchange() });
        log.close();
        assert!(log.take(Vec::new()).is_none());
    }

    #[test]
    fn a_full_queue_drops_lines_and_counts_them() {
        let log = AccessLog::new(Format::Text, false);
        for _ in 0..=defaults::ACCESS_QUEUE / 200 {
            log.ended(&exchange());
        }
        let batch = log.take(Vec::new()).unwrap();
        let lines = batch.lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert!(batch.dropped > 0 && batch.lines.len() <= defaults::ACCESS_QUEUE);
        assert_eq!(lines + batch.dropped, defaults::ACCESS_QUEUE as u64 / 200 + 1);
        assert_eq!(log.dropped.load(Ordering::Relaxed), batch.dropped);
        log.ended(&exchange());
        assert_eq!(log.take(batch.lines).unwrap().dropped, 0, "there is room again");
    }
}
