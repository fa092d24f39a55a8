//! A Request URL: polled for a request, and where its answer comes to.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Relay, now, plain, with_next};
use crate::defaults;
use crate::domain::{Facts, Refusal, RefusalKind};
use crate::message::embedded::{APPLICATION_HTTP, MESSAGE_HTTP, ReadError};
use crate::message::{Body, Request, Response, fields, hop};
use crate::session::envelope::{AnswerError, Handed, PollEnd, Several, UrlId};
use crate::transport::reversehttp::seal::Use;

impl Relay {
    /// GET of a Request URL.
    pub(super) async fn poll(
        &self,
        sealed: &str,
        asker: &HeaderMap,
        facts: &Facts,
    ) -> Result<Response, Refusal> {
        let gone = |message: &str| Refusal::new(RefusalKind::Gone, message);
        let claims = self.open(Use::Request, sealed, facts)?;
        if claims.expires < now() {
            return Err(gone("this URL is too old: register again"));
        }
        let asks = Asks::of(asker);
        let streams = asks == Asks::Stream;
        let most = self.door.polling().hold;
        let mut ended_before = false;
        loop {
            let registration = self.revive(&claims, facts)?;
            let queue = &registration.queue;
            let ask = async |hold| match asks {
                Asks::Several => queue.poll_several(claims.url, hold).await.map(deliveries),
                Asks::Stream | Asks::One => queue.poll(claims.url, streams, hold).await.map(delivery),
            };
            let polled = match wait(asker) {
                Some(wait) => ask(wait.min(most)).await,
                None => {
                    let held = registration.hold.enter();
                    let polled = ask(registration.hold.now()).await;
                    held.end(matches!(polled, Err(PollEnd::Nothing)));
                    polled
                }
            };
            return match polled {
                Ok(mut response) => {
                    let next = self.request_url(facts, &registration);
                    if streams {
                        name(&mut response, fields::PTTH_REQUEST, &[claims.url]);
                    }
                    Ok(with_next(response, &next))
                }
                Err(PollEnd::Nothing) => {
                    let next = self.request_url_again(facts, &registration, claims.url);
                    let mut response = plain(StatusCode::NO_CONTENT);
                    if streams {
                        name(&mut response, fields::PTTH_GONE, &registration.queue.abandoned());
                    }
                    Ok(with_next(response, &next))
                }
                Err(PollEnd::Used) => Err(gone("this URL has delivered its request: poll the next one")),
                Err(PollEnd::TooMany) => {
                    let message = format!("{} polls of this registration wait already", defaults::POLLS_MOST);
                    let mut refusal = Refusal::new(RefusalKind::TooMany, message);
                    refusal.retry_after = Some(defaults::RETRY_AFTER);
                    Err(refusal)
                }
                // Why it has ended shows when it is to be brought back.
                Err(PollEnd::Ended) if !ended_before => {
                    ended_before = true;
                    continue;
                }
                Err(PollEnd::Ended) => Err(gone("this registration has ended")),
            };
        }
    }

    /// POST to a Request URL.
    pub(super) async fn take_answer(
        &self,
        sealed: &str,
        request: Request,
        facts: &Facts,
    ) -> Result<Response, Refusal> {
        let claims = self.open(Use::Request, sealed, facts)?;
        match self.registrations.flights.answer(claims.url, request.into_body()).await {
            Ok(()) => Ok(plain(StatusCode::ACCEPTED)),
            Err(AnswerError::Unknown) => {
                let known = self.registrations.get(&claims.identity);
                Err(match known.is_some_and(|registration| registration.queue.is_used(claims.url)) {
                    true => Refusal::new(RefusalKind::Answered, "this request has its answer already"),
                    false => Refusal::new(RefusalKind::NotFound, "no request waits for an answer here"),
                })
            }
            Err(AnswerError::Read(ReadError::TooLarge(most))) => {
                Err(Refusal::new(RefusalKind::TooLarge, format!("the answer is larger than {most} bytes")))
            }
            Err(error) => {
                Err(Refusal::new(RefusalKind::Malformed, format!("this is not an answer: {error}")))
            }
        }
    }
}

