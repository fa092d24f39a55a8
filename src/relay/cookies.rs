//! Cookies that would reach other tenants. A name is a host below the relay's domain, and a cookie for that domain, or
//! for a domain above it, is sent to every name there: one tenant could plant a session in another's service. So the
//! relay removes the `Domain` of such a cookie, which then stays with the host that set it (RFC 6265 §5.3). Nothing
//! else in an answer is changed.

use http::HeaderMap;

use crate::domain::HostName;
use crate::message::cookies::drop_domains;

/// Removes the `Domain` from each cookie whose domain covers one of `own`.
pub(super) fn confine(headers: &mut HeaderMap, own: &[HostName]) {
    drop_domains(headers, |domain| own.iter().any(|own| covers(domain, own)));
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
    use http::HeaderValue;
    use http::header::SET_COOKIE;

    use super::*;

    /// The cookie after [`confine`]; `None` if it is unchanged.
    fn confined(cookie: &[u8], own: &[HostName]) -> Option<HeaderValue> {
        let given = HeaderValue::from_bytes(cookie).unwrap();
        let mut headers: HeaderMap = [(SET_COOKIE, given.clone())].into_iter().collect();
        confine(&mut headers, own);
        headers.remove(SET_COOKIE).filter(|left| *left != given)
    }

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
