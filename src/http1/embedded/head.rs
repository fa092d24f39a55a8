//! Parsing and encoding of the heads of embedded messages.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use super::BadMessage;
use crate::defaults;
use crate::http1::head::{self, MessageFacts};
use crate::http1::write::{self, BodyFraming, Case, Reason};
use crate::message::framing::is_bodiless;
use crate::message::interim::Head;
use crate::message::{Body, Response, hop, trailers};

/// Where the body of an embedded message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, whatever bytes follow.
    Empty,
    /// The body is the rest of the envelope. The message declared this length, which may be wrong.
    Rest(Option<u64>),
    /// The body is chunked (RFC 9112 §7.1).
    Chunked,
}

/// The head of a request: target and end-to-end fields.
#[derive(Debug)]
pub struct EmbeddedRequest {
    /// Method.
    pub method: Method,
    /// The target, unchanged: a path, mostly.
    pub target: Uri,
    /// The end-to-end fields, `Host` among them, without `Content-Length`.
    pub headers: HeaderMap,
    /// Where its body ends.
    pub framing: Framing,
    /// The protocol that the request names in `Upgrade` (RFC 9110 §7.8).
    pub upgrade: Option<HeaderValue>,
}

/// The head of a response: status and end-to-end fields.
#[derive(Debug)]
pub struct EmbeddedResponse {
    /// Status, a final one.
    pub status: StatusCode,
    /// The end-to-end fields, without `Content-Length`.
    pub headers: HeaderMap,
    /// Where its body ends.
    pub framing: Framing,
    /// The protocol that a 101 switches to.
    pub upgrade: Option<HeaderValue>,
    /// The reason phrase, if it is not the usual one.
    pub reason: Option<Reason>,
}

