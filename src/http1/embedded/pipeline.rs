//! `application/http` (RFC 9112 §10.2): several messages, one after the other.

use bytes::{Bytes, BytesMut};
use http::Method;

use super::body::unchunk;
use super::{BadMessage, Framing, parse_response};
use crate::defaults;
use crate::http1::head::Search;
use crate::message::Response;

/// Takes the first response from `rest`, as the answer to a request with `method`, whose
/// sender may take trailers. Each response must declare its end.
/// Only the `last` response may end with the envelope: otherwise the answers after it would be read as its body.
///
/// # Errors
/// [`BadMessage`]; `rest` is unusable then.
pub fn take_response(
    rest: &mut Bytes,
    (method, takes_trailers): (&Method, bool),
    last: bool,
) -> Result<Response, BadMessage> {
    let mut read = BytesMut::from(std::mem::take(rest));
    let head = Search::default().take(&mut read, defaults::FIELDS as usize)?;
    *rest = read.freeze();
    let mut head = parse_response(&head.ok_or(BadMessage::Incomplete)?)?;
    let bodiless = head.is_bodiless(method);
    let mut trailers = None;
    let body = match head.framing {
        _ if bodiless => Bytes::new(),
        Framing::Empty => Bytes::new(),
        Framing::Rest(Some(length)) => match usize::try_from(length) {
            Ok(length) if length <= rest.len() => rest.split_to(length),
            _ => return Err(BadMessage::Length),
        },
        Framing::Rest(None) if last => std::mem::take(rest),
        Framing::Rest(None) => return Err(BadMessage::Endless),
        Framing::Chunked => {
            let mut read = BytesMut::from(std::mem::take(rest));
            let (body, fields) = unchunk(&mut read)?;
            *rest = read.freeze();
            trailers = fields;
            body
        }
    };
    Ok(head.complete(body, trailers.filter(|_| takes_trailers)))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::http1::{BadBody, BadHead};

    fn bodies(text: &'static str, methods: &[Method]) -> Vec<Result<Bytes, BadMessage>> {
        let mut rest = Bytes::from_static(text.as_bytes());
        let last = methods.len() - 1;
        let take = |(place, method)| {
            let response = take_response(&mut rest, (method, true), place == last)?;
            let body = response.into_body().collect().now_or_never();
            Ok(body.unwrap().unwrap().to_bytes())
        };
        methods.iter().enumerate().map(take).collect()
    }

    #[test]
    fn the_framing_decides_where_a_response_ends() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\
                    HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n\
                    HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.0 200 OK\n\nthe rest";
        let methods = [Method::GET, Method::HEAD, Method::POST, Method::GET, Method::GET];
        let read: Vec<_> = bodies(text, &methods).into_iter().map(Result::unwrap).collect();
        assert_eq!(read, ["abc", "", "de", "", "the rest"]);
    }

    #[test]
    fn a_response_without_framing_is_accepted_only_as_the_last() {
        for (text, why) in [
            ("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", BadMessage::Endless),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", BadMessage::Length),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", BadBody::Incomplete.into()),
            ("garbage\r\n\r\n", BadHead::StartLine.into()),
            ("", BadMessage::Incomplete),
        ] {
            assert_eq!(bodies(text, &[Method::GET, Method::GET])[0], Err(why), "{text:?}");
        }
    }
}
