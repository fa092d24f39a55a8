//! Prepares a visitor's request for the origin: HTTP/1.1, origin form, hop-by-hop fields of this hop only.

use http::header::{CONNECTION, HOST, TE};
use http::{HeaderValue, Method};

use super::failure::OriginFailure;
use crate::agent::recorded::UpgradeRecord;
use crate::message::authority::Unclear;
use crate::message::upgrade::{Opening, Tunnel, join_cookies};
use crate::message::{Request, authority, hop};

/// The request for the origin, with the state that is kept until its answer.
pub(super) struct OriginRequest {
    pub(super) request: Request,
    /// The visitor's end of the requested Upgrade.
    pub(super) upgrade: Option<Upgrade>,
}

/// An Upgrade that was passed on.
pub(super) struct Upgrade {
    pub(super) token: HeaderValue,
    pub(super) visitor: Opening,
    /// The record of the request, where there is one.
    pub(super) record: Option<UpgradeRecord>,
}

/// Refuses requests that no origin receives. The relay of this crate sends none of them; another relay may.
///
/// # Errors
/// [`OriginFailure`] for CONNECT, and for a request without exactly one valid host, which two recipients may take as
/// requests for different hosts (RFC 9112 §3.2). An empty `Host` passes: a relay of draft-lentczner-rhttp-00 sends it.
pub(super) fn check(request: &Request) -> Result<(), OriginFailure> {
    if request.method() == Method::CONNECT {
        return Err(OriginFailure::Tunnel);
    }
    match authority::stated(request.uri(), request.headers()) {
        Err(Unclear::Malformed) if is_without_authority(request) => Ok(()),
        stated => Ok(stated.map(|_| ())?),
    }
}

fn is_without_authority(request: &Request) -> bool {
    request.uri().authority().is_none() && request.headers().get(HOST).is_some_and(HeaderValue::is_empty)
}

/// Converts a visitor's request into the request for the origin. The visitor's method, path, query and fields stay byte
/// for byte.
pub(super) fn outgoing(mut request: Request) -> OriginRequest {
    let upgrade = upgrade(&mut request);
    authority::to_origin_form(&mut request);
    let headers = request.headers_mut();
    if let Some(upgrade) = &upgrade {
        hop::set_upgrade(headers, upgrade.token.clone());
    } else if headers.contains_key(TE) {
        // RFC 9110 §10.1.4.
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    join_cookies(headers);
    OriginRequest { request, upgrade }
}

/// Removes the fields of the previous hop, and returns the Upgrade that they request.
pub(super) fn upgrade(request: &mut Request) -> Option<Upgrade> {
    let version = request.version();
    let token = hop::strip_received(version, request.headers_mut()).filter(may_pass)?;
    let record = request.extensions_mut().remove::<UpgradeRecord>();
    Some(Upgrade { token, visitor: Tunnel::take(request.extensions_mut())?, record })
}

/// `h2c` would change the protocol of the whole connection, and no hop could read the requests any more.
fn may_pass(token: &HeaderValue) -> bool {
    !hop::list(token).any(|t| t.eq_ignore_ascii_case("h2c"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Body;

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
    fn the_host_of_the_visitor_is_kept() {
        assert_eq!(to_origin("https://a.test:8443/", &[]).headers()["host"], "a.test:8443");
        assert_eq!(to_origin("http://a.test/", &[("host", "b.test")]).headers()["host"], "a.test");
        assert_eq!(to_origin("/", &[("host", "b.test")]).headers()["host"], "b.test");
        assert_eq!(to_origin("/", &[("host", "")]).headers()["host"], "");
        assert!(!to_origin("/", &[]).headers().contains_key("host"));
    }

    #[test]
    fn an_upgrade_without_a_visitor_stream_is_removed() {
        for token in ["websocket", "h2c"] {
            let request = to_origin("/", &[("connection", "upgrade"), ("upgrade", token), ("cookie", "a=1")]);
            assert_eq!(request.headers().len(), 1, "{token}");
        }
    }

    #[test]
    fn cookie_fields_are_joined_and_te_is_listed_in_connection() {
        let request = to_origin("/", &[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers, gzip")]);
        assert_eq!(request.headers().get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
        assert_eq!(
            (&request.headers()["te"], &request.headers()["connection"]),
            (&"trailers".parse().unwrap(), &"te".parse().unwrap())
        );
    }
}
