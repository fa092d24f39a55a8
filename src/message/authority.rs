//! Which host a request is for, decided once and from one value (RFC 9110 §7.2, RFC 9112 §3.2, RFC 9113 §8.3.1).

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Uri};

use crate::domain::HostName;

/// Why a request names no host that can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// The request has neither an authority nor a `Host` field.
    #[error("the request has no Host")]
    Missing,
    /// The request has several `Host` fields, or a `Host` that differs from `:authority`.
    #[error("the request names more than one host")]
    Several,
    /// The target is `*`, and the method is not OPTIONS (RFC 9112 §3.2.4).
    #[error("the target * is for OPTIONS alone")]
    Asterisk,
    /// The scheme of the target does not fit the connection.
    #[error("the scheme of the request does not fit its connection")]
    Scheme,
    /// The value is not a host.
    #[error("the Host of the request is malformed")]
    Malformed,
}

/// The effective authority of a visitor's request. See [`stated`].
///
/// # Errors
/// As [`stated`]. On HTTP/1.1 an absolute target takes precedence over `Host` (RFC 9112 §3.2.2), which must be present
/// nevertheless (§3.2). On HTTP/2 a `Host` that contradicts `:authority` is [`Unclear::Several`].
pub fn effective(version: http::Version, uri: &Uri, headers: &HeaderMap) -> Result<Authority, Unclear> {
    match (uri.authority(), headers.get(HOST)) {
        (_, None) if version == http::Version::HTTP_11 => Err(Unclear::Missing),
        (Some(authority), Some(host))
            if version >= http::Version::HTTP_2
                && !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            Err(Unclear::Several)
        }
        _ => stated(uri, headers),
    }
}

/// The authority that a request states: the authority of its target if there is one, else the value of its only `Host`.
///
/// # Errors
/// [`Unclear`] for a missing, ambiguous or malformed host.
pub fn stated(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Unclear> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Unclear::Several);
    }
    // RFC 9112 §3.2: a malformed `Host` is refused beside an absolute target too.
    let host = host.map(|host| Authority::try_from(host.as_bytes()).ok().filter(is_valid));
    match (uri.authority(), host) {
        (_, Some(None)) => Err(Unclear::Malformed),
        (Some(authority), _) if is_valid(authority) => Ok(authority.clone()),
        (Some(_), _) => Err(Unclear::Malformed),
        (None, Some(Some(host))) => Ok(host),
        (None, None) => Err(Unclear::Missing),
    }
}

/// Checks that the scheme of the target, if it has one, fits the connection: `https` needs TLS, and `http` a connection
/// without TLS (RFC 9113 §8.3.1, RFC 9112 §3.3). With `tls: None` either is accepted.
///
/// # Errors
/// [`Unclear::Scheme`]
pub fn check_scheme(uri: &Uri, tls: Option<bool>) -> Result<(), Unclear> {
    let Some(scheme) = uri.scheme() else { return Ok(()) };
    let fits = match tls {
        Some(true) => *scheme == Scheme::HTTPS,
        Some(false) => *scheme == Scheme::HTTP,
        None => [Scheme::HTTP, Scheme::HTTPS].contains(scheme),
    };
    if fits { Ok(()) } else { Err(Unclear::Scheme) }
}

/// Whether an authority is a host with or without a port of digits, and without userinfo.
pub fn is_valid(authority: &Authority) -> bool {
    let text = authority.as_str();
    let port = text.strip_prefix(authority.host()).map(|rest| rest.strip_prefix(':').unwrap_or(rest));
    !text.contains('@') && port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The host of an authority: in lower case, without port and trailing dot.
///
/// # Errors
/// [`Unclear::Malformed`] when it is neither a DNS name nor an address.
pub fn host(authority: &Authority) -> Result<HostName, Unclear> {
    HostName::parse(authority.host()).map_err(|_| Unclear::Malformed)
}

/// Converts a request to HTTP/1.1. The authority moves from the target to `Host`, because the absolute form is for
/// proxies only. Path and query stay unchanged. Userinfo is dropped (RFC 9110 §4.2.4).
pub fn to_origin_form<B>(request: &mut http::Request<B>) {
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str().rsplit('@').next().unwrap_or_default())
    {
        request.headers_mut().insert(HOST, host);
    }
    *request.uri_mut() = origin_form(request.uri());
    *request.version_mut() = http::Version::HTTP_11;
}

