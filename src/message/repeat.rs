//! Requests that may be sent twice.

use http::header::UPGRADE;
use http::{HeaderMap, Method};
use http_body::Body as _;

use super::{Body, Request};

/// Whether a request does no harm when it is sent again: its method is safe (RFC 9110 §9.2.2), and it has neither a
/// body nor an Upgrade, of which a part could have been sent already.
pub fn is_harmless(request: &Request) -> bool {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    safe && request.body().is_end_stream() && !request.headers().contains_key(UPGRADE)
}

/// A copy of a harmless request, without its extensions. `None` for any other request.
pub fn copy(request: &Request) -> Option<Request> {
    if !is_harmless(request) {
        return None;
    }
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = HeaderMap::clone(request.headers());
    Some(copy)
}
