//! CORS, so that pages in browsers can be agents. Any origin may send requests, because these resources need a token,
//! and never a cookie (Fetch §3.2).

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::message::{Body, Response};
use crate::session::envelope::UrlId;

/// A response without a body, which no cache may store.
pub(in crate::transport) fn plain(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Adds a field with the ids of requests. An id alone gives no access.
pub(in crate::transport) fn insert_ids(response: &mut Response, field: HeaderName, requests: &[UrlId]) {
    let ids: Vec<_> = requests.iter().map(|id| format!("{id:x}")).collect();
    if !ids.is_empty()
        && let Ok(value) = HeaderValue::try_from(ids.join(", "))
    {
        response.headers_mut().insert(field, value);
    }
}

/// The answer to OPTIONS: the methods that this resource allows, and the methods and fields that pages may send.
pub(in crate::transport) fn options(
    allowed: &'static str,
    methods: &'static str,
    fields: &'static str,
) -> Response {
    let mut response = plain(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allowed));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(fields));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// Lets a page of another origin read a response, and its `exposed` fields.
pub(in crate::transport) fn expose(
    request_headers: &HeaderMap,
    response: &mut Response,
    exposed: &'static str,
) {
    if request_headers.contains_key(ORIGIN) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}
