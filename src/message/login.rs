//! Logins that an origin ties to a connection (NTLM; Negotiate, RFC 4559). The origin serves every later request on
//! that connection as the user who logged in. So the connection becomes private to one visitor connection, whose
//! requests the relay marks.

use http::header::{AUTHORIZATION, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};

use super::fields;

const CREDENTIALS: [HeaderName; 2] = [AUTHORIZATION, PROXY_AUTHORIZATION];
const CHALLENGES: [HeaderName; 2] = [WWW_AUTHENTICATE, PROXY_AUTHENTICATE];
const SCHEMES: [&[u8]; 2] = [b"NTLM", b"Negotiate"];

/// Whether a request has a credential of such a login.
pub fn is_login(request: &HeaderMap) -> bool {
    names_scheme(request, &CREDENTIALS)
}

/// Whether an answer requests such a login.
pub fn is_challenge(answer: &HeaderMap) -> bool {
    names_scheme(answer, &CHALLENGES)
}

/// Several challenges may share a field (RFC 9110 §11.6.1). A comma in a quoted string splits the value too; at worst,
/// a connection is private without need.
fn names_scheme(headers: &HeaderMap, names: &[HeaderName]) -> bool {
    let elements = names
        .iter()
        .flat_map(|name| headers.get_all(name))
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    elements.into_iter().any(|element| {
        let scheme = element.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known))
    })
}

/// A random number that identifies a visitor connection to the agent. See [`fields::PTTH_VISITOR_CONNECTION`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisitorMark(u128);

impl VisitorMark {
    /// A mark that no other visitor connection has.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The value of the field. HPACK does not index the value, because it would displace fields that all requests share.
    pub fn value(self) -> HeaderValue {
        let text = format!("{:032x}", self.0);
        let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    /// Removes the mark from the fields of a request. `None` also if the value is malformed.
    pub fn take(request: &mut HeaderMap) -> Option<Self> {
        let value = request.remove(fields::PTTH_VISITOR_CONNECTION)?;
        let is_number = value.len() == 32 && value.as_bytes().iter().all(u8::is_ascii_hexdigit);
        let digits = value.to_str().ok().filter(|_| is_number)?;
        u128::from_str_radix(digits, 16).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_found_in_every_field_and_place() {
        for (name, value, binds) in [
            ("authorization", "NTLM TlRMTVNTUAAD", true),
            ("authorization", "negotiate\tYIIJ", true),
            ("authorization", "Basic bnRsbTpudGxt", false),
            ("authorization", "Bearer NTLM", false),
            ("proxy-authorization", "Negotiate YIIJ", true),
            ("www-authenticate", "NTLM", true),
            ("www-authenticate", "Basic realm=\"\u{e9}, b\" ,Negotiate", true),
            ("www-authenticate", "Basic realm=\"NTLM\", Negotiated", false),
            ("proxy-authenticate", " Digest qop=\"a\", ntlm", true),
            ("x-authorization", "NTLM", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("x"));
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            let found = is_login(&headers) || is_challenge(&headers);
            assert_eq!(found, binds, "{name}: {value}");
        }
    }

    #[test]
    fn a_mark_is_taken_from_the_fields() {
        let mark = VisitorMark(0x0123);
        let mut headers = HeaderMap::new();
        headers.insert(fields::PTTH_VISITOR_CONNECTION, mark.value());
        assert_eq!(headers[fields::PTTH_VISITOR_CONNECTION], "00000000000000000000000000000123");
        assert_eq!(VisitorMark::take(&mut headers), Some(mark));
        assert!(headers.is_empty());
        for malformed in ["", "123", "+0000000000000000000000000000123", "0000000000000000000000000000012g"] {
            headers.insert(fields::PTTH_VISITOR_CONNECTION, HeaderValue::from_static(malformed));
            let taken = VisitorMark::take(&mut headers);
            assert!(taken.is_none() && headers.is_empty(), "{malformed}");
        }
    }
}
