//! Trailers (RFC 9110 §6.5): which fields may be trailers, and how trailers are written after a chunked body.
//!
//! A reader of the chunked coding may skip the trailers after the last chunk (RFC 9112 §7.1.2). So trailers need
//! neither `Trailer` in the head, which is a hint (RFC 9110 §6.6.2), nor `TE: trailers` in the request, which only
//! promises that they are not dropped on the way (§6.5.1). Each hop passes trailers on as they arrive. The only
//! exception: the relay sends no trailers to an HTTP/1.1 visitor without `TE: trailers`. Some clients date from a time
//! when a server sent trailers only on request (RFC 2616 §3.6.1), and an answer must be complete without trailers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE,
    DATE, EXPECT, EXPIRES, HOST, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LOCATION, MAX_FORWARDS, PRAGMA, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE,
    RETRY_AFTER, SET_COOKIE, TE, TRAILER, VARY, VIA, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame};

use super::body::{FrameSource, PolledFrame};
use super::forgeable::is_forgeable;
use super::{Body, hop};
use crate::defaults;

/// The bytes of a field line besides name and value.
const LINE: usize = ": \r\n".len();
/// The bytes before and after the trailers.
const ENDS: usize = "0\r\n\r\n".len();

/// Fields that must be known before the body, or that only the author of the head may set (RFC 9110 §6.5.1): framing,
/// routing and senders, modifiers of the request, authentication, control of the answer, the format of the content.
const NEVER: [HeaderName; 30] = [
    CONTENT_LENGTH,
    TRAILER,
    TE,
    HOST,
    MAX_FORWARDS,
    VIA,
    EXPECT,
    RANGE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    IF_RANGE,
    PRAGMA,
    CACHE_CONTROL,
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    WWW_AUTHENTICATE,
    PROXY_AUTHENTICATE,
    COOKIE,
    SET_COOKIE,
    AGE,
    DATE,
    EXPIRES,
    LOCATION,
    RETRY_AFTER,
    VARY,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_RANGE,
];

/// Removes the fields that may not be trailers.
pub fn allowed(mut trailers: HeaderMap) -> HeaderMap {
    let _ = hop::strip(&mut trailers);
    let never: Vec<_> = trailers.keys().filter(|name| !may_be_trailer(name)).cloned().collect();
    for name in never {
        trailers.remove(name);
    }
    trailers
}

/// Whether a message may have these trailers: at most [`defaults::TRAILER_FIELDS`], and at most [`defaults::TRAILERS`]
/// bytes as HTTP/1.1.
pub fn fit(trailers: &HeaderMap) -> bool {
    let lines = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE);
    trailers.len() <= defaults::TRAILER_FIELDS && lines.sum::<usize>() + ENDS <= defaults::TRAILERS
}

/// The last chunk and the trailers after it, to the end of the message. `None` when no field may be a trailer, or when
/// the trailers do not [fit]: a part of them would mislead the receiver.
pub fn last_chunk(trailers: HeaderMap) -> Option<Bytes> {
    let trailers = allowed(trailers);
    if trailers.is_empty() {
        return None;
    }
    if !fit(&trailers) {
        tracing::debug!("a message has too many trailer fields: they are dropped");
        return None;
    }
    let mut out = BytesMut::from(&b"0\r\n"[..]);
    for (name, value) in &trailers {
        put(&mut out, name, value);
    }
    out.put_slice(b"\r\n");
    Some(out.freeze())
}

/// A body with these trailers behind it. Its length is not announced: only the chunked coding has a place for trailers.
pub fn append(body: Body, trailers: Option<HeaderMap>) -> Body {
    match trailers {
        Some(trailers) => Body::from_source(TrailedBody { body, trailers: Some(trailers) }),
        None => body,
    }
}

struct TrailedBody {
    body: Body,
    trailers: Option<HeaderMap>,
}

impl FrameSource for TrailedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.trailers.is_none() && self.body.is_end_stream()
    }
}

/// Whether a request is useless without the trailers of its answer: a call of gRPC has its result there. gRPC-Web has it
/// in the body.
pub fn needs_trailers(request_headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let kind = request_headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.split_at_checked(GRPC.len()).is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(GRPC) && rest.first().is_none_or(|next| b"+; ".contains(next))
    })
}

/// Whether a field may be a trailer. Underscores count as hyphens, because CGI and its successors read both spellings
/// as the same name. Fields that a visitor may not set in a head are refused too.
fn may_be_trailer(name: &HeaderName) -> bool {
    let read = || name.as_str().bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
    let never = NEVER.iter().chain(&hop::HOP_BY_HOP).any(|never| read().eq(never.as_str().bytes()));
    !never && !is_forgeable(name, false)
}

fn put(out: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    out.put_slice(name.as_str().as_bytes());
    out.put_slice(b": ");
    out.put_slice(value.as_bytes());
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::hop::tests::map;

    #[test]
    fn fields_that_belong_in_the_head_are_removed_from_trailers() {
        let trailers = map(&[
            ("x-sum", "294"),
            ("content-length", "9"),
            ("transfer-encoding", "chunked"),
            ("host", "b.test"),
            ("cookie", "a=b"),
            ("x_forwarded_for", "1.2.3.4"),
            ("transfer_encoding", "chunked"),
            ("ptth_visitors", "x"),
            ("ptth-gone", "1"),
            ("connection", "x-plain"),
            ("x-plain", "1"),
            ("te", "trailers"),
            ("x-sum", ""),
            ("etag", "\"a\""),
        ]);
        let written = last_chunk(trailers).unwrap();
        assert_eq!(&written[..], b"0\r\nx-sum: 294\r\nx-sum: \r\netag: \"a\"\r\n\r\n");
        assert_eq!(last_chunk(map(&[("trailer", "x"), ("content-type", "a/b")])), None);
        assert_eq!(last_chunk(HeaderMap::new()), None);
    }

    #[test]
    fn only_grpc_itself_needs_trailers() {
        let kind = |kind| needs_trailers(&map(&[("content-type", kind)]));
        for grpc in ["application/grpc", "Application/gRPC+proto", "application/grpc;x=y"] {
            assert!(kind(grpc), "{grpc}");
        }
        for other in
            ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/grp"]
        {
            assert!(!kind(other), "{other}");
        }
        assert!(!needs_trailers(&HeaderMap::new()));
    }

    #[test]
    fn trailers_above_the_limits_are_dropped() {
        let long = |length: usize| {
            let value = HeaderValue::from_bytes(&vec![b'a'; length]).unwrap();
            last_chunk(HeaderMap::from_iter([(HeaderName::from_static("x"), value)]))
        };
        let room = defaults::TRAILERS - b"0\r\nx: \r\n\r\n".len();
        assert_eq!(long(room).unwrap().len(), defaults::TRAILERS);
        assert_eq!(long(room + 1), None);
        let many = |count: usize| last_chunk(map(&vec![("x", "1"); count]));
        assert!(many(defaults::TRAILER_FIELDS).is_some() && many(defaults::TRAILER_FIELDS + 1).is_none());
    }
}
