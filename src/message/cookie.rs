//! Cookies of one name that would reach all others (RFC 6265 §4.1.2.3, §8.6).

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::domain::HostName;

/// Takes `Domain` off the cookies that an answer sets for `shared`, below which every name lives, or for what stands
/// above it. Without it a cookie is its own host's alone.
pub fn confine(headers: &mut HeaderMap, shared: &HostName) {
    let http::header::Entry::Occupied(mut entry) = headers.entry(SET_COOKIE) else { return };
    for value in entry.iter_mut() {
        if let Some(confined) = confined(value.as_bytes(), shared.as_str()) {
            *value = confined;
        }
    }
}

fn confined(cookie: &[u8], shared: &str) -> Option<HeaderValue> {
    let parts = || cookie.split(|b| *b == b';');
    let reaches_all = |part: &&[u8]| {
        let Some(equals) = part.iter().position(|b| *b == b'=') else { return false };
        let (name, value) = (part[..equals].trim_ascii(), part[equals + 1..].trim_ascii());
        let domain = value.strip_prefix(b".").unwrap_or(value);
        let domain = domain.strip_suffix(b".").unwrap_or(domain);
        let Some(front) = shared.len().checked_sub(domain.len()) else { return false };
        let (above, same) = shared.as_bytes().split_at(front);
        name.eq_ignore_ascii_case(b"domain")
            && same.eq_ignore_ascii_case(domain)
            && (above.is_empty() || above.ends_with(b"."))
    };
    // The first part is the cookie itself, whatever it is called.
    if !parts().skip(1).any(|part| reaches_all(&part)) {
        return None;
    }
    let kept = parts().enumerate().filter(|(place, part)| *place == 0 || !reaches_all(part));
    HeaderValue::from_bytes(&kept.map(|(_, part)| part).collect::<Vec<_>>().join(&b';')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_its_own_hosts_alone() {
        let shared = HostName::parse("relay.example.org").unwrap();
        for (cookie, wanted) in [
            ("a=b; Domain=relay.example.org; Path=/", "a=b; Path=/"),
            ("a=b;domain = .Relay.Example.ORG ;Secure", "a=b;Secure"),
            ("a=b; Domain=example.org", "a=b"),
            ("a=b; Domain=org.; Domain=relay.example.org.", "a=b"),
            ("a=b; Domain=shop.relay.example.org", "a=b; Domain=shop.relay.example.org"),
            ("a=b; Domain=elay.example.org", "a=b; Domain=elay.example.org"),
            ("a=b; Domain=shop.test", "a=b; Domain=shop.test"),
            ("Domain=example.org; Path=/", "Domain=example.org; Path=/"),
            ("a=b; Path=/; HttpOnly", "a=b; Path=/; HttpOnly"),
            ("a=b", "a=b"),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(SET_COOKIE, HeaderValue::from_static("first=1"));
            headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
            confine(&mut headers, &shared);
            let all: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
            assert_eq!(all, ["first=1", wanted], "{cookie}");
        }
    }
}
