//! Values in text form, the same on the command line and in the file.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use http::Uri;
use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

use crate::agent::origin::{BadHostHeader, HostHeader};
use crate::defaults;
use crate::domain::{HostName, Name};
use crate::relay::config::{Destination, Listen, Routing};
use crate::transport::{self, Transport};

/// A value that a person writes as text.
pub(super) trait FromText: Sized {
    /// Parses the text, or returns a short description of the accepted form.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// The value parser for clap.
pub(super) fn parse<T: FromText>(text: &str) -> Result<T, String> {
    T::from_text(text)
}

struct Text<T>(T);

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<T>(PhantomData<T>);
        impl<T: FromText> Visitor<'_> for TextVisitor<T> {
            type Value = Text<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<T>, E> {
                T::from_text(text).map(Text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

/// Deserializes one value of the file.
pub(super) fn one<'de, D: Deserializer<'de>, T: FromText>(deserializer: D) -> Result<Option<T>, D::Error> {
    Text::deserialize(deserializer).map(|text| Some(text.0))
}

/// Deserializes a list of values of the file, which must not be empty.
pub(super) fn several<'de, D: Deserializer<'de>, T: FromText>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let all: Vec<Text<T>> = Vec::deserialize(deserializer)?;
    if all.is_empty() {
        return Err(D::Error::custom("an empty list is not allowed; leave the key out to use the default"));
    }
    Ok(all.into_iter().map(|text| text.0).collect())
}

/// Deserializes one path of the file, or a list of paths.
pub(super) fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    struct Paths;
    impl<'de> Visitor<'de> for Paths {
        type Value = Vec<PathBuf>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a path in quotes, or a list of paths")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<PathBuf>, E> {
            Ok(vec![text.into()])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<PathBuf>, A::Error> {
            let mut all = Vec::new();
            while let Some(path) = list.next_element()? {
                all.push(path);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(Paths)
}

impl FromText for Name {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }
}

impl FromText for HostName {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }
}

impl FromText for HostHeader {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: BadHostHeader| error.to_string())
    }
}

impl FromText for Listen {
    fn from_text(text: &str) -> Result<Self, String> {
        listen(text, transport::ALL)
    }
}

/// A listener, for HTTP or for the streams of one of these transports.
fn listen(text: &str, transports: &[&dyn Transport]) -> Result<Listen, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    let (name, tls) = match (scheme, scheme.strip_suffix("+plain")) {
        ("https", _) => (None, true),
        ("http", _) => (None, false),
        (_, Some(name)) => (Some(name), false),
        (name, None) => (Some(name), true),
    };
    let find = |name: &str| match transports.iter().find(|transport| transport.name() == name) {
        Some(transport) if transport.takes_streams() => Ok(transport.name()),
        Some(_) => Err(format!("{name} has no own listener: its agents send requests to the HTTP listeners")),
        None => Err(format!("{name:?} is neither https, nor http, nor a transport")),
    };
    let transport = name.map(find).transpose()?;
    let address = rest.trim_end_matches('/').parse().map_err(
        |_| "write ADDR:PORT for TLS or http://ADDR:PORT for plain HTTP, as in 0.0.0.0:443 or [::]:443",
    )?;
    Ok(Listen { address, tls, transport })
}

impl FromText for Destination {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }
}

impl FromText for Routing {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "host" => Ok(Self::Host),
            "path" => Ok(Self::Path),
            _ => Err("write host (https://NAME.DOMAIN/) or path (https://DOMAIN/NAME/)".into()),
        }
    }
}

/// The address of the admin listener; `None` turns the listener off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminAt(pub Option<SocketAddr>);

impl FromText for AdminAt {
    fn from_text(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address = text.strip_prefix("http://").unwrap_or(text).parse();
        address
            .map(|a| Self(Some(a)))
            .map_err(|_| format!("write ADDR:PORT, as in {}, or off", defaults::ADMIN))
    }
}

/// A network, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net(pub IpNet);

impl FromText for Net {
    fn from_text(text: &str) -> Result<Self, String> {
        let alone = text.parse::<IpAddr>().map(IpNet::from);
        let net = alone.or_else(|_| text.parse::<IpNet>());
        net.map(|net| Self(net.trunc()))
            .map_err(|_| "write a network, as in 10.0.0.0/8 or fd00::/8, or an address".into())
    }
}

/// The start of public URLs: a scheme, a host, and optionally a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(pub Uri);

impl FromText for PublicUrl {
    fn from_text(text: &str) -> Result<Self, String> {
        let form = "write https://HOST or https://HOST:PORT, without a path";
        let uri: Uri = text.parse().map_err(|error| format!("{error}; {form}"))?;
        let is_http = matches!(uri.scheme_str(), Some("https" | "http"));
        let has_no_path = uri.path() == "/" && uri.query().is_none();
        let has_valid_host =
            uri.authority().is_some_and(|a| !a.as_str().contains('@') && HostName::parse(a.host()).is_ok());
        if is_http && has_no_path && has_valid_host { Ok(Self(uri)) } else { Err(form.into()) }
    }
}

/// The URL of a relay in the configuration of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayUrl(pub Uri);

