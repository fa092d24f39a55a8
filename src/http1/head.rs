//! Parsing of HTTP/1 heads (RFC 9112 §2 to §6), with the same rules for requests and responses.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, request, response};

use super::bad_head::{BadHead, FieldFault, FramingFault, TARGET, is_token};
use super::body::Decoder;
use super::write::Reason;
use crate::defaults;
use crate::message::{framing, hop};

/// The facts about the connection and the body that the fields of a head declare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageFacts {
    /// The connection stays open after this message (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// There is an `Upgrade` field.
    pub upgrade: bool,
    /// There is `Expect: 100-continue`.
    pub expects_continue: bool,
    /// There is a `TE` field.
    pub te: bool,
    length: Option<u64>,
    /// `Content-Length` occurs more than once, or as a list, always with the same value.
    repeated: bool,
    chunked: bool,
}

/// A request up to its body.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target, version and fields.
    pub parts: request::Parts,
    /// The facts that the fields declare.
    pub facts: MessageFacts,
    /// Decodes the body.
    pub decoder: Decoder,
}

/// A response up to its body.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status, version and fields. The extensions have a [`Reason`] if the reason phrase is not the usual one.
    pub parts: response::Parts,
    /// The facts that the fields declare.
    pub facts: MessageFacts,
    /// Decodes the body.
    pub decoder: Decoder,
}

/// Finds the end of a head that arrives in pieces. Each byte is examined about once.
#[derive(Debug, Default)]
pub struct Search {
    seen: usize,
}

impl Search {
    /// Takes the bytes of a complete head from `read`. `None` when the end of the head has not arrived yet. Empty lines
    /// before the head are dropped (RFC 9112 §2.2).
    ///
    /// # Errors
    /// [`BadHead::Bytes`]
    pub fn take(&mut self, read: &mut BytesMut, most: usize) -> Result<Option<Bytes>, BadHead> {
        if self.seen == 0 {
            loop {
                match read[..] {
                    [b'\n', ..] => read.advance(1),
                    [b'\r', b'\n', ..] => read.advance(2),
                    // A byte that cannot begin a head, such as the first byte of a TLS handshake, is refused at once.
                    [first, ..] if !is_token(first) && read[..] != [b'\r'] => return Err(BadHead::StartLine),
                    [b'\r'] | [] => return Ok(None),
                    [..] => break,
                }
            }
        }
        // The end of the head may begin in the last two bytes that were examined before.
        let from = self.seen.saturating_sub(2);
        let end = memchr::memchr_iter(b'\n', &read[from..]).find_map(|at| {
            let behind = from + at + 1;
            match read[behind..] {
                [b'\n', ..] => Some(behind + 1),
                [b'\r', b'\n', ..] => Some(behind + 2),
                _ => None,
            }
        });
        match end {
            Some(end) if end <= most => {
                self.seen = 0;
                Ok(Some(read.split_to(end).freeze()))
            }
            None if read.len() <= most => {
                self.seen = read.len();
                Ok(None)
            }
            _ => Err(BadHead::Bytes(most)),
        }
    }

    /// Whether a part of a head has arrived.
    pub fn has_begun(&self) -> bool {
        self.seen > 0
    }
}

type FieldBuffer<'a> = [MaybeUninit<httparse::Header<'a>>; defaults::H1_FIELDS];

/// Parses `head`, the complete head of a request.
///
/// # Errors
/// [`BadHead`]
pub fn request(head: &Bytes) -> Result<RequestHead, BadHead> {
    let mut fields: FieldBuffer<'_> = [const { MaybeUninit::uninit() }; defaults::H1_FIELDS];
    let mut read = httparse::Request::new(&mut []);
    let status =
        read.parse_with_uninit_headers(head, &mut fields).map_err(|error| bad_head(error, head, 2))?;
    let (httparse::Status::Complete(_), Some(method), Some(target)) = (status, read.method, read.path) else {
        return Err(BadHead::StartLine);
    };
    if target.len() > TARGET {
        return Err(BadHead::Target);
    }
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| BadHead::StartLine)?;
    if target.contains('#') {
        return Err(BadHead::TargetByte);
    }
    let in_path = target.starts_with('/');
    parts.uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes()))
        .map_err(|_| if in_path { BadHead::TargetByte } else { BadHead::StartLine })?;
    if parts.method == Method::OPTIONS
        && let Some((_, rest)) = target.split_once("://")
        && !in_path
        && !rest.contains(['/', '?'])
    {
        // RFC 9112 §3.2.4: an absolute target without a path means `*`.
        let mut absolute = std::mem::take(&mut parts.uri).into_parts();
        absolute.path_and_query = Some(PathAndQuery::from_static("*"));
        parts.uri = Uri::from_parts(absolute).map_err(|_| BadHead::StartLine)?;
    }
    parts.version = version(read.version)?;
    let facts = collect(head, read.headers, parts.version, &mut parts.headers)?;
    let decoder = match facts.chunked {
        true => Decoder::chunked(),
        false => Decoder::length(facts.length.unwrap_or(0)),
    };
    Ok(RequestHead { parts, facts, decoder })
}

