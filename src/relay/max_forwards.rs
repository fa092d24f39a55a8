//! `Max-Forwards` (RFC 9110 §7.6.2): the number of hops that may still forward a TRACE or OPTIONS request. And the limit
//! of hops for every request, which ends loops.

use http::header::{MAX_FORWARDS, VIA};
use http::{HeaderMap, HeaderValue, Method};

use super::respond::{self, VisitorFailure};
use crate::defaults;
use crate::message::{Request, Response, hop};
use crate::observe::Recording;

/// The answer to a request that may not be forwarded any further.
pub(super) fn instead(request: &mut Request, recording: &mut Recording) -> Option<Response> {
    if is_loop(request.headers()) {
        return Some(respond::failure(VisitorFailure::Loop, request.headers(), recording));
    }
    (!count(request)).then(|| respond::instead_of_forwarding(request, recording))
}

/// Whether a request has passed through so many relays that it must be in a loop (RFC 9110 §7.6).
fn is_loop(headers: &HeaderMap) -> bool {
    let hops = headers.get_all(VIA).iter().flat_map(hop::list);
    hops.filter(|hop| hop.ends_with(" ptth")).nth(defaults::LOOP - 1).is_some()
}

/// Counts this hop. Returns whether the request may be forwarded. A value that is not a number does not limit the
/// request. Relay and agent are one hop, as in `Via`.
fn count(request: &mut Request) -> bool {
    if ![Method::TRACE, Method::OPTIONS].contains(request.method()) {
        return true;
    }
    let limit =
        request.headers().get(MAX_FORWARDS).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match limit {
        None => true,
        Some(0) => false,
        Some(limit) => {
            request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(limit - 1));
            true
        }
    }
}