impl EmbeddedResponse {
    /// Whether the answer to `method` ends with its head. The head then announces the length that it declares, except
    /// in a 204: that is the length of the answer to a GET.
    pub fn is_bodiless(&mut self, method: &Method) -> bool {
        let bodiless = is_bodiless(method, self.status);
        if let Framing::Rest(Some(length)) = self.framing
            && bodiless
            && self.status != StatusCode::NO_CONTENT
        {
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        bodiless
    }

    /// The response with a complete body.
    pub fn complete(mut self, body: Bytes, trailers: Option<HeaderMap>) -> Response {
        if trailers.is_none() {
            self.headers.remove(TRAILER);
        }
        self.with_body(trailers::append(Body::full(body), trailers))
    }

    /// The response with this body. A 101 keeps its Upgrade.
    pub fn with_body(mut self, body: Body) -> Response {
        if let Some(token) = self.upgrade {
            hop::set_upgrade(&mut self.headers, token);
        }
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (self.status, self.headers);
        if let Some(reason) = self.reason {
            response.extensions_mut().insert(reason);
        }
        response
    }
}

/// One of the heads of an answer.
#[derive(Debug)]
pub enum Next {
    /// An interim response, never a 101; another head follows.
    Interim(Head),
    /// The answer itself.
    Answer(EmbeddedResponse),
}

/// Parses `head`, the complete head of a final response.
///
/// # Errors
/// [`BadMessage`]
pub fn parse_response(head: &Bytes) -> Result<EmbeddedResponse, BadMessage> {
    accept_final(response(head)?, false)
}

/// As [`parse_response`], for the answer to a request for an Upgrade: the answer may be a valid 101.
///
/// # Errors
/// [`BadMessage`]
pub fn parse_answer(head: &Bytes) -> Result<EmbeddedResponse, BadMessage> {
    accept_final(response(head)?, true)
}

/// Parses the next head of an answer, which interim responses may precede. `upgrades`: the request was for an Upgrade,
/// so the answer may be a 101.
///
/// # Errors
/// [`BadMessage`]
pub fn parse_next(head: &Bytes, upgrades: bool) -> Result<Next, BadMessage> {
    let (version, read) = response(head)?;
    if !read.status.is_informational() || read.status == StatusCode::SWITCHING_PROTOCOLS {
        return accept_final((version, read), upgrades).map(Next::Answer);
    }
    if version == Version::HTTP_10 {
        // HTTP/1.0 has no interim responses.
        return Err(BadMessage::Status);
    }
    if read.framing != Framing::Rest(None) {
        // An interim response has no body (RFC 9110 §15.2). Readers would disagree about where the next head begins.
        return Err(BadMessage::InterimBody);
    }
    if head.len() > defaults::INTERIM_BYTES {
        return Err(BadMessage::Interims);
    }
    let mut interim = Head::new(());
    *interim.status_mut() = read.status;
    *interim.headers_mut() = read.headers;
    Ok(Next::Interim(interim))
}

/// Accepts the head of a final response. `may_switch`: the response may be a 101.
fn accept_final(
    (_, mut head): (Version, EmbeddedResponse),
    may_switch: bool,
) -> Result<EmbeddedResponse, BadMessage> {
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS
        && head.upgrade.is_some()
        && head.framing == Framing::Rest(None);
    if (switches && may_switch) || head.status.as_u16() >= 200 {
        head.upgrade = head.upgrade.filter(|_| switches);
        return Ok(head);
    }
    Err(BadMessage::Status)
}

fn response(bytes: &Bytes) -> Result<(Version, EmbeddedResponse), BadMessage> {
    let read = head::response(bytes, &Method::GET, true)?;
    let mut parts = read.parts;
    let reason = parts.extensions.remove::<Reason>();
    let (headers, framing, upgrade) = end_to_end(parts.headers, read.facts);
    Ok((parts.version, EmbeddedResponse { status: parts.status, headers, framing, upgrade, reason }))
}

/// Parses `head`, the complete head of a request.
///
/// # Errors
/// [`BadMessage`]
pub fn parse_request(head: &Bytes) -> Result<EmbeddedRequest, BadMessage> {
    let read = head::request(head)?;
    let parts = read.parts;
    let (headers, framing, upgrade) = end_to_end(parts.headers, read.facts);
    Ok(EmbeddedRequest { method: parts.method, target: parts.uri, headers, framing, upgrade })
}

fn end_to_end(mut headers: HeaderMap, facts: MessageFacts) -> (HeaderMap, Framing, Option<HeaderValue>) {
    let framing = if facts.is_chunked() { Framing::Chunked } else { Framing::Rest(facts.length()) };
    let upgrade = hop::strip(&mut headers);
    headers.remove(CONTENT_LENGTH);
    if framing != Framing::Chunked {
        // Only the chunked coding can carry the trailers that this field announces.
        headers.remove(TRAILER);
    }
    (headers, framing, upgrade)
}

/// Writes the head of a request. A body that is the rest of the envelope gets a `Content-Length`, if its length is
/// known: the clients of 2009 understand no other framing.
pub fn request_head(method: &Method, uri: &Uri, headers: &HeaderMap, framing: Framing) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.put_slice(part.as_bytes());
    }
    if let Some(authority) = uri.authority() {
        write::field(&mut out, &HOST, authority.as_str().as_bytes(), Case::Title);
    }
    fields(&mut out, headers, framing);
    out.freeze()
}

/// Writes the head of a response. See [`request_head`]. `reason`: the reason phrase, if it is not the usual one.
pub fn response_head(
    (status, reason): (StatusCode, Option<&Reason>),
    headers: &HeaderMap,
    framing: Framing,
) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    write::status_line(&mut out, Version::HTTP_11, status, reason.map(Reason::as_bytes));
    fields(&mut out, headers, framing);
    out.freeze()
}

