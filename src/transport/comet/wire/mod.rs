//! Messages as JSON (wiki.secondlife.com, Reverse HTTP, 2008), one object each, in both directions. These rules settle
//! the points that the page leaves open:
//!
//! - `http-version` is `PTTH/0.9` or `PTTH/1.0`, or left out. The relay writes `PTTH/0.9`, as the page does for this
//!   form; our agent answers with the version of the request.
//! - A `body` is a JSON string if it is text: UTF-8 without control characters beyond `\b \t \n \f \r`, so that its
//!   JSON is at most twice as long. Any other body is Base64 (RFC 4648 §4), with `"body-encoding":"base64"`. An agent
//!   may use Base64 for text too. No `body`, or `null`, is an empty body.
//! - The value of a field is bytes. Each of its characters stands for one byte, U+0000 to U+00FF, as in Fetch and in
//!   WSGI. So every value passes unchanged in both directions; a character beyond U+00FF is an error.
//! - The length of a body is the length that arrived. `Content-Length` is written for readers that need it, and not
//!   trusted when read, except where a body was left out (HEAD, 304). `Transfer-Encoding` and all other hop-by-hop
//!   fields are dropped. Trailers have no place in a message, and are dropped; a gRPC call,
//!   whose result is in its trailers, is refused before it is written.
//! - Unknown members are ignored. A known member that appears twice is an error.

mod read;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

pub(super) use self::read::{InvalidMessage, MessageHeader, id_of, read_answer, read_request};
use crate::http1::write::Reason;
use crate::message::Request;
use crate::message::framing::expects_length;

/// The media type of a message.
pub(super) const JSON: &str = "application/json";
/// No message at all.
pub(super) const NOTHING: &str = "{}";

/// The version that the relay writes.
const VERSION: &str = "PTTH/0.9";
const VERSIONS: [&str; 2] = [VERSION, "PTTH/1.0"];

const BASE64: &str = "base64";
/// Writes padding, and reads Base64 with or without it.
const BASE64_ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One request, as the relay writes it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RequestText<'a> {
    message_id: &'a str,
    method: &'a str,
    request_uri: &'a str,
    http_version: &'a str,
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_encoding: Option<&'static str>,
    body: Cow<'a, str>,
}

/// One answer, as our agent writes it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct AnswerText<'a> {
    message_id: &'a str,
    http_version: &'a str,
    status: u16,
    reason: Cow<'a, str>,
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_encoding: Option<&'static str>,
    body: Cow<'a, str>,
}

/// Writes a request as JSON.
pub(super) fn write_request(id: &str, request: &Request, body: &Bytes) -> Bytes {
    let mut headers = Vec::with_capacity(request.headers().len() + 2);
    if let Some(authority) = request.uri().authority() {
        headers.push(("Host".into(), authority.as_str().to_owned()));
    }
    headers.extend(fields(request.headers()));
    let expected = expects_length(request.method());
    if !body.is_empty() || expected || request.headers().contains_key(CONTENT_LENGTH) {
        headers.push(("Content-Length".into(), body.len().to_string()));
    }
    let (body_encoding, body) = encode_body(body);
    let text = RequestText {
        message_id: id,
        method: request.method().as_str(),
        request_uri: request.uri().path_and_query().map_or("/", |target| target.as_str()),
        http_version: VERSION,
        headers,
        body_encoding,
        body,
    };
    to_json(&text)
}

/// Writes an answer as JSON. An answer without a body, as to HEAD or as 304, keeps its own `Content-Length`.
pub(super) fn write_answer(
    message_header: &MessageHeader,
    head: &http::response::Parts,
    body: &Bytes,
) -> Bytes {
    let mut headers: Vec<_> = fields(&head.headers).collect();
    match head.headers.get(CONTENT_LENGTH) {
        Some(length) if body.is_empty() => headers.push(("Content-Length".into(), latin1(length))),
        _ => headers.push(("Content-Length".into(), body.len().to_string())),
    }
    let (body_encoding, body) = encode_body(body);
    let text = AnswerText {
        message_id: &message_header.id,
        http_version: message_header.version,
        status: head.status.as_u16(),
        reason: match head.extensions.get::<Reason>() {
            Some(reason) => reason.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
            None => head.status.canonical_reason().unwrap_or_default().into(),
        },
        headers,
        body_encoding,
        body,
    };
    to_json(&text)
}

/// A body as a JSON string, and its `body-encoding`.
fn encode_body(body: &[u8]) -> (Option<&'static str>, Cow<'_, str>) {
    let is_text = |text: &&str| text.bytes().all(|b| b >= b' ' || b"\x08\t\n\x0c\r".contains(&b));
    match std::str::from_utf8(body).ok().filter(is_text) {
        Some(text) => (None, text.into()),
        None => (Some(BASE64), BASE64_ENGINE.encode(body).into()),
    }
}

fn to_json(text: &impl Serialize) -> Bytes {
    // Text, numbers and lists can always be written as JSON.
    serde_json::to_vec(text).unwrap_or_default().into()
}

/// The end-to-end fields without lengths and trailers, in order, with repeats, spelled as the page spells them.
fn fields(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    let end_to_end =
        headers.iter().filter(|(name, _)| ![CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, TE].contains(name));
    end_to_end.map(|(name, value)| (spelled(name), latin1(value)))
}

fn spelled(name: &HeaderName) -> String {
    let mut first = true;
    let spell = |c: char| {
        let spelled = if first { c.to_ascii_uppercase() } else { c };
        first = c == '-';
        spelled
    };
    name.as_str().chars().map(spell).collect()
}

fn latin1(value: &HeaderValue) -> String {
    value.as_bytes().iter().map(|byte| char::from(*byte)).collect()
}

/// An answer that is read, written and read again stays the same, and no input makes a reader panic.
#[cfg(any(test, fuzzing))]
pub(crate) fn property(bytes: &[u8]) {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    let _ = (read_request(bytes).is_ok(), id_of(bytes));
    let Ok(Some((message_header, answer))) = read_answer(bytes) else { return };
    let (head, body) = answer.into_parts();
    let Some(Ok(body)) = body.collect().now_or_never() else { unreachable!("the body is in memory") };
    let body = body.to_bytes();
    let read = read_answer(&write_answer(&message_header, &head, &body));
    let Ok(Some((header_again, again))) = read else { unreachable!("a written answer can be read") };
    let (mut head_again, body_again) = again.into_parts();
    head_again.headers.remove(CONTENT_LENGTH);
    let mut headers = head.headers;
    headers.remove(CONTENT_LENGTH);
    assert_eq!((header_again, head_again.status), (message_header, head.status));
    assert_eq!(head_again.headers, headers);
    let Some(Ok(body_again)) = body_again.collect().now_or_never() else {
        unreachable!("this body is in memory too")
    };
    assert_eq!(body_again.to_bytes(), body);
}
