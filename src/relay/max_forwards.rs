//! `Max-Forwards` (RFC 9110 §7.6.2): the number of hops that may still forward a TRACE or OPTIONS request.

use http::header::MAX_FORWARDS;
use http::{HeaderValue, Method};

use crate::message::Request;

/// Counts this hop. Returns whether the request may be forwarded. A value that is not a number does not limit the
/// request. Relay and agent are one hop, as in `Via`.
pub(super) fn count(request: &mut Request) -> bool {
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
