//! One poll: how long the relay may hold it, and whether a box between agent and relay cut it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::{Client, Hold};
use crate::defaults;
use crate::message::{Body, BoxError, Request, fields};
use crate::net::Scope;

/// The statuses with which a box answers a request that waits for longer than the box allows.
const CUT: [StatusCode; 4] = [
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
    StatusCode::REQUEST_TIMEOUT,
];

/// How a poll that was sent ended.
pub(in crate::transport) enum SentPoll {
    /// The relay's answer, and when the poll was sent.
    Answered(Box<http::Response<Body>>, Instant),
    /// Something on the way cut the poll because it waited too long, or the connection broke.
    Cut(BoxError),
}

/// Sends a poll, and requests the longest hold that is not known to be cut. Dropping the future gives the poll up.
///
/// # Errors
/// The poll was not sent, failed too soon to have been cut for its age, or was refused on the way with 429.
pub(in crate::transport) async fn send_poll(
    client: &Arc<Client>,
    hold: &Hold,
    mut poll: Request,
    scope: &Scope,
) -> Result<SentPoll, BoxError> {
    let wait = hold.current();
    poll.headers_mut().insert(fields::PREFER, HeaderValue::try_from(format!("wait={}", wait.as_secs()))?);
    // Only a poll that was sent can be cut. A failure to connect is no cut.
    let mut since = None;
    let sent = client.send_timed(poll, scope, &mut since);
    let answer = tokio::time::timeout(wait + defaults::UPGRADE, sent).await;
    let (answer, since) = match (answer, since) {
        (Ok(Ok(answer)), Some(since)) => (answer, since),
        (Ok(Err(error)), Some(since)) => return cut(hold, since.elapsed(), defaults::POLL_BREAKS, error),
        (Ok(Err(error)), None) => return Err(error),
        // A box on the way has dropped the connection, at an unknown time.
        (Err(elapsed), Some(_)) => return cut(hold, wait, 1, elapsed.into()),
        (_, None) => return Err("the relay could not be reached".into()),
    };
    let status = answer.status();
    // Our relay marks its own answers with `Proxy-Status`.
    if answer.headers().contains_key(fields::PROXY_STATUS) {
        return Ok(SentPoll::Answered(Box::new(answer), since));
    }
    if CUT.contains(&status) {
        return cut(hold, since.elapsed(), 1, format!("a poll was answered with {status}").into());
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err("something on the way to the relay refuses more polls (429)".into());
    }
    Ok(SentPoll::Answered(Box::new(answer), since))
}

/// Handles a poll without an answer from the relay. A poll that waited for at least [`defaults::POLL_CUT`] counts as
/// cut: the session goes on, and after `threshold` such polls the hold becomes shorter.
fn cut(hold: &Hold, age: Duration, threshold: u32, error: BoxError) -> Result<SentPoll, BoxError> {
    if age < defaults::POLL_CUT {
        return Err(error);
    }
    if hold.record_break(age, threshold) {
        tracing::info!(?age, hold = ?hold.current(), %error, "polls are cut on the way: hold shortened");
    }
    Ok(SentPoll::Cut(error))
}
