//! The pages of the admin listener: `/live`, `/ready`, `/metrics`, `/sessions`. They have a listener of their own,
//! because their content is not for the public.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::domain::HostName;
use crate::message::{Body, Response};

/// The content of the pages.
pub trait AdminView: Send + Sync {
    /// Whether visitors and agents are admitted.
    fn is_ready(&self) -> bool;

    /// The OpenMetrics text.
    fn metrics(&self) -> String;

    /// The sessions, as a JSON array.
    fn sessions(&self) -> String;
}

/// Answers one request. `loopback`: the listener is for this machine alone. A request whose `Host` is not this machine
/// is refused, because it comes from a web page whose name was made to resolve to this machine (DNS rebinding).
pub fn answer(
    view: &dyn AdminView,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    loopback: bool,
) -> Response {
    if loopback && !is_local(headers) {
        return plain(
            StatusCode::MISDIRECTED_REQUEST,
            "the Host of the request must be this machine, and the request must have no Origin\n",
        );
    }
    if method != Method::GET && method != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n");
    }
    match path {
        "/live" => plain(StatusCode::OK, "live\n"),
        "/ready" if view.is_ready() => plain(StatusCode::OK, "ready\n"),
        "/ready" => plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        "/metrics" => typed(view.metrics(), "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "/sessions" => typed(view.sessions(), "application/json"),
        _ => plain(StatusCode::NOT_FOUND, "/live /ready /metrics /sessions\n"),
    }
}

fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let authority = host.parse::<http::uri::Authority>().ok();
    let local = authority.and_then(|a| HostName::parse(a.host()).ok()).is_some_and(|h| h.is_this_machine());
    local && !headers.contains_key(ORIGIN)
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = typed(text.to_owned(), "text/plain; charset=utf-8");
    *response.status_mut() = status;
    response
}

fn typed(text: String, kind: &'static str) -> Response {
    let mut response = Response::new(Body::full(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(bool);

    impl AdminView for Fixed {
        fn is_ready(&self) -> bool {
            self.0
        }
        fn metrics(&self) -> String {
            "# EOF\n".into()
        }
        fn sessions(&self) -> String {
            "[]".into()
        }
    }

    fn status(view: &Fixed, path: &str, fields: &[(&'static str, &'static str)]) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        answer(view, &Method::GET, path, &headers, true).status().as_u16()
    }

    #[test]
    fn ready_is_503_while_the_relay_stops() {
        let local = [("host", "127.0.0.1:9180")];
        assert_eq!(status(&Fixed(true), "/ready", &local), 200);
        assert_eq!(status(&Fixed(false), "/ready", &local), 503);
        assert_eq!(status(&Fixed(false), "/live", &local), 200);
        assert_eq!(status(&Fixed(true), "/x", &local), 404);
    }

    #[test]
    fn a_request_for_another_host_or_from_another_origin_is_refused() {
        assert_eq!(status(&Fixed(true), "/metrics", &[("host", "evil.test")]), 421);
        assert_eq!(status(&Fixed(true), "/metrics", &[]), 421);
        assert_eq!(
            status(&Fixed(true), "/metrics", &[("host", "localhost"), ("origin", "https://evil.test")]),
            421
        );
    }
}
