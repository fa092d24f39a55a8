//! Hop-by-hop fields (RFC 9110 §7.6.1), and the one Upgrade that may cross a hop.

use http::header::{CONNECTION, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};

use super::fields;

/// The fields that are meant for one hop (RFC 9110 §7.6.1), except `TE`: `TE: trailers` is passed on.
pub const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    fields::KEEP_ALIVE,
    fields::PROXY_CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    fields::HTTP2_SETTINGS,
];

/// Fields that stay even if `Connection` names them: only an attacker names them there.
const NEVER_NOMINATED: [HeaderName; 9] = [
    http::header::HOST,
    http::header::CONTENT_LENGTH,
    http::header::AUTHORIZATION,
    http::header::COOKIE,
    http::header::SET_COOKIE,
    http::header::FORWARDED,
    http::header::VIA,
    TE,
    TRAILER,
];

/// Removes the hop-by-hop fields. `TE: trailers` stays, every other `TE` is removed. Returns the token of `Upgrade`, if
/// the message requests an Upgrade in due form; the caller decides whether to put the token back.
pub fn strip(headers: &mut HeaderMap) -> Option<HeaderValue> {
    // One pass over the few fields present is cheaper than a lookup of each possible field.
    if !headers.keys().any(is_of_this_hop) {
        return None;
    }
    let mut upgrade = None;
    if headers.contains_key(CONNECTION) {
        let (wants_upgrade, nominated) = nominated(headers);
        if wants_upgrade {
            upgrade = headers.get(UPGRADE).cloned();
        }
        for name in nominated {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if headers.contains_key(TE) {
        let trailers = takes_trailers(headers);
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    upgrade
}

/// As [`strip`], for a message that was received in this version. Over HTTP/2 the h2 crate refuses messages with
/// hop-by-hop fields (RFC 9113 §8.2.2), so that there is nothing to remove.
pub fn strip_received(version: Version, headers: &mut HeaderMap) -> Option<HeaderValue> {
    if version == Version::HTTP_2 { None } else { strip(headers) }
}

/// Strips an answer before a carrier sends it. A 101 keeps its Upgrade.
pub fn strip_answer<B>(response: &mut Response<B>) {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let Some(token) = strip(response.headers_mut()).filter(|_| switches) {
        set_upgrade(response.headers_mut(), token);
    }
}

/// Whether a name is among [`HOP_BY_HOP`] or is `TE`. Most other names differ in length: no more is compared.
fn is_of_this_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "te"
    )
}

/// Whether the sender of the request accepts trailers and drops none (`TE: trailers`, RFC 9110 §10.1.4).
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().any(|value| list(value).any(|t| t.eq_ignore_ascii_case("trailers")))
}

fn nominated(headers: &HeaderMap) -> (bool, Vec<HeaderName>) {
    let mut wants_upgrade = false;
    let mut names = Vec::new();
    for token in headers.get_all(CONNECTION).iter().flat_map(list) {
        wants_upgrade |= token.eq_ignore_ascii_case("upgrade");
        let Ok(name) = HeaderName::try_from(token) else { continue };
        if !NEVER_NOMINATED.contains(&name) {
            names.push(name);
        }
    }
    (wants_upgrade, names)
}

/// Puts an Upgrade on a message.
pub fn set_upgrade(headers: &mut HeaderMap, token: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, token);
}

/// Whether the message requests, in due form, an Upgrade to `token` (RFC 9110 §7.8).
pub fn requests_upgrade(headers: &HeaderMap, token: &str) -> bool {
    let has = |name: HeaderName, element: &str| {
        headers.get_all(name).iter().flat_map(list).any(|t| t.eq_ignore_ascii_case(element))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, token)
}

/// The elements of a comma list; a value that is not visible ASCII has none.
pub fn list(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|t| !t.is_empty())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A map of these fields.
    pub(in crate::message) fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn fields_named_by_connection_are_removed_except_essential_ones() {
        let mut headers = map(&[
            ("connection", "x-plain, Host, close"),
            ("connection", "cookie, authorization, content-length"),
            ("x-plain", "1"),
            ("host", "a.test"),
            ("cookie", "a=b"),
            ("authorization", "x"),
            ("content-length", "3"),
            ("keep-alive", "5"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
        ]);
        assert_eq!(strip(&mut headers), None);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length", "cookie", "host"]);
    }

    #[test]
    fn every_hop_by_hop_field_is_recognized() {
        assert!(HOP_BY_HOP.iter().chain([&TE]).all(is_of_this_hop));
        assert!(!is_of_this_hop(&TRAILER) && !is_of_this_hop(&http::header::HOST));
    }

    #[test]
    fn te_keeps_trailers_and_nothing_else() {
        let mut headers = map(&[("te", "gzip;q=0.5, trailers"), ("connection", "te")]);
        strip(&mut headers);
        assert_eq!(headers["te"], "trailers");
        let mut headers = map(&[("te", "gzip")]);
        strip(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn an_upgrade_counts_only_if_connection_lists_it() {
        let mut upgrade = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert!(requests_upgrade(&upgrade, "WebSocket"));
        assert_eq!(strip(&mut upgrade).unwrap(), "websocket");
        assert!(upgrade.is_empty());
        let mut stray = map(&[("upgrade", "websocket")]);
        assert!(!requests_upgrade(&stray, "websocket"));
        assert_eq!(strip(&mut stray), None);
        assert!(stray.is_empty());
    }
}
