//! A line of the access log as a JSON object.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use super::exchange::{Exchange, RequestLine};

/// The members of a line. A member without a value is left out.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    visitor_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    visitor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_hop: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    bytes_in: u64,
    bytes_out: u64,
    retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_ms: Option<f64>,
}

/// Writes a line without its end.
pub(super) fn write(
    out: &mut Vec<u8>,
    time: &str,
    (exchange, line): (&Exchange, &RequestLine),
    (path, query): (Option<&str>, Option<&str>),
) {
    let fault = exchange.fault.as_ref();
    let line = Line {
        time,
        id: exchange.id.to_string(),
        visitor_id: line.own_id.as_ref().map(|own| String::from_utf8_lossy(own.as_bytes()).into_owned()),
        visitor: line.visitor.map(|visitor| visitor.to_string()),
        method: line.method.as_ref().map(|method| method.as_str()),
        host: &line.host,
        path,
        query,
        route: exchange.route.as_ref().map(ToString::to_string),
        session: exchange.session.map(|session| session.to_string()),
        transport: exchange.via.map(|via| via.transport),
        carrier: exchange.via.map(|via| via.carrier),
        failed_hop: fault.map(|fault| fault.hop),
        failed_code: fault.map(|fault| &*fault.code),
        status: exchange.status.map(|status| status.as_u16()),
        bytes_in: exchange.received,
        bytes_out: exchange.sent,
        retries: exchange.retries,
        first_byte_ms: exchange.first_byte.map(millis),
        total_ms: exchange.total.map(millis),
    };
    // Texts and numbers can always be written to memory.
    let _ = line.serialize(&mut serde_json::Serializer::with_formatter(out, NoControls));
}

/// Milliseconds, with microseconds after the point.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// Escapes DEL and the C1 control characters too. JSON permits them, but a terminal that shows the log obeys them.
struct NoControls;

impl Formatter for NoControls {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c| ('\u{7f}'..='\u{9f}').contains(&c)) {
            let (before, control) = rest.split_at(at);
            let mut after = control.chars();
            let code = after.next().map_or(0, u32::from);
            CompactFormatter.write_string_fragment(out, before)?;
            write!(out, "\\u{code:04x}")?;
            rest = after.as_str();
        }
        CompactFormatter.write_string_fragment(out, rest)
    }
}
