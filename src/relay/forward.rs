//! Turns a visitor's request into the relay's request to the agent, and the agent's answer into the relay's answer:
//! hop-by-hop fields, the fields that identify the sender, and the splice after a 101.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderName, TRAILER, UPGRADE, VIA};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use http_body::Body as _;

use super::connection_limit::ConnectionPermit;
use super::cookies;
use super::handshake::Handshake;
use super::login::ConnectionLogin;
use super::trusted_proxy::{self, Contradiction};
use crate::domain::{ErrorCode, HostName, Visitor};
use crate::message::forgeable::is_forgeable;
use crate::message::upgrade::{Opening, Tunnel};
use crate::message::{Body, Request, Response, fields, hop};
use crate::net::Scope;
use crate::net::nets::Nets;
use crate::net::splice::splice;
use crate::net::watched::counted;
use crate::observe::{Observers, Recording, RequestId};
use crate::policy::VisitorPermit;
use crate::session::HeldSlot;

/// The number of fields that are added to each request. Reserving room for all is cheaper than growing the map.
const ADDED_FIELDS: usize = 6;

/// The sender of every request on one visitor's connection. Its field values are made once for all requests.
#[derive(Clone)]
pub(super) struct Downstream {
    visitor: Visitor,
    handshake: Arc<Handshake>,
    /// The address of the far end: the visitor, or the last proxy in front of it.
    address: HeaderValue,
    node: String,
    /// The scheme that the far end uses.
    proto: &'static str,
    /// The far end is a proxy that the operator trusts.
    proxied: bool,
    /// Whether requests must have the scheme `https`, or must have `http`. `None` behind a proxy or a load balancer,
    /// because the visitor's own connection may have been different.
    pub(super) required_tls: Option<bool>,
    /// The connection permit of the connection, which an upgraded stream keeps.
    connection_permit: Arc<ConnectionPermit>,
    /// Set when the far end has closed the connection.
    closed: Arc<AtomicBool>,
    login: Arc<ConnectionLogin>,
    /// The far end has sent a request of an agent.
    serves_agent: Arc<AtomicBool>,
    /// The observers that get the records of its requests.
    observers: Arc<Observers>,
}

