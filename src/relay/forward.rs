//! From a visitor's request to the agent's, and from the agent's answer to the visitor's: hop-by-hop fields, the
//! names of the sender, and the splice behind a 101.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, FORWARDED, HOST, HeaderName, TRAILER, UPGRADE, VIA};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use http_body::Body as _;
use tokio::sync::OwnedSemaphorePermit;

use crate::domain::Visitor;
use crate::message::upgrade::{Opening, Tunnel};
use crate::message::{Body, Request, Response, fields, hop};
use crate::net::Scope;
use crate::net::splice::splice;
use crate::session::HeldSlot;

/// Fields that mean something behind the relay and that a visitor must not set.
const NOT_A_VISITORS: [HeaderName; 13] = [
    fields::X_FORWARDED_PORT,
    fields::X_FORWARDED_PREFIX,
    fields::X_CLIENT_IP,
    fields::TRUE_CLIENT_IP,
    FORWARDED,
    fields::X_FORWARDED_FOR,
    fields::X_FORWARDED_PROTO,
    fields::X_FORWARDED_HOST,
    fields::X_REAL_IP,
    fields::REQUESTING_CLIENT,
    fields::PTTH_INSTANCE,
    fields::PTTH_CONNECTIONS,
    fields::PTTH_EXCLUSIVE,
];

/// Fields that are added to each request: making room once is cheaper than growing.
const SIGNED: usize = 5;

/// What every request of one visitor's connection says about its sender; written once for all of them.
pub(super) struct Sender {
    visitor: Visitor,
    address: HeaderValue,
    node: String,
    /// Its place among the public connections, which an upgraded stream keeps.
    place: Arc<OwnedSemaphorePermit>,
}

