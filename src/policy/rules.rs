//! The rules for visitors of a name, which its agent sends in `PTTH-Visitors`, a dictionary (RFC 9651 §3.2).
//!
//! An unknown member or parameter makes the whole field invalid: to ignore a rule would admit visitors that the rule
//! excludes.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use ipnet::IpNet;
use sfv::{BareItem, Dictionary, InnerList, Item, ListEntry, Parser};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::defaults;

use super::basic::User;
use super::scope::Limits;

/// Why the rules are not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rules for visitors are not valid: {0}")]
pub struct BadRules(String);

/// The rules for visitors. A request must satisfy every rule that is present; an absent rule has no effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// `basic`: the visitor is one of these users, with the password.
    pub basic: Vec<User>,
    /// `net`: the visitor's address is in one of these networks.
    pub networks: Vec<IpNet>,
    /// `secret`: the request has this field.
    pub secret: Option<FieldSecret>,
    /// `rate`: requests per second.
    pub rate: Option<NonZeroU32>,
    /// `in-flight`: requests at once.
    pub in_flight: Option<NonZeroU32>,
    /// `visitor-rate`: requests per second from one address.
    pub visitor_rate: Option<NonZeroU32>,
    /// `visitor-in-flight`: requests at once from one address.
    pub visitor_in_flight: Option<NonZeroU32>,
    /// `body`: the most bytes of a request's body.
    pub body: Option<u64>,
}

/// A field that a visitor must send, and the digest of its value. A plain digest suffices, because a program sends the
/// secret: nobody has to memorise it, and it can have any length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldSecret {
    name: HeaderName,
    digest: [u8; 32],
}

/// Fields that frame or route a message, or that the relay writes itself: they cannot carry a secret.
const NO_SECRETS: [&str; 17] = [
    "host",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "expect",
    "keep-alive",
    "authorization",
    "cookie",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "alpn",
];

impl FieldSecret {
    /// A field and the value that it must have.
    ///
    /// # Errors
    /// A short message, when the field cannot carry a secret, or the value cannot stand in a field.
    pub fn new(name: &str, value: &str) -> Result<Self, &'static str> {
        let fits = !value.is_empty()
            && value.trim() == value
            && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if !fits {
            return Err("a secret must be printable ASCII, without spaces around it");
        }
        Self::from_digest(name, Sha256::digest(value).into())
    }

    fn from_digest(name: &str, digest: [u8; 32]) -> Result<Self, &'static str> {
        let name = HeaderName::try_from(name).map_err(|_| "the name of the secret's field is not valid")?;
        let ours = ["ptth-", "proxy-", "requesting-"].iter().any(|ours| name.as_str().starts_with(ours));
        if ours || NO_SECRETS.contains(&name.as_str()) {
            return Err("this field has another meaning and cannot carry a secret");
        }
        Ok(Self { name, digest })
    }

    /// The field.
    pub(super) fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Whether a value is the secret.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        Sha256::digest(value).ct_eq(&self.digest[..]).into()
    }
}

/// Parses a network, or a single address.
///
/// # Errors
/// A short message, for any other text.
pub fn network(text: &str) -> Result<IpNet, &'static str> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let net = address.or_else(|_| text.parse::<IpNet>());
    net.map(|net| net.trunc())
        .map_err(|_| "write a network as in 192.0.2.0/24 or 2001:db8::/32, or an address")
}

impl std::str::FromStr for Rules {
    type Err = BadRules;