impl Downstream {
    pub(super) fn new(
        visitor: Visitor,
        (proxied, balanced): (bool, bool),
        handshake: Handshake,
        connection_permit: Arc<ConnectionPermit>,
        observers: Observers,
    ) -> Self {
        let ip = visitor.remote.ip().to_canonical();
        let address = HeaderValue::try_from(ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        let (node, proto, handshake) = (node(ip), proto(visitor.tls), Arc::new(handshake));
        Self {
            visitor,
            handshake,
            address,
            node,
            proto,
            proxied,
            required_tls: (!proxied && !balanced).then_some(visitor.tls),
            connection_permit,
            closed: Arc::default(),
            login: Arc::default(),
            serves_agent: Arc::default(),
            observers: Arc::new(observers),
        }
    }

    pub(super) fn observers(&self) -> &Arc<Observers> {
        &self.observers
    }

    /// The sender of a request that passed through a trusted proxy; `None` if the far end is no trusted proxy.
    ///
    /// # Errors
    /// [`Contradiction`]
    pub(super) fn behind_proxy(
        &self,
        headers: &HeaderMap,
        trusted: &Nets,
    ) -> Result<Option<Box<Self>>, Contradiction> {
        if !self.proxied {
            return Ok(None);
        }
        let forwarded = trusted_proxy::forwarded_visitor(headers, trusted)?;
        let mut sender = self.clone();
        sender.visitor.remote = forwarded.remote.unwrap_or(self.visitor.remote);
        sender.visitor.tls = forwarded.tls.unwrap_or(self.visitor.tls);
        Ok(Some(Box::new(sender)))
    }

    /// Whether the far end of the connection is a proxy that the operator trusts.
    pub(super) fn is_trusted_proxy(&self) -> bool {
        self.proxied
    }

    /// Set when the far end has closed the connection.
    pub(super) fn closed(&self) -> Arc<AtomicBool> {
        self.closed.clone()
    }

    /// Notes that the far end has sent a request of an agent.
    pub(super) fn note_agent(&self) {
        self.serves_agent.store(true, Ordering::Relaxed);
    }

    /// Whether the far end has sent a request of an agent.
    pub(super) fn serves_agent(&self) -> bool {
        self.serves_agent.load(Ordering::Relaxed)
    }

    pub(super) fn connection_permit(&self) -> &Arc<ConnectionPermit> {
        &self.connection_permit
    }

    pub(super) fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    /// The login on the connection. `None` for a trusted proxy, which may send the requests of several visitors on one
    /// connection.
    pub(super) fn login(&self) -> Option<&ConnectionLogin> {
        (!self.proxied).then_some(&*self.login)
    }

    /// The facts from the TLS handshake of the connection.
    pub(super) fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    fn scheme(&self) -> Scheme {
        if self.visitor.tls { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// Sets `Forwarded` (RFC 7239) and its predecessors `X-Forwarded-For`, `-Host` and `-Proto`.
    fn set_forwarded(&self, headers: &mut HeaderMap, host: &Authority) {
        let own_hop = format!("for={};host=\"{host}\";proto={}", self.node, self.proto);
        if self.proxied {
            return self.append_hop(headers, host, &own_hop);
        }
        if let Ok(value) = HeaderValue::try_from(own_hop) {
            headers.insert(FORWARDED, value);
        }
        if let Ok(value) = HeaderValue::try_from(host.as_str()) {
            headers.insert(fields::X_FORWARDED_HOST, value);
        }
        headers.insert(fields::X_FORWARDED_FOR, self.address.clone());
        headers.insert(fields::X_FORWARDED_PROTO, HeaderValue::from_static(self.proto));
    }

    /// Appends the proxy to the hops in its request. If only one of `Forwarded` and `X-Forwarded-For` is present,
    /// the relay adds the other.
    fn append_hop(&self, headers: &mut HeaderMap, host: &Authority, own_hop: &str) {
        let visitor = self.visitor.remote.ip().to_canonical();
        let proto = proto(self.visitor.tls);
        let (forwarded, addresses) = (joined(headers, FORWARDED), joined(headers, fields::X_FORWARDED_FOR));
        let reported = forwarded.is_some() || addresses.is_some();
        let forwarded = forwarded.or_else(|| {
            reported.then(|| format!("for={};host=\"{host}\";proto={proto}", node(visitor)).into_bytes())
        });
        let addresses = addresses.or_else(|| reported.then(|| visitor.to_string().into_bytes()));
        for (name, earlier, last) in [
            (FORWARDED, forwarded, own_hop.as_bytes()),
            (fields::X_FORWARDED_FOR, addresses, self.address.as_bytes()),
        ] {
            let all = earlier.map_or_else(|| last.to_vec(), |earlier| [&earlier[..], b", ", last].concat());
            if let Ok(value) = HeaderValue::from_bytes(&all) {
                headers.insert(name, value);
            }
        }
        if !headers.contains_key(fields::X_FORWARDED_HOST)
            && let Ok(value) = HeaderValue::try_from(host.as_str())
        {
            headers.insert(fields::X_FORWARDED_HOST, value);
        }
        headers.insert(fields::X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
}

/// An address in the form that `Forwarded` requires (RFC 7239 §6).
fn node(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("\"[{ip}]\"") } else { ip.to_string() }
}

const fn proto(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

/// The lines of a list field, joined to one value.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

/// A request that is ready for a carrier, and the visitor's end of the Upgrade that it requests.
pub(super) struct Outgoing {
    pub(super) request: Request,
    /// The visitor's permit, to be held until the answer has ended.
    pub(super) permit: VisitorPermit,
    pub(super) upgrade: Option<Opening>,
}

/// Turns a visitor's request into the relay's own. It consumes the permit, so each forwarded request has a permit of
/// its own. `None` if the target is too long for the form in which it is forwarded.
pub(super) fn outgoing(
    mut request: Request,
    permit: VisitorPermit,
    sender: &Downstream,
    (authority, id): (Authority, &RequestId),
) -> Option<Outgoing> {
    let version = request.version();
    let mut upgrade = None;
    if let Some(token) = hop::strip_received(version, request.headers_mut())
        && may_upgrade(&request)
    {
        hop::set_upgrade(request.headers_mut(), token);
        upgrade = Tunnel::take(request.extensions_mut());
    }
    let headers = request.headers_mut();
    drop_forged(headers, sender.proxied);
    if version == Version::HTTP_10 {
        // RFC 9110 §10.1.1: HTTP/1.0 has no expectations.
        headers.remove(EXPECT);
    }
    headers.reserve(ADDED_FIELDS);
    headers.remove(HOST);
    sender.set_forwarded(headers, &authority);
    headers.append(VIA, via(version));
    headers.entry(fields::X_REQUEST_ID).or_insert_with(|| id.value());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(sender.scheme());
    parts.authority = Some(authority);
    parts.path_and_query = parts.path_and_query.map_or_else(|| Some(PathAndQuery::from_static("/")), rooted);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    Some(Outgoing { request, permit, upgrade })
}

/// An absolute target may have a query after an empty path, which means `/` (RFC 9110 §4.2.3).
fn rooted(target: PathAndQuery) -> Option<PathAndQuery> {
    match target.as_str().strip_prefix('?') {
        None => Some(target),
        Some(query) => PathAndQuery::try_from(format!("/?{query}")).ok(),
    }
}

/// Drops the fields by which a visitor could forge a fact about itself.
fn drop_forged(headers: &mut HeaderMap, proxied: bool) {
    let forged: Vec<_> = headers.keys().filter(|name| is_forgeable(name, proxied)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

/// Only HTTP/1.1 has Upgrade, and a request with a body must not change its protocol half way.
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

/// Turns an agent's answer into the relay's own. A 101 is passed to [`join`] instead.
pub(super) fn incoming(mut response: Response, visitor: Version, own: &[HostName]) -> Response {
    let version = response.version();
    let headers = response.headers_mut();
    let _ = hop::strip_received(version, headers);
    cookies::confine(headers, own);
    // Trailers need chunked coding, which excludes `Content-Length` (RFC 9112 §7.1.2).
    if visitor < Version::HTTP_2 && headers.contains_key(TRAILER) {
        headers.remove(CONTENT_LENGTH);
    }
    *response.version_mut() = Version::HTTP_11;
    response
}

/// Joins the visitor's stream with the agent's after a 101, and returns the 101 for the visitor. `None` when one of the
/// two ends is missing.
pub(super) fn join(
    mut response: Response,
    visitor: Option<Opening>,
    permit: VisitorPermit,
    sender: &Downstream,
    (version, recording): (Version, &mut Box<Recording>),
    scope: &Scope,
) -> Option<Response> {
    let agent = Tunnel::take(response.extensions_mut())?;
    let slot = response.extensions_mut().remove::<HeldSlot>();
    let visitor = visitor?;
    let token = response.headers().get(UPGRADE).cloned()?;
    let owner = scope.clone();
    let connection_permit = sender.connection_permit().clone();
    let cut = slot.as_ref().map(|slot| slot.0.link().is_cut());
    let mut recording = recording.take();
    // Over HTTP/2 the visitor gets a 200 (RFC 8441 §5).
    recording.record_status(if version == Version::HTTP_2 { StatusCode::OK } else { response.status() });
    owner.spawn(async move {
        let _guards = (slot, connection_permit, permit);
        let (Ok(mut agent), Ok(visitor)) = tokio::join!(agent, visitor) else {
            return tracing::debug!("an upgrade failed: one end closed before the streams were joined");
        };
        let bytes = recording.shared_bytes();
        let mut visitor = counted(visitor, &bytes);
        let cut = async {
            match cut {
                Some(cut) => cut.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = cut => {
                recording.record_failure("agent", ErrorCode::AgentGone.as_str());
                tracing::debug!("an upgraded stream was cut together with its agent's link");
            }
            ended = splice(&mut visitor, &mut agent) => {
                recording.mark_complete();
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
pub(super) mod tests {
    use super::*;
    use crate::domain::Epoch;

    pub(in crate::relay) fn sender(remote: &str, proxied: bool) -> Downstream {
        let local = ([127, 0, 0, 1], 443).into();
        let connection_permit = super::super::connection_limit::ConnectionLimit::new(1, 1).enter().unwrap();
        Downstream::new(
            Visitor { remote: remote.parse().unwrap(), local, tls: true },
            (proxied, false),
            Handshake::default(),
            Arc::new(connection_permit),
            Observers::default(),
        )
    }

    fn free() -> VisitorPermit {
        VisitorPermit::without_rules(None, Epoch::default()).ok().unwrap()
    }

    fn out(request: http::request::Builder) -> Request {
        let request = request.body(Body::empty()).unwrap();
        let sender = sender("[2001:db8::1]:9", false);
        outgoing(request, free(), &sender, (Authority::from_static("shop.test:8443"), &RequestId::Drawn(7)))
            .unwrap()
            .request
    }

    #[test]
    fn a_visitor_cannot_forge_its_identity() {
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
        assert_eq!(headers["x-request-id"], RequestId::Drawn(7).value());
        assert_eq!(headers.len(), 7, "{headers:?}");
    }

    #[test]
    fn a_visitors_own_request_id_and_traceparent_pass_unchanged() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let request =
            out(http::Request::get("/").header("x-request-id", "mine 1").header("traceparent", trace));
        assert_eq!(request.headers()["x-request-id"], "mine 1");
        assert_eq!(request.headers()["traceparent"], trace);
    }

    /// The head that the agent gets when the request passed through the proxy 10.0.0.9.
    fn out_behind(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut request = http::Request::get("/").body(Body::empty()).unwrap();
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let trusted = std::iter::once("10.0.0.0/8".parse().unwrap()).collect();
        let sender = sender("10.0.0.9:1", true).behind_proxy(request.headers(), &trusted).unwrap().unwrap();
        let request =
            outgoing(request, free(), &sender, (Authority::from_static("shop.test"), &RequestId::Drawn(7)))
                .unwrap()
                .request;
        assert_eq!(request.uri().scheme_str(), Some(sender.scheme().as_str()));
        request.into_parts().0.headers
    }

    #[test]
    fn fields_of_a_trusted_proxy_are_kept_and_its_hop_is_appended() {
        let headers = out_behind(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "front.test"),
            ("x-real-ip", "192.0.2.7"),
            ("x_real_ip", "1.1.1.1"),
            ("requesting-client", "1.1.1.1:1"),
            ("ptth-status", "200"),
        ]);
        assert_eq!(headers["x-forwarded-for"], "1.1.1.1, 192.0.2.7, 10.0.0.9");
        assert_eq!(
            headers["forwarded"],
            "for=192.0.2.7;host=\"shop.test\";proto=http, for=10.0.0.9;host=\"shop.test\";proto=https"
        );
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "front.test");
        assert_eq!(headers["x-real-ip"], "192.0.2.7");
        assert_eq!(headers.len(), 7, "{headers:?}");

        let headers = out_behind(&[("forwarded", "for=192.0.2.7;proto=http")]);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7, 10.0.0.9");
        assert_eq!(
            headers["forwarded"],
            "for=192.0.2.7;proto=http, for=10.0.0.9;host=\"shop.test\";proto=https"
        );
        let headers = out_behind(&[]);
        assert_eq!(
            (&headers["x-forwarded-for"], &headers["x-forwarded-proto"]),
            (&HeaderValue::from_static("10.0.0.9"), &HeaderValue::from_static("https"))
        );
        assert_eq!(headers["forwarded"], "for=10.0.0.9;host=\"shop.test\";proto=https");
    }

    #[test]
    fn targets_are_forwarded_unchanged() {
        for target in ["//", "/a/../b", "/%2f;x=1?y", "/a//b?", "*"] {
            let method = if target == "*" { Method::OPTIONS } else { Method::GET };
            let request = out(http::Request::builder().method(method).uri(target));
            assert_eq!(request.uri().path_and_query().unwrap().as_str(), target);
        }
    }

    /// With its slash the target is longer than a target can be.
    #[test]
    fn a_target_that_cannot_be_forwarded_is_not_replaced() {
        let target = PathAndQuery::try_from(format!("?{}", "a".repeat(65_533))).unwrap();
        let request = http::Request::get(Uri::from(target)).body(Body::empty()).unwrap();
        let forwarded = outgoing(
            request,
            free(),
            &sender("[2001:db8::1]:9", false),
            (Authority::from_static("shop.test"), &RequestId::Drawn(7)),
        );
        assert_eq!(forwarded.map(|forwarded| forwarded.request.uri().to_string()), None);
    }

    #[test]
    fn only_a_get_without_a_body_upgrades() {
        let upgrade_by = |method| {
            http::Request::builder()
                .method(method)
                .uri("/")
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
        };
        assert!(out(upgrade_by("GET")).headers().contains_key("upgrade"));
        assert!(!out(upgrade_by("POST")).headers().contains_key("upgrade"));
    }
}