/// Parses `head`, the complete head of a response to a request with `method`. `strict`: space before a colon is
/// refused, as in a request.
///
/// # Errors
/// [`BadHead`]
pub fn response(head: &Bytes, method: &Method, strict: bool) -> Result<ResponseHead, BadHead> {
    let mut fields: FieldBuffer<'_> = [const { MaybeUninit::uninit() }; defaults::H1_FIELDS];
    let mut read = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    // RFC 9112 §5.1: a proxy removes such space from a response.
    config.allow_spaces_after_header_name_in_responses(!strict);
    let status = config.parse_response_with_uninit_headers(&mut read, head, &mut fields);
    let status = status.map_err(|error| bad_head(error, head, 0))?;
    let (httparse::Status::Complete(_), Some(code)) = (status, read.code) else {
        return Err(BadHead::StartLine);
    };
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = StatusCode::from_u16(code).map_err(|_| BadHead::Status)?;
    parts.version = version(read.version)?;
    if parts.status.canonical_reason() != Some(read.reason.unwrap_or_default())
        && let Some(reason) = Reason::of(parts.status, &reason_in(head))
    {
        parts.extensions.insert(reason);
    }
    let facts = collect(head, read.headers, parts.version, &mut parts.headers)?;
    let bodiless = parts.status.is_informational() || framing::is_bodiless(method, parts.status);
    let decoder = match facts.length {
        _ if bodiless => Decoder::length(0),
        _ if facts.chunked => Decoder::chunked(),
        Some(length) => Decoder::length(length),
        None => Decoder::close(),
    };
    Ok(ResponseHead { parts, facts, decoder })
}

/// The reason phrase, byte for byte: the parser omits a phrase with bytes beyond ASCII.
fn reason_in(head: &Bytes) -> Bytes {
    let line = head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len());
    let line = head[..line].strip_suffix(b"\r").unwrap_or(&head[..line]);
    head.slice_ref(line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default())
}

fn version(minor: Option<u8>) -> Result<Version, BadHead> {
    match minor {
        Some(0) => Ok(Version::HTTP_10),
        Some(1) => Ok(Version::HTTP_11),
        _ => Err(BadHead::Version),
    }
}

/// `version`: the place of the version among the parts of the first line.
fn bad_head(error: httparse::Error, head: &[u8], version: usize) -> BadHead {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => FieldFault::in_head(head).into(),
        httparse::Error::TooManyHeaders => BadHead::Fields,
        httparse::Error::Version if has_version(head, version) => BadHead::Version,
        httparse::Error::Status if !has_status(head) => BadHead::Status,
        _ => BadHead::StartLine,
    }
}

/// Whether the first line names a version of HTTP: the parser reports any other text with the same error.
fn has_version(head: &[u8], place: usize) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.split(|byte| *byte == b' ').nth(place).is_some_and(|part| part.starts_with(b"HTTP/"))
}

/// Whether three digits follow the version, as in every status line: the parser reports a malformed reason phrase with
/// the same error as a malformed status.
fn has_status(head: &[u8]) -> bool {
    let status = head.split(|byte| b" \r\n".contains(byte)).nth(1).unwrap_or_default();
    status.len() == 3 && status.iter().all(u8::is_ascii_digit)
}

/// Puts the fields into `headers` without copying their values.
fn collect(
    head: &Bytes,
    fields: &[httparse::Header<'_>],
    version: Version,
    headers: &mut HeaderMap,
) -> Result<MessageFacts, BadHead> {
    headers.reserve(fields.len());
    let mut facts = MessageFacts { keep_alive: version == Version::HTTP_11, ..MessageFacts::default() };
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| FieldFault::Name)?;
        let value =
            HeaderValue::from_maybe_shared(head.slice_ref(field.value)).map_err(|_| FieldFault::Value)?;
        facts.note(&name, &value, version)?;
        headers.append(name, value);
    }
    if facts.chunked && facts.length.is_some() {
        return Err(FramingFault::LengthAndCoding.into());
    }
    if let Some(length) = facts.length.filter(|_| facts.repeated) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(facts)
}

impl MessageFacts {
    /// The length of the body, in bytes, if it is declared.
    pub fn length(self) -> Option<u64> {
        self.length
    }

    /// Whether the body is chunked.
    pub fn is_chunked(self) -> bool {
        self.chunked
    }

    fn note(&mut self, name: &HeaderName, value: &HeaderValue, version: Version) -> Result<(), BadHead> {
        if *name == CONTENT_LENGTH {
            return self.declare(value);
        }
        if *name == TRANSFER_ENCODING {
            // A coding before `chunked` would be lost here, and HTTP/1.0 has no transfer codings (RFC 9112 §6.1).
            if version == Version::HTTP_10 {
                return Err(FramingFault::CodingInHttp10.into());
            }
            let only_chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            if !only_chunked || self.chunked {
                return Err(FramingFault::Coding.into());
            }
            self.chunked = true;
        } else if *name == CONNECTION {
            for option in hop::list(value) {
                if option.eq_ignore_ascii_case("close") {
                    self.keep_alive = false;
                } else if option.eq_ignore_ascii_case("keep-alive") && version == Version::HTTP_10 {
                    self.keep_alive = true;
                }
            }
        } else if *name == UPGRADE {
            self.upgrade = true;
        } else if *name == TE {
            self.te = true;
        } else if *name == EXPECT {
            self.expects_continue = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        }
        Ok(())
    }

    /// Records a declared length. Repeated lengths must be equal (RFC 9112 §6.3).
    fn declare(&mut self, value: &HeaderValue) -> Result<(), BadHead> {
        for text in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(text).ok().filter(|_| digits);
            let length: u64 = text.and_then(|text| text.parse().ok()).ok_or(FramingFault::Length)?;
            if self.length.is_some_and(|earlier| earlier != length) {
                return Err(FramingFault::LengthsDiffer.into());
            }
            self.repeated = self.length.is_some();
            self.length = Some(length);
        }
        Ok(())
    }
}
