//! Whole messages in words of a transport's own: a request is given out as it is, an answer taken as it is, and how
//! they are written down is the transport's matter.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;

use super::answer::AnswerError;
use super::deliver::{Back, Delivery};
use super::job::{Job, Making, Whole};
use super::queue::Queue;
use super::{Flights, UrlId};
use crate::message::framing::is_bodiless;
use crate::message::{Body, Request, Response};
use crate::session::carrier::SendErrorKind;

/// A request in memory, in the hand of the poll that asked for it. Dropping it gives it back to the queue.
pub struct Given {
    back: Option<Back>,
    body: Bytes,
}

impl Given {
    /// `None` when its visitor has gone, its body could not be had, or it asks for an Upgrade.
    pub(super) async fn take(queue: &Arc<Queue>, url: UrlId, job: Job, again: bool) -> Option<Self> {
        let mut whole = Whole::of(queue, job).await?;
        let body = match whole.taken.in_memory() {
            Some(bytes) => bytes.clone(),
            None => {
                let file = whole.taken.clone();
                let making = Making::of(queue, whole.into_job());
                let read = file.body().collect().await;
                whole = Whole::of(queue, making.done()?).await?;
                match read {
                    Ok(body) => body.to_bytes(),
                    Err(error) => {
                        tracing::warn!(%error, "an upload could not be read again");
                        whole.flight.done.send(Err(SendErrorKind::Busy.error()));
                        return None;
                    }
                }
            }
        };
        let Whole { flight, request, taken } = whole;
        let number = flight.number;
        if let Err(done) = queue.hand(url, flight) {
            queue.put_back(Job { number, request, done, taken: Some(taken), taking: None }, None);
            return None;
        }
        Some(Self {
            back: Some(Back { queue: queue.clone(), url, request, taken: Some(taken), once: !again }),
            body,
        })
    }

    /// The request: its absolute target, its end-to-end fields, without `Content-Length` unless it said one.
    pub fn request(&self) -> Option<(&Request, &Bytes)> {
        Some((&self.back.as_ref()?.request, &self.body))
    }

    /// What it was written down as, ready to be the body of the answer to the poll. Dropped before it was sent, it
    /// still gives the request back.
    pub fn written(mut self, text: Bytes) -> Body {
        self.back.take().map_or_else(Body::empty, |back| Body::wrap(Delivery::of(text, back)))
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            back.give(None);
        }
    }
}

impl Flights {
    /// Gives the visitor of `url` its answer, which is in memory. What the answer says of its length counts where it
    /// has no body, as the length of what a GET would have brought. One that comes after its visitor left is thrown
    /// away. Returns whether the session of the request goes on.
    ///
    /// # Errors
    /// [`AnswerError::Unknown`]
    pub fn respond(&self, url: UrlId, mut response: Response) -> Result<bool, AnswerError> {
        let flight = self.take(url).ok_or(AnswerError::Unknown)?;
        flight.queue.answered(flight.number);
        let status = response.status();
        let bodiless = is_bodiless(&flight.method, status);
        if bodiless {
            *response.body_mut() = Body::empty();
        }
        if !bodiless || status == StatusCode::NO_CONTENT {
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        let goes_on = !flight.queue.is_ended();
        flight.done.send(Ok(response));
        Ok(goes_on)
    }

    /// Tells the visitor of `url` why what came is no answer.
    ///
    /// # Errors
    /// [`AnswerError::Unknown`]
    pub fn spoil(&self, url: UrlId, why: SendErrorKind) -> Result<(), AnswerError> {
        let flight = self.take(url).ok_or(AnswerError::Unknown)?;
        flight.queue.answered(flight.number);
        flight.done.send(Err(why.error()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::defaults;
    use crate::session::envelope::{PollEnd, carrier};
    use crate::session::{Kind, Link};

    const HOLD: std::time::Duration = defaults::POLL_HOLD;

    fn ok() -> Response {
        http::Response::builder().header("content-length", "7").body(Body::full("hey")).unwrap()
    }

    fn bench() -> (Arc<Flights>, Arc<Queue>, Arc<Link>) {
        let flights = Arc::<Flights>::default();
        let queue =
            Queue::new(flights.clone(), defaults::POLL_ABSENCE, defaults::MESSAGE, defaults::MESSAGES);
        let link = Link::new(carrier(queue.clone()), Kind::Envelope, 0, Arc::default());
        (flights, queue, link)
    }

    fn ask(method: Method, body: &'static str) -> Request {
        http::Request::builder().method(method).uri("http://a.test/x").body(Body::full(body)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_before_it_was_sent_goes_to_the_next_poll() {
        let (flights, queue, link) = bench();
        let sent = link.send_plain(ask(Method::PUT, "abc"), link.reserve().unwrap());
        let work = async {
            drop(queue.poll_given(1, false, HOLD).await.ok().unwrap());
            let given = queue.poll_given(2, false, HOLD).await.ok().unwrap();
            assert_eq!(
                given.request().map(|(request, body)| (request.uri().path(), &body[..])),
                Some(("/x", &b"abc"[..]))
            );
            drop(given.written("unsent".into()));
            let given = queue.poll_given(3, false, HOLD).await.ok().unwrap();
            let text = given.written("sent".into()).collect().await.unwrap().to_bytes();
            assert_eq!(text, "sent");
            assert!(
                matches!(flights.respond(2, ok()), Err(AnswerError::Unknown)),
                "it was not given out here"
            );
            assert!(flights.respond(3, ok()).unwrap());
            assert!(matches!(flights.respond(3, ok()), Err(AnswerError::Unknown)));
            assert!(matches!(queue.poll_given(3, false, HOLD).await, Err(PollEnd::Used)));
        };
        let response = tokio::join!(sent, work).0.unwrap();
        assert!(!response.headers().contains_key("content-length"));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hey");
    }

    #[tokio::test(start_paused = true)]
    async fn what_did_not_arrive_comes_again_to_who_can_ask_for_it() {
        let (flights, queue, link) = bench();
        let sent = link.send_plain(ask(Method::PUT, "abc"), link.reserve().unwrap());
        let work = async {
            for _ in 0..2 {
                let given = queue.poll_given(1, true, HOLD).await.ok().unwrap();
                assert_eq!(given.request().map(|(_, body)| &body[..]), Some(&b"abc"[..]));
                given.written("sent".into()).collect().await.unwrap();
            }
            assert!(flights.respond(1, ok()).unwrap());
            assert!(matches!(queue.poll_given(1, true, HOLD).await, Err(PollEnd::Used)));
        };
        assert_eq!(tokio::join!(sent, work).0.unwrap().status(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_outlives_its_session_and_a_head_has_no_body() {
        let (flights, queue, link) = bench();
        let sent = link.send_plain(ask(Method::HEAD, ""), link.reserve().unwrap());
        let work = async {
            let given = queue.poll_given(1, false, HOLD).await.ok().unwrap();
            given.written("sent".into()).collect().await.unwrap();
            queue.end();
            assert!(!flights.respond(1, ok()).unwrap(), "the session has ended");
        };
        let response = tokio::join!(sent, work).0.unwrap();
        assert_eq!(response.headers()["content-length"], "7");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}
