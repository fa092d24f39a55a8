//! Heads of embedded messages: read with care, written plainly.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

use super::BadMessage;
use crate::defaults;
use crate::message::hop;
use crate::message::interim::Head;

/// Fields of one message: ten times what browsers send.
pub(super) const FIELDS: usize = 512;

/// Where the body of an embedded message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none, whatever follows.
    Empty,
    /// It is the rest of the envelope; the message said this length, rightly or wrongly.
    Rest(Option<u64>),
    /// It is chunked (RFC 9112 §7.1).
    Chunked,
}

/// The head of a request: target and end-to-end fields.
#[derive(Debug)]
pub struct RequestHead {
    /// Method.
    pub method: Method,
    /// The target as it stands: a path, mostly.
    pub target: Uri,
    /// The end-to-end fields, `Host` among them, without `Content-Length`.
    pub headers: HeaderMap,
    /// Where its body ends.
    pub framing: Framing,
    /// The protocol that it asks for (RFC 9110 §7.8).
    pub upgrade: Option<HeaderValue>,
}

/// The head of a response: status and end-to-end fields.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status, a final one.
    pub status: StatusCode,
    /// The end-to-end fields, without `Content-Length`.
    pub headers: HeaderMap,
    /// Where its body ends.
    pub framing: Framing,
    /// The protocol that it changes to, on a 101.
    pub upgrade: Option<HeaderValue>,
}

/// One of the heads of an answer.
#[derive(Debug)]
pub enum Next {
    /// An interim response, never a 101; another head follows.
    Interim(Head),
    /// The answer itself.
    Answer(ResponseHead),
}

/// Reads the head of a final response, and how many bytes it took. `None` when it goes on beyond `bytes`.
///
/// # Errors
/// [`BadMessage`]
pub fn parse_response(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, BadMessage> {
    final_of(response(bytes)?, false)
}

/// As [`parse_response`], of the answer to a request for an Upgrade: it may be a 101 in due form.
///
/// # Errors
/// [`BadMessage`]
pub fn parse_answer(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, BadMessage> {
    final_of(response(bytes)?, true)
}

/// Reads the next head of an answer that may have interim responses in front of it, and how many bytes it took. `None`
/// when it goes on beyond `bytes`. The answer may be a 101 if the request asked for one (`upgrades`).
///
/// # Errors
/// [`BadMessage`]
pub fn parse_next(bytes: &[u8], upgrades: bool) -> Result<Option<(Next, usize)>, BadMessage> {
    let read = response(bytes)?;
    let Some((old, head, used)) = read else { return Ok(None) };
    if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
        let read = final_of(Some((old, head, used)), upgrades)?;
        return Ok(read.map(|(head, used)| (Next::Answer(head), used)));
    }
    if old {
        // HTTP/1.0 does not know them.
        return Err(BadMessage::Status);
    }
    if head.framing != Framing::Rest(None) {
        // It has no body (RFC 9110 §15.2), and not everybody would read on behind it at the same place.
        return Err(BadMessage::Framing);
    }
    if used > defaults::INTERIM_BYTES {
        return Err(BadMessage::TooLarge);
    }
    let mut interim = Head::new(());
    *interim.status_mut() = head.status;
    *interim.headers_mut() = head.headers;
    Ok(Some((Next::Interim(interim), used)))
}

/// Any response: whether it is of HTTP/1.0, its head, and how many bytes that took.
type Any = (bool, ResponseHead, usize);

/// The head of a final response; of one that switches protocols only if it `may`.
fn final_of(read: Option<Any>, may: bool) -> Result<Option<(ResponseHead, usize)>, BadMessage> {
    let Some((_, mut head, used)) = read else { return Ok(None) };
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS
        && head.upgrade.is_some()
        && head.framing == Framing::Rest(None);
    if (switches && may) || (200..600).contains(&head.status.as_u16()) {
        head.upgrade = head.upgrade.filter(|_| switches);
        return Ok(Some((head, used)));
    }
    Err(BadMessage::Status)
}

fn response(bytes: &[u8]) -> Result<Option<Any>, BadMessage> {
    let Some((start, headers, used)) = split(bytes)? else { return Ok(None) };
    let (version, rest) = start.split_once(' ').unwrap_or((start, ""));
    let old = version_of(version)? == Version::HTTP_10;
    let (digits, reason) = rest.split_at_checked(3).ok_or(BadMessage::StartLine)?;
    if !(reason.is_empty() || reason.starts_with(' ')) || reason.bytes().any(|b| b < b' ' && b != b'\t') {
        return Err(BadMessage::StartLine);
    }
    let status = StatusCode::from_bytes(digits.as_bytes()).map_err(|_| BadMessage::Status)?;
    let (headers, framing, upgrade) = end_to_end(headers, old)?;
    Ok(Some((old, ResponseHead { status, headers, framing, upgrade }, used)))
}

/// Reads the head of a request, and how many bytes it took. `None` when it goes on beyond `bytes`.
///
/// # Errors
/// [`BadMessage`]
pub fn parse_request(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, BadMessage> {
    let Some((start, headers, used)) = split(bytes)? else { return Ok(None) };
    let mut words = start.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BadMessage::StartLine);
    };
    let old = version_of(version)? == Version::HTTP_10;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| BadMessage::StartLine)?;
    let target = target.parse().map_err(|_| BadMessage::StartLine)?;
    let (headers, framing, upgrade) = end_to_end(headers, old)?;
    Ok(Some((RequestHead { method, target, headers, framing, upgrade }, used)))
}

