//! A visitor's request, made ready for the origin: HTTP/1.1, origin form, this hop's fields only.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;

use crate::message::expect::{Gate, gate};
use crate::message::upgrade::join_cookies;
use crate::message::{Body, Request, hop};

/// The request and what must be kept beside it until its answer.
pub(super) struct Outgoing {
    pub(super) request: Request,
    /// The visitor's end of the Upgrade that the request asks for.
    pub(super) upgrade: Option<Upgrade>,
    /// The hand on the body of a request with `Expect: 100-continue`.
    pub(super) gate: Option<Arc<Gate>>,
}

/// An Upgrade that was passed on.
pub(super) struct Upgrade {
    pub(super) token: HeaderValue,
    pub(super) visitor: OnUpgrade,
}

/// Builds the origin's request. What the visitor sent of its own stays byte for byte: method, path, query, fields.
pub(super) fn outgoing(request: Request) -> Outgoing {
    let (mut parts, body) = request.into_parts();
    let mut headers = parts.headers;
    let token = hop::strip(&mut headers).filter(may_pass);
    let upgrade =
        token.and_then(|token| Some(Upgrade { token, visitor: parts.extensions.remove::<OnUpgrade>()? }));
    if let Some(upgrade) = &upgrade {
        hop::set_upgrade(&mut headers, upgrade.token.clone());
    } else if headers.contains_key(TE) {
        // RFC 9110 §10.1.4.
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    set_host(&mut headers, &parts.uri);
    join_cookies(&mut headers);
    if !body.is_end_stream() && !headers.contains_key(CONTENT_LENGTH) && body.size_hint().exact().is_none() {
        // hyper would take a GET with a body of unknown length for one without.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let expects = hop_expects(&headers) && !body.is_end_stream();
    let (body, gate) = if expects { guarded(body) } else { (body, None) };

    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = origin_form(&parts.uri);
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    if let Some(gate) = gate.clone() {
        hyper::ext::on_informational(&mut request, move |interim| {
            if interim.status() == StatusCode::CONTINUE {
                gate.open();
            }
        });
    }
    Outgoing { request, upgrade, gate }
}

/// `h2c` changes the meaning of the connection itself, and nobody on the way could see the requests any more.
fn may_pass(token: &HeaderValue) -> bool {
    !hop::list(token).any(|t| t.eq_ignore_ascii_case("h2c"))
}

fn hop_expects(headers: &HeaderMap) -> bool {
    headers.get(http::header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn guarded(body: Body) -> (Body, Option<Arc<Gate>>) {
    match body.into_incoming() {
        Ok(incoming) => {
            let (hand, gated) = gate(incoming);
            (Body::gated(gated), Some(Arc::new(hand)))
        }
        Err(other) => {
            let (hand, gated) = gate(other);
            (Body::wrap(gated), Some(Arc::new(hand)))
        }
    }
}

/// The authority of the target wins over `Host` (RFC 9112 §3.2.2); on HTTP/2 it is the only place to have one.
fn set_host(headers: &mut HeaderMap, uri: &Uri) {
    let Some(authority) = uri.authority() else { return };
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(HOST, host);
    }
}

/// The target without scheme and authority, which would make hyper write the absolute form.
pub(super) fn origin_form(uri: &Uri) -> Uri {
    let target = match uri.path_and_query() {
        Some(target) if !target.as_str().is_empty() => target.clone(),
        _ => PathAndQuery::from_static("/"),
    };
    Uri::from(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_origin(target: &str, fields: &[(&'static str, &'static str)]) -> Request {
        let mut request = http::Request::get(target).body(Body::empty()).unwrap();
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        outgoing(request).request
    }

    #[test]
    fn the_target_keeps_every_byte_of_path_and_query() {
        for (target, wanted) in [
            ("/", "/"),
            ("/a%2Fb//c/../d?x=%20&y", "/a%2Fb//c/../d?x=%20&y"),
            ("https://a.test", "/"),
            ("https://a.test?x", "/?x"),
            ("https://a.test/b?c", "/b?c"),
            ("*", "*"),
        ] {
            assert_eq!(to_origin(target, &[]).uri().to_string(), wanted, "{target}");
        }
    }

    #[test]
    fn the_host_is_the_visitors() {
        assert_eq!(to_origin("https://a.test:8443/", &[]).headers()["host"], "a.test:8443");
        assert_eq!(to_origin("http://a.test/", &[("host", "b.test")]).headers()["host"], "a.test");
        assert_eq!(to_origin("/", &[("host", "b.test")]).headers()["host"], "b.test");
        assert_eq!(to_origin("/", &[("host", "")]).headers()["host"], "");
        assert!(!to_origin("/", &[]).headers().contains_key("host"));
    }

    #[test]
    fn an_upgrade_needs_somebody_to_speak_it_with() {
        for token in ["websocket", "h2c"] {
            let request = to_origin("/", &[("connection", "upgrade"), ("upgrade", token), ("cookie", "a=1")]);
            assert_eq!(request.headers().len(), 1, "{token}");
        }
    }

    #[test]
    fn crumbs_are_joined_and_te_is_announced() {
        let request = to_origin("/", &[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers, gzip")]);
        assert_eq!(request.headers().get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
        assert_eq!(
            (&request.headers()["te"], &request.headers()["connection"]),
            (&"trailers".parse().unwrap(), &"te".parse().unwrap())
        );
    }
}
