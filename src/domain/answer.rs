//! How long a visitor waits for the head of an answer, and whose limit that is.

use std::fmt;
use std::time::Duration;

/// The longest wait for the head of an answer. A longer limit is greater, and no limit is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnswerLimit(Duration);

impl AnswerLimit {
    /// No limit.
    pub const NONE: Self = Self(Duration::MAX);

    /// A limit in seconds; 0 is no limit.
    pub const fn from_seconds(seconds: u64) -> Self {
        if seconds == 0 { Self::NONE } else { Self(Duration::from_secs(seconds)) }
    }

    /// The limit in seconds, rounded up; 0 is no limit.
    pub fn seconds(self) -> u64 {
        let Self(limit) = self;
        if self == Self::NONE { 0 } else { limit.as_secs() + u64::from(limit.subsec_nanos() > 0) }
    }

    /// The limit; [`Duration::MAX`] is no limit.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// A zero duration is no limit.
impl From<Duration> for AnswerLimit {
    fn from(limit: Duration) -> Self {
        if limit.is_zero() { Self::NONE } else { Self(limit) }
    }
}

/// Displayed as in `30 s`, or as `unlimited`.
impl fmt::Display for AnswerLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Duration::MAX => f.write_str("unlimited"),
            limit => write!(f, "{} s", limit.as_secs_f64()),
        }
    }
}

/// The source of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitSource {
    /// The operator of the relay, for all agents.
    Relay,
    /// The operator of the relay, in the token of the agent.
    Token,
    /// The agent, in its offer.
    Agent,
}

impl fmt::Display for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relay => "relay",
            Self::Token => "token",
            Self::Agent => "agent",
        })
    }
}

/// The limit in force for the requests of an agent, and who has set the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerTimeout {
    /// The limit.
    pub limit: AnswerLimit,
    /// Who has set it.
    pub source: LimitSource,
}

/// No limit of the relay.
impl Default for AnswerTimeout {
    fn default() -> Self {
        Self { limit: AnswerLimit::NONE, source: LimitSource::Relay }
    }
}

impl AnswerTimeout {
    /// The limit in force. The token has the most that an agent may request; without a value in the token, an agent may
    /// only shorten the limit of the relay. A request beyond that is capped. An agent that requests nothing gets the
    /// shorter of the limits of the relay and of the token.
    pub fn in_force(relay: AnswerLimit, token: Option<AnswerLimit>, requested: Option<AnswerLimit>) -> Self {
        let of_relay = Self { limit: relay, source: LimitSource::Relay };
        let most = token.map_or(of_relay, |limit| Self { limit, source: LimitSource::Token });
        match requested {
            Some(limit) if limit <= most.limit => Self { limit, source: LimitSource::Agent },
            Some(_) => most,
            None if most.limit < relay => most,
            None => of_relay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_seconds_are_no_limit() {
        assert_eq!(AnswerLimit::from_seconds(0), AnswerLimit::NONE);
        assert_eq!(AnswerLimit::from(Duration::ZERO), AnswerLimit::NONE);
        assert!(AnswerLimit::NONE > AnswerLimit::from_seconds(u64::MAX));
        let seconds = |millis| AnswerLimit::from(Duration::from_millis(millis)).seconds();
        assert_eq!([0, 1, 1_000, 1_001].map(seconds), [0, 1, 1, 2]);
        let texts = [0, 30].map(|seconds| AnswerLimit::from_seconds(seconds).to_string());
        assert_eq!(texts, ["unlimited", "30 s"]);
    }

    #[test]
    fn an_agent_may_request_what_its_token_allows() {
        let in_force = |relay, token: Option<u64>, requested: Option<u64>| {
            let limit = AnswerLimit::from_seconds;
            let found = AnswerTimeout::in_force(limit(relay), token.map(limit), requested.map(limit));
            (found.limit.seconds(), found.source)
        };
        use LimitSource::{Agent, Relay, Token};
        for (relay, token, requested, expected) in [
            (120, None, None, (120, Relay)),
            (120, None, Some(30), (30, Agent)),
            (120, None, Some(121), (120, Relay)),
            (120, None, Some(0), (120, Relay)),
            (0, None, Some(0), (0, Agent)),
            (0, None, None, (0, Relay)),
            (120, Some(600), None, (120, Relay)),
            (120, Some(600), Some(600), (600, Agent)),
            (120, Some(600), Some(601), (600, Token)),
            (120, Some(600), Some(0), (600, Token)),
            (120, Some(0), Some(0), (0, Agent)),
            (120, Some(0), None, (120, Relay)),
            (120, Some(60), None, (60, Token)),
            (120, Some(60), Some(90), (60, Token)),
            (120, Some(60), Some(30), (30, Agent)),
            (0, Some(60), None, (60, Token)),
        ] {
            assert_eq!(in_force(relay, token, requested), expected, "{relay} {token:?} {requested:?}");
        }
    }
}
