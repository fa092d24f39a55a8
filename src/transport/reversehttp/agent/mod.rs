//! The agent's half: registers, then keeps several polls open and serves the requests that they bring.

mod answers;
mod polls;
mod probe;

use std::sync::Arc;

use form_urlencoded::Serializer;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method};

use self::polls::PolledRegistration;
use super::form::write;
use crate::defaults;
use crate::message::{Body, Request, fields, link};
use crate::transport::polled::{Base, Client, Hold};
use crate::transport::{
    AgentLink, AgentSide, Call, OpenError, Opened, StreamingSupport, check_rules_in_force, flip, query,
    target, warnings,
};

/// See the module.
pub(super) struct Agent {
    /// Outlives sessions, because the same box cuts the polls of the next session too.
    hold: Arc<Hold>,
}

impl Default for Agent {
    fn default() -> Self {
        Self { hold: Arc::new(Hold::new(defaults::POLL_HOLD)) }
    }
}

/// The URLs from a registration, as paths on the relay that sent them.
struct Registered {
    first: String,
    private: Option<String>,
    /// Where an agent probes whether bodies stream.
    probe: Option<String>,
}

impl AgentSide for Agent {
    fn open<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Opened, OpenError>> {
        Box::pin(async move {
            let client = Arc::new(Client::new(call));
            let answer = client.send_alone(registration(call)?).await?;
            if !answer.status().is_success() {
                return Err(match flip::refused(answer).await {
                    OpenError::Absent { status } => {
                        OpenError::Broken(format!("there is no ReverseHttp gateway: the answer was {status}"))
                    }
                    refused => refused,
                });
            }
            check_rules_in_force(&call.offer, answer.headers()).map_err(OpenError::Broken)?;
            let urls = link::targets(answer.headers(), "related").map(str::to_owned).collect();
            let warnings = warnings::read(answer.headers(), &call.offer);
            let registered = match call.offer.probe {
                true => read_probe_link(answer.headers(), client.base()),
                false => read_registered(answer.headers(), client.base()),
            };
            let registered = registered.map_err(OpenError::Broken)?;
            let flow = match &registered.probe {
                Some(url) => probe::streaming_support(&client, url).await,
                None => StreamingSupport::BUFFERED,
            };
            if flow != StreamingSupport::STREAMING && !call.offer.probe {
                tracing::info!(relay = %call.relay, "{flow}");
            }
            let form = registration(call)?.into_parts();
            let link = PolledRegistration::new(client, form, registered, flow, self.hold.clone());
            Ok(Opened { urls, warnings, connections: 1, link: AgentLink::Polled(Box::new(link)) })
        })
    }
}

/// The form of the specification: the token is one of its fields.
fn registration(call: &Call) -> Result<http::Request<bytes::Bytes>, OpenError> {
    let mut form = Serializer::new(String::new());
    write(&mut form, &call.offer.wanted);
    if let Some(token) = call.credentials.token() {
        form.append_pair("token", token.expose());
    }
    let mut request = http::Request::new(form.finish().into());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = match call.relay.path() {
        "" | "/" => http::Uri::from_static(defaults::GATEWAY),
        path => target(path)?,
    };
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    query::write_options(headers, &call.offer);
    Ok(request)
}

/// The same form, ready to be sent again.
fn copy_form(request: &(http::request::Parts, bytes::Bytes)) -> Request {
    Request::from_parts(request.0.clone(), Body::full(request.1.clone()))
}

fn read_registered(headers: &HeaderMap, base: &Base) -> Result<Registered, String> {
    let first = link::targets(headers, "first").next().ok_or("the relay sent no URL to poll")?;
    let private = headers.get(LOCATION).and_then(|v| v.to_str().ok());
    let first = base.rebase(first)?;
    Ok(Registered {
        first,
        private: private.map(|url| base.rebase(url)).transpose()?,
        ..read_probe_link(headers, base)?
    })
}

/// Reads the part of the answer that a probing offer gets too. A probing offer registers nothing.
fn read_probe_link(headers: &HeaderMap, base: &Base) -> Result<Registered, String> {
    let streams = headers.get(fields::PTTH_STREAM).is_some_and(|v| v == "?1");
    let probe = link::targets(headers, "probe").next().filter(|_| streams);
    let probe = probe.map(|url| base.rebase(url)).transpose()?;
    Ok(Registered { first: String::new(), private: None, probe })
}
