//! Properties of the parsers that untrusted bytes reach first. Each property must hold for any bytes. `fuzz/` feeds
//! each function with bytes from a fuzzer; the tests feed it with the corpus that the fuzzer found.

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::header::{HOST, LINK, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::defaults;
use crate::domain::{HostName, Instance, Name};
use crate::http1;
use crate::http1::embedded::{
    EmbeddedResponse, Framing, Next, Reader, parse_answer, parse_next, parse_request, request_head,
    response_head,
};
use crate::http1::head::Search;
use crate::message::{Body, authority, hop, link};
use crate::session::h2;
use crate::transport::{comet, reversehttp};

/// Checks the parser of one source of bytes.
pub type Property = fn(&[u8]);

/// Every property, by the name of its target and of its corpus.
pub const ALL: &[(&str, Property)] = &[
    ("answer", answer),
    ("request", request),
    ("http1_request", http1::fuzz_requests),
    ("http1_response", http1::fuzz_responses),
    ("form", reversehttp::fuzz_form),
    ("comet", comet::fuzz_json),
    ("link", link_field),
    ("authority", host_of),
    ("fields", hop_by_hop),
    ("names", names),
    ("frames", h2::fuzz_frames),
];

/// Feeds the bytes to the property of that name.
///
/// # Panics
/// When the property does not hold, or when no property has that name.
pub fn run(name: &str, bytes: &[u8]) {
    let found = ALL.iter().find(|(target, _)| *target == name);
    let Some((_, property)) = found else { unreachable!("no property is called {name}") };
    property(bytes);
}

/// An embedded response: the part that is passed on is one message that every parser reads alike, and the sizes of the
/// pieces in which it arrives change nothing.
fn answer(bytes: &[u8]) {
    let mut rest = BytesMut::from(bytes);
    let mut first = bytes;
    while let Some(head) = head_of(&mut rest) {
        let Ok(Next::Interim(interim)) = parse_next(&head, true) else { break };
        assert!(parse_answer(&head).is_err() && interim.status().is_informational());
        assert_ne!(interim.status(), StatusCode::SWITCHING_PROTOCOLS);
        let written = response_head((interim.status(), None), interim.headers(), Framing::Empty);
        assert_others_agree(&written, interim.headers());
        first = &bytes[bytes.len() - rest.len()..];
    }
    let Some(head) = head_of(&mut BytesMut::from(first)) else { return };
    let Ok(read) = parse_answer(&head) else { return };
    assert!((200..600).contains(&read.status.as_u16()) || read.upgrade.is_some());
    let written = response_head((read.status, read.reason.as_ref()), &read.headers, Framing::Rest(None));
    assert_others_agree(&written, &read.headers);
    if read.upgrade.is_none() {
        let Ok(again) = parse_answer(&written) else { unreachable!("a written head cannot be read") };
        assert_eq!((again.status, again.headers), (read.status, read.headers));
    }
    let (whole, pieces) = (body_of(first, first.len().max(1)), body_of(first, 3));
    assert_eq!(whole, pieces, "the size of the pieces changes the result");
}

/// An embedded request: the part that is passed on is one message that every parser reads alike.
fn request(bytes: &[u8]) {
    let Some(head) = head_of(&mut BytesMut::from(bytes)) else { return };
    let Ok(head) = parse_request(&head) else { return };
    let written = request_head(&head.method, &head.target, &head.headers, Framing::Rest(None));
    assert_others_agree(&written, &head.headers);
    assert!(!head.headers.contains_key(UPGRADE) && head.framing != Framing::Empty);
}

/// The first head in `bytes`. It is found at its last line end and not before.
fn head_of(bytes: &mut BytesMut) -> Option<Bytes> {
    let before = bytes.clone();
    let head = Search::default().take(bytes, defaults::FIELDS as usize).ok()??;
    let used = before.len() - bytes.len();
    assert!(head.ends_with(b"\n") && before[..used].ends_with(&head));
    let half = Search::default().take(&mut BytesMut::from(&before[..used - 1]), defaults::FIELDS as usize);
    assert_eq!(half, Ok(None), "a part of a head is taken for a head");
    Some(head)
}

/// Another parser finds the same fields in the written head, and nothing behind them.
fn assert_others_agree(written: &[u8], headers: &HeaderMap) {
    let mut storage = [httparse::EMPTY_HEADER; 1024];
    let parsed: Vec<_> = if written.starts_with(b"HTTP/") {
        let mut response = httparse::Response::new(&mut storage);
        let status = response.parse(written);
        assert!(matches!(status, Ok(httparse::Status::Complete(all)) if all == written.len()));
        response.headers.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.to_vec())).collect()
    } else {
        let mut request = httparse::Request::new(&mut storage);
        let status = request.parse(written);
        assert!(matches!(status, Ok(httparse::Status::Complete(all)) if all == written.len()));
        request.headers.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.to_vec())).collect()
    };
    let ours = headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    // The authority of an absolute target becomes one more `Host`.
    let theirs: Vec<_> = parsed.into_iter().filter(|(name, _)| name != HOST.as_str()).collect();
    assert_eq!(ours.filter(|(name, _)| name != HOST.as_str()).collect::<Vec<_>>(), theirs);
}

