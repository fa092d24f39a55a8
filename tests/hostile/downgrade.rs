//! HTTP/2 requests that would become something else as HTTP/1.1 (RFC 9113 §8.2, §8.3, §10.3).

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use crate::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, frame,
};
use crate::support::named;
use crate::world::{NAME, On, World, connect};

const PATIENCE: Duration = Duration::from_millis(500);
/// What is written where a line end would make a field or a request of it.
const CUT: &str = "x\r\nx-smuggled: yes\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop.ptth.localhost\r\n\r\n";

/// Fields that are changed or added, the rest stays; `{p}` is the row's own path.
struct Row {
    name: &'static str,
    set: Vec<(&'static str, String)>,
    add: Vec<(&'static str, String)>,
    body: Option<&'static str>,
    trailers: Option<(Vec<(&'static str, String)>, u8)>,
    /// What the origin must see of it, if anything: this body.
    fine: Option<&'static str>,
}

fn row(name: &'static str) -> Row {
    Row { name, set: vec![], add: vec![], body: None, trailers: None, fine: None }
}

impl Row {
    fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.set.push((name, value.into()));
        self
    }

    fn add(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.add.push((name, value.into()));
        self
    }

    fn post(self, body: &'static str) -> Self {
        Self { body: Some(body), ..self.set(":method", "POST") }
    }

    fn trailer(mut self, name: &'static str, value: impl Into<String>, flags: u8) -> Self {
        self.trailers = Some((vec![(name, value.into())], flags));
        self
    }

    fn fine(self, body: &'static str) -> Self {
        Self { fine: Some(body), ..self }
    }

    /// The whole conversation of this row.
    fn bytes(&self, number: usize) -> Vec<u8> {
        let path = format!("/h/{number}");
        let usual =
            [(":method", "GET"), (":scheme", "http"), (":authority", &*named(NAME)), (":path", &*path)]
                .map(|(name, value)| (name, value.to_owned()));
        let is_set = |name: &str| self.set.iter().any(|(set, _)| *set == name);
        let fill = |(name, value): &(&'static str, String)| (*name, value.replace("{p}", &path));
        let fields: Vec<_> = usual.into_iter().filter(|(name, _)| !is_set(name)).collect();
        // A pseudo-header that is set to nothing is left out.
        let set = self.set.iter().filter(|(_, value)| value != "-").map(fill);
        let fields: Vec<_> = set.chain(fields).chain(self.add.iter().map(fill)).collect();
        let ends = self.body.is_none() && self.trailers.is_none();
        let mut out = frame(HEADERS, END_HEADERS | u8::from(ends), 1, frames::block(&latin(&fields)));
        if let Some(body) = self.body {
            out.extend(frame(DATA, u8::from(self.trailers.is_none()), 1, body));
        }
        if let Some((trailers, flags)) = &self.trailers {
            out.extend(frame(HEADERS, END_HEADERS | flags, 1, frames::block(&latin(trailers))));
        }
        out
    }
}

/// Each character is the byte of its number.
fn latin(fields: &[(&'static str, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = |text: &str| text.chars().map(|c| u8::try_from(c).unwrap()).collect();
    fields.iter().map(|(name, value)| (bytes(name), bytes(value))).collect()
}

fn values() -> Vec<Row> {
    let mut rows = vec![
        row("CR LF in a value").add("x-a", CUT),
        row("LF in a value").add("x-a", CUT.replace('\r', "")),
        row("CR in a value").add("x-a", CUT.replace('\n', "")),
        row("NUL in a value").add("x-a", "a\0b"),
        row("DEL in a value").add("x-a", "a\x7fb"),
        row("CR LF at the end of a value").add("x-a", "a\r\n"),
        row("a blank before a value").add("x-a", " b"),
        row("a tab behind a value").add("x-a", "b\t"),
        row("CR LF in a cookie").add("cookie", CUT),
        row("CR LF in two crumbs").add("cookie", "a=b").add("cookie", CUT),
        row("CR LF in a user agent").add("user-agent", CUT),
        row("CR LF in a name").add("x-a\r\nx-smuggled", "yes"),
        row("LF in a name").add("x-a\nx-smuggled", "yes"),
        row("CR in a name").add("x-a\rx-smuggled", "yes"),
        row("NUL in a name").add("x-a\0", "yes"),
        row("a colon in a name").add("x-smuggled:x", "yes"),
        row("a colon and a blank in a name").add("x-smuggled: yes\r\nx", "yes"),
        row("a blank in a name").add("x smuggled", "yes"),
        row("a blank at the end of a name").add("transfer-encoding ", "chunked"),
        row("a tab in a name").add("x\tsmuggled", "yes"),
        row("upper case in a name").add("X-Upper", "yes"),
        row("upper case in a coding").add("Transfer-Encoding", "chunked"),
        row("an empty name").add("", "yes"),
        row("a high byte in a name").add("x-\u{fc}", "yes"),
        row("a slash in a name").add("x/a", "yes"),
        row("a request line for a name").add("GET /smuggled HTTP/1.1\r\nhost: x", "yes"),
    ];
    for name in ["connection", "keep-alive", "proxy-connection", "upgrade"] {
        rows.push(row(name).add(name, "close"));
    }
    for coding in ["chunked", "identity", "gzip, chunked", "xchunked", ""] {
        rows.push(
            row("transfer-encoding")
                .add("transfer-encoding", coding)
                .post("0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        );
    }
    rows.extend([
        row("te gzip").add("te", "gzip"),
        row("te trailers, gzip").add("te", "trailers, gzip"),
        row("te trailers").add("te", "trailers").fine(""),
        row("http2-settings").add("http2-settings", "AAMAAABk").fine(""),
        row("a value of obs-text").add("x-a", "\u{fc}").fine(""),
    ]);
    rows
}

fn pseudo() -> Vec<Row> {
    vec![
        row("CR LF in the path").set(":path", format!("{{p}} HTTP/1.1\r\n{CUT}")),
        row("LF in the path").set(":path", "{p}\nx-smuggled: yes"),
        row("a blank in the path").set(":path", "{p} HTTP/1.1"),
        row("a blank and a fragment of a line").set(":path", "/smuggled HTTP/1.1 {p}"),
        row("NUL in the path").set(":path", "{p}\0"),
        row("a tab in the path").set(":path", "{p}\t"),
        row("no slash").set(":path", "smuggled{p}"),
        row("an empty path").set(":path", ""),
        row("no path").set(":path", "-"),
        row("two paths").add(":path", "/smuggled"),
        row("two paths, the other first").set(":path", "/smuggled").add(":path", "{p}"),
        row("an absolute path").set(":path", "http://other.test/smuggled"),
        row("CR LF in the method").set(":method", "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\nGET"),
        row("a blank in the method").set(":method", "GET /smuggled HTTP/1.1"),
        row("an empty method").set(":method", ""),
        row("no method").set(":method", "-"),
        row("two methods").add(":method", "POST"),
        row("CR LF in the scheme").set(":scheme", "http\r\nx-smuggled: yes"),
        row("a request in the scheme").set(":scheme", "http://other.test/smuggled?"),
        row("no scheme").set(":scheme", "-"),
        row("two schemes").add(":scheme", "https"),
        row("CR LF in the authority").set(":authority", "shop.ptth.localhost\r\nx-smuggled: yes"),
        row("a blank in the authority").set(":authority", "shop.ptth.localhost x"),
        row("userinfo in the authority").set(":authority", "user@shop.ptth.localhost"),
        row("a path in the authority").set(":authority", "shop.ptth.localhost/smuggled"),
        row("an empty authority").set(":authority", ""),
        row("two authorities").add(":authority", "other.ptth.localhost"),
        row("a Host that differs").add("host", "other.ptth.localhost"),
        row("two Hosts").add("host", "shop.ptth.localhost").add("host", "other.ptth.localhost"),
        row("a Host with CR LF").set(":authority", "-").add("host", "shop.ptth.localhost\r\nx-smuggled: yes"),
        row("a Host and no authority").set(":authority", "-").add("host", "shop.ptth.localhost").fine(""),
        row("neither authority nor Host").set(":authority", "-"),
        row("an unknown pseudo-header").add(":smuggled", "yes"),
        row("a status in a request").add(":status", "200"),
        row("a pseudo-header behind a field").set(":path", "-").add("x-a", "b").add(":path", "{p}"),
        row("a protocol without CONNECT").add(":protocol", "websocket"),
        row("CONNECT").set(":method", "CONNECT").set(":path", "-").set(":scheme", "-"),
        row("CONNECT elsewhere")
            .set(":method", "CONNECT")
            .set(":path", "-")
            .set(":scheme", "-")
            .set(":authority", "other.test:22"),
        row("CONNECT with a path").set(":method", "CONNECT"),
        row("CONNECT with nothing")
            .set(":method", "CONNECT")
            .set(":path", "-")
            .set(":scheme", "-")
            .set(":authority", "-"),
        row("extended CONNECT without a path")
            .set(":method", "CONNECT")
            .set(":path", "-")
            .add(":protocol", "websocket"),
        row("extended CONNECT without a scheme")
            .set(":method", "CONNECT")
            .set(":scheme", "-")
            .add(":protocol", "websocket"),
        row("a protocol with CR LF").set(":method", "CONNECT").add(":protocol", "x\r\nx-smuggled: yes"),
    ]
}

fn bodies() -> Vec<Row> {
    let mut rows = vec![
        row("a length").add("content-length", "5").post("hello").fine("hello"),
        row("a length that is too short").add("content-length", "3").post("hello"),
        row("a length of 0 and a body")
            .add("content-length", "0")
            .post("GET /smuggled HTTP/1.1\r\nHost: shop.ptth.localhost\r\n\r\n"),
        row("a length that is too long").add("content-length", "9").post("hello"),
        row("a length and no body").add("content-length", "9"),
        row("two lengths").add("content-length", "5").add("content-length", "9").post("hello"),
        row("a trailer").post("hello").trailer("x-sum", "1", END_STREAM).fine("hello"),
        row("a trailer that is a length")
            .post("hello")
            .trailer("content-length", "9", END_STREAM)
            .fine("hello"),
        row("a trailer with CR LF").post("hello").trailer("x-sum", CUT, END_STREAM),
        // The library leaves it out.
        row("a trailer that is a pseudo-header")
            .post("hello")
            .trailer(":path", "/smuggled", END_STREAM)
            .fine("hello"),
        row("a trailer with a blank before its value").post("hello").trailer("x-sum", " 1", END_STREAM),
        row("a trailer with upper case").post("hello").trailer("X-Sum", "1", END_STREAM),
        row("a trailer that is a coding").post("hello").trailer("transfer-encoding", "chunked", END_STREAM),
        row("trailers that do not end the stream").post("hello").trailer("x-sum", "1", 0),
        row("a second head").post("hello").trailer(":method", "GET", 0),
    ];
    for length in ["+5", "-5", "5, 5", "5,9", "0x5", "5 ", "", "5a", "18446744073709551621", "\u{b2}"] {
        rows.push(row("a malformed length").add("content-length", length).post("hello"));
    }
    rows
}

/// A8; HAProxy CVE-2021-40346's kin, nginx CVE-2026-42926, Envoy CVE-2026-73513 and -73547.
pub(crate) async fn an_http2_field_cannot_inject_an_http1_line(on: On) {
    let world: World = on.world().await;
    let rows: Vec<Row> = [values(), pseudo(), bodies()].into_iter().flatten().collect();
    let send = |(number, row): (usize, &Row)| {
        let (bytes, relay) = (row.bytes(number), world.relay.plain);
        async move {
            let mut visitor = Frames::client(connect(relay).await).await;
            visitor.send(bytes).await;
            let end = |f: &frames::Frame| [HEADERS, RST_STREAM, GOAWAY, CONTINUATION].contains(&f.kind);
            visitor.until(PATIENCE, end).await
        }
    };
    let answers: Vec<_> = stream::iter(rows.iter().enumerate().map(send)).buffered(16).collect().await;
    world.is_healthy().await;
    let seen = world.origin.whole();
    let mut faults = Vec::new();
    for (number, (row, answer)) in rows.iter().zip(&answers).enumerate() {
        let own: Vec<_> = seen.iter().filter(|r| r.target() == format!("/h/{number}")).collect();
        let accepted = answer.as_ref().is_some_and(|frame| frame.has_status(200));
        match (&own[..], row.fine) {
            ([], None) if !accepted => {}
            ([one], Some(body)) if accepted && one.body == body.as_bytes() => {}
            _ => faults.push(format!("{} {:?}: {answer:?} {own:?}", row.name, row.add)),
        }
    }
    let allowed = |target: &str| target.starts_with("/h/") || target == "/honest";
    let others: Vec<_> =
        seen.iter().filter(|r| !allowed(r.target()) || !r.all("x-smuggled").is_empty()).collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(faults.is_empty(), "{} of {}: {faults:#?}", faults.len(), rows.len());
}
