//! TLS for visitors beside a plain listener: the redirect to `https`, and `Strict-Transport-Security` (RFC 6797).

use http::header::{LOCATION, STRICT_TRANSPORT_SECURITY};
use http::uri::Authority;
use http::{HeaderValue, StatusCode};

use super::Shared;
use super::config::{Listen, RelayConfig};
use super::forward::Downstream;
use crate::domain::HostName;
use crate::message::{Body, Request, Response, authority};

/// Certificate authorities send their requests to this path without TLS (RFC 8555 §8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Why the settings for `https` make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHttps {
    /// There is no listener to redirect to.
    #[error(
        "--redirect-http needs a listener with TLS, but every --listen is plain; add one, as in --listen [::]:443"
    )]
    NoTls,
    /// There is no listener to redirect from.
    #[error(
        "--redirect-http needs a plain listener, but every --listen uses TLS; add one, as in --listen http://[::]:80"
    )]
    NoPlain,
    /// No answer would have the field.
    #[error(
        "--hsts-seconds has no effect without TLS: add a --listen with TLS, or list the proxy that terminates TLS with \
         --trusted-proxy or --proxy-protocol"
    )]
    NoHsts,
}

impl RelayConfig {
    /// Checks that the listeners fit the settings for `https`.
    ///
    /// # Errors
    /// [`BadHttps`]
    pub(crate) fn check_https(&self) -> Result<(), BadHttps> {
        let has = |tls| self.listen.iter().any(|listen| listen.transport.is_none() && listen.tls == tls);
        let has_proxy = !self.trusted_proxies.is_empty() || !self.proxy_protocol.is_empty();
        match () {
            () if self.redirect_http && !has(true) => Err(BadHttps::NoTls),
            () if self.redirect_http && !has(false) => Err(BadHttps::NoPlain),
            () if self.hsts.is_some() && !has(true) && !has_proxy => Err(BadHttps::NoHsts),
            () => Ok(()),
        }
    }
}

/// See the module.
pub(super) struct Https {
    /// The port of the `https` URLs, if visitors without TLS are redirected.
    redirect: Option<u16>,
    hsts: Option<HeaderValue>,
}

impl Https {
    /// `addresses` are the listeners with the ports that were bound.
    pub(super) fn new(config: &RelayConfig, addresses: &[Listen]) -> Self {
        let public = config.public_url.as_ref().filter(|url| url.scheme_str() == Some("https"));
        let port = match public {
            Some(url) => url.port_u16().or(Some(443)),
            None => {
                let ports = || {
                    let of_visitors =
                        addresses.iter().filter(|listen| listen.transport.is_none() && listen.tls);
                    of_visitors.map(|listen| listen.address.port())
                };
                ports().find(|port| *port == 443).or(ports().next())
            }
        };
        let hsts = config.hsts.map(|age| HeaderValue::try_from(format!("max-age={}", age.as_secs())));
        Self { redirect: port.filter(|_| config.redirect_http), hsts: hsts.and_then(Result::ok) }
    }

