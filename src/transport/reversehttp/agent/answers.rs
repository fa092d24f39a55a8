//! Brings answers to the relay, and a word to their visitors where that cannot be.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::message::embedded::MESSAGE_HTTP;
use crate::message::{Body, Request};
use crate::net::Scope;
use crate::session::envelope::{Answer, apology};
use crate::transport::polled::{Client, LOST, bring};

/// Brings the answer to a request. Dropping the future breaks the answer off.
pub(super) async fn answer(client: &Arc<Client>, url: &str, answer: Answer, scope: &Scope) {
    // What broke off itself, or is too long to be kept, is sent once.
    let Err(detail) = bring(client, || answer.body().map(|body| post(url, body)), scope).await else {
        return;
    };
    let apology = apology(StatusCode::BAD_GATEWAY, LOST, &detail, &HeaderMap::new()).await;
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