impl Sender {
    pub(super) fn new(visitor: Visitor, place: Arc<OwnedSemaphorePermit>) -> Self {
        let ip = visitor.remote.ip().to_canonical();
        let address = HeaderValue::try_from(ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        let node = if ip.is_ipv6() { format!("\"[{ip}]\"") } else { ip.to_string() };
        Self { visitor, address, node, place }
    }

    pub(super) fn place(&self) -> Arc<OwnedSemaphorePermit> {
        self.place.clone()
    }

    pub(super) fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    fn scheme(&self) -> Scheme {
        if self.visitor.tls { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// `Forwarded` (RFC 7239) and the trio that came before it.
    fn sign(&self, headers: &mut HeaderMap, host: &Authority) {
        let proto = if self.visitor.tls { "https" } else { "http" };
        let node = &self.node;
        if let Ok(value) = HeaderValue::try_from(format!("for={node};host=\"{host}\";proto={proto}")) {
            headers.insert(FORWARDED, value);
        }
        if let Ok(value) = HeaderValue::try_from(host.as_str()) {
            headers.insert(fields::X_FORWARDED_HOST, value);
        }
        headers.insert(fields::X_FORWARDED_FOR, self.address.clone());
        headers.insert(fields::X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
}

/// A request made ready for a carrier, and the visitor's end of an Upgrade it asks for.
pub(super) struct Outgoing {
    pub(super) request: Request,
    pub(super) upgrade: Option<Opening>,
}

/// Makes a visitor's request the relay's own.
pub(super) fn outgoing(mut request: Request, sender: &Sender, authority: Authority) -> Outgoing {
    let version = request.version();
    let mut upgrade = None;
    if let Some(token) = hop::strip(request.headers_mut())
        && may_upgrade(&request)
    {
        hop::set_upgrade(request.headers_mut(), token);
        upgrade = Tunnel::take(request.extensions_mut());
    }
    let headers = request.headers_mut();
    if headers.keys().any(|name| NOT_A_VISITORS.contains(name) || name.as_str().contains('_')) {
        drop_claims(headers);
    }
    headers.reserve(SIGNED);
    headers.remove(HOST);
    sender.sign(headers, &authority);
    headers.append(VIA, via(version));
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(sender.scheme());
    parts.authority = Some(authority);
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    Outgoing { request, upgrade }
}

/// Drops what a visitor says of itself; also in the spelling with underscores, which CGI and its children read as the
/// same name.
fn drop_claims(headers: &mut HeaderMap) {
    let claims = |name: &HeaderName| {
        let plain = name.as_str().replace('_', "-");
        NOT_A_VISITORS.iter().any(|claim| claim.as_str() == plain)
    };
    let forged: Vec<_> = headers.keys().filter(|name| claims(name)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

/// Upgrade is a matter of HTTP/1.1, and a request with a body must not change its protocol half way.
fn may_upgrade(request: &Request) -> bool {
    request.version() == Version::HTTP_11 && request.method() == Method::GET && request.body().is_end_stream()
}

const fn via(version: Version) -> HeaderValue {
    match version {
        Version::HTTP_10 => HeaderValue::from_static("1.0 ptth"),
        Version::HTTP_2 => HeaderValue::from_static("2.0 ptth"),
        _ => HeaderValue::from_static("1.1 ptth"),
    }
}

/// Makes an agent's answer the relay's own. A 101 must be [`join`]ed before.
pub(super) fn incoming(mut response: Response, visitor: Version) -> Response {
    let headers = response.headers_mut();
    let _ = hop::strip(headers);
    // A body with trailers has no place for them behind a length (RFC 9112 §7.1.2).
    if visitor < Version::HTTP_2 && headers.contains_key(TRAILER) {
        headers.remove(CONTENT_LENGTH);
    }
    *response.version_mut() = Version::HTTP_11;
    response
}

/// Joins the visitor's stream with the agent's behind a 101, and returns the 101 for the visitor. `None` when one
/// of the two ends is missing.
pub(super) fn join(
    mut response: Response,
    visitor: Option<Opening>,
    sender: &Sender,
    scope: &Scope,
) -> Option<Response> {
    let agent = Tunnel::take(response.extensions_mut())?;
    let slot = response.extensions_mut().remove::<HeldSlot>();
    let visitor = visitor?;
    let token = response.headers().get(UPGRADE).cloned()?;
    let owner = scope.clone();
    let place = sender.place();
    let cut = slot.as_ref().map(|slot| slot.0.link().is_cut());
    owner.spawn(async move {
        let _kept = (slot, place);
        let (Ok(mut agent), Ok(mut visitor)) = tokio::join!(agent, visitor) else {
            return tracing::debug!("one end of an upgrade went away before it began");
        };
        let cut = async {
            match cut {
                Some(cut) => cut.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = cut => tracing::debug!("an upgraded stream was cut with its agent"),
            ended = splice(&mut visitor, &mut agent) => {
                tracing::debug!(?ended, "an upgraded stream ended");
            }
        }
    });
    let _ = hop::strip(response.headers_mut());
    hop::set_upgrade(response.headers_mut(), token);
    *response.body_mut() = Body::empty();
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(remote: &str) -> Sender {
        let local = ([127, 0, 0, 1], 443).into();
        let place = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        Sender::new(Visitor { remote: remote.parse().unwrap(), local, tls: true }, Arc::new(place))
    }

    fn out(request: http::request::Builder) -> Request {
        let request = request.body(Body::empty()).unwrap();
        outgoing(request, &sender("[2001:db8::1]:9"), Authority::from_static("shop.test:8443")).request
    }

    #[test]
    fn a_visitor_cannot_say_who_it_is() {
        let request = out(http::Request::get("/a?b")
            .header("host", "shop.test:8443")
            .header("forwarded", "for=1.2.3.4")
            .header("x-forwarded-for", "1.2.3.4")
            .header("x-forwarded-proto", "ftp")
            .header("x-real-ip", "1.2.3.4")
            .header("requesting-client", "1.2.3.4:5")
            .header("ptth-instance", "x")
            .header("X_Forwarded_For", "1.2.3.4")
            .header("true-client-ip", "1.2.3.4")
            .header("x-mine", "kept"));
        assert_eq!(request.uri(), "https://shop.test:8443/a?b");
        let headers = request.headers();
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";host=\"shop.test:8443\";proto=https");
        assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "shop.test:8443");
        assert_eq!(headers["via"], "1.1 ptth");
        assert_eq!(headers["x-mine"], "kept");
        assert_eq!(headers.len(), 6, "{headers:?}");
    }

    #[test]
    fn targets_pass_as_they_came() {
        for target in ["//", "/a/../b", "/%2f;x=1?y", "/a//b?", "*"] {
            let method = if target == "*" { Method::OPTIONS } else { Method::GET };
            let request = out(http::Request::builder().method(method).uri(target));
            assert_eq!(request.uri().path_and_query().unwrap().as_str(), target);
        }
    }

    #[test]
    fn only_a_get_without_a_body_upgrades() {
        let ask = |method| {
            http::Request::builder()
                .method(method)
                .uri("/")
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
        };
        assert!(out(ask("GET")).headers().contains_key("upgrade"));
        assert!(!out(ask("POST")).headers().contains_key("upgrade"));
        assert!(!out(ask("GET").version(Version::HTTP_2)).headers().contains_key("upgrade"));
    }
}
