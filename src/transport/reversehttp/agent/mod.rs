//! The agent's half: registers, then keeps several polls open and serves what they bring.

mod polls;

use std::sync::Arc;

use form_urlencoded::Serializer;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method};

use self::polls::Polled;
use super::form::write;
use crate::defaults;
use crate::message::{Body, Request, fields, link};
use crate::transport::polled::{Base, Client};
use crate::transport::{AgentSide, Call, Link, OpenError, Opened, flip};

/// See the module.
pub(super) struct Agent {
    /// Whether messages stream, where the relay can do that.
    streams: bool,
}

impl Default for Agent {
    fn default() -> Self {
        Self { streams: true }
    }
}

/// What a registration brought. URLs are paths on the relay that was asked.
struct Registered {
    first: String,
    private: Option<String>,
    urls: Vec<String>,
    streams: bool,
}

impl AgentSide for Agent {
    fn open<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Opened, OpenError>> {
        Box::pin(async move {
            let client = Arc::new(Client::new(call));
            let answer = client.alone(registration(call)).await?;
            if !answer.status().is_success() {
                return Err(match flip::refused(answer).await {
                    OpenError::Absent { status } => {
                        OpenError::Broken(format!("no ReverseHttp gateway is there: the answer was {status}"))
                    }
                    refused => refused,
                });
            }
            let registered = registered(answer.headers(), client.base()).map_err(OpenError::Broken)?;
            let urls = registered.urls.clone();
            let streams = self.streams && registered.streams;
            let link = Polled { client, again: registration(call).into_parts(), registered, streams };
            Ok(Opened { urls, connections: 1, link: Link::Polled(Box::new(link)) })
        })
    }
}

/// The form, as the specification has it: the token is one of its fields.
fn registration(call: &Call) -> http::Request<bytes::Bytes> {
    let mut form = Serializer::new(String::new());
    write(&mut form, &call.offer.wanted);
    if let Some(token) = &call.token {
        form.append_pair("token", token.expose());
    }
    let mut request = http::Request::new(form.finish().into());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = match call.relay.path() {
        "" | "/" => http::Uri::from_static(defaults::GATEWAY),
        path => path.parse().unwrap_or_default(),
    };
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    if let Some(Ok(instance)) = call.offer.instance.as_ref().map(|i| HeaderValue::try_from(i.to_string())) {
        headers.insert(fields::PTTH_INSTANCE, instance);
    }
    if call.offer.exclusive {
        headers.insert(fields::PTTH_EXCLUSIVE, HeaderValue::from_static("?1"));
    }
    request
}

/// The same form, ready to be sent.
fn copy(request: &(http::request::Parts, bytes::Bytes)) -> Request {
    Request::from_parts(request.0.clone(), Body::full(request.1.clone()))
}

fn registered(headers: &HeaderMap, base: &Base) -> Result<Registered, String> {
    let first = link::targets(headers, "first").next().ok_or("the relay gave no URL to poll")?;
    let private = headers.get(LOCATION).and_then(|v| v.to_str().ok());
    Ok(Registered {
        first: base.rebase(first)?,
        private: private.map(|url| base.rebase(url)).transpose()?,
        urls: link::targets(headers, "related").map(str::to_owned).collect(),
        streams: headers.get(fields::PTTH_STREAM).is_some_and(|v| v == "?1"),
    })
}
