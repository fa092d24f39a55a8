//! `--host-header`: the origin receives another `Host` than its visitor sent. Many development servers refuse hosts that
//! they do not know.

use std::str::FromStr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::{HOST, HeaderName, LOCATION, ORIGIN, REFERER};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};

use super::OriginTarget;
use crate::message::cookies::drop_domains;
use crate::message::{Request, Response, authority, fields, interim};
use crate::net::dial::DialTarget;
use crate::session::Handler;

/// `Destination` (RFC 4918 §10.3): where WebDAV copies or moves a resource. Its host must be that of the request.
pub(super) const DESTINATION: HeaderName = HeaderName::from_static("destination");
/// The request fields whose value may be a URL of the service itself.
const REQUEST_URLS: [HeaderName; 3] = [ORIGIN, REFERER, DESTINATION];

/// The `Host` that an origin receives instead of the visitor's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostHeader {
    /// The host and port of the target.
    Target,
    /// This host.
    Fixed(Authority),
}

/// Why a text is no [`HostHeader`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write rewrite, or a host such as localhost:3000")]
pub struct BadHostHeader;

impl FromStr for HostHeader {
    type Err = BadHostHeader;

    fn from_str(text: &str) -> Result<Self, BadHostHeader> {
        if text.eq_ignore_ascii_case("rewrite") {
            return Ok(Self::Target);
        }
        let host = Authority::from_str(text).map_err(|_| BadHostHeader)?;
        authority::host(&host).map_err(|_| BadHostHeader)?;
        if authority::is_valid(&host) { Ok(Self::Fixed(host)) } else { Err(BadHostHeader) }
    }
}

/// Wraps `handler`, the origin at `target`, so that it receives this `Host`. The URLs of the service in `Origin`,
/// `Referer` and `Destination` become URLs of that host, and a URL of that host in `Location` becomes a URL of the
/// service again. Any other value passes unchanged. Cookies lose their `Domain`, which names a host that the visitor
/// does not know. Bodies pass unchanged.
pub fn with_host(handler: Arc<dyn Handler>, header: HostHeader, target: &OriginTarget) -> Arc<dyn Handler> {
    let (scheme, own) = if let OriginTarget::Web(place) | OriginTarget::Http2(place) = target {
        (scheme(place.tls), of_target(place))
    } else {
        // A unix socket and a directory have no host.
        ("http", Some(Authority::from_static("localhost")))
    };
    let host = match header {
        HostHeader::Fixed(host) => Some(host),
        HostHeader::Target => own,
    };
    match host {
        Some(host) => Arc::new(WithHost { handler, inner: WebOrigin { scheme, authority: host } }),
        None => handler,
    }
}

const fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

/// The authority of a target, without the default port of its scheme, as a browser on this machine would send it.
fn of_target(place: &DialTarget) -> Option<Authority> {
    let host = if place.host.contains(':') { format!("[{}]", place.host) } else { place.host.to_string() };
    let default = if place.tls { 443 } else { 80 };
    let text = if place.port == default { host } else { format!("{host}:{}", place.port) };
    Authority::try_from(text).ok()
}

struct WithHost {
    handler: Arc<dyn Handler>,
    /// The service as it sees itself.
    inner: WebOrigin,
}

/// A scheme, a host and a port (RFC 6454 §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WebOrigin {
    scheme: &'static str,
    authority: Authority,
}

impl WebOrigin {
    /// The origin of the URL that a visitor sees. `None` for a request without a host.
    pub(super) fn of_visitor(request: &Request) -> Option<Self> {
        let authority = authority::stated(request.uri(), request.headers()).ok()?;
        let proto = request.headers().get(fields::X_FORWARDED_PROTO);
        let tls = match proto {
            Some(proto) => proto == "https",
            None => request.uri().scheme_str() == Some("https"),
        };
        Some(Self { scheme: scheme(tls), authority })
    }

    fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.scheme == "https" { 443 } else { 80 })
    }

    /// What follows the origin in a URL of this origin; `None` for the URL of another.
    pub(super) fn strip<'a>(&self, url: &'a str) -> Option<&'a str> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !scheme.eq_ignore_ascii_case(self.scheme) {
            return None;
        }
        let named = Self { scheme: self.scheme, authority: Authority::from_str(authority).ok()? };
        let same = authority::is_valid(&named.authority)
            && named.authority.host().eq_ignore_ascii_case(self.authority.host())
            && named.port() == self.port();
        same.then_some(rest)
    }
}

/// Replaces the origin `from` in a field whose value is a URL of `from`.
fn replace(headers: &mut HeaderMap, name: &HeaderName, from: &WebOrigin, to: &WebOrigin) {
    let Some(value) = headers.get_mut(name) else { return };
    let Some(rest) = value.to_str().ok().and_then(|url| from.strip(url)) else { return };
    if let Ok(replaced) = HeaderValue::try_from(format!("{}://{}{rest}", to.scheme, to.authority)) {
        *value = replaced;
    }
}

