//! Answers that are complete before they are sent, because an intermediary holds bodies back. Size and time are
//! limited. If an answer exceeds a limit, its visitor gets an error with the reason.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;

use super::again::Replayable;
use super::embed::{AnswerMode, embed};
use super::serve::serve;
use crate::defaults;
use crate::http1::embedded::ReadError;
use crate::message::problem::Problem;
use crate::message::spool::{SpoolError, SpoolRoom, Spooled};
use crate::message::{Body, Request, Response, interim};
use crate::net::Scope;
use crate::session::Handler;

/// The name of this hop in `Proxy-Status`.
const HOP: &str = "ptth-agent";
const EVENTS: &[u8] = b"text/event-stream";

/// The envelope of an answer.
pub enum Answer {
    /// Complete: its length is known.
    Whole(Spooled),
    /// To be sent while it arrives.
    Stream(Replayable),
}

impl Answer {
    /// The envelope from its start; `None` for a stream that cannot be replayed ([`Replayable::body`]). Only one such
    /// body is to be read at a time.
    pub fn body(&self) -> Option<Body> {
        match self {
            Self::Whole(whole) => Some(whole.body()),
            Self::Stream(replayable) => replayable.body(),
        }
    }
}

/// As [`serve()`]. With [`AnswerMode::Whole`], an answer that does not end in time, or is too large, becomes a 502 for
/// its visitor, and an Upgrade becomes a 501.
///
/// # Errors
/// When the envelope holds no request.
pub async fn serve_by(
    envelope: Body,
    handler: Arc<dyn Handler>,
    scope: &Scope,
    room: &SpoolRoom,
    mode: AnswerMode,
) -> Result<Answer, ReadError> {
    if mode != AnswerMode::Whole {
        return Ok(Answer::Stream(Replayable::new(serve(envelope, handler, mode, scope).await?)));
    }
    let seen = Arc::<Mutex<Seen>>::default();
    let handler = InspectingHandler { handler, seen: seen.clone() };
    let answer = serve(envelope, Arc::new(handler), AnswerMode::Whole, scope).await?;
    let Seen { request_headers, events } = std::mem::take(&mut *seen.lock());
    let patience = if events { defaults::WHOLE_EVENTS } else { defaults::WHOLE };
    let why = match tokio::time::timeout(patience, room.take_in(answer)).await {
        Ok(Ok(whole)) => return Ok(Answer::Whole(whole)),
        Ok(Err(error @ SpoolError::Broken(_))) => {
            tracing::info!(%error, "an answer broke off");
            let (status, detail) =
                (StatusCode::BAD_GATEWAY, "The service behind the agent did not complete its answer.");
            return Ok(Answer::Whole(apology(status, "origin-incomplete", detail, &request_headers).await));
        }
        Ok(Err(SpoolError::TooLarge(most))) => format!("this answer is larger than {most} bytes"),
        Ok(Err(error)) => {
            // A fault of the agent's own machine is for its owner, not for the visitor.
            tracing::warn!(%error, "there is no room for an answer");
            "there is no room for this answer at the moment".into()
        }
        Err(_) => format!("this answer did not end within {} s", patience.as_secs()),
    };
    tracing::info!(why, "an answer cannot be sent as a whole");
    let detail = format!(
        "Something between the agent and the relay holds bodies back until they are complete, so an answer \
         must be complete before it is sent, and {why}."
    );
    Ok(Answer::Whole(apology(StatusCode::BAD_GATEWAY, "answer-held", &detail, &request_headers).await))
}

/// Takes in the whole envelope before any part of it is passed on. An envelope that breaks off is delivered again, and
/// the origin must not receive the head of its request twice. Dropping the future drops the envelope.
///
/// # Errors
/// [`SpoolError`]; after [`SpoolError::Broken`] its URL may be polled again.
pub async fn arrived(envelope: Body, room: &SpoolRoom) -> Result<Body, SpoolError> {
    Ok(room.take_in(envelope).await?.body())
}

/// The envelope of an error response. `detail` is the reason why the visitor gets no other answer.
pub async fn apology(status: StatusCode, code: &str, detail: &str, request_headers: &HeaderMap) -> Spooled {
    let error = Some("http_response_incomplete");
    let problem = Problem { status, code, detail, hop: HOP, error, retry_after: None, request: None };
    let envelope = embed(problem.response(request_headers), &Method::GET, AnswerMode::Whole);
    // The envelope is short, and has the room for itself.
    SpoolRoom::default().take_in(envelope).await.unwrap_or_default()
}

/// The properties of an exchange that [`serve_by`] needs.
#[derive(Default)]
struct Seen {
    /// The fields of the request that a problem needs.
    request_headers: HeaderMap,
    /// The answer is a `text/event-stream`.
    events: bool,
}