/// Converts a request to HTTP/2: the target becomes absolute. The authority is the authority of the present target,
/// else the value of `Host`.
///
/// # Errors
/// [`Unclear`] for a request without a host, or with a host that is not valid in a target.
pub fn to_absolute_form<B>(request: &mut http::Request<B>, scheme: Scheme) -> Result<(), Unclear> {
    let host = request.headers_mut().remove(HOST);
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(scheme);
    if parts.authority.is_none() {
        let host = host.ok_or(Unclear::Missing)?;
        parts.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| Unclear::Malformed)?);
    }
    parts.path_and_query = parts.path_and_query.or(Some(PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Unclear::Malformed)?;
    *request.version_mut() = http::Version::HTTP_2;
    Ok(())
}

/// A target without scheme and authority (RFC 9112 §3.2.1).
pub fn origin_form(uri: &Uri) -> Uri {
    Uri::from(match uri.path_and_query() {
        Some(target) if !target.as_str().is_empty() => target.clone(),
        _ => PathAndQuery::from_static("/"),
    })
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;

    fn effective_of(version: Version, target: &str, hosts: &[&'static str]) -> Result<String, Unclear> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_static(host));
        }
        effective(version, &target.parse().unwrap(), &headers).map(|a| a.to_string())
    }

    #[test]
    fn a_request_has_exactly_one_authority() {
        let h1 = Version::HTTP_11;
        assert_eq!(effective_of(h1, "/", &["a.test:80"]).as_deref(), Ok("a.test:80"));
        assert_eq!(effective_of(h1, "http://b.test/", &["a.test"]).as_deref(), Ok("b.test"));
        assert_eq!(effective_of(h1, "/", &["[::1]:80"]).as_deref(), Ok("[::1]:80"));
        assert_eq!(effective_of(h1, "/", &["a.test:"]).as_deref(), Ok("a.test:"));
        for malformed in ["", "a b", "a.test:x", "a.test:8x", "u@a.test"] {
            for target in ["/", "http://b.test/"] {
                assert_eq!(
                    effective_of(h1, target, &[malformed]),
                    Err(Unclear::Malformed),
                    "{target} {malformed}"
                );
            }
        }
        for target in ["/", "http://b.test/"] {
            assert_eq!(effective_of(h1, target, &[]), Err(Unclear::Missing), "{target}");
        }
        for version in [Version::HTTP_10, Version::HTTP_2] {
            assert_eq!(effective_of(version, "http://b.test/", &[]).as_deref(), Ok("b.test"));
        }
        for target in ["/", "http://b.test/"] {
            assert_eq!(effective_of(h1, target, &["a", "a"]), Err(Unclear::Several), "{target}");
        }
        assert_eq!(effective_of(h1, "/", &["a b"]), Err(Unclear::Malformed));
        assert_eq!(effective_of(h1, "/", &["u@a.test"]), Err(Unclear::Malformed));
        assert_eq!(effective_of(Version::HTTP_2, "https://b.test/", &["a.test"]), Err(Unclear::Several));
        assert_eq!(effective_of(Version::HTTP_2, "https://b.test/", &["B.test"]).as_deref(), Ok("b.test"));
    }

    #[test]
    fn the_scheme_of_a_target_fits_its_connection() {
        for (target, fits) in [
            ("/", [true; 3]),
            ("http://a.test/", [true, false, true]),
            ("HTTPS://a.test/", [false, true, true]),
            ("ftp://a.test/", [false; 3]),
        ] {
            let uri = target.parse().unwrap();
            let all = [Some(false), Some(true), None].map(|tls| check_scheme(&uri, tls).is_ok());
            assert_eq!(all, fits, "{target}");
        }
    }

    #[test]
    fn an_absolute_target_needs_a_host() {
        let absolute = |target: &str, host: Option<&str>| {
            let mut request = http::Request::get(target).body(()).unwrap();
            if let Some(host) = host {
                request.headers_mut().insert(HOST, HeaderValue::from_str(host).unwrap());
            }
            to_absolute_form(&mut request, Scheme::HTTP).map(|()| request.uri().to_string())
        };
        assert_eq!(absolute("/a?b", Some("a.test:1")).as_deref(), Ok("http://a.test:1/a?b"));
        assert_eq!(absolute("https://b.test/a", Some("a.test")).as_deref(), Ok("http://b.test/a"));
        assert_eq!(absolute("/a", None), Err(Unclear::Missing));
        for bad in ["", "a b", "a/b"] {
            assert_eq!(absolute("/a", Some(bad)), Err(Unclear::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn case_port_and_trailing_dot_do_not_change_the_host() {
        for text in ["A.Test", "a.test.", "a.test:8443", "a.test.:1"] {
            assert_eq!(host(&text.parse().unwrap()).unwrap().as_str(), "a.test", "{text}");
        }
        assert_eq!(host(&"a,b".parse().unwrap()), Err(Unclear::Malformed));
    }
}
