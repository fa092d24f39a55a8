//! What an agent requests: names and hosts, and all names or hosts below one.

use std::borrow::Cow;
use std::fmt;

use super::{HostName, Malformed, Name};

/// Every host exactly one label below a name of the relay, or below a host of the agent's own. Written `*.NAME` and
/// `*.HOST`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Below {
    /// Below a name: `*.shop` is every host `X.shop.DOMAIN`.
    Name(Name),
    /// Below a host.
    Host(HostName),
}

impl Below {
    /// Parses `*.NAME`. `None` for a text of another form.
    ///
    /// # Errors
    /// [`Malformed`] when no name follows the star.
    pub fn parse_name(text: &str) -> Option<Result<Self, Malformed>> {
        text.strip_prefix("*.").map(|name| Name::parse(name).map(Self::Name))
    }

    /// Parses `*.HOST`. `None` for a text of another form. A host of a single label is refused: everybody's hosts are
    /// below it.
    ///
    /// # Errors
    /// [`Malformed`] when no such host follows the star.
    pub fn parse_host(text: &str) -> Option<Result<Self, Malformed>> {
        let parent = text.strip_prefix("*.")?;
        let short =
            || Malformed { kind: "host suffix", text: text.into(), reason: "write *.shop.example.com" };
        Some(HostName::parse(parent).and_then(|host| match host.as_str().contains('.') {
            true => Ok(Self::Host(host)),
            false => Err(short()),
        }))
    }
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "*.{name}"),
            Self::Host(host) => write!(f, "*.{host}"),
        }
    }
}

/// A name or a host that an agent requests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    /// A name below the relay's domain.
    Name(Name),
    /// A host of the agent's own.
    Host(HostName),
    /// Every host one label below a name or a host. The request of an exact host has precedence.
    Below(Below),
    /// The host of an origin (RFC 6454). The relay decides whether it is a name below its domain or a host of
    /// the agent's own.
    Origin(HostName),
}

impl Wanted {
    /// Reads one parameter of an offer: `name` with a name or `*.NAME`, `host` with a host or `*.HOST`. `None` for any
    /// other key.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn read(key: &str, value: &str) -> Option<Result<Self, Malformed>> {
        match key {
            "name" => Some(match Below::parse_name(value) {
                Some(below) => below.map(Self::Below),
                None => Name::parse(value).map(Self::Name),
            }),
            "host" => Some(match Below::parse_host(value) {
                Some(below) => below.map(Self::Below),
                None => HostName::parse(value).map(Self::Host),
            }),
            _ => None,
        }
    }

    /// The parameter that [`Wanted::read`] reads.
    pub fn parameter(&self) -> (&'static str, Cow<'_, str>) {
        match self {
            Self::Name(name) => ("name", name.as_str().into()),
            Self::Host(host) | Self::Origin(host) => ("host", host.as_str().into()),
            Self::Below(below @ Below::Name(_)) => ("name", below.to_string().into()),
            Self::Below(below @ Below::Host(_)) => ("host", below.to_string().into()),
        }
    }

    /// The request of everything one label below this one; `None` below a [`Wanted::Below`].
    pub fn below(&self) -> Option<Self> {
        match self {
            Self::Name(name) => Some(Self::Below(Below::Name(name.clone()))),
            Self::Host(host) | Self::Origin(host) => Some(Self::Below(Below::Host(host.clone()))),
            Self::Below(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_survives_a_round_trip() {
        for (key, value) in [("name", "shop"), ("name", "*.shop"), ("host", "a.test"), ("host", "*.a.test")] {
            let wanted = Wanted::read(key, value).unwrap().unwrap();
            assert_eq!(wanted.parameter(), (key, value.into()));
            assert_eq!(wanted.below().is_some(), !value.contains('*'));
        }
        for (key, bad) in [
            ("name", "*"),
            ("name", "*.a.b"),
            ("name", "*.*.a"),
            ("name", "a.*"),
            ("host", "*.test"),
            ("host", "*.*.test"),
        ] {
            assert!(Wanted::read(key, bad).unwrap().is_err(), "{bad}");
        }
        assert!(Wanted::read("token", "x").is_none());
    }
}