fn fields(out: &mut BytesMut, headers: &HeaderMap, framing: Framing) {
    for (name, value) in headers {
        let misplaced = *name == TRAILER && framing != Framing::Chunked;
        if !misplaced && *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            write::field(out, name, value.as_bytes(), Case::Title);
        }
    }
    let announced = match framing {
        Framing::Chunked => BodyFraming::Chunks,
        Framing::Rest(Some(length)) => BodyFraming::Length(length),
        Framing::Rest(None) | Framing::Empty => BodyFraming::Nothing,
    };
    write::announced(out, announced, Case::Title);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;
    use crate::http1::head::Search;
    use crate::http1::{BadHead, FieldFault, FramingFault};

    /// The head at the start of `bytes`, and its length in bytes.
    fn read<T>(
        bytes: &[u8],
        parse: impl Fn(&Bytes) -> Result<T, BadMessage>,
    ) -> Result<(T, usize), BadMessage> {
        let taken = Search::default().take(&mut bytes.into(), defaults::FIELDS as usize)?;
        let head = taken.ok_or(BadMessage::Incomplete)?;
        Ok((parse(&head)?, head.len()))
    }

    fn bad(fault: impl Into<BadHead>) -> BadMessage {
        BadMessage::Head(fault.into())
    }

    fn response(text: &str) -> Result<EmbeddedResponse, BadMessage> {
        read(text.as_bytes(), parse_response).map(|(head, _)| head)
    }

    #[test]
    fn responses_of_the_clients_of_2009_are_read() {
        for text in [
            "HTTP/1.0 200 OK\r\nServer: x\r\nContent-type: text/plain\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Type: text/plain\n\n",
            "HTTP/1.1 200\r\ncontent-TYPE:text/plain\r\nConnection: close, x-gone\r\nX-Gone: 1\r\n\r\n",
            "HTTP/1.1 200 \r\nContent-Type: text/plain  \r\nContent-Length: 3\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n",
        ] {
            let head = response(text).unwrap();
            assert_eq!(
                (head.status.as_u16(), &head.headers["content-type"]),
                (200, &"text/plain".parse().unwrap())
            );
            assert!(!head.headers.contains_key("x-gone") && !head.headers.contains_key("content-length"));
        }
        let twice = response("HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\n").unwrap();
        assert_eq!(twice.headers.get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn an_ambiguous_response_is_refused() {
        for (text, why) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", bad(FieldFault::Folded)),
            ("HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n", bad(FieldFault::Value)),
            ("HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: x\r\n\r\n", bad(FieldFault::BareCr)),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", bad(FieldFault::SpaceBeforeColon)),
            ("HTTP/1.1 200 OK\r\nnothing\r\n\r\n", bad(FieldFault::NoColon)),
            ("HTTP/1.1 200 O\rK\r\n\r\n", bad(BadHead::StartLine)),
            ("HTTP/2 200 OK\r\n\r\n", bad(BadHead::Version)),
            ("GET / HTTP/1.1\r\n\r\n", bad(BadHead::StartLine)),
            ("HTTP/1.1 1000 OK\r\n\r\n", bad(BadHead::Status)),
            ("HTTP/1.1 99\r\n\r\n", bad(BadHead::Status)),
            ("HTTP/1.1 000 OK\r\n\r\n", bad(BadHead::Status)),
            ("HTTP/1.1 099 OK\r\n\r\n", bad(BadHead::Status)),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", BadMessage::Status),
            ("HTTP/1.1 100 Continue\r\n\r\n", BadMessage::Status),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                bad(FramingFault::LengthsDiffer),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", bad(FramingFault::Length)),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                bad(FramingFault::LengthAndCoding),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", bad(FramingFault::Coding)),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", bad(FramingFault::CodingInHttp10)),
            ("HTTP/1.1 200 OK\r\n", BadMessage::Incomplete),
            ("", BadMessage::Incomplete),
        ] {
            assert_eq!(response(text).map(|_| ()), Err(why), "{text:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(defaults::FIELDS as usize));
        assert_eq!(response(&endless).map(|_| ()), Err(bad(BadHead::Bytes(defaults::FIELDS as usize))));
    }

    #[test]
    fn a_101_is_an_answer_only_to_a_requested_upgrade() {
        let text = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw";
        let (head, _) = read(text, parse_answer).unwrap();
        assert_eq!((head.status.as_u16(), head.upgrade), (101, Some(HeaderValue::from_static("x"))));
        assert!(read(text, parse_response).is_err());
        for bad in ["", "Upgrade: x\r\n", "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n"] {
            assert!(read(format!("HTTP/1.1 101 S\r\n{bad}\r\n").as_bytes(), parse_answer).is_err(), "{bad}");
        }
    }

    #[test]
    fn interim_responses_are_heads_without_a_body() {
        let next = |text: &str| {
            let (next, used) = read(text.as_bytes(), |head| parse_next(head, false))?;
            Ok((
                match next {
                    Next::Interim(head) => head.status().as_u16(),
                    Next::Answer(head) => head.status.as_u16(),
                },
                used,
            ))
        };
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        assert_eq!(next(&format!("{hints}HTTP/1.1 200 OK\r\n\r\n")), Ok((103, hints.len())));
        assert_eq!(next("HTTP/1.1 100\n\n"), Ok((100, 14)));
        assert_eq!(next("HTTP/1.1 200 OK\r\n\r\n"), Ok((200, 19)));
        let long = format!("HTTP/1.1 103 x\r\nLink: {}\r\n\r\n", "x".repeat(defaults::INTERIM_BYTES));
        for (text, why) in [
            ("HTTP/1.1 103 x\r\nLink: ", BadMessage::Incomplete),
            ("HTTP/1.0 103 x\r\n\r\n", BadMessage::Status),
            ("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", BadMessage::Status),
            ("HTTP/1.1 103 x\r\nContent-Length: 3\r\n\r\nabc", BadMessage::InterimBody),
            ("HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n", BadMessage::InterimBody),
            ("HTTP/1.1 099 x\r\n\r\n", bad(BadHead::Status)),
            (&long, BadMessage::Interims),
        ] {
            assert_eq!(next(text), Err(why), "{text:.60}");
        }
        let switch = b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        assert!(matches!(read(switch, |head| parse_next(head, true)), Ok((Next::Answer(_), _))));
    }

    #[test]
    fn a_request_is_written_for_readers_of_content_length() {
        let mut headers = HeaderMap::new();
        headers.insert("x-two-words", HeaderValue::from_static("v"));
        headers.insert("trailer", HeaderValue::from_static("x"));
        let uri = Uri::from_static("https://shop.test:8443/a//b?c");
        let head = request_head(&Method::POST, &uri, &headers, Framing::Rest(Some(3)));
        let text =
            "POST /a//b?c HTTP/1.1\r\nHost: shop.test:8443\r\nX-Two-Words: v\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(head, text);
        let head = request_head(&Method::POST, &uri, &headers, Framing::Chunked);
        let text = text.replace("Content-Length: 3", "Trailer: x\r\nTransfer-Encoding: chunked");
        assert_eq!(head, text);
    }

    proptest! {
        #[test]
        fn a_head_survives_a_round_trip(status in 200u16..1000, fields in proptest::collection::vec(("[a-z][a-z0-9-]{0,8}x", "[!-~]{1,20}"), 0..8)) {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            let head = response_head((StatusCode::from_u16(status).unwrap(), None), &headers, Framing::Rest(None));
            let (got, used) = read(&head, parse_response).unwrap();
            prop_assert_eq!((got.status.as_u16(), got.headers, used), (status, headers.clone(), head.len()));
            let request = request_head(&Method::GET, &Uri::from_static("/x"), &headers, Framing::Rest(Some(7)));
            let (got, used) = read(&request, parse_request).unwrap();
            prop_assert_eq!((got.framing, got.headers, used), (Framing::Rest(Some(7)), headers, request.len()));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..60) {
            let _ = read(&bytes, parse_response);
            let _ = read(&bytes, parse_request);
            let _ = read(&bytes, |head| parse_next(head, true));
            let mut text = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\n".to_vec();
            text.truncate(cut);
            text.extend(&bytes);
            let _ = read(&text, parse_response);
        }
    }
}
