//! The polls of one registration, and the requests that they bring.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use super::answers;
use super::{Registered, copy_form, read_registered};
use crate::defaults;
use crate::domain::ErrorCode;
use crate::http1::embedded::ReadError;
use crate::message::replay::Replayable;
use crate::message::spool::{SpoolError, SpoolRoom};
use crate::message::{Body, BoxError, Request, link};
use crate::net::Scope;
use crate::session::envelope::agent::{Answer, AnswerMode, INCOMPLETE, apology, serve};
use crate::session::{Ended, Handler, Load};
use crate::transport::polled::{
    Client, Dialect, Hold, InFlightRequests, PollOutcome, SentPoll, run, send_poll,
};
use crate::transport::reversehttp::accept::{self, poll_mode};
use crate::transport::{ServeLink, StreamingSupport};

/// A registration, ready to be polled.
pub(super) struct PolledRegistration {
    client: Arc<Client>,
    /// The form, sent again for another URL to poll.
    form: (http::request::Parts, bytes::Bytes),
    registered: Registered,
    flow: StreamingSupport,
    hold: Arc<Hold>,
    in_flight: Arc<InFlightRequests>,
    /// Room for answers that must be complete before they are sent.
    room: SpoolRoom,
}

/// A request as a poll brought it.
pub(super) struct Message {
    /// The URL that was polled.
    url: Uri,
    envelope: Body,
    mode: AnswerMode,
}

impl PolledRegistration {
    pub(super) fn new(
        client: Arc<Client>,
        form: (http::request::Parts, bytes::Bytes),
        registered: Registered,
        flow: StreamingSupport,
        hold: Arc<Hold>,
    ) -> Self {
        Self { client, form, registered, flow, hold, in_flight: Arc::default(), room: SpoolRoom::default() }
    }

    /// Serves a request, and delivers the answer. `false` if the request did not arrive as a whole.
    async fn exchange(
        &self,
        url: &Uri,
        envelope: Body,
        mode: AnswerMode,
        handler: Arc<dyn Handler>,
        scope: &Scope,
    ) -> bool {
        let envelope = match self.flow.down {
            true => envelope,
            // An envelope that breaks off is delivered again, and the origin must not receive the head of its request
            // twice. So nothing of it goes to the origin before all of it has arrived.
            false => match self.room.take_in(envelope).await {
                Ok(whole) => whole.body(),
                Err(SpoolError::Broken(error)) => {
                    tracing::debug!(%error, "a request broke off");
                    return false;
                }
                Err(error) => {
                    tracing::warn!(%error, "a request could not be buffered");
                    let (code, detail) = refusal(&error);
                    let apology = apology(code, INCOMPLETE, detail, &HeaderMap::new()).await;
                    let answer = Answer::Whole(apology);
                    answers::deliver(&self.client, url, answer, scope).await;
                    return true;
                }
            },
        };
        // The origin may stop reading. If the connection of the request closed before that of the answer, the relay
        // would treat the exchange as broken.
        let open_body = Replayable::new(envelope, 0);
        let envelope = open_body.body().unwrap_or_default();
        match serve(envelope, handler, scope, &self.room, mode).await {
            Ok(answer) => {
                let delivery = answers::deliver(&self.client, url, answer, scope);
                tokio::pin!(delivery);
                if tokio::time::timeout(defaults::UPLOAD_KEPT, &mut delivery).await.is_err() {
                    drop(open_body);
                    delivery.await;
                }
            }
            Err(ReadError::Broken(error)) => {
                tracing::debug!(%error, "a request broke off");
                return false;
            }
            Err(error) => tracing::warn!(%error, "the answer to a poll is not a request"),
        }
        true
    }
}

/// The answer to a visitor whose request could not be buffered: status, code and detail.
fn refusal(error: &SpoolError) -> (ErrorCode, &'static str) {
    match error {
        SpoolError::TooLarge(_) => (
            ErrorCode::TooLarge,
            "The agent's connection cannot carry a body of this size. Send a smaller body.",
        ),
        SpoolError::Full => (
            ErrorCode::AgentBusy,
            "The agent has no room for a request of this length at the moment. Try again later.",
        ),
        SpoolError::Late => (
            ErrorCode::BodyLate,
            "The body of the request did not arrive at the agent in time. Try again on a faster connection, or send \
             a smaller body.",
        ),
        SpoolError::Broken(_) => {
            (ErrorCode::RequestIncomplete, "The body of the request broke off before it was complete.")
        }
        // The error itself is for the owner of the agent, not for visitors.
        SpoolError::Disk(_) => (
            ErrorCode::AgentDisk,
            "The agent cannot write the body of the request to its disk. The agent's log has the reason.",
        ),
    }
}

