//! Cookies that would reach other tenants. A name is a host below the relay's domain, and a cookie for that domain, or
//! for a domain above it, is sent to every name there: one tenant could plant a session in another's service. So the
//! relay removes the `Domain` of such a cookie, which then stays with the host that set it (RFC 6265 §5.3). Nothing
//! else in an answer is changed.

use http::header::{Entry, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use crate::domain::HostName;

/// Removes the `Domain` from each cookie whose domain covers one of `own`.
pub(super) fn confine(headers: &mut HeaderMap, own: &[HostName]) {
    // Checked first, because `entry` reserves room in the map.
    if !headers.contains_key(SET_COOKIE) {
        return;
    }
    if let Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) {
        for cookie in cookies.iter_mut() {
            if let Some(confined) = confined(cookie.as_bytes(), own) {
                *cookie = confined;
            }
        }
    }
}

fn confined(cookie: &[u8], own: &[HostName]) -> Option<HeaderValue> {
    let reaches = |part: &[u8]| domain(part).is_some_and(|domain| own.iter().any(|own| covers(domain, own)));
    let mut parts = cookie.split(|byte| *byte == b';');
    let first = parts.next()?;
    if !parts.clone().any(reaches) {
        return None;
    }
    let mut remaining = first.to_vec();
    for part in parts.filter(|part| !reaches(part)) {
        remaining.push(b';');
        remaining.extend_from_slice(part);
    }
    HeaderValue::from_bytes(&remaining).ok()
}

/// The value of a `Domain` attribute, without its leading dot, which has no meaning (RFC 6265 §5.2.3).
fn domain(part: &[u8]) -> Option<&[u8]> {
    let at = part.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (part[..at].trim_ascii(), part[at + 1..].trim_ascii());
    name.eq_ignore_ascii_case(b"domain").then(|| value.strip_prefix(b".").unwrap_or(value))
}

/// Whether `domain` is `host` or a domain above it. A dot at the end of `domain` is ignored.
fn covers(domain: &[u8], host: &HostName) -> bool {
    let domain = domain.strip_suffix(b".").unwrap_or(domain);
    let host = host.as_str().as_bytes();
    let Some(prefix) = host.len().checked_sub(domain.len()) else { return false };
    host[prefix..].eq_ignore_ascii_case(domain)
        && !domain.is_empty()
        && (prefix == 0 || host[prefix - 1] == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cookies_that_reach_other_names_lose_their_domain() {
        let own = [HostName::parse("relay.example.org").unwrap()];
        for (cookie, expected) in [
            ("a=1; Domain=relay.example.org; Path=/", "a=1; Path=/"),
            ("a=1;domain = .Relay.Example.ORG.;Secure", "a=1;Secure"),
            ("a=1; Domain=example.org", "a=1"),
            ("a=1; Domain=org; HttpOnly", "a=1; HttpOnly"),
            ("a=1; Domain=shop.relay.example.org; Domain=example.org", "a=1; Domain=shop.relay.example.org"),
        ] {
            assert_eq!(confined(cookie.as_bytes(), &own).unwrap(), expected, "{cookie}");
        }
        for cookie in [
            "a=1",
            "a=1; Path=/; Domain=shop.relay.example.org",
            "a=1; Domain=ample.org",
            "a=1; Domain=",
            "a=1; Domain",
            "Domain=relay.example.org",
            "a=1; Domain=other.test",
        ] {
            assert_eq!(confined(cookie.as_bytes(), &own), None, "{cookie}");
        }
    }

    #[test]
    fn every_cookie_is_checked_and_its_other_bytes_are_kept() {
        let own = [HostName::parse("relay.test").unwrap()];
        let mut headers = HeaderMap::new();
        let cookies: [&[u8]; 3] =
            [b"a=\xff; Domain=relay.test", b"b=\xfe; Path=/", b"c=\xfd; DOMAIN=test; Secure"];
        for cookie in cookies {
            headers.append(SET_COOKIE, HeaderValue::from_bytes(cookie).unwrap());
        }
        confine(&mut headers, &own);
        let confined: Vec<_> = headers.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(confined, [&b"a=\xff"[..], b"b=\xfe; Path=/", b"c=\xfd; Secure"]);
    }
}
