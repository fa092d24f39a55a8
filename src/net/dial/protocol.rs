//! The protocols of proxies, and the credentials for them.

use percent_encoding::percent_decode_str;

use crate::domain::Secret;

/// The protocol of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT.
    Connect,
    /// SOCKS 5.
    Socks5 {
        /// Names are resolved by the proxy (`socks5h`), not here.
        names: bool,
    },
}

impl ProxyKind {
    /// The scheme of its URL.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Connect => "http",
            Self::Socks5 { names: false } => "socks5",
            Self::Socks5 { names: true } => "socks5h",
        }
    }
}

/// The user and password for a proxy.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) user: Box<str>,
    pub(super) password: Secret,
}

impl Login {
    /// Reads `USER:PASSWORD`, percent-encoded, for a proxy of this kind.
    pub(super) fn parse(text: &str, kind: ProxyKind) -> Result<Self, &'static str> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let decoded =
            |text| percent_decode_str(text).decode_utf8().map_err(|_| "its user or password is not UTF-8");
        let (user, password) = (decoded(user)?, decoded(password)?);
        if kind == ProxyKind::Connect && user.contains(':') {
            return Err("a user with a colon cannot be sent to an HTTP proxy (RFC 7617)");
        }
        if kind != ProxyKind::Connect && (user.len() > 255 || password.len() > 255) {
            return Err("SOCKS takes at most 255 bytes of a user and of a password (RFC 1929)");
        }
        Ok(Self { user: user.into(), password: Secret::new(password) })
    }
}