/// The body of an embedded response that arrives in pieces of `size` bytes; `None` if it is broken.
fn body_of(bytes: &[u8], size: usize) -> Option<(StatusCode, Bytes)> {
    let pieces: Vec<_> = bytes
        .chunks(size)
        .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let body = StreamBody::new(stream::iter(pieces));
    let body = Body::wrap(body.map_err(|never| match never {}));
    let work = async {
        let mut reader = Reader::new(body);
        let EmbeddedResponse { status, framing, .. } = reader.head(parse_answer).await.ok()?;
        let all = reader.stream(framing).collect().await.ok()?;
        Some((status, all.to_bytes()))
    };
    poll_ready(work)
}

/// The output of a future that waits for no event. A broken body may need several polls.
fn poll_ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..4 {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    unreachable!("the future waits")
}

/// A `Link` field: its targets are pieces of it, and are read back from a field that is written from them.
fn link_field(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let headers = HeaderMap::from_iter([(LINK, value)]);
    let targets: Vec<_> = link::targets(&headers, "next").collect();
    assert!(targets.iter().all(|target| !target.contains('>')));
    if let Some(value) = link::value(targets.iter().copied(), "next") {
        let headers = HeaderMap::from_iter([(LINK, value)]);
        assert_eq!(link::targets(&headers, "next").collect::<Vec<_>>(), targets);
    }
}

/// The host of a request: it has no upper case, and is the same when it is parsed again.
fn host_of(bytes: &[u8]) {
    let Some((&flags, rest)) = bytes.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let target = parts.next().unwrap_or_default();
    let Ok(uri) = Uri::try_from(target) else { return };
    let mut headers = HeaderMap::new();
    for host in parts.next().unwrap_or_default().split(|byte| *byte == 0) {
        let Ok(host) = HeaderValue::from_bytes(host) else { return };
        headers.append(HOST, host);
    }
    let version = if flags & 1 == 0 { http::Version::HTTP_11 } else { http::Version::HTTP_2 };
    let Ok(authority) = authority::effective(version, &uri, &headers) else { return };
    assert!(!authority.as_str().contains('@') && headers.len() == 1 || uri.authority().is_some());
    let Ok(host) = authority::host(&authority) else { return };
    assert_eq!(HostName::parse(host.as_str()).as_ref(), Ok(&host), "a host cannot be read again");
    assert!(!host.as_str().bytes().any(|b| b.is_ascii_uppercase() || b <= b' ' || b"/\\@,#?%".contains(&b)));
}

/// Hop-by-hop fields: none is left, and of the other fields only those that `Connection` names are removed.
fn hop_by_hop(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for line in lines.by_ref().take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = http::HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let had_host = headers.get_all(HOST).iter().count();
    let _ = hop::strip(&mut headers);
    for name in ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"] {
        assert!(!headers.contains_key(name) || name == "te" && headers[name] == "trailers", "{name} is left");
    }
    assert_eq!(headers.get_all(HOST).iter().count(), had_host, "a Host field was removed");
}

/// Names, hosts and instances: each is parsed again from its own text.
fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = Name::parse(text) {
        assert_eq!(Name::parse(name.as_str()), Ok(name.clone()));
        assert!(HostName::parse(name.as_str()).is_ok() && name.as_str().len() <= 63);
    }
    if let Ok(host) = HostName::parse(text) {
        assert_eq!(HostName::parse(host.as_str()), Ok(host));
    }
    if let Some(instance) = Instance::parse(text) {
        assert_eq!(Instance::parse(&instance.to_string()).as_ref(), Some(&instance));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_corpus_seed_passes_its_property() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        for (name, property) in ALL {
            let target = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
            assert!(target.contains(&format!("run(\"{name}\"")), "the target {name} runs another property");
            let mut seeds = 0;
            for entry in fs::read_dir(fuzz.join("corpus").join(name)).unwrap() {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                std::thread::Builder::new()
                    .name(path.display().to_string())
                    .spawn(move || property(&bytes))
                    .unwrap()
                    .join()
                    .unwrap();
                seeds += 1;
            }
            assert!(seeds > 0, "{name} has no corpus");
        }
        let targets = fs::read_dir(fuzz.join("fuzz_targets")).unwrap().count();
        assert_eq!(targets, ALL.len(), "a fuzz target has no property");
    }
}
