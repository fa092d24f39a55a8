//! The grants of a token, and their limits. No I/O.

use std::fmt;
use std::num::NonZeroU32;
use std::time::SystemTime;

use time::OffsetDateTime;

use crate::domain::{AnswerLimit, Below, HostName, Malformed, Name};

/// The names that begin with a word and a hyphen, written `WORD-*`. The hyphen is part of the prefix, so that `team-*`
/// does not allow `teamster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// Parses `WORD-*`. `None` for another form.
    ///
    /// # Errors
    /// [`Malformed`] when no name can begin with the word.
    pub fn parse(text: &str) -> Option<Result<Self, Malformed>> {
        let word = text.strip_suffix("-*")?;
        Some(Name::parse(word).map(|word| Self(format!("{word}-").into())))
    }

    /// The word, with its hyphen.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn allows(&self, name: &Name) -> bool {
        name.as_str().starts_with(&*self.0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*", self.0)
    }
}

/// The grants of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Any name that is free. The names in `names` are also reserved for the token.
    pub any_name: bool,
    /// These names.
    pub names: Vec<Name>,
    /// Names with one of these prefixes.
    pub prefixes: Vec<Prefix>,
    /// These hosts, exactly.
    pub hosts: Vec<HostName>,
    /// All hosts one label below each of these names and hosts, together; and each host below one of the hosts by
    /// itself, unless another token lists it.
    pub below: Vec<Below>,
    /// The limits on transports, sessions, requests and time.
    pub limits: Limits,
}

/// The limits within which a token may claim its grants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// The transports that its agents may use; empty allows every transport.
    pub transports: Vec<Box<str>>,
    /// The most sessions at once. A session is a process, with as many connections as it needs.
    pub sessions: Option<NonZeroU32>,
    /// Requests of visitors per second, for each of its names.
    pub rate: Option<NonZeroU32>,
    /// Requests of visitors at once, for each of its names.
    pub in_flight: Option<NonZeroU32>,
    /// The most that its agents may request as the limit of a visitor's wait for the head of an answer. Without a value,
    /// agents may only shorten the limit of the relay.
    pub answer_timeout: Option<AnswerLimit>,
    /// When the token expires.
    pub expires: Option<SystemTime>,
}

impl Grants {
    /// Any name, and no host: the grants of a first token.
    pub fn any() -> Self {
        Self { any_name: true, ..Self::default() }
    }

    /// Exactly these names.
    pub fn names(names: impl IntoIterator<Item = Name>) -> Self {
        Self { names: names.into_iter().collect(), ..Self::default() }
    }

    /// Whether the name may be claimed.
    pub fn allows_name(&self, name: &Name) -> bool {
        self.any_name || self.names.contains(name) || self.prefixes.iter().any(|prefix| prefix.allows(name))
    }

    /// Whether the host may be claimed: it is listed exactly, or is one label below a listed host.
    pub fn allows_host(&self, host: &HostName) -> bool {
        self.lists_host(host) || host.parent().is_some_and(|parent| self.below.contains(&Below::Host(parent)))
    }

    /// Whether the host is listed exactly.
    pub fn lists_host(&self, host: &HostName) -> bool {
        self.hosts.contains(host)
    }

    /// Whether everything below a name or a host may be claimed: it must be listed as such.
    pub fn allows_below(&self, below: &Below) -> bool {
        self.below.contains(below)
    }

    /// The only name that may be claimed, if the grants allow nothing else.
    pub fn only_name(&self) -> Option<&Name> {
        match (&self.names[..], &self.prefixes[..], &self.hosts[..]) {
            ([only], [], []) if !self.any_name && self.below.is_empty() => Some(only),
            _ => None,
        }
    }

    /// Whether the grants are valid at a time.
    pub fn is_live(&self, now: SystemTime) -> bool {
        self.limits.expires.is_none_or(|end| now < end)
    }
}

impl Limits {
    /// Whether an agent may use this transport.
    pub fn allows_transport(&self, transport: &str) -> bool {
        self.transports.is_empty() || self.transports.iter().any(|allowed| **allowed == *transport)
    }
}

impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = self.any_name.then(|| "any name".to_owned());
        let names = self.names.iter().map(|name| format!("name {name}"));
        let prefixes = self.prefixes.iter().map(|prefix| format!("names {prefix}"));
        let hosts = self.hosts.iter().map(|host| format!("host {host}"));
        let below = self.below.iter().map(|below| match below {
            Below::Name(_) => format!("names {below}"),
            Below::Host(_) => format!("hosts {below}"),
        });
        let all: Vec<String> =
            any.into_iter().chain(names).chain(prefixes).chain(hosts).chain(below).collect();
        f.write_str(if all.is_empty() { "nothing" } else { "" })?;
        f.write_str(&all.join(", "))?;
        self.limits.fmt(f)
    }
}