    /// The redirect of a visitor without TLS. `None` if the request is to be served: it has TLS or comes from a trusted
    /// proxy, which redirects visitors itself; the relay is full, and refuses visitors; it is for an endpoint for agents;
    /// or it is a challenge of a certificate authority.
    pub(super) fn redirect(
        &self,
        shared: &Shared,
        sender: &Downstream,
        authority: &Authority,
        request: &Request,
    ) -> Option<Response> {
        let port = self.redirect?;
        let target = request.uri().path_and_query()?.as_str();
        if sender.visitor().tls
            || sender.is_trusted_proxy()
            || sender.connection_permit().is_newcomer()
            || target == "*"
            || target.starts_with(CHALLENGES)
        {
            return None;
        }
        let host = authority::host(authority).ok()?;
        let is_of_agent =
            || shared.relay_http.wants(request) || shared.transports.by_request(request).is_some();
        if shared.names.is_own(&host) && is_of_agent() {
            return None;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(LOCATION, location(&host, port, target)?);
        Some(response)
    }

    /// The value of `Strict-Transport-Security` for the answer to a request. `None` without TLS, and for a host of an
    /// agent's own.
    pub(super) fn hsts(
        &self,
        shared: &Shared,
        sender: &Downstream,
        request: &Request,
    ) -> Option<HeaderValue> {
        let hsts = self.hsts.as_ref()?;
        let behind_proxy = sender.behind_proxy(request.headers(), &shared.config.trusted_proxies).ok()?;
        let sender = behind_proxy.as_deref().unwrap_or(sender);
        let authority = authority::effective(request.version(), request.uri(), request.headers()).ok()?;
        let is_of_relay = || authority::host(&authority).is_ok_and(|host| shared.names.is_of_relay(&host));
        (sender.visitor().tls && is_of_relay()).then(|| hsts.clone())
    }
}

/// Adds the field to an answer, unless the origin has sent one.
pub(super) fn add_hsts(response: &mut Response, hsts: HeaderValue) {
    response.headers_mut().entry(STRICT_TRANSPORT_SECURITY).or_insert(hsts);
}

/// The URL of the same resource with TLS. The target of an absolute URL without a path may begin with its query.
fn location(host: &HostName, port: u16, target: &str) -> Option<HeaderValue> {
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let slash = if target.starts_with('/') { "" } else { "/" };
    HeaderValue::from_bytes(format!("https://{host}{port}{slash}{target}").as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::Tokens;

    fn config(listen: &[Listen]) -> RelayConfig {
        let domain = HostName::parse("relay.test").unwrap();
        RelayConfig {
            listen: listen.to_vec(),
            redirect_http: true,
            ..RelayConfig::new(domain, Tokens::in_memory())
        }
    }

    fn at(port: u16) -> std::net::SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn a_redirect_names_the_port_unless_it_is_443() {
        let host = HostName::parse("shop.test").unwrap();
        assert_eq!(location(&host, 443, "/a?b").unwrap(), "https://shop.test/a?b");
        assert_eq!(location(&host, 8443, "?b").unwrap(), "https://shop.test:8443/?b");
    }

    #[test]
    fn the_port_is_that_of_the_public_url_or_of_the_listener() {
        let listen = [Listen::plain(at(80)), Listen::tls(at(8443))];
        let port = |listen: &[Listen], public: Option<&'static str>| {
            let config = RelayConfig { public_url: public.map(http::Uri::from_static), ..config(listen) };
            Https::new(&config, listen).redirect
        };
        assert_eq!(port(&listen, None), Some(8443));
        assert_eq!(port(&[&listen[..], &[Listen::tls(at(443))]].concat(), None), Some(443));
        assert_eq!(port(&listen, Some("https://pub.test")), Some(443));
        assert_eq!(port(&listen, Some("https://pub.test:4443")), Some(4443));
        assert_eq!(port(&listen, Some("http://pub.test")), Some(8443));
    }

    #[test]
    fn settings_without_their_listeners_are_refused() {
        let (plain, tls) = (Listen::plain(at(80)), Listen::tls(at(443)));
        assert_eq!(config(&[plain, tls]).check_https(), Ok(()));
        assert_eq!(config(&[plain]).check_https(), Err(BadHttps::NoTls));
        assert_eq!(config(&[tls]).check_https(), Err(BadHttps::NoPlain));
        assert_eq!(config(&[tls, plain.of("raw")]).check_https(), Err(BadHttps::NoPlain));
        let hsts = |listen| RelayConfig {
            redirect_http: false,
            hsts: Some(Duration::from_secs(1)),
            ..config(&[listen])
        };
        assert_eq!(hsts(tls).check_https(), Ok(()));
        assert_eq!(hsts(plain).check_https(), Err(BadHttps::NoHsts));
        let mut proxied = hsts(plain);
        proxied.trusted_proxies = ["10.0.0.0/8".parse().unwrap()].into_iter().collect();
        assert_eq!(proxied.check_https(), Ok(()));
    }
}
