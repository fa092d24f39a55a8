//! Logins that an origin ties to a connection (NTLM; Negotiate, RFC 4559). The origin serves every later request on
//! that connection as the user who logged in, so the connection must never carry the request of another visitor.

use http::header::{AUTHORIZATION, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};

const FIELDS: [HeaderName; 4] = [AUTHORIZATION, PROXY_AUTHORIZATION, WWW_AUTHENTICATE, PROXY_AUTHENTICATE];
const SCHEMES: [&[u8]; 2] = [b"NTLM", b"Negotiate"];

/// Whether a message carries a credential or a challenge of such a scheme.
pub(super) fn binds_connection(headers: &HeaderMap) -> bool {
    FIELDS.iter().flat_map(|name| headers.get_all(name)).any(names_scheme)
}

/// Several challenges may share a field (RFC 9110 §11.6.1). A comma in a quoted string splits the value too; at worst,
/// a connection is bound without need.
fn names_scheme(value: &HeaderValue) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|part| {
        let scheme = part.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known))
    })
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
            assert_eq!(binds_connection(&headers), binds, "{name}: {value}");
        }
    }
}