/// The text after the claims; empty if there is no limit.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.transports.is_empty() {
            write!(f, "; by {}", self.transports.join(", "))?;
        }
        if let Some(sessions) = self.sessions {
            write!(f, "; sessions {sessions}")?;
        }
        if let Some(rate) = self.rate {
            write!(f, "; rate {rate}")?;
        }
        if let Some(in_flight) = self.in_flight {
            write!(f, "; in flight {in_flight}")?;
        }
        if let Some(limit) = self.answer_timeout {
            write!(f, "; answer timeout {limit}")?;
        }
        match self.expires {
            Some(end) => write!(f, "; until {}", minute(end)),
            None => Ok(()),
        }
    }
}

/// A time in UTC, down to the minute, as RFC 3339 writes it.
fn minute(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let (date, hour, minute) = (time.date(), time.hour(), time.minute());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_grant_is_exact() {
        let host = |text| HostName::parse(text).unwrap();
        let some =
            Grants { names: vec![name("shop")], hosts: vec![host("shop.example")], ..Grants::default() };
        assert!(some.allows_name(&name("SHOP")) && !some.allows_name(&name("shop2")));
        assert!(some.allows_host(&host("shop.example.")) && !some.allows_host(&host("a.shop.example")));
        assert!(Grants::any().allows_name(&name("x")) && !Grants::any().allows_host(&host("x")));
        assert_eq!(some.to_string(), "name shop, host shop.example");
        assert_eq!(Grants::any().to_string(), "any name");
        assert_eq!(Grants::default().to_string(), "nothing");
    }

    #[test]
    fn a_prefix_ends_with_its_hyphen() {
        let prefix = |text| Prefix::parse(text).and_then(Result::ok);
        let team = Grants { prefixes: vec![prefix("Team-*").unwrap()], ..Grants::default() };
        assert!(team.allows_name(&name("team-a")) && team.allows_name(&name("team-a-b")));
        for other in ["team", "teamster", "a-team-b", "x"] {
            assert!(!team.allows_name(&name(other)), "{other}");
        }
        assert_eq!(team.to_string(), "names team-*");
        assert_eq!(team.only_name(), None);
        for bad in ["*", "-*", "team*", "a.b-*", "*-a", "te*m-", "team-**", "team--**"] {
            assert_eq!(prefix(bad), None, "{bad}");
        }
    }

    #[test]
    fn everything_below_is_granted_only_as_such() {
        let host = |text| HostName::parse(text).unwrap();
        let [name_below, host_below] = [Below::Name(name("shop")), Below::Host(host("shop.test"))];
        let some = Grants { below: vec![name_below.clone(), host_below.clone()], ..Grants::default() };
        assert!(some.allows_below(&name_below) && some.allows_below(&host_below));
        assert!(!some.allows_name(&name("shop")) && !some.allows_host(&host("shop.test")));
        assert!(some.allows_host(&host("a.shop.test")) && !some.allows_host(&host("a.b.shop.test")));
        assert!(!Grants::any().allows_below(&name_below), "any name is not everything below a name");
        assert_eq!(some.to_string(), "names *.shop, hosts *.shop.test");
        let both = Grants { below: vec![name_below], ..Grants::names([name("shop")]) };
        assert_eq!(both.only_name(), None);
    }

    #[test]
    fn limits_are_displayed_after_the_grants() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600);
        let limits = Limits {
            transports: vec!["ptth10".into(), "ptth".into()],
            sessions: NonZeroU32::new(2),
            rate: NonZeroU32::new(50),
            in_flight: NonZeroU32::new(20),
            answer_timeout: Some(AnswerLimit::from_seconds(300)),
            expires: Some(end),
        };
        let grants = Grants { limits, ..Grants::names([name("shop")]) };
        assert_eq!(
            grants.to_string(),
            "name shop; by ptth10, ptth; sessions 2; rate 50; in flight 20; answer timeout 300 s; until 2027-01-01T00:00Z"
        );
        let unlimited = Limits { answer_timeout: Some(AnswerLimit::NONE), ..Limits::default() };
        assert_eq!(unlimited.to_string(), "; answer timeout unlimited");
        assert!(grants.limits.allows_transport("ptth") && !grants.limits.allows_transport("reversehttp"));
        assert!(Limits::default().allows_transport("anything"));
        assert!(grants.is_live(end - Duration::from_secs(1)) && !grants.is_live(end));
    }
}
