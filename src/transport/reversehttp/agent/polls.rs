//! The polls of one registration, and the requests that they bring.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};

use super::{Registered, copy, registered};
use crate::defaults;
use crate::message::embedded::MESSAGE_HTTP;
use crate::message::{Body, BoxError, Request, link};
use crate::net::Scope;
use crate::session::envelope::serve;
use crate::session::{Ended, Handler, Load};
use crate::transport::ServeLink;
use crate::transport::polled::{Brought, Client, Dialect, run};

/// A registration, ready to be polled.
pub(super) struct Polled {
    pub(super) client: Arc<Client>,
    /// The form, to ask for another URL to poll.
    pub(super) again: (http::request::Parts, bytes::Bytes),
    pub(super) registered: Registered,
    pub(super) streams: bool,
}

impl ServeLink for Polled {
    fn serve(
        self: Box<Self>,
        handler: Arc<dyn Handler>,
        load: Arc<Load>,
        scope: Scope,
    ) -> BoxFuture<'static, Ended> {
        let first = self.registered.first.clone();
        Box::pin(run(*self, Some(first), handler, load, scope))
    }
}

impl Dialect for Polled {
    /// The URL to poll; without one it is asked for first.
    type Turn = Option<String>;
    /// The URL that was polled, and the envelope that came.
    type Message = (String, Body);

    async fn poll(
        &self,
        url: &mut Option<String>,
        scope: &Scope,
    ) -> Result<Brought<Self::Message>, BoxError> {
        let client = &self.client;
        let target = match url {
            Some(url) => url.clone(),
            None => {
                let answer = client.send(copy(&self.again), scope).await?;
                if !answer.status().is_success() {
                    return Ok(Brought::Ended(answer.status()));
                }
                url.insert(registered(answer.headers(), client.base())?.first).clone()
            }
        };
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = target.parse()?;
        let accept = if self.streams { "message/http;stream=1" } else { MESSAGE_HTTP };
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        let held = defaults::POLL_HOLD + defaults::UPGRADE;
        let answer = tokio::time::timeout(held, client.send(request, scope)).await??;
        let next = link::targets(answer.headers(), "next").next().map(|url| client.base().rebase(url));
        let next = next.transpose()?;
        match answer.status() {
            StatusCode::OK => {
                *url = next;
                Ok(Brought::Request((target, answer.into_body())))
            }
            StatusCode::NO_CONTENT => {
                *url = next.or(url.take());
                Ok(Brought::Nothing)
            }
            StatusCode::TOO_MANY_REQUESTS => Ok(Brought::TooMany),
            // Something on the way does not bear to wait so long; the URL is as good as before.
            status
            @ (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT) => {
                Err(format!("a poll was answered {status}").into())
            }
            // The URL is spent: its last answer got lost on the way. The registration gives another.
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                *url = None;
                Err("a URL to poll was spent".into())
            }
            status => Ok(Brought::Ended(status)),
        }
    }

    async fn serve(&self, (url, envelope): Self::Message, handler: Arc<dyn Handler>, scope: &Scope) {
        let answer = match serve(envelope, handler, scope).await {
            Ok(answer) => post(&url, answer),
            Err(error) => return tracing::warn!(%error, "a poll brought no request"),
        };
        match self.client.send(answer, scope).await {
            Ok(heard) if heard.status().is_success() => {}
            Ok(heard) => tracing::debug!(status = %heard.status(), "the relay did not take an answer"),
            Err(error) => tracing::debug!(%error, "an answer did not reach the relay"),
        }
    }

    async fn end(&self, scope: &Scope) -> bool {
        let Some(private) = &self.registered.private else { return true };
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::DELETE;
        *request.uri_mut() = private.parse().unwrap_or_default();
        let told = tokio::time::timeout(Duration::from_secs(5), self.client.send(request, scope));
        matches!(told.await, Ok(Ok(answer)) if answer.status().is_success())
    }
}

fn post(url: &str, answer: Body) -> Request {
    let mut request = Request::new(answer);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse().unwrap_or_default();
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE_HTTP));
    request
}