fn version_of(text: &str) -> Result<Version, BadMessage> {
    match text {
        "HTTP/1.1" => Ok(Version::HTTP_11),
        "HTTP/1.0" => Ok(Version::HTTP_10),
        _ => Err(BadMessage::StartLine),
    }
}

/// The first line, the fields, and the length of it all with the empty line.
fn split(bytes: &[u8]) -> Result<Option<(&str, HeaderMap, usize)>, BadMessage> {
    let mut rest = bytes;
    let mut start = None;
    let mut headers = HeaderMap::new();
    loop {
        let Some(end) = rest.iter().position(|b| *b == b'\n') else {
            return match bytes.len() > defaults::FIELDS as usize {
                true => Err(BadMessage::TooLarge),
                false => Ok(None),
            };
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        if bytes.len() - rest.len() > defaults::FIELDS as usize || headers.len() > FIELDS {
            return Err(BadMessage::TooLarge);
        }
        match start {
            None if line.is_empty() => return Err(BadMessage::StartLine),
            None => start = Some(std::str::from_utf8(line).map_err(|_| BadMessage::StartLine)?),
            Some(start) if line.is_empty() => return Ok(Some((start, headers, bytes.len() - rest.len()))),
            Some(_) => {
                let (name, value) = field(line)?;
                headers.append(name, value);
            }
        }
    }
}

pub(super) fn field(line: &[u8]) -> Result<(HeaderName, HeaderValue), BadMessage> {
    // A line that begins with a blank continues the one before (RFC 9112 §5.2), which two readers read in two ways;
    // no name begins with one, so it fails here.
    let colon = line.iter().position(|b| *b == b':').ok_or(BadMessage::Field)?;
    let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| BadMessage::Field)?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(|_| BadMessage::Field)?;
    Ok((name, value))
}

type EndToEnd = (HeaderMap, Framing, Option<HeaderValue>);

fn end_to_end(mut headers: HeaderMap, old: bool) -> Result<EndToEnd, BadMessage> {
    let mut said = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let text = value.to_str().unwrap_or_default();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let length = text.parse().ok().filter(|_| digits).ok_or(BadMessage::Framing)?;
        if said.is_some_and(|earlier: u64| earlier != length) {
            return Err(BadMessage::Framing);
        }
        said = Some(length);
    }
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    let framing = match codings[..] {
        [] => Framing::Rest(said),
        [only] if only.as_bytes().eq_ignore_ascii_case(b"chunked") && said.is_none() && !old => {
            Framing::Chunked
        }
        _ => return Err(BadMessage::Framing),
    };
    let upgrade = hop::strip(&mut headers);
    headers.remove(CONTENT_LENGTH);
    if framing != Framing::Chunked {
        // Nothing else has a place for what it announces.
        headers.remove(TRAILER);
    }
    Ok((headers, framing, upgrade))
}

/// Writes the head of a request. A body that is the rest of the envelope says its length, if it is known: the clients
/// of 2009 understand no other framing.
pub fn request_head(method: &Method, uri: &Uri, headers: &HeaderMap, framing: Framing) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.put_slice(part.as_bytes());
    }
    if let Some(authority) = uri.authority() {
        put(&mut out, &HOST, authority.as_str().as_bytes());
    }
    fields(&mut out, headers, framing);
    out.freeze()
}

/// Writes the head of a response. See [`request_head`].
pub fn response_head(status: StatusCode, headers: &HeaderMap, framing: Framing) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or_default(), "\r\n"] {
        out.put_slice(part.as_bytes());
    }
    fields(&mut out, headers, framing);
    out.freeze()
}

fn fields(out: &mut BytesMut, headers: &HeaderMap, framing: Framing) {
    for (name, value) in headers {
        let trailers = *name == TRAILER && framing != Framing::Chunked;
        if !trailers && *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            put(out, name, value.as_bytes());
        }
    }
    match framing {
        Framing::Chunked => put(out, &TRANSFER_ENCODING, b"chunked"),
        Framing::Rest(Some(length)) => put(out, &CONTENT_LENGTH, length.to_string().as_bytes()),
        Framing::Rest(None) | Framing::Empty => {}
    }
    out.put_slice(b"\r\n");
}

