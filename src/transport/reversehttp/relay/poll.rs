//! A Request URL: the agent polls it for a request, and posts the answer to it.

use std::net::SocketAddr;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Relay, now, with_next};
use crate::domain::{Facts, Refusal, RefusalKind};
use crate::http1::embedded::{APPLICATION_HTTP, MESSAGE_HTTP, ReadError};
use crate::message::{Request, Response, fields};
use crate::session::envelope::{AnswerError, Delivery, PollEnd, PollMode, following};
use crate::transport::polled::pages::{insert_ids, plain};
use crate::transport::polled::{too_many, with_hold};
use crate::transport::reversehttp::accept::{LIVE, poll_mode};
use crate::transport::reversehttp::seal::Use;

impl Relay {
    /// GET of a Request URL.
    pub(super) async fn poll(
        &self,
        sealed: &str,
        request_headers: &HeaderMap,
        facts: &Facts,
    ) -> Result<Response, Refusal> {
        let gone = |message: &str| Refusal::new(RefusalKind::Gone, message);
        let claims = self.open(Use::Request, sealed, facts)?;
        if claims.expires < now() {
            return Err(gone("this URL has expired: register again"));
        }
        let mode = poll_mode(request_headers);
        let media_type = if mode.batch { APPLICATION_HTTP } else { MESSAGE_HTTP };
        let most = self.admissions.polling().hold;
        let mut ended_before = false;
        loop {
            let registration = self.revive(&claims, facts)?;
            let queue = &registration.queue;
            registration.record_poll(claims.url);
            let mode = PollMode { instance: registration.instance, ..mode };
            let poll = |hold| queue.poll(claims.url, mode, hold);
            let polled = with_hold(&self.waiters, &registration, request_headers, most, poll).await;
            return match polled {
                Ok(delivery) => {
                    let mut response = envelope(media_type, delivery);
                    if let Some(closed) = &facts.closed {
                        queue.lock().delivers_on(claims.url, closed);
                    }
                    let next = self.request_url(facts, &registration, following(claims.url));
                    if mode.cancels() {
                        insert_ids(&mut response, fields::PTTH_REQUEST, &[claims.url]);
                    }
                    if mode.live {
                        response.headers_mut().insert(ACCEPT, HeaderValue::from_static(LIVE));
                    }
                    Ok(with_next(response, &next))
                }
                Err(PollEnd::Nothing) => {
                    let next = self.request_url(facts, &registration, claims.url);
                    let mut response = plain(StatusCode::NO_CONTENT);
                    let cancelled = if mode.cancels() { queue.lock().abandoned() } else { Vec::new() };
                    if mode.instance {
                        insert_ids(&mut response, fields::PTTH_CANCELLED, &cancelled);
                    }
                    insert_ids(&mut response, fields::PTTH_GONE, &cancelled);
                    Ok(with_next(response, &next))
                }
                Err(PollEnd::Used) => Err(gone("this URL has delivered its request: poll the next one")),
                Err(PollEnd::TooMany) => Err(too_many()),
                // The next attempt revives the registration, or returns the reason of its end.
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
        match self.registrations.router.answer(claims.url, request.into_body()).await {
            Ok(()) => Ok(plain(StatusCode::ACCEPTED)),
            Err(AnswerError::Unknown) => {
                let registration = self.registrations.get(&claims.identity);
                Err(
                    match registration
                        .is_some_and(|registration| registration.queue.lock().is_used(claims.url))
                    {
                        true => Refusal::new(RefusalKind::Answered, "this request has its answer already"),
                        false => Refusal::new(RefusalKind::NotFound, "no request waits for this answer"),
                    },
                )
            }
            Err(error @ AnswerError::Full) => Err(Refusal::new(RefusalKind::Full, error.to_string())),
            Err(AnswerError::Read(ReadError::TooLarge(most))) => {
                Err(Refusal::new(RefusalKind::TooLarge, format!("the answer is larger than {most} bytes")))
            }
            Err(error) => {
                Err(Refusal::new(RefusalKind::Malformed, format!("the answer is malformed: {error}")))
            }
        }
    }
}

fn envelope(media_type: &'static str, delivery: Delivery) -> Response {
    let mut response = plain(StatusCode::OK);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    for visitor in delivery.visitors() {
        response
            .headers_mut()
            .extend(requesting_client(visitor).map(|value| (fields::REQUESTING_CLIENT, value)));
    }
    *response.body_mut() = delivery.message();
    response
}

/// The Python and Ruby clients lose a request without this field.
fn requesting_client(visitor: Option<SocketAddr>) -> Option<HeaderValue> {
    let visitor = visitor.unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
    let visitor = SocketAddr::new(visitor.ip().to_canonical(), visitor.port());
    HeaderValue::try_from(visitor.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_visitor_address_has_the_form_that_clients_of_2009_read() {
        let formatted = |address: &str| {
            let value = requesting_client(Some(address.parse().unwrap())).unwrap();
            value.to_str().unwrap().to_owned()
        };
        assert_eq!(formatted("[::ffff:203.0.113.9]:5"), "203.0.113.9:5");
        assert_eq!(formatted("[2001:db8::1]:9"), "[2001:db8::1]:9");
    }
}
