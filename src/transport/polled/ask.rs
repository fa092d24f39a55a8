//! One poll: for how long it may be held, and what its end shows about the way.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::{Client, Hold};
use crate::defaults;
use crate::message::{Body, BoxError, Request, fields};
use crate::net::Scope;

/// The statuses by which boxes answer a request that waited longer than they allow.
const CUT: [StatusCode; 4] = [
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
    StatusCode::REQUEST_TIMEOUT,
];

/// The outcome of a poll.
pub(in crate::transport) enum Came {
    /// The relay's answer, and when the poll was sent.
    Answer(http::Response<Body>, Instant),
    /// Something on the way cut the poll because it waited too long, or the connection broke.
    Cut(BoxError),
}

/// Sends a poll that requests to be held for as long as the way is known to allow. Dropping the future gives
/// the poll up.
///
/// # Errors
/// The poll was not sent, failed too soon to have been cut for its age, or was refused on the way with 429.
pub(in crate::transport) async fn send_poll(
    client: &Arc<Client>,
    hold: &Hold,
    mut poll: Request,
    scope: &Scope,
) -> Result<Came, BoxError> {
    let now = hold.now();
    poll.headers_mut().insert(fields::PREFER, HeaderValue::try_from(format!("wait={}", now.as_secs()))?);
    // Only a poll that was sent can be cut. A failure to connect is another matter.
    let mut since = None;
    let sent = client.send_at(poll, scope, &mut since);
    let answer = tokio::time::timeout(now + defaults::UPGRADE, sent).await;
    let (answer, since) = match (answer, since) {
        (Ok(Ok(answer)), Some(since)) => (answer, since),
        (Ok(Err(error)), Some(since)) => return cut(hold, since.elapsed(), defaults::POLL_BREAKS, error),
        (Ok(Err(error)), None) => return Err(error),
        // Something on the way has forgotten the connection, at an unknown time.
        (Err(late), Some(_)) => return cut(hold, now, 1, late.into()),
        (_, None) => return Err("the relay could not be reached".into()),
    };
    let status = answer.status();
    // Our relay marks its own answers with `Proxy-Status`.
    if answer.headers().contains_key(fields::PROXY_STATUS) {
        return Ok(Came::Answer(answer, since));
    }
    if CUT.contains(&status) {
        return cut(hold, since.elapsed(), 1, format!("a poll was answered with {status}").into());
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err("something on the way to the relay refuses more polls (429)".into());
    }
    Ok(Came::Answer(answer, since))
}

/// Handles a poll that got no answer from the relay. If it had waited for a while, it counts as cut: after `sure` such
/// polls the next ones are held shorter, and the session stands.
fn cut(hold: &Hold, age: Duration, sure: u32, error: BoxError) -> Result<Came, BoxError> {
    if age < defaults::POLL_CUT {
        return Err(error);
    }
    if hold.broke(age, sure) {
        tracing::info!(?age, hold = ?hold.now(), %error, "polls are cut on the way: hold shortened");
    }
    Ok(Came::Cut(error))
}
