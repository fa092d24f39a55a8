//! The `Domain` of cookies in answers. Without it a cookie stays with the host that set it (RFC 6265 §5.3).

use http::header::{Entry, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// Removes the `Domain` of each cookie whose domain `drops` selects.
pub fn drop_domains(headers: &mut HeaderMap, drops: impl Fn(&[u8]) -> bool) {
    // Checked first, because `entry` reserves room in the map.
    if !headers.contains_key(SET_COOKIE) {
        return;
    }
    if let Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) {
        for cookie in cookies.iter_mut() {
            if let Some(without) = without_domain(cookie.as_bytes(), &drops) {
                *cookie = without;
            }
        }
    }
}

fn without_domain(cookie: &[u8], drops: impl Fn(&[u8]) -> bool) -> Option<HeaderValue> {
    let is_dropped = |part: &[u8]| domain(part).is_some_and(&drops);
    let mut parts = cookie.split(|byte| *byte == b';');
    let first = parts.next()?;
    if !parts.clone().any(is_dropped) {
        return None;
    }
    let mut remaining = first.to_vec();
    for part in parts.filter(|part| !is_dropped(part)) {
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