/// Notes the properties of the exchange, and refuses an Upgrade, which cannot cross.
struct InspectingHandler {
    handler: Arc<dyn Handler>,
    seen: Arc<Mutex<Seen>>,
}

impl Handler for InspectingHandler {
    fn call(&self, request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        let request_headers: HeaderMap =
            request.headers().get(ACCEPT).map(|accept| (ACCEPT, accept.clone())).into_iter().collect();
        if request.headers().contains_key(UPGRADE) {
            let detail = "Something between the agent and the relay holds bodies back until they are \
                          complete, and the stream of an Upgrade is never complete. Use the service without the \
                          Upgrade, or remove what holds the bodies back.";
            let (status, error) = (StatusCode::NOT_IMPLEMENTED, Some("http_upgrade_failed"));
            let problem = Problem {
                status,
                code: "no-upgrade",
                detail,
                hop: HOP,
                error,
                retry_after: None,
                request: None,
            };
            return Box::pin(std::future::ready(problem.response(&request_headers)));
        }
        let (answer, seen) = (self.handler.call(request, interim), self.seen.clone());
        Box::pin(async move {
            let answer = answer.await;
            let kind = answer.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
            let events = kind.get(..EVENTS.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS));
            *seen.lock() = Seen { request_headers, events };
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::{Body as _, Frame};
    use http_body_util::{BodyExt, StreamBody};
    use tokio::time::Instant;

    use super::*;
    use crate::session::handler_fn;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

    async fn served(request: &'static str, mode: AnswerMode, answer: fn() -> Response) -> Answer {
        let handler = handler_fn(move |_| async move { answer() });
        let scope = Scope::new();
        let room = SpoolRoom::new(2_000, 3_000);
        serve_by(Body::full(request), Arc::new(handler), &scope, &room, mode).await.unwrap()
    }

    async fn text(answer: Answer) -> String {
        let body = answer.body().unwrap();
        let Answer::Whole(whole) = answer else { panic!("this one streams") };
        assert_eq!(body.size_hint().exact(), Some(whole.length()));
        String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned()
    }

    /// One piece, and no end.
    fn endless(kind: &'static str) -> Response {
        let piece = stream::iter([Ok::<_, std::io::Error>(Frame::data("data: x\n\n".into()))]);
        let body = Body::wrap(StreamBody::new(futures_util::StreamExt::chain(piece, stream::pending())));
        http::Response::builder().header(CONTENT_TYPE, kind).body(body).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_answer_becomes_a_502_in_time() {
        for (kind, most) in
            [("Text/Event-Stream;charset=utf-8", defaults::WHOLE_EVENTS), ("text/plain", defaults::WHOLE)]
        {
            let since = Instant::now();
            let answer = match kind {
                "text/plain" => served(GET, AnswerMode::Whole, || endless("text/plain")).await,
                _ => served(GET, AnswerMode::Whole, || endless("Text/Event-Stream;charset=utf-8")).await,
            };
            let answer = text(answer).await;
            assert_eq!(since.elapsed().as_secs(), most.as_secs());
            assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("answer-held"), "{answer}");
            assert!(answer.contains("holds bodies back"), "{answer}");
        }
        assert!(matches!(served(GET, AnswerMode::Stream, || endless("text/plain")).await, Answer::Stream(_)));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_or_broken_becomes_a_502() {
        let large =
            text(served(GET, AnswerMode::Whole, || Response::new(Body::full(vec![b'x'; 2_001]))).await).await;
        assert!(large.starts_with("HTTP/1.1 502 ") && large.contains("larger than 2000 bytes"), "{large}");
        assert!(large.contains("answer-held") && large.contains("holds bodies back"), "{large}");
        let broken = || {
            let pieces = stream::iter([Err::<Frame<_>, _>(std::io::Error::other("it fell"))]);
            Response::new(Body::wrap(StreamBody::new(pieces)))
        };
        let broken = text(served(GET, AnswerMode::Whole, broken).await).await;
        assert!(broken.starts_with("HTTP/1.1 502 ") && broken.contains("origin-incomplete"), "{broken}");
    }

    #[tokio::test]
    async fn a_complete_answer_passes_and_an_upgrade_is_refused() {
        let answer = text(served(GET, AnswerMode::Whole, || Response::new(Body::full("hey"))).await).await;
        assert!(answer.ends_with("\r\n\r\nhey"), "{answer}");
        let upgrade = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        let answer = served(upgrade, AnswerMode::Whole, || unreachable!("the handler is not called"));
        let answer = text(answer.await).await;
        assert!(answer.starts_with("HTTP/1.1 501 ") && answer.contains("no-upgrade"), "{answer}");
    }
}