impl ServeLink for PolledRegistration {
    fn flow(&self) -> Option<StreamingSupport> {
        Some(self.flow)
    }

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

impl Dialect for PolledRegistration {
    /// The URL to poll. Without one, the agent registers again first.
    type Turn = Option<String>;
    type Message = Message;

    async fn poll(
        &self,
        url: &mut Option<String>,
        scope: &Scope,
    ) -> Result<PollOutcome<Self::Message>, BoxError> {
        let client = &self.client;
        let target: Uri = match url {
            Some(url) => url.parse()?,
            None => {
                let sent = client.send(copy_form(&self.form), scope);
                let answer = tokio::time::timeout(defaults::UPGRADE, sent).await??;
                if !answer.status().is_success() {
                    return Ok(PollOutcome::Ended(answer.status()));
                }
                url.insert(read_registered(answer.headers(), client.base())?.first).parse()?
            }
        };
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = target.clone();
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept::value_for(self.flow)));
        let (answer, since) = match send_poll(client, &self.hold, request, scope).await? {
            SentPoll::Answered(answer, since) => (*answer, since),
            // The URL stays valid: if it has delivered a request meanwhile, it delivers that request again.
            SentPoll::Cut(error) => return Ok(PollOutcome::Cut(error)),
        };
        let next = link::targets(answer.headers(), "next").next().map(|url| client.base().rebase(url));
        let next = next.transpose()?;
        match answer.status() {
            StatusCode::OK => {
                *url = next;
                let in_flight = self.in_flight.enter(answer.headers());
                let mode = match self.flow.up {
                    true if poll_mode(answer.headers()).live => AnswerMode::Live,
                    true => AnswerMode::Stream,
                    false => AnswerMode::Whole,
                };
                let envelope = answer.into_body();
                Ok(PollOutcome::Request(Message { url: target, envelope, mode }, in_flight))
            }
            StatusCode::NO_CONTENT => {
                *url = next.or(url.take());
                self.in_flight.cancel(answer.headers());
                self.hold.record_lasted(since.elapsed());
                Ok(PollOutcome::Nothing)
            }
            StatusCode::TOO_MANY_REQUESTS => Ok(PollOutcome::TooMany),
            // The URL is used up: the answer to its last poll was lost on the way. The agent registers again for
            // another URL.
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                *url = None;
                Err("the URL of a poll is used up".into())
            }
            status => Ok(PollOutcome::Ended(status)),
        }
    }

    async fn serve(
        &self,
        Message { url, envelope, mode }: Message,
        handler: Arc<dyn Handler>,
        scope: &Scope,
    ) -> Option<Self::Turn> {
        let arrived = self.exchange(&url, envelope, mode, handler, scope).await;
        (!arrived).then(|| Some(url.to_string()))
    }

    async fn end(&self, scope: &Scope) -> bool {
        let Some(private) = &self.registered.private else { return true };
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::DELETE;
        let Ok(target) = private.parse() else { return false };
        *request.uri_mut() = target;
        let sent = tokio::time::timeout(Duration::from_secs(5), self.client.send(request, scope));
        matches!(sent.await, Ok(Ok(answer)) if answer.status().is_success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_cannot_be_buffered_is_refused_with_the_cause() {
        let disk = SpoolError::Disk(std::io::ErrorKind::StorageFull.into());
        for (error, code, cause) in [
            (SpoolError::TooLarge(9), ErrorCode::TooLarge, "size"),
            (SpoolError::Full, ErrorCode::AgentBusy, "no room"),
            (SpoolError::Late, ErrorCode::BodyLate, "in time"),
            (disk, ErrorCode::AgentDisk, "disk"),
        ] {
            let (refused, detail) = refusal(&error);
            assert_eq!(refused, code);
            assert!(detail.contains(cause), "{error}: {detail}");
        }
    }
}