impl Handler for WithHost {
    fn call(&self, mut request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        let Some(visitor) = WebOrigin::of_visitor(&request) else {
            return self.handler.call(request, interim);
        };
        authority::to_origin_form(&mut request);
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(self.inner.authority.as_str()) {
            headers.insert(HOST, host);
        }
        // The relay of this crate sends the field already.
        if !headers.contains_key(fields::X_FORWARDED_HOST)
            && let Ok(host) = HeaderValue::from_str(visitor.authority.as_str())
        {
            headers.insert(fields::X_FORWARDED_HOST, host);
        }
        for name in &REQUEST_URLS {
            replace(headers, name, &visitor, &self.inner);
        }
        let (answer, inner) = (self.handler.call(request, interim), self.inner.clone());
        Box::pin(async move {
            let mut response = answer.await;
            let headers = response.headers_mut();
            replace(headers, &LOCATION, &inner, &visitor);
            // The domain of the target's own host means nothing to the visitor.
            drop_domains(headers, |_| true);
            response
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Body;
    use crate::session::handler_fn;

    fn header(text: &str) -> HostHeader {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_header_is_rewrite_or_a_host() {
        assert_eq!(header("Rewrite"), HostHeader::Target);
        assert_eq!(header("app.test:80"), HostHeader::Fixed(Authority::from_static("app.test:80")));
        assert_eq!(header("[::1]:3000"), HostHeader::Fixed(Authority::from_static("[::1]:3000")));
        for bad in ["", "a b", "http://a.test", "a.test/x", "u@a.test", "a.test:x"] {
            assert_eq!(bad.parse::<HostHeader>(), Err(BadHostHeader), "{bad}");
        }
    }

    #[test]
    fn the_host_of_a_target_has_no_default_port() {
        for (target, host) in [
            ("3000", "localhost:3000"),
            ("http://app.test", "app.test"),
            ("https://app.test:443", "app.test"),
            ("https://[::1]:8443", "[::1]:8443"),
        ] {
            let OriginTarget::Web(place) = OriginTarget::parse(target).unwrap() else { panic!("{target}") };
            assert_eq!(of_target(&place).unwrap(), host, "{target}");
        }
    }

    #[test]
    fn only_urls_of_the_same_origin_are_stripped() {
        let origin = WebOrigin { scheme: "https", authority: Authority::from_static("shop.test") };
        for (url, rest) in [
            ("https://shop.test", Some("")),
            ("HTTPS://Shop.Test:443/a?b", Some("/a?b")),
            ("https://shop.test?x", Some("?x")),
            ("https://shop.test:8443/", None),
            ("http://shop.test/", None),
            ("https://shop.test.evil.test/", None),
            ("https://u@shop.test/", None),
            ("/a", None),
            ("null", None),
        ] {
            assert_eq!(origin.strip(url), rest, "{url}");
        }
    }

    /// The fields that the service receives from a visitor of `https://shop.test:8443`, and the fields of its answer.
    async fn through(
        request: &[(&'static str, &'static str)],
        answer: &[(&'static str, &'static str)],
    ) -> (HeaderMap, HeaderMap) {
        let (received, sent) = (Arc::<parking_lot::Mutex<HeaderMap>>::default(), answer.to_vec());
        let seen = received.clone();
        let service = handler_fn(move |request: Request| {
            *seen.lock() = request.headers().clone();
            let mut response = Response::new(Body::empty());
            for (name, value) in &sent {
                response.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            async { response }
        });
        let target = OriginTarget::parse("3000").unwrap();
        let handler = with_host(Arc::new(service), HostHeader::Target, &target);
        let mut visit = http::Request::get("https://shop.test:8443/a").body(Body::empty()).unwrap();
        for (name, value) in request {
            visit.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let response = handler.call(visit, interim::Sender::default()).await;
        let received = received.lock().clone();
        (received, response.into_parts().0.headers)
    }

    #[tokio::test]
    async fn urls_of_the_service_are_rewritten_both_ways_and_others_pass() {
        let (got, answered) = through(
            &[
                ("origin", "https://shop.test:8443"),
                ("referer", "https://shop.test:8443/page?x"),
                ("destination", "https://shop.test:8443/b%20c"),
            ],
            &[("location", "http://localhost:3000/login?next=/a")],
        )
        .await;
        assert_eq!(got["host"], "localhost:3000");
        assert_eq!(got["x-forwarded-host"], "shop.test:8443");
        assert_eq!(got["origin"], "http://localhost:3000");
        assert_eq!(got["referer"], "http://localhost:3000/page?x");
        assert_eq!(got["destination"], "http://localhost:3000/b%20c");
        assert_eq!(answered["location"], "https://shop.test:8443/login?next=/a");

        let foreign = [("origin", "https://evil.test"), ("referer", "https://evil.test/shop.test:8443/")];
        let (got, answered) = through(&foreign, &[("location", "/login")]).await;
        assert_eq!(got["origin"], foreign[0].1);
        assert_eq!(got["referer"], foreign[1].1);
        assert_eq!(answered["location"], "/login");
        let (_, answered) = through(&[], &[("location", "https://login.test/")]).await;
        assert_eq!(answered["location"], "https://login.test/");
    }

    #[tokio::test]
    async fn cookies_lose_their_domain() {
        let cookies = [("set-cookie", "a=1; Domain=localhost; Path=/"), ("set-cookie", "domain=2; Secure")];
        let (_, answered) = through(&[], &cookies).await;
        let all: Vec<_> = answered.get_all("set-cookie").iter().collect();
        assert_eq!(all, ["a=1; Path=/", "domain=2; Secure"]);
    }
}