    fn from_str(text: &str) -> Result<Self, BadRules> {
        if text.len() > defaults::VISITORS {
            return Err(BadRules(format!("the rules are longer than {} bytes", defaults::VISITORS)));
        }
        let all: Dictionary = Parser::new(text).parse().map_err(|error| BadRules(error.to_string()))?;
        let mut rules = Self::default();
        for (key, entry) in &all {
            let key = key.as_str();
            let error = |reason: &str| BadRules(format!("{key}: {reason}"));
            match (key, entry) {
                ("basic", ListEntry::InnerList(list)) => rules.basic = each(list, user).map_err(error)?,
                ("net", ListEntry::InnerList(list)) => {
                    rules.networks =
                        each(list, |item| bare(item).and_then(text_of).and_then(network)).map_err(error)?;
                }
                ("secret", ListEntry::Item(item)) => rules.secret = Some(secret(item).map_err(error)?),
                ("body", ListEntry::Item(item)) => rules.body = Some(number(item).map_err(error)?),
                (_, ListEntry::Item(item)) => {
                    let count = match key {
                        "rate" => &mut rules.rate,
                        "in-flight" => &mut rules.in_flight,
                        "visitor-rate" => &mut rules.visitor_rate,
                        "visitor-in-flight" => &mut rules.visitor_in_flight,
                        _ => return Err(error("there is no such rule")),
                    };
                    let number = u32::try_from(number(item).map_err(error)?).ok().and_then(NonZeroU32::new);
                    *count = Some(number.ok_or_else(|| error("a value must be from 1 to 4294967295"))?);
                }
                _ => return Err(error("there is no such rule")),
            }
        }
        if rules == Self::default() { Err(BadRules("there is no rule".to_owned())) } else { Ok(rules) }
    }
}

fn each<T>(
    list: &InnerList,
    read: impl Fn(&Item) -> Result<T, &'static str>,
) -> Result<Vec<T>, &'static str> {
    if list.items.is_empty() || !list.params.is_empty() {
        return Err("the list is empty or has a parameter");
    }
    list.items.iter().map(read).collect()
}

fn bare(item: &Item) -> Result<&BareItem, &'static str> {
    if item.params.is_empty() { Ok(&item.bare_item) } else { Err("there is an unknown parameter") }
}

fn text_of(item: &BareItem) -> Result<&str, &'static str> {
    item.as_string().map(|text| text.as_str()).ok_or("the value must be a string")
}

fn number(item: &Item) -> Result<u64, &'static str> {
    let number = bare(item)?.as_integer().ok_or("the value must be a whole number")?;
    u64::try_from(i64::from(number)).map_err(|_| "the number is below 0")
}

/// The bytes of the only parameter, whose key must be `name`.
fn parameter<'a>(item: &'a Item, name: &str) -> Result<&'a [u8], &'static str> {
    let mut all = item.params.iter();
    match (all.next(), all.next()) {
        (Some((key, BareItem::ByteSequence(bytes))), None) if key.as_str() == name => Ok(bytes),
        _ => Err("a parameter is missing or unknown"),
    }
}

fn user(item: &Item) -> Result<User, &'static str> {
    User::from_digest(text_of(&item.bare_item)?, parameter(item, "pbkdf2")?)
}

fn secret(item: &Item) -> Result<FieldSecret, &'static str> {
    let digest = parameter(item, "sha256")?.try_into().map_err(|_| "a digest must have 32 bytes")?;
    FieldSecret::from_digest(text_of(&item.bare_item)?, digest)
}

impl Rules {
    /// These rules, lowered to the limits of a token; `None` when there is no rule at all.
    #[must_use]
    pub fn within(mut self, limits: &Limits) -> Option<Self> {
        let lower = |requested: Option<NonZeroU32>, limit: Option<NonZeroU32>| match (requested, limit) {
            (Some(requested), Some(limit)) => Some(requested.min(limit)),
            (requested, limit) => requested.or(limit),
        };
        self.rate = lower(self.rate, limits.rate);
        self.in_flight = lower(self.in_flight, limits.in_flight);
        (self != Self::default()).then_some(self)
    }
}

/// Displays the value of `PTTH-Visitors`.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = Vec::new();
        if !self.basic.is_empty() {
            let users = self
                .basic
                .iter()
                .map(|user| format!("{};pbkdf2=:{}:", quoted(user.name()), STANDARD.encode(user.bytes())));
            all.push(format!("basic=({})", users.collect::<Vec<_>>().join(" ")));
        }
        if !self.networks.is_empty() {
            let networks: Vec<_> = self.networks.iter().map(|net| quoted(&net.to_string())).collect();
            all.push(format!("net=({})", networks.join(" ")));
        }
        if let Some(secret) = &self.secret {
            let digest = STANDARD.encode(secret.digest);
            all.push(format!("secret={};sha256=:{digest}:", quoted(secret.name.as_str())));
        }
        for (key, count) in [
            ("rate", self.rate),
            ("in-flight", self.in_flight),
            ("visitor-rate", self.visitor_rate),
            ("visitor-in-flight", self.visitor_in_flight),
        ] {
            all.extend(count.map(|count| format!("{key}={count}")));
        }
        all.extend(self.body.map(|bytes| format!("body={bytes}")));
        f.write_str(&all.join(", "))
    }
}

