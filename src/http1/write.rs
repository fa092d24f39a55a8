//! Encoding of HTTP/1 heads.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, response};

use crate::defaults;
use crate::message::interim::Head;

/// The reason phrase of a response, if it is not the usual phrase of the status (RFC 9112 §4). It may be empty, and has
/// no blank at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(Bytes);

impl Reason {
    /// The phrase of an answer with this status. `None` for the usual phrase, for a long phrase, and for a phrase with a
    /// control character other than a tab.
    pub fn of(status: StatusCode, phrase: &Bytes) -> Option<Self> {
        let text = phrase.trim_ascii();
        let is_valid = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
        let is_usual = status.canonical_reason().is_some_and(|usual| usual.as_bytes() == text);
        let is_carried = !is_usual && text.len() <= defaults::REASON && text.iter().all(is_valid);
        is_carried.then(|| Self(phrase.slice_ref(text)))
    }

    /// The phrase as the value of a field.
    pub fn into_value(self) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.0).ok()
    }

    /// The bytes of the phrase.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// How the names of fields are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Case {
    /// `content-type`
    #[default]
    Lower,
    /// `Content-Type`
    Title,
}

/// How a head announces its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// No framing field: there is no body, or the body ends with the stream.
    Nothing,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunks,
}

/// Writes the head of a request. The target is written unchanged.
pub fn request(
    out: &mut BytesMut,
    (method, target): (&Method, &str),
    headers: &HeaderMap,
    announced: BodyFraming,
    case: Case,
) {
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.put_slice(part.as_bytes());
    }
    fields(out, headers, announced, case);
    out.put_slice(b"\r\n");
}

/// Writes the head of a response. `connection` is an option of `Connection` that is added to the fields of `parts`.
pub fn response(
    out: &mut BytesMut,
    parts: &response::Parts,
    announced: BodyFraming,
    connection: Option<&'static str>,
    case: Case,
) {
    let reason = parts.extensions.get::<Reason>().map(Reason::as_bytes);
    status_line(out, parts.version, parts.status, reason);
    fields(out, &parts.headers, announced, case);
    if let Some(option) = connection {
        field(out, &CONNECTION, option.as_bytes(), case);
    }
    out.put_slice(b"\r\n");
}

/// Writes an interim response, which has no body.
pub fn interim(out: &mut BytesMut, head: &Head, case: Case) {
    status_line(out, Version::HTTP_11, head.status(), None);
    fields(out, head.headers(), BodyFraming::Nothing, case);
    out.put_slice(b"\r\n");
}

/// Writes the first line of a response. Without `reason` it has the usual phrase, if there is one.
pub(super) fn status_line(out: &mut BytesMut, version: Version, status: StatusCode, reason: Option<&[u8]>) {
    out.put_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(reason.unwrap_or_else(|| status.canonical_reason().unwrap_or_default().as_bytes()));
    out.put_slice(b"\r\n");
}

/// Writes the fields in order. `announced` replaces `Content-Length` and `Transfer-Encoding`. `Trailer` is written only
/// for a chunked body.
pub fn fields(out: &mut BytesMut, headers: &HeaderMap, announced: BodyFraming, case: Case) {
    let mut pending = announced;
    for (name, value) in headers {
        if *name == CONTENT_LENGTH {
            if let BodyFraming::Length(_) = pending {
                self::announced(out, pending, case);
                pending = BodyFraming::Nothing;
            }
        } else if *name != TRANSFER_ENCODING && (*name != TRAILER || announced == BodyFraming::Chunks) {
            field(out, name, value.as_bytes(), case);
        }
    }
    self::announced(out, pending, case);
}

/// Writes the field that announces the body.
pub fn announced(out: &mut BytesMut, announced: BodyFraming, case: Case) {
    match announced {
        BodyFraming::Nothing => {}
        BodyFraming::Length(length) => {
            field(out, &CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes(), case);
        }
        BodyFraming::Chunks => field(out, &TRANSFER_ENCODING, b"chunked", case),
    }
}

/// Writes one field.
pub fn field(out: &mut BytesMut, name: &HeaderName, value: &[u8], case: Case) {
    let start = out.len();
    out.reserve(name.as_str().len() + value.len() + 4);
    out.put_slice(name.as_str().as_bytes());
    if case == Case::Title {
        let mut first = true;
        for byte in &mut out[start..] {
            if first {
                byte.make_ascii_uppercase();
            }
            first = *byte == b'-';
        }
    }
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Writes the size of a chunk (RFC 9112 §7.1).
pub fn chunk_size(out: &mut BytesMut, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let (mut digits, mut at, mut rest) = ([0; 16], 16, size);
    while rest > 0 {
        at -= 1;
        digits[at] = DIGITS[rest % 16];
        rest /= 16;
    }
    out.put_slice(&digits[at..]);
    out.put_slice(b"\r\n");
}

/// Encodes one chunk of at least one byte: an empty chunk would end the body.
pub fn chunk(data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 20);
    chunk_size(&mut out, data.len());
    out.put_slice(data);
    out.put_slice(b"\r\n");
    out.freeze()
}
