//! How long the relay holds a poll: for as long as its agent says, or else for as long as the way has borne.

use std::time::Duration;

use http::HeaderMap;

use super::Hold;
use crate::message::{fields, hop};
use crate::session::envelope::PollEnd;

/// `Prefer: wait=N` (RFC 7240 §4.3): how long the agent would have its poll held, in seconds.
pub(in crate::transport) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all(fields::PREFER).iter().flat_map(hop::list);
    let mut waits = preferences.filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let digits = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("wait").then(|| digits.parse().ok().map(Duration::from_secs))?
    });
    waits.next()
}

/// Has `poll` wait: for at most `most` if the `asker` says for how long, or for what `hold` has learned. Dropping the
/// future drops the poll, which may be news for `hold`.
///
/// # Errors
/// Those of `poll`.
pub(in crate::transport) async fn held<T, F: Future<Output = Result<T, PollEnd>>>(
    hold: &Hold,
    asker: &HeaderMap,
    most: Duration,
    poll: impl FnOnce(Duration) -> F,
) -> Result<T, PollEnd> {
    if let Some(wait) = wait(asker) {
        return poll(wait.min(most)).await;
    }
    let held = hold.enter();
    let polled = poll(hold.now()).await;
    held.end(matches!(polled, Err(PollEnd::Nothing)));
    polled
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_agent_says_how_long_to_hold() {
        let said = |prefer: &'static str| {
            wait(&HeaderMap::from_iter([(fields::PREFER, HeaderValue::from_static(prefer))]))
        };
        for prefer in ["wait=7", "respond-async, Wait = 7;x=y", "wait=\"7\"", "wait=7, wait=9"] {
            assert_eq!(said(prefer), Some(Duration::from_secs(7)), "{prefer}");
        }
        assert_eq!(said("wait=0"), Some(Duration::ZERO));
        for prefer in ["wait", "wait=-1", "wait=x", "waits=7", "await=3", ""] {
            assert_eq!(said(prefer), None, "{prefer}");
        }
    }
}
