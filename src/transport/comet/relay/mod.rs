//! The relay's half: one resource, where answers arrive and polls wait.

mod answers;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, LINK, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use self::answers::{Answers, exchange};
use self::sessions::{CometRequest, Sessions};
use super::wire::{JSON, NOTHING, write_request};
use crate::defaults;
use crate::domain::{AgentId, Facts, Instance, Refusal, RefusalKind};
use crate::message::{Body, Request, Response, fields, hop, link};
use crate::session::envelope::{PollEnd, PollMode};
use crate::transport::polled::pages::{self, insert_ids, plain};
use crate::transport::polled::{Registration, Waiters, preferred_wait, too_many, with_hold};
use crate::transport::{Admissions, RelaySide, warnings};

const METHODS: &str = "POST, DELETE, OPTIONS";

pub(super) struct Relay {
    admissions: Arc<dyn Admissions>,
    sessions: Sessions,
    waiters: Waiters,
    answers: Answers,
}

fn is_ours(path: &str) -> bool {
    path.strip_prefix(defaults::GATEWAY) == Some(defaults::COMET)
}

impl Relay {
    pub(super) fn new(admissions: Arc<dyn Admissions>) -> Self {
        let sessions = Sessions::new(admissions.polling().store.clone());
        Self { admissions, sessions, waiters: Waiters::default(), answers: Answers::default() }
    }

    async fn answer(&self, request: Request, facts: Facts) -> Result<Response, Refusal> {
        match *request.method() {
            Method::POST => {
                // The rules are part of the session's identity, so a session that stands enforces them.
                let has_rules = request.headers().contains_key(fields::PTTH_VISITORS);
                let mut response = self.post(request, &facts).await?;
                if has_rules {
                    response.headers_mut().insert(fields::PTTH_VISITORS, HeaderValue::from_static("?1"));
                }
                Ok(response)
            }
            Method::DELETE => {
                let agent = self.agent(request.headers(), &facts).await?;
                let comet_request = CometRequest::read(agent, request.uri(), request.headers())?;
                match self.sessions.end(&comet_request) {
                    true => Ok(plain(StatusCode::NO_CONTENT)),
                    false => Err(Refusal::new(RefusalKind::NotFound, "there is no such session")),
                }
            }
            Method::OPTIONS => {
                let fields = "Authorization, Content-Type, Prefer, PTTH-Answer-Timeout, PTTH-Exclusive, \
                              PTTH-Instance, PTTH-Visitors";
                Ok(pages::options(METHODS, "POST, DELETE", fields))
            }
            _ => Err(Refusal::new(RefusalKind::Method, format!("this resource takes {METHODS}"))),
        }
    }

    /// The agent that sent the request. An agent without a token is recognised by its instance alone.
    async fn agent(&self, headers: &HeaderMap, facts: &Facts) -> Result<AgentId, Refusal> {
        let instance =
            headers.get(fields::PTTH_INSTANCE).and_then(|text| Instance::parse(text.to_str().ok()?));
        self.admissions.who_comes(facts, instance.as_ref()).await
    }