fn put(out: &mut BytesMut, name: &HeaderName, value: &[u8]) {
    let mut first = true;
    for byte in name.as_str().bytes() {
        out.put_u8(if first { byte.to_ascii_uppercase() } else { byte });
        first = byte == b'-';
    }
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(text: &str) -> Result<ResponseHead, BadMessage> {
        parse_response(text.as_bytes())?.map(|(head, _)| head).ok_or(BadMessage::Incomplete)
    }

    #[test]
    fn what_the_clients_of_2009_write_is_read() {
        for text in [
            "HTTP/1.0 200 OK\r\nServer: x\r\nContent-type: text/plain\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Type: text/plain\n\n",
            "HTTP/1.1 200\r\ncontent-TYPE:text/plain\r\nConnection: close, x-gone\r\nX-Gone: 1\r\n\r\n",
            "HTTP/1.1 200 \r\nContent-Type: text/plain  \r\nContent-Length: 3\r\n\r\n",
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
    fn what_would_be_read_in_two_ways_is_refused() {
        for (text, why) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", BadMessage::Field),
            ("HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n", BadMessage::Field),
            ("HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: x\r\n\r\n", BadMessage::Field),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", BadMessage::Field),
            ("HTTP/1.1 200 OK\r\nnothing\r\n\r\n", BadMessage::Field),
            ("HTTP/1.1 200 O\rK\r\n\r\n", BadMessage::StartLine),
            ("HTTP/2 200 OK\r\n\r\n", BadMessage::StartLine),
            ("GET / HTTP/1.1\r\n\r\n", BadMessage::StartLine),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", BadMessage::StartLine),
            ("HTTP/1.1 1000 OK\r\n\r\n", BadMessage::StartLine),
            ("HTTP/1.1 99\r\n\r\n", BadMessage::StartLine),
            ("HTTP/1.1 000 OK\r\n\r\n", BadMessage::Status),
            ("HTTP/1.1 099 OK\r\n\r\n", BadMessage::Status),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", BadMessage::Status),
            ("HTTP/1.1 100 Continue\r\n\r\n", BadMessage::Status),
            ("HTTP/1.1 999 OK\r\n\r\n", BadMessage::Status),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", BadMessage::Framing),
            ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", BadMessage::Framing),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                BadMessage::Framing,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", BadMessage::Framing),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", BadMessage::Framing),
            ("HTTP/1.1 200 OK\r\n", BadMessage::Incomplete),
            ("", BadMessage::Incomplete),
        ] {
            assert_eq!(response(text).map(|_| ()), Err(why), "{text:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(defaults::FIELDS as usize));
        assert_eq!(response(&endless).map(|_| ()), Err(BadMessage::TooLarge));
    }

    #[test]
    fn a_101_is_an_answer_only_where_one_was_asked_for() {
        let text = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw";
        let (head, _) = parse_answer(text).unwrap().unwrap();
        assert_eq!((head.status.as_u16(), head.upgrade), (101, Some(HeaderValue::from_static("x"))));
        assert!(parse_response(text).is_err());
        for bad in ["", "Upgrade: x\r\n", "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n"] {
            assert!(parse_answer(format!("HTTP/1.1 101 S\r\n{bad}\r\n").as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn interim_responses_are_heads_without_a_body() {
        let next = |text: &str| match parse_next(text.as_bytes(), false) {
            Ok(Some((Next::Interim(head), used))) => Ok((head.status().as_u16(), used)),
            Ok(Some((Next::Answer(head), used))) => Ok((head.status.as_u16(), used)),
            Ok(None) => Err(BadMessage::Incomplete),
            Err(bad) => Err(bad),
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
            ("HTTP/1.1 103 x\r\nContent-Length: 3\r\n\r\nabc", BadMessage::Framing),
            ("HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n", BadMessage::Framing),
            ("HTTP/1.1 099 x\r\n\r\n", BadMessage::Status),
            (&long, BadMessage::TooLarge),
        ] {
            assert_eq!(next(text), Err(why), "{text:.60}");
        }
        let switch = b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        assert!(matches!(parse_next(switch, true), Ok(Some((Next::Answer(_), _)))));
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
        fn a_head_survives(status in 200u16..600, fields in proptest::collection::vec(("[a-z][a-z0-9-]{0,8}x", "[!-~]{1,20}"), 0..8)) {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            let head = response_head(StatusCode::from_u16(status).unwrap(), &headers, Framing::Rest(None));
            let (read, used) = parse_response(&head).unwrap().unwrap();
            prop_assert_eq!((read.status.as_u16(), read.headers, used), (status, headers.clone(), head.len()));
            let request = request_head(&Method::GET, &Uri::from_static("/x"), &headers, Framing::Rest(Some(7)));
            let (read, used) = parse_request(&request).unwrap().unwrap();
            prop_assert_eq!((read.framing, read.headers, used), (Framing::Rest(Some(7)), headers, request.len()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..60) {
            let _ = parse_response(&bytes);
            let _ = parse_request(&bytes);
            let _ = parse_next(&bytes, true);
            let mut text = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\n".to_vec();
            text.truncate(cut);
            text.extend(&bytes);
            let _ = parse_response(&text);
        }
    }
}