impl FromText for RelayUrl {
    fn from_text(text: &str) -> Result<Self, String> {
        let form = "write https://HOST[:PORT][/PATH]";
        let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: Uri = full.parse().map_err(|error| format!("{error}; {form}"))?;
        let Some(authority) = uri.authority() else { return Err(form.into()) };
        if authority.as_str().contains('@') {
            return Err("a secret in an address gets into logs; use --token-file or PTTH_TOKEN".into());
        }
        let host = HostName::parse(authority.host()).map_err(|error| error.to_string())?;
        if uri.query().is_some() || text.contains('#') {
            return Err(format!("a relay's address has no query and no fragment; {form}"));
        }
        match uri.scheme_str() {
            Some("https") => Ok(Self(uri)),
            Some("http") if host.is_this_machine() => Ok(Self(uri)),
            Some("http") => {
                Err("plain http would expose the token on the network, and is accepted only for \
                                 localhost, *.localhost, 127.* and [::1]; use https://"
                    .into())
            }
            _ => Err(format!("the URL of a relay starts with https://; {form}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::session::Kind;
    use crate::transport::{Admissions, AgentSide, RelaySide};

    #[test]
    fn a_listener_uses_tls_unless_its_scheme_is_http() {
        let listen = |text| Listen::from_text(text).map(|l| (l.address.to_string(), l.tls));
        assert_eq!(listen("127.0.0.1:0"), Ok(("127.0.0.1:0".into(), true)));
        assert_eq!(listen("https://[::1]:8443"), Ok(("[::1]:8443".into(), true)));
        assert_eq!(listen("http://127.0.0.1:80/"), Ok(("127.0.0.1:80".into(), false)));
        for bad in ["", "8443", "127.0.0.1", "localhost:80", "ftp://127.0.0.1:21", "http://127.0.0.1:80/x"] {
            assert!(listen(bad).is_err(), "{bad:?}");
        }
    }

    /// A transport that takes streams, on its own listeners only.
    struct Raw;

    impl Transport for Raw {
        fn name(&self) -> &'static str {
            "raw"
        }

        fn carriers(&self) -> &'static [Kind] {
            &[]
        }

        fn spec(&self) -> &'static str {
            ""
        }

        fn takes_streams(&self) -> bool {
            true
        }

        fn relay(&self, _: Arc<dyn Admissions>) -> Box<dyn RelaySide> {
            unreachable!("nothing is started")
        }

        fn agent(&self) -> Box<dyn AgentSide> {
            unreachable!("nothing is started")
        }
    }

    #[test]
    fn a_listener_may_belong_to_a_transport_that_takes_streams() {
        let listen = |text| super::listen(text, &[&Raw, transport::ALL[0]]);
        let address = "[::1]:9".parse().unwrap();
        assert_eq!(listen("raw://[::1]:9"), Ok(Listen::tls(address).of("raw")));
        assert_eq!(listen("raw+plain://[::1]:9/"), Ok(Listen::plain(address).of("raw")));
        for text in ["raw://[::1]:9", "raw+plain://[::1]:9", "https://[::1]:9", "http://[::1]:9"] {
            assert_eq!(listen(text).unwrap().to_string(), text);
        }
        for (bad, why) in [
            ("ptth10://[::1]:9", "requests"),
            ("ptth10+plain://[::1]:9", "requests"),
            ("raw+tls://[::1]:9", "neither"),
            ("http+plain://[::1]:9", "neither"),
            ("+plain://[::1]:9", "neither"),
            ("raw://", "ADDR:PORT"),
        ] {
            assert!(listen(bad).is_err_and(|error| error.contains(why)), "{bad}");
        }
    }

    #[test]
    fn plain_http_is_accepted_for_loopback_relays_only() {
        for good in [
            "http://localhost:8080",
            "http://a.localhost",
            "http://127.8.0.1:1",
            "http://[::1]:1",
            "http://LOCALHOST./",
            "https://relay.example",
            "relay.example:8443",
            "relay.example/base",
        ] {
            assert!(RelayUrl::from_text(good).is_ok(), "{good}");
        }
        for bad in [
            "http://relay.example",
            "http://localhost.example",
            "http://xlocalhost",
            "http://128.0.0.1",
            "http://[::2]",
            "http://127.0.0.1.example",
            "ws://localhost",
            "https://",
            "https://user:secret@relay.example",
            "https://relay.example/?a",
            "https://relay.example/#a",
            "https://a..b",
            "",
        ] {
            assert!(RelayUrl::from_text(bad).is_err(), "{bad}");
        }
        assert_eq!(
            RelayUrl::from_text("relay.example:8443").unwrap().0.to_string(),
            "https://relay.example:8443/"
        );
    }

    #[test]
    fn a_public_url_has_no_path() {
        assert!(PublicUrl::from_text("https://example.org:443").is_ok());
        assert!(PublicUrl::from_text("http://example.org/").is_ok());
        for bad in
            ["example.org", "https://example.org/a", "https://example.org/?a", "ftp://a", "https://u@a", "/"]
        {
            assert!(PublicUrl::from_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn admin_is_an_address_or_off() {
        assert_eq!(AdminAt::from_text("off"), Ok(AdminAt(None)));
        assert_eq!(AdminAt::from_text("127.0.0.1:0"), Ok(AdminAt("127.0.0.1:0".parse().ok())));
        assert!(AdminAt::from_text("on").is_err());
    }
}
