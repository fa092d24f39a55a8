//! Brings answers to the relay, and a word to their visitors where that cannot be.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::client::Client;
use crate::defaults;
use crate::message::embedded::MESSAGE_HTTP;
use crate::message::{Body, Request, fields};
use crate::net::Scope;
use crate::session::envelope::{Answer, apology};

/// How often an answer is sent whose connections break.
const TRIES: u32 = 3;

/// Brings an answer to the relay, if need be more than once: the relay takes the first. Dropping the future breaks the
/// answer off.
pub(super) async fn bring(client: &Arc<Client>, url: &str, answer: Answer, scope: &Scope) {
    for failures in 1..=TRIES {
        // What broke off itself, or is too long to be kept, is sent once.
        let Some(body) = answer.body() else { break };
        match client.send(post(url, body), scope).await {
            Ok(heard) => return self::heard(client, url, &heard.map(drop), scope).await,
            Err(error) => tracing::debug!(%error, "an answer did not reach the relay"),
        }
        tokio::time::sleep(defaults::BACKOFF_FIRST * failures).await;
    }
    let detail = "The agent's way to the relay broke while the answer was on it.";
    apologise(client, url, detail, scope).await;
}

/// What was said to an answer. If it was not the relay that refused it, the visitor is told by another.
async fn heard(client: &Arc<Client>, url: &str, heard: &http::Response<()>, scope: &Scope) {
    let status = heard.status();
    if status.is_success() {
        return;
    }
    if heard.headers().contains_key(fields::PROXY_STATUS) {
        return tracing::debug!(%status, "the relay did not take an answer");
    }
    tracing::info!(%status, "an answer was refused on its way to the relay");
    let detail = format!(
        "The answer was refused on the agent's way to the relay ({status}): something there does not let a body of \
         this kind or size through."
    );
    apologise(client, url, &detail, scope).await;
}

async fn apologise(client: &Arc<Client>, url: &str, detail: &str, scope: &Scope) {
    let apology = apology(StatusCode::BAD_GATEWAY, "answer-lost", detail, &HeaderMap::new()).await;
    if let Err(error) = client.send(post(url, apology.body()), scope).await {
        tracing::debug!(%error, "nor did the word about it");
    }
}

fn post(url: &str, answer: Body) -> Request {
    let mut request = Request::new(answer);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse().unwrap_or_default();
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE_HTTP));
    request
}
