//! How long the relay holds a poll: for as long as its agent requests, or else for as long as earlier polls lasted.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;

use super::Registration;
use crate::defaults;
use crate::domain::{AgentId, Refusal, RefusalKind};
use crate::message::{fields, hop};
use crate::session::envelope::PollEnd;

/// `Prefer: wait=N` (RFC 7240 §4.3): the hold that the agent requests, in seconds.
pub(in crate::transport) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all(fields::PREFER).iter().flat_map(hop::list);
    let mut waits = preferences.filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let digits = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("wait").then(|| digits.parse().ok().map(Duration::from_secs))?
    });
    waits.next()
}

/// The number of waiting polls of each agent.
#[derive(Debug, Default)]
pub(in crate::transport) struct Waiters(Mutex<HashMap<AgentId, usize>>);

/// One waiting poll.
struct PollPermit<'a>(&'a Waiters, &'a AgentId);

impl Waiters {
    /// Counts one more poll, unless the agent has the maximum number of polls already.
    fn enter<'a>(&'a self, agent: &'a AgentId) -> Option<PollPermit<'a>> {
        let mut counts = self.0.lock();
        let count = counts.entry(agent.clone()).or_default();
        let free = *count < defaults::POLLS_PER_AGENT;
        *count += usize::from(free);
        // Without a free place, no permit is made, because the drop of a permit decreases the count.
        free.then(|| PollPermit(self, agent))
    }
}

impl Drop for PollPermit<'_> {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock();
        if let Some(count) = counts.get_mut(self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.1);
            }
        }
    }
}

/// The refusal for [`PollEnd::TooMany`].
pub(in crate::transport) fn too_many() -> Refusal {
    let message = "too many polls of this agent wait already";
    Refusal { retry_after: Some(defaults::RETRY_AFTER), ..Refusal::new(RefusalKind::TooMany, message) }
}

/// Runs `poll` with a hold: the hold that `request_headers` request, of at most `most`, or else the hold that was
/// learned for this registration. Dropping the future drops the poll, which may make the learned hold shorter.
///
/// # Errors
/// Those of `poll`, and [`PollEnd::TooMany`] if the maximum number of polls of the agent wait already.
pub(in crate::transport) async fn with_hold<T, F: Future<Output = Result<T, PollEnd>>>(
    waiters: &Waiters,
    Registration { agent, hold, .. }: &Registration,
    request_headers: &HeaderMap,
    most: Duration,
    poll: impl FnOnce(Duration) -> F,
) -> Result<T, PollEnd> {
    let _permit = waiters.enter(agent).ok_or(PollEnd::TooMany)?;
    if let Some(wait) = preferred_wait(request_headers) {
        return poll(wait.min(most)).await;
    }
    let measurement = hold.measure();
    let polled = poll(hold.current()).await;
    measurement.end(matches!(polled, Err(PollEnd::Nothing)));
    polled
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn one_agent_leaves_room_for_the_polls_of_others() {
        let (waiters, [one, other]) = (Waiters::default(), ["a", "b"].map(|id| AgentId(id.into())));
        let mut waiting: Vec<_> =
            (0..defaults::POLLS_PER_AGENT).map(|_| waiters.enter(&one).unwrap()).collect();
        assert!(waiters.enter(&one).is_none() && waiters.enter(&other).is_some());
        waiting.pop();
        assert!(waiters.enter(&one).is_some());
        drop(waiting);
        assert!(waiters.0.lock().is_empty());
    }

    #[test]
    fn the_prefer_field_sets_the_hold_time() {
        let parsed = |prefer: &'static str| {
            preferred_wait(&HeaderMap::from_iter([(fields::PREFER, HeaderValue::from_static(prefer))]))
        };
        for prefer in ["wait=7", "respond-async, Wait = 7;x=y", "wait=\"7\"", "wait=7, wait=9"] {
            assert_eq!(parsed(prefer), Some(Duration::from_secs(7)), "{prefer}");
        }
        assert_eq!(parsed("wait=0"), Some(Duration::ZERO));
        for prefer in ["wait", "wait=-1", "wait=x", "waits=7", "await=3", ""] {
            assert_eq!(parsed(prefer), None, "{prefer}");
        }
    }
}
