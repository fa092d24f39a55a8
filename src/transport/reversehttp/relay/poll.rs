//! A Request URL: polled for a request, and where its answer comes to.

use std::net::SocketAddr;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Relay, now, with_next};
use crate::defaults;
use crate::domain::{Facts, Refusal, RefusalKind};
use crate::message::embedded::{MESSAGE_HTTP, ReadError};
use crate::message::{Request, Response, fields, hop};
use crate::session::envelope::{AnswerError, Handed, PollEnd};
use crate::transport::polled::pages::plain;
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
        let streams = streams(asker);
        let mut ended_before = false;
        loop {
            let registration = self.revive(&claims, facts)?;
            let polled = registration.queue.poll(claims.url, streams, self.door.polling().hold).await;
            return match polled {
                Ok(handed) => {
                    let next = self.request_url(facts, &registration);
                    Ok(with_next(delivery(handed), &next))
                }
                Err(PollEnd::Nothing) => {
                    let next = self.request_url_again(facts, &registration, claims.url);
                    Ok(with_next(plain(StatusCode::NO_CONTENT), &next))
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

/// `Accept: message/http;stream=1`: our own. The agent reads a message as it comes.
fn streams(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().flat_map(hop::list).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(MESSAGE_HTTP))
            && parts.any(|parameter| parameter.eq_ignore_ascii_case("stream=1"))
    })
}

fn delivery(Handed { visitor, message }: Handed) -> Response {
    let mut response = plain(StatusCode::OK);
    *response.body_mut() = message;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE_HTTP));
    // Python and Ruby lose a request without it.
    let visitor = visitor.unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
    let visitor = SocketAddr::new(visitor.ip().to_canonical(), visitor.port());
    if let Ok(value) = HeaderValue::try_from(visitor.to_string()) {
        headers.insert(fields::REQUESTING_CLIENT, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_a_stream_gets_one() {
        let asks = |accept: &'static str| {
            streams(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert!(asks("message/http;stream=1") && asks("text/html, Message/HTTP ; Stream=1"));
        assert!(!asks("*/*, message/http") && !asks("message/http;stream=0") && !asks("*/*;stream=1"));
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
