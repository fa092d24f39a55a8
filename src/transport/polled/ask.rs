//! One poll on its way: how long it is to be held, and what its end says of the way.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::{Client, Hold};
use crate::defaults;
use crate::message::{Body, BoxError, Request, fields};
use crate::net::Scope;

/// How boxes answer a request that has waited too long for them.
const CUT: [StatusCode; 4] = [
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
    StatusCode::REQUEST_TIMEOUT,
];

/// What a poll came to.
pub(in crate::transport) enum Came {
    /// The relay's answer, and since when the poll was on its way.
    Answer(http::Response<Body>, Instant),
    /// Something on the way does not bear to wait so long, or the way broke.
    Cut(BoxError),
}

/// Sends a poll that says how long it may be held: for as long as the way bears, as far as is known. Dropping the future
/// gives the poll up.
///
/// # Errors
/// What broke before the way can have cut it for its age.
pub(in crate::transport) async fn send_poll(
    client: &Arc<Client>,
    hold: &Hold,
    mut poll: Request,
    scope: &Scope,
) -> Result<Came, BoxError> {
    let now = hold.now();
    poll.headers_mut().insert(fields::PREFER, HeaderValue::try_from(format!("wait={}", now.as_secs()))?);
    // Only what was sent can be cut: that no connection is had is another matter.
    let mut since = None;
    let sent = client.send_at(poll, scope, &mut since);
    let answer = tokio::time::timeout(now + defaults::UPGRADE, sent).await;
    let (answer, since) = match (answer, since) {
        (Ok(Ok(answer)), Some(since)) => (answer, since),
        (Ok(Err(error)), Some(since)) => return cut(hold, since.elapsed(), defaults::POLL_BREAKS, error),
        (Ok(Err(error)), None) => return Err(error),
        // Something has forgotten the connection: nobody knows when.
        (Err(late), Some(_)) => return cut(hold, now, 1, late.into()),
        (_, None) => return Err("the relay could not be reached".into()),
    };
    let status = answer.status();
    // What is our relay's own answer says so.
    if answer.headers().contains_key(fields::PROXY_STATUS) {
        return Ok(Came::Answer(answer, since));
    }
    if CUT.contains(&status) {
        return cut(hold, since.elapsed(), 1, format!("a poll was answered {status}").into());
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err("something on the way to the relay lets no more polls through (429)".into());
    }
    Ok(Came::Answer(answer, since))
}

/// A poll that had waited for a while got no answer of the relay. After `sure` of them the next ones wait less; the
/// session stands.
fn cut(hold: &Hold, age: Duration, sure: u32, error: BoxError) -> Result<Came, BoxError> {
    if age < defaults::POLL_CUT {
        return Err(error);
    }
    if hold.broke(age, sure) {
        tracing::info!(?age, hold = ?hold.now(), %error, "polls are cut on the way: they are held shorter");
    }
    Ok(Came::Cut(error))
}
