//! Answers on their way to the relay.

use std::sync::Arc;

use super::Client;
use crate::defaults;
use crate::message::{Request, fields};
use crate::net::Scope;

/// How often an answer is sent whose connections break.
const TRIES: u32 = 3;
/// The code of the problem that a visitor is told whose answer did not arrive.
pub(in crate::transport) const LOST: &str = "answer-lost";

/// Brings an answer to the relay, if need be more than once, as long as `post` can make another request of it: the
/// relay takes the first. Dropping the future breaks the answer off.
///
/// # Errors
/// What the visitor is to hear, because the relay has not heard of the answer.
pub(in crate::transport) async fn bring(
    client: &Arc<Client>,
    post: impl Fn() -> Option<Request>,
    scope: &Scope,
) -> Result<(), String> {
    for failures in 1..=TRIES {
        let Some(request) = post() else { break };
        match client.send(request, scope).await {
            Ok(heard) => return judge(&heard.map(drop)),
            Err(error) => tracing::debug!(%error, "an answer did not reach the relay"),
        }
        tokio::time::sleep(defaults::BACKOFF_FIRST * failures).await;
    }
    Err("The agent's way to the relay broke while the answer was on it.".into())
}

/// What was said to an answer. If it was not the relay that refused it, the visitor is to hear that.
fn judge(heard: &http::Response<()>) -> Result<(), String> {
    let status = heard.status();
    if status.is_success() {
        return Ok(());
    }
    if heard.headers().contains_key(fields::PROXY_STATUS) {
        tracing::debug!(%status, "the relay did not take an answer");
        return Ok(());
    }
    tracing::info!(%status, "an answer was refused on its way to the relay");
    Err(format!(
        "The answer was refused on the agent's way to the relay ({status}): something there does not let a body of \
         this kind or size through."
    ))
}
