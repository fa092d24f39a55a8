//! Front proxies: finds the visitor when the connection comes from a proxy that the operator trusts. The hops in the
//! proxy's fields are read from the right, over every trusted hop, to the first untrusted hop: the visitor may have
//! invented all hops to the left of that hop.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderValue};

use crate::message::fields;
use crate::net::nets::Nets;

/// The most hops that are read: longer chains are loops.
const HOPS: usize = 32;

/// The visitor, as the trusted hops report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ForwardedVisitor {
    /// Its address; the port is 0 if no hop reported it.
    pub(super) remote: Option<SocketAddr>,
    /// Whether its connection was encrypted.
    pub(super) tls: Option<bool>,
}

/// The fields contradict each other or cannot be parsed: the visitor may have written one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contradiction {
    #[error("Forwarded is malformed")]
    Malformed,
    #[error("Forwarded and X-Forwarded-For name different addresses")]
    Differ,
}

/// Reads `Forwarded` (RFC 7239) and `X-Forwarded-For`, `-Proto`.
///
/// # Errors
/// [`Contradiction`]. If a proxy writes one of the two fields and forwards the other unchanged, visitors can forge the
/// other field.
pub(super) fn forwarded_visitor(
    headers: &HeaderMap,
    trusted: &Nets,
) -> Result<ForwardedVisitor, Contradiction> {
    let standard = forwarded(headers, trusted)?;
    let de_facto = x_forwarded(headers, trusted);
    if let (Some(one), Some(other)) = (standard.remote, de_facto.remote)
        && one.ip() != other.ip()
    {
        return Err(Contradiction::Differ);
    }
    Ok(ForwardedVisitor { remote: de_facto.remote.or(standard.remote), tls: de_facto.tls.or(standard.tls) })
}

/// The visitor among the hops, which come nearest first, and its distance in hops. `None` when the nearest hop has no
/// address.
fn walk(hops: impl Iterator<Item = Option<SocketAddr>>, trusted: &Nets) -> Option<(SocketAddr, usize)> {
    let mut found = None;
    for (distance, hop) in hops.take(HOPS).enumerate() {
        let Some(hop) = hop else { break };
        found = Some((hop, distance));
        if !trusted.contains(hop.ip()) {
            break;
        }
    }
    found
}

fn x_forwarded(headers: &HeaderMap, trusted: &Nets) -> ForwardedVisitor {
    let hops = backwards(headers.get_all(fields::X_FORWARDED_FOR).iter().rev()).map(node);
    let found = walk(hops, trusted);
    let distance = found.map_or(0, |(_, distance)| distance);
    // If each hop has added a value, this is the value of the hop that the visitor connected to. If there are fewer
    // values, this is the first.
    let proto = backwards(headers.get_all(fields::X_FORWARDED_PROTO).iter().rev()).take(distance + 1).last();
    ForwardedVisitor { remote: found.map(|(remote, _)| remote), tls: proto.and_then(encrypted) }
}

/// The elements of a list, the last first.
fn backwards<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> impl Iterator<Item = &'a str> {
    values.flat_map(|value| value.to_str().unwrap_or("unknown").rsplit(',').map(str::trim))
}

fn encrypted(proto: &str) -> Option<bool> {
    let is = |schemes: [&str; 2]| schemes.iter().any(|scheme| proto.eq_ignore_ascii_case(scheme));
    match (is(["https", "wss"]), is(["http", "ws"])) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// An address, with or without port. An IPv6 address without port may have no brackets.
fn node(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    let address = address.or_else(|_| text.parse::<SocketAddr>()).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// One hop of `Forwarded`.
#[derive(Default)]
struct Hop {
    node: Option<SocketAddr>,
    tls: Option<bool>,
}

fn forwarded(headers: &HeaderMap, trusted: &Nets) -> Result<ForwardedVisitor, Contradiction> {
    let mut hops = Vec::new();
    for value in headers.get_all(FORWARDED).iter().rev() {
        let text = value.to_str().map_err(|_| Contradiction::Malformed)?;
        // A quoted string may contain commas, so a value is parsed from its start.
        let mut parsed = elements(text).ok_or(Contradiction::Malformed)?;
        parsed.reverse();
        hops.append(&mut parsed);
        if hops.len() >= HOPS {
            break;
        }
    }
    let found = walk(hops.iter().map(|hop| hop.node), trusted);
    let distance = found.map_or(0, |(_, distance)| distance);
    Ok(ForwardedVisitor {
        remote: found.map(|(remote, _)| remote),
        tls: hops.get(distance).and_then(|hop| hop.tls),
    })
}

/// Parses `Forwarded` (RFC 7239 §4): elements separated by `,`, pairs by `;`, each value a token or quoted. `None` for
/// any other syntax.
fn elements(text: &str) -> Option<Vec<Hop>> {
    let mut all = vec![Hop::default()];
    let mut remaining = text.trim_start();
    while !remaining.is_empty() {
        let (name, after) = remaining.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find([';', ',']).unwrap_or(after.len());
                (after[..end].trim_end().to_owned(), &after[end..])
            }
        };
        let last = all.last_mut()?;
        match name.trim() {
            name if name.eq_ignore_ascii_case("for") => last.node = node(&value),
            name if name.eq_ignore_ascii_case("proto") => last.tls = encrypted(&value),
            name if name.contains([';', ',', '"', ' ']) => return None,
            _ => {}
        }
        let after = after.trim_start();
        remaining = match after.chars().next() {
            None => "",
            Some(';') => after[1..].trim_start(),
            Some(',') => {
                all.push(Hop::default());
                after[1..].trim_start()
            }
            Some(_) => return None,
        };
    }
    Some(all)
}

fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(
        fields: &[(&'static str, &'static str)],
    ) -> Result<(Option<String>, Option<bool>), Contradiction> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let trusted = ["10.0.0.0/8", "2001:db8:f::/48"].iter().map(|net| net.parse().unwrap()).collect();
        let visitor = forwarded_visitor(&headers, &trusted)?;
        Ok((visitor.remote.map(|remote| remote.to_string()), visitor.tls))
    }

    fn one_field(name: &'static str, value: &'static str) -> (Option<String>, Option<bool>) {
        forwarded(&[(name, value)]).unwrap()
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_visitor() {
        let for_ = |value| one_field("x-forwarded-for", value).0;
        assert_eq!(for_("192.0.2.7").as_deref(), Some("192.0.2.7:0"));
        assert_eq!(for_("1.1.1.1, 192.0.2.7, 10.0.0.1,10.0.0.2").as_deref(), Some("192.0.2.7:0"));
        assert_eq!(for_("2001:db8::7").as_deref(), Some("[2001:db8::7]:0"));
        assert_eq!(for_("[2001:db8::7]:9, 2001:db8:f::1").as_deref(), Some("[2001:db8::7]:9"));
        assert_eq!(for_("::ffff:192.0.2.7:").as_deref(), None);
        assert_eq!(for_("::ffff:192.0.2.7").as_deref(), Some("192.0.2.7:0"));
        assert_eq!(for_("10.0.0.3, 10.0.0.2").as_deref(), Some("10.0.0.3:0"), "all are trusted");
        assert_eq!(for_("1.1.1.1, unknown, 10.0.0.2").as_deref(), Some("10.0.0.2:0"), "one hop is unknown");
        assert_eq!(for_("192.0.2.7, unknown"), None);
        assert_eq!(for_(""), None);
        let lines = forwarded(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "192.0.2.7, 10.0.0.1")]);
        assert_eq!(lines.unwrap().0.as_deref(), Some("192.0.2.7:0"));
    }

    #[test]
    fn forwarded_is_read_like_x_forwarded_for() {
        for (value, remote, tls) in [
            ("for=192.0.2.7", Some("192.0.2.7:0"), None),
            ("For=\"[2001:db8::7]:47011\" ; Proto=HTTPS;by=x", Some("[2001:db8::7]:47011"), Some(true)),
            (
                "for=1.1.1.1;proto=https, for=192.0.2.7;proto=http, for=10.0.0.1",
                Some("192.0.2.7:0"),
                Some(false),
            ),
            ("for=\"1.1.1.1, for=2.2.2.2\", for=192.0.2.7", Some("192.0.2.7:0"), None),
            ("for=_hidden;proto=https", None, Some(true)),
            ("for=unknown", None, None),
            ("host=a.test", None, None),
        ] {
            assert_eq!(one_field("forwarded", value), (remote.map(str::to_owned), tls), "{value}");
        }
        for bad in ["for=\"1.1.1.1, for=192.0.2.7", "for", "for=a b;x=\"\\", "\"a\"=b", "for=\"a\"b"] {
            assert_eq!(forwarded(&[("forwarded", bad)]), Err(Contradiction::Malformed), "{bad}");
        }
    }

    #[test]
    fn contradictory_fields_are_an_error() {
        let both = |standard, de_facto| forwarded(&[("forwarded", standard), ("x-forwarded-for", de_facto)]);
        assert_eq!(both("for=1.1.1.1", "192.0.2.7"), Err(Contradiction::Differ));
        assert_eq!(both("for=192.0.2.7", "1.1.1.1, 192.0.2.7").unwrap().0.as_deref(), Some("192.0.2.7:0"));
        assert_eq!(both("for=unknown", "192.0.2.7").unwrap().0.as_deref(), Some("192.0.2.7:0"));
    }

    #[test]
    fn the_scheme_is_taken_from_the_visitors_hop() {
        let tls =
            |hops, protos| forwarded(&[("x-forwarded-for", hops), ("x-forwarded-proto", protos)]).unwrap().1;
        assert_eq!(tls("192.0.2.7", "https"), Some(true));
        assert_eq!(tls("192.0.2.7", "https, http"), Some(false), "the left value is the visitor's own");
        assert_eq!(tls("192.0.2.7, 10.0.0.1", "https, http"), Some(true));
        assert_eq!(tls("192.0.2.7, 10.0.0.1", "https"), Some(true));
        assert_eq!(tls("192.0.2.7", "gopher"), None);
    }
}