/// What a poll's `Accept` lets its answer be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// `message/http;stream=1`: our own. The agent reads a message as it comes.
    Stream,
    /// `application/http`: as many whole messages as wait.
    Several,
    One,
}

impl Asks {
    fn of(headers: &HeaderMap) -> Self {
        let mut asks = Self::One;
        for range in headers.get_all(ACCEPT).iter().flat_map(hop::list) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            if kind.eq_ignore_ascii_case(MESSAGE_HTTP) && parts.any(|p| p.eq_ignore_ascii_case("stream=1")) {
                return Self::Stream;
            }
            if kind.eq_ignore_ascii_case(APPLICATION_HTTP) {
                asks = Self::Several;
            }
        }
        asks
    }
}

/// Names requests to the agent; the ids alone open nothing.
fn name(response: &mut Response, field: HeaderName, requests: &[UrlId]) {
    let ids: Vec<_> = requests.iter().map(|id| format!("{id:x}")).collect();
    if !ids.is_empty()
        && let Ok(value) = HeaderValue::try_from(ids.join(", "))
    {
        response.headers_mut().insert(field, value);
    }
}

/// `Prefer: wait=N` (RFC 7240 §4.3): how long the agent would have its poll held, in seconds.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all(fields::PREFER).iter().flat_map(hop::list);
    let mut waits = preferences.filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let digits = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("wait").then(|| digits.parse().ok().map(Duration::from_secs))?
    });
    waits.next()
}

fn delivery(Handed { visitor, message }: Handed) -> Response {
    envelope(MESSAGE_HTTP, message, &[visitor])
}

fn deliveries(Several { visitors, messages }: Several) -> Response {
    envelope(APPLICATION_HTTP, messages, &visitors)
}

fn envelope(kind: &'static str, body: Body, visitors: &[Option<SocketAddr>]) -> Response {
    let mut response = plain(StatusCode::OK);
    *response.body_mut() = body;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for visitor in visitors {
        // Python and Ruby lose a request without it.
        let visitor = visitor.unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
        let visitor = SocketAddr::new(visitor.ip().to_canonical(), visitor.port());
        if let Ok(value) = HeaderValue::try_from(visitor.to_string()) {
            headers.append(fields::REQUESTING_CLIENT, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_more_gets_more() {
        let asks = |accept: &'static str| {
            Asks::of(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        for accept in [
            "message/http;stream=1",
            "text/html, Message/HTTP ; Stream=1",
            "application/http, message/http;stream=1",
        ] {
            assert_eq!(asks(accept), Asks::Stream, "{accept}");
        }
        for accept in ["application/http", "message/http, Application/HTTP;q=0.5"] {
            assert_eq!(asks(accept), Asks::Several, "{accept}");
        }
        for accept in ["*/*, message/http", "message/http;stream=0", "*/*;stream=1", "application/*", "*/*"] {
            assert_eq!(asks(accept), Asks::One, "{accept}");
        }
    }

    #[test]
    fn an_agent_says_how_long_to_hold() {
        let said = |prefer: &'static str| {
            wait(&HeaderMap::from_iter([(fields::PREFER, HeaderValue::from_static(prefer))]))
        };
        for prefer in ["wait=7", "respond-async, Wait = 7;x=y", "wait=\"7\"", "wait=7, wait=9"] {
            assert_eq!(said(prefer), Some(Duration::from_secs(7)), "{prefer}");
        }
        for prefer in ["wait", "wait=-1", "wait=x", "waits=7", ""] {
            assert_eq!(said(prefer), None, "{prefer}");
        }
    }

    #[test]
    fn a_visitor_is_named_as_the_clients_of_2009_read_it() {
        let named = |address: &str| {
            let visitor = Some(address.parse().unwrap());
            let response = delivery(Handed { visitor, message: crate::Body::empty() });
            response.headers()[fields::REQUESTING_CLIENT].to_str().unwrap().to_owned()
        };
        assert_eq!(named("[::ffff:203.0.113.9]:5"), "203.0.113.9:5");
        assert_eq!(named("[2001:db8::1]:9"), "[2001:db8::1]:9");
    }
}
