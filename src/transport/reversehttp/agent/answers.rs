//! Delivers answers to the relay. The visitor of an answer that cannot be delivered gets a 502.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Uri};

use crate::defaults;
use crate::domain::ErrorCode;
use crate::http1::embedded::MESSAGE_HTTP;
use crate::message::{Body, BoxError, Request};
use crate::net::Scope;
use crate::session::envelope::agent::{Answer, INCOMPLETE, apology};
use crate::transport::polled::{Client, deliver_answer};

/// Delivers the answer to a request. Dropping the future breaks the answer off.
pub(super) async fn deliver(client: &Arc<Client>, url: &Uri, answer: Answer, scope: &Scope) {
    // An answer that broke off, or is too long to be kept, is sent only once.
    let delivered = deliver_answer(client, || answer.body().map(|body| post(url, body)), scope).await;
    let Err(detail) = delivered else { return };
    let apology = apology(ErrorCode::AnswerLost, INCOMPLETE, &detail, &HeaderMap::new()).await;
    let sent = tokio::time::timeout(defaults::UPGRADE, client.send(post(url, apology.body()), scope)).await;
    if let Err(error) = sent.map_err(BoxError::from).flatten() {
        tracing::debug!(%error, "could not deliver the 502 that replaces a lost answer");
    }
}

fn post(url: &Uri, answer: Body) -> Request {
    let mut request = Request::new(answer);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.clone();
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE_HTTP));
    request
}
