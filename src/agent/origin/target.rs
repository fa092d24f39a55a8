//! The address of a service as a person writes it: `3000`, `localhost:3000`, a URL, a unix socket, a directory.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::domain::HostName;
use crate::net::dial::DialTarget;

/// Where requests are served.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginTarget {
    /// An HTTP service at a host and a port, perhaps behind TLS.
    Web(DialTarget),
    /// The same with HTTP/2 only: with prior knowledge, or over TLS with ALPN (RFC 9113 §3.3, §3.2).
    Http2(DialTarget),
    /// An HTTP service that listens on a unix socket.
    Unix(PathBuf),
    /// Files.
    #[cfg(feature = "cli")]
    Directory(PathBuf),
}

/// Why a text is no [`OriginTarget`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot serve {text:?}: {why}")]
pub struct BadTarget {
    text: String,
    why: &'static str,
}

const FORMS: &str = "write a port (3000), host:port, http://…, https://…, h2c://… (HTTP/2), unix:/path or an \
                     existing directory";
const NO_PATH: &str = "a path cannot be part of the target, because the origin receives the path of the \
                       visitor's request; leave it out";

impl OriginTarget {
    /// Parses a text that a person typed. A number is always a port. The path of an existing directory becomes
    /// a directory target.
    ///
    /// # Errors
    /// [`BadTarget`], with advice on what to type instead.
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        Self::read(text).map_err(|why| BadTarget { text: text.to_owned(), why })
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("the path of the socket is missing: unix:/run/app.sock"),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return url(scheme, rest);
        }
        if let Some(port) = bare_port(text.strip_prefix(':').unwrap_or(text)) {
            return Ok(Self::Web(DialTarget { host: "localhost".into(), port: port?, tls: false }));
        }
        let path = Path::new(text);
        #[cfg(feature = "cli")]
        if path.is_dir() {
            return Ok(Self::Directory(path.into()));
        }
        if path.exists() {
            return Err("this is not a directory; for a unix socket, write unix:PATH");
        }
        if text.starts_with(['.', '/', '~']) {
            return Err("there is no such directory");
        }
        if text.contains(['/', '?', '#']) {
            return Err(if text.contains(':') { NO_PATH } else { "there is no such directory" });
        }
        authority(text, None, false).map(Self::Web)
    }

    /// The URL of this target at a place.
    pub(super) fn at(&self, place: &DialTarget) -> String {
        let scheme = match (self, place.tls) {
            (Self::Http2(_), true) => "h2",
            (Self::Http2(_), false) => "h2c",
            (_, true) => "https",
            (_, false) => "http",
        };
        format!("{scheme}://{place}")
    }

    /// The place of a service with TLS.
    pub fn tls_place(&self) -> Option<&DialTarget> {
        match self {
            Self::Web(place) | Self::Http2(place) if place.tls => Some(place),
            _ => None,
        }
    }

    /// The port, if the target is a service on this machine.
    pub(super) fn local_port(&self) -> Option<u16> {
        match self {
            Self::Web(place) | Self::Http2(place) if &*place.host == "localhost" => Some(place.port),
            _ => None,
        }
    }
}

fn bare_port(text: &str) -> Option<Result<u16, &'static str>> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| port(text))
}

fn port(text: &str) -> Result<u16, &'static str> {
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err("a port is a number from 1 to 65535"),
    }
}

fn url(scheme: &str, rest: &str) -> Result<OriginTarget, &'static str> {
    let (tls, target): (_, fn(DialTarget) -> OriginTarget) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (false, OriginTarget::Web),
        "https" => (true, OriginTarget::Web),
        "h2c" => (false, OriginTarget::Http2),
        "h2" => (true, OriginTarget::Http2),
        "file" => return Err("write the path of the directory itself, as in /srv/www or ./site"),
        _ => return Err(FORMS),
    };
    let (name, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !matches!(path, "" | "/") {
        return Err(NO_PATH);
    }
    authority(name, Some(if tls { 443 } else { 80 }), tls).map(target)
}

fn authority(text: &str, default: Option<u16>, tls: bool) -> Result<DialTarget, &'static str> {
    if text.contains('@') {
        return Err(
            "the target cannot have a user and password: the visitor's own credentials are forwarded",
        );
    }
    let split = text.rfind(':').filter(|&colon| !text[colon..].contains(']'));
    let (host, port) = match split {
        Some(colon) => (&text[..colon], port(&text[colon + 1..])?),
        None => (text, default.ok_or(FORMS)?),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err("write an IPv6 address in brackets: [::1]:3000");
    }
    let host = HostName::parse(host).map_err(|_| FORMS)?;
    let host = host.as_str().trim_start_matches('[').trim_end_matches(']');
    Ok(DialTarget { host: host.into(), port, tls })
}

impl std::str::FromStr for OriginTarget {
    type Err = BadTarget;
    fn from_str(text: &str) -> Result<Self, BadTarget> {
        Self::parse(text)
    }
}

impl fmt::Display for OriginTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(place) | Self::Http2(place) => f.write_str(&self.at(place)),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            #[cfg(feature = "cli")]
            Self::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        OriginTarget::parse(text).unwrap().to_string()
    }

    #[test]
    fn a_port_a_host_and_a_url_are_services() {
        for (text, wanted) in [
            ("3000", "http://localhost:3000"),
            (":3000", "http://localhost:3000"),
            ("localhost:3000", "http://localhost:3000"),
            ("LocalHost:3000", "http://localhost:3000"),
            ("app.test:8080", "http://app.test:8080"),
            ("10.0.0.1:80", "http://10.0.0.1:80"),
            ("[::1]:3000", "http://[::1]:3000"),
            ("http://app.test", "http://app.test:80"),
            ("http://app.test/", "http://app.test:80"),
            ("HTTPS://App.Test", "https://app.test:443"),
            ("https://[::1]", "https://[::1]:443"),
            ("h2c://app.test:50051", "h2c://app.test:50051"),
            ("H2://app.test", "h2://app.test:443"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
            assert_eq!(
                OriginTarget::parse(wanted),
                OriginTarget::parse(text),
                "the displayed text is the same target: {text}"
            );
        }
    }

    #[cfg(feature = "cli")]
    #[test]
    fn a_directory_must_exist() {
        for text in [".", "./src", "src", "/tmp"] {
            assert_eq!(OriginTarget::parse(text), Ok(OriginTarget::Directory(text.into())));
        }
        assert!(OriginTarget::parse("./nowhere").unwrap_err().to_string().contains("no such directory"));
        assert!(OriginTarget::parse("src/nowhere").unwrap_err().to_string().contains("no such directory"));
        assert!(OriginTarget::parse("Cargo.toml").unwrap_err().to_string().contains("not a directory"));
    }

    #[test]
    fn an_invalid_target_is_refused_with_advice() {
        for (text, expected) in [
            ("", "write a port"),
            ("0", "65535"),
            ("70000", "65535"),
            ("localhost:", "65535"),
            ("localhost:0", "65535"),
            ("localhost", "write a port"),
            ("ftp://app.test", "write a port"),
            ("file:///srv/www", "write the path of the directory itself"),
            ("http://", "write a port"),
            ("http://app.test/api", "leave it out"),
            ("http://app.test?x", "leave it out"),
            ("app.test:80/api", "leave it out"),
            ("http://me:pw@app.test", "credentials"),
            ("::1:3000", "brackets"),
            ("unix:", "missing"),
            ("a b:1", "write a port"),
        ] {
            let error = OriginTarget::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
