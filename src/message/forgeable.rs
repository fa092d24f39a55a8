//! Request fields by which a proxy states facts about a visitor: its address, its scheme, its certificate, its name.
//! Origins trust these fields, so no visitor may set them. A name counts in every spelling that CGI and its successors
//! read alike: `_` is read as `-`.

use http::HeaderName;

use super::fields;

/// Fields by which a proxy forwards facts about a connection. A trusted proxy may send them.
const FORWARDING: [&str; 16] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "fastly-client-ip",
    "fly-client-ip",
    "x-remote-addr",
    "x-remote-ip",
    "front-end-https",
    // RFC 9440 §2.4: a TLS-terminating proxy removes these from requests.
    "client-cert",
    "client-cert-chain",
    "x-scheme",
];
/// The prefixes of such fields.
const FORWARDING_PREFIXES: [&str; 3] = ["x-forwarded-", "x-ssl-", "x-client-cert"];
/// Fields that change how an origin routes a request, that name its user, or that are internal to relay and agent. No
/// other proxy sends them here. `Proxy` becomes the variable HTTP_PROXY of a CGI program (httpoxy, CVE-2016-5385).
const NEVER: [&str; 7] = [
    "proxy",
    "remote-user",
    "remote-addr",
    "x-remote-user",
    "x-authenticated-user",
    "x-webauth-user",
    "requesting-client",
];
/// The prefixes of such fields.
const NEVER_PREFIXES: [&str; 4] = [fields::INTERNAL, "x-original-", "x-rewrite-", "x-envoy-"];

/// Whether a visitor could forge a fact with this field. With `proxied`, the field came from a trusted proxy, which may
/// send the forwarding fields in their usual spelling.
pub fn is_forgeable(name: &HeaderName, proxied: bool) -> bool {
    // A quick check, because hardly any request has such a field.
    let first = name.as_str().as_bytes().first();
    if !matches!(first, Some(b'c' | b'f' | b'p' | b'r' | b't' | b'x')) {
        return false;
    }
    let usual = !name.as_str().contains('_');
    let forwards = is_one_of(name, &FORWARDING) || begins_with_one_of(name, &FORWARDING_PREFIXES);
    let never = is_one_of(name, &NEVER) || begins_with_one_of(name, &NEVER_PREFIXES);
    never || forwards && !(proxied && usual)
}

/// The bytes of a name, with `_` read as `-`.
fn read_alike(name: &HeaderName) -> impl Iterator<Item = u8> {
    name.as_str().bytes().map(|byte| if byte == b'_' { b'-' } else { byte })
}

fn is_one_of(name: &HeaderName, names: &[&str]) -> bool {
    names.iter().any(|known| known.len() == name.as_str().len() && read_alike(name).eq(known.bytes()))
}

fn begins_with_one_of(name: &HeaderName, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| read_alike(name).take(prefix.len()).eq(prefix.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name in the three spellings that an origin may read alike.
    fn spellings(name: &str) -> [HeaderName; 3] {
        let mixed = name.replacen('-', "_", 1);
        [name.to_owned(), name.replace('-', "_"), mixed].map(|name| HeaderName::try_from(name).unwrap())
    }

    #[test]
    fn every_forgeable_name_is_found_in_three_spellings() {
        let prefixed = FORWARDING_PREFIXES.iter().chain(&NEVER_PREFIXES).map(|prefix| format!("{prefix}url"));
        let names = FORWARDING.iter().chain(&NEVER).map(|name| (*name).to_owned()).chain(prefixed);
        for name in names {
            for spelling in spellings(&name) {
                assert!(is_forgeable(&spelling, false), "{spelling}");
            }
        }
        for name in
            ["x-forwarded", "x-request-id", "proxy-authorization", "traceparent", "cookie", "x-sslx", "from"]
        {
            for spelling in spellings(name) {
                assert!(!is_forgeable(&spelling, false), "{spelling}");
            }
        }
    }

    #[test]
    fn a_trusted_proxy_may_send_the_forwarding_fields_in_their_usual_spelling() {
        for name in FORWARDING.iter().filter(|name| name.contains('-')) {
            let [usual, cgi, mixed] = spellings(name);
            assert!(
                !is_forgeable(&usual, true) && is_forgeable(&cgi, true) && is_forgeable(&mixed, true),
                "{name}"
            );
        }
        for name in NEVER {
            assert!(spellings(name).iter().all(|spelling| is_forgeable(spelling, true)), "{name}");
        }
    }
}