/// A string of printable ASCII (RFC 9651 §3.3.3).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Secret;

    fn everything() -> Rules {
        let count = NonZeroU32::new;
        Rules {
            basic: vec![User::new("a \"n\\n", &Secret::new("x"), "").unwrap()],
            networks: vec![network("192.0.2.0/24").unwrap(), network("2001:db8::1").unwrap()],
            secret: Some(FieldSecret::new("X-Edge", "hush").unwrap()),
            rate: count(1),
            in_flight: count(2),
            visitor_rate: count(3),
            visitor_in_flight: count(u32::MAX),
            body: Some(0),
        }
    }

    #[test]
    fn rules_survive_a_round_trip_through_their_text() {
        let rules = everything();
        let text = rules.to_string();
        assert_eq!(text.parse(), Ok(rules), "{text}");
        assert!(
            text.contains("rate=1, in-flight=2, visitor-rate=3, visitor-in-flight=4294967295, body=0"),
            "{text}"
        );
        assert!(
            text.contains(r#"net=("192.0.2.0/24" "2001:db8::1/128")"#) && !text.contains("hush"),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_or_malformed_rule_is_an_error() {
        for bad in [
            "",
            "rate",
            "rate=0",
            "rate=-1",
            "rate=1.5",
            "rate=4294967296",
            "rate=(1)",
            "rate=1;burst=5",
            "rates=1",
            "rate=1, colour=blue",
            "net=()",
            "net=\"10.0.0.0/8\"",
            "net=(\"10.0.0.0/33\")",
            "net=(\"10.0.0.0/8\";x)",
            "net=(\"10.0.0.0/8\");x",
            "net=(10)",
            "basic=()",
            "basic=(\"ann\")",
            "basic=(\"ann\";pbkdf2=:AAAA:)",
            "basic=(\"ann\";bcrypt=:AAAA:)",
            "secret=\"x-a\"",
            "secret=\"x-a\";sha256=:AAAA:",
            "secret=\"x-a\";sha256=\"x\"",
            "body=-1",
            "rate=1,",
            "rate=1 body=2",
            "r\u{e4}te=1",
        ] {
            assert!(bad.parse::<Rules>().is_err(), "{bad:?}");
        }
        let digest = STANDARD.encode([0; 32]);
        for field in ["host", "Content-Length", "ptth-instance", "authorization", "a b", ""] {
            assert!(format!("secret=\"{field}\";sha256=:{digest}:").parse::<Rules>().is_err(), "{field}");
        }
        let long = format!("net=({})", "\"10.0.0.0/8\" ".repeat(1000));
        assert!(long.parse::<Rules>().is_err());
    }

    #[test]
    fn a_token_lowers_limits_and_never_raises_them() {
        let limits =
            Limits { rate: NonZeroU32::new(10), in_flight: NonZeroU32::new(10), ..Limits::default() };
        let within = |text: &str| text.parse::<Rules>().unwrap().within(&limits).unwrap().to_string();
        assert_eq!(within("rate=11, in-flight=9, visitor-rate=99"), "rate=10, in-flight=9, visitor-rate=99");
        assert_eq!(within("body=5"), "rate=10, in-flight=10, body=5");
        assert_eq!(Rules::default().within(&limits).unwrap().to_string(), "rate=10, in-flight=10");
        assert_eq!(Rules::default().within(&Limits::default()), None);
    }

    #[test]
    fn a_secret_is_compared_as_a_whole() {
        let secret = FieldSecret::new("x-edge", "hush").unwrap();
        assert!(secret.matches(b"hush") && !secret.matches(b""));
        assert!(!secret.matches(b"hus") && !secret.matches(b"hushh"));
        for bad in ["", " x", "x ", "ü", "a\nb"] {
            assert!(FieldSecret::new("x-edge", bad).is_err(), "{bad:?}");
        }
    }
}