    /// Takes the answer, if the body has one, and waits for the agent's next request.
    async fn post(&self, request: Request, facts: &Facts) -> Result<Response, Refusal> {
        // The body of an unauthenticated request is not read.
        let agent = self.agent(request.headers(), facts).await?;
        let (parts, body) = request.into_parts();
        let comet_request = CometRequest::read(agent, &parts.uri, &parts.headers)?;
        let answered = self.answers.take(&self.sessions, &comet_request, body).await?;
        let waits = preferred_wait(&parts.headers) != Some(Duration::ZERO);
        match answered {
            // An agent may bring answers after the end of its session. Such a POST begins no session.
            Some(continues) if !continues || !waits => return Ok(nothing(&[])),
            None if comet_request.offer.probe => {
                let admission = self.admissions.check(comet_request.offer.clone(), facts).await?;
                return Ok(self.opening_response(&comet_request, admission.urls()));
            }
            _ => {}
        }
        let session = self.sessions.begin(&self.admissions, &comet_request, facts).await?;
        if !waits {
            return Ok(self.opening_response(&comet_request, &session.urls));
        }
        let most = self.admissions.polling().hold;
        let poll_session = |hold| poll(&session, comet_request.poll, hold);
        match with_hold(&self.waiters, &session, &parts.headers, most, poll_session).await {
            Ok(response) => Ok(response),
            Err(PollEnd::Nothing) => {
                let mut response = nothing(&session.urls);
                if session.instance {
                    insert_ids(&mut response, fields::PTTH_CANCELLED, &session.queue.lock().abandoned());
                }
                Ok(response)
            }
            Err(PollEnd::Used) => Ok(nothing(&session.urls)),
            // The answer in this POST was accepted, even if its poll is not.
            Err(PollEnd::TooMany) if answered.is_some() => Ok(nothing(&session.urls)),
            Err(PollEnd::TooMany) => Err(too_many()),
            // If the session was cut, `check` refuses a new one, with the reason.
            Err(PollEnd::Ended) => match self.admissions.check(comet_request.offer, facts).await {
                Ok(_) => Err(Refusal::new(RefusalKind::Gone, "this session has ended")),
                Err(refusal) => Err(refusal),
            },
        }
    }

    /// The response to a probe, or to a POST that brings no answer and does not wait. Our agent opens its session with
    /// such a POST.
    fn opening_response(&self, comet_request: &CometRequest, urls: &[String]) -> Response {
        let mut response = nothing(urls);
        let granted = (&comet_request.agent, &comet_request.offer);
        warnings::write_terms(response.headers_mut(), &*self.admissions, granted, urls);
        response
    }
}

async fn poll(session: &Registration, name: Option<u128>, hold: Duration) -> Result<Response, PollEnd> {
    loop {
        let id: u128 = name.unwrap_or_else(rand::random);
        let mode = PollMode { again: name.is_some(), instance: session.instance, ..PollMode::IN_MEMORY };
        let exchange = exchange(&session.agent, id);
        let delivery = session.queue.poll(exchange, mode, hold).await?;
        let Some((request, body)) = delivery.request() else { continue };
        let text = write_request(&format!("{id:032x}"), request, body);
        let mut response = success(delivery.written(text), &session.urls);
        if session.instance {
            insert_ids(&mut response, fields::PTTH_REQUEST, &[exchange]);
        }
        return Ok(response);
    }
}

fn nothing(urls: &[String]) -> Response {
    success(Body::full(NOTHING), urls)
}

fn success(body: Body, urls: &[String]) -> Response {
    let mut response = plain(StatusCode::OK);
    *response.body_mut() = body;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    if let Some(related) = link::value(urls.iter().map(String::as_str), "related") {
        headers.insert(LINK, related);
    }
    response
}

impl RelaySide for Relay {
    fn wants(&self, request: &Request) -> bool {
        let headers = request.headers();
        // A request with Upgrade belongs to another transport, even if only the ALPN field of such a request is left.
        // Some clients request an upgrade to h2c everywhere.
        let upgrade = headers.contains_key(UPGRADE) && !hop::requests_upgrade(headers, "h2c");
        is_ours(request.uri().path()) && !upgrade && !headers.contains_key(fields::ALPN)
    }

    fn accept(&self, request: Request, facts: Facts) -> BoxFuture<'_, Result<Response, Refusal>> {
        Box::pin(self.answer(request, facts))
    }

    fn dress(&self, request_headers: &HeaderMap, response: &mut Response) {
        pages::expose(request_headers, response, "Link, PTTH-Request, PTTH-Cancelled");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_path_belongs_to_comet() {
        assert!(is_ours("/reversehttp/_comet"));
        for other in ["/", "/reversehttp", "/_comet", "/reversehttp/_comet/", "/reversehttp/_cometx"] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
