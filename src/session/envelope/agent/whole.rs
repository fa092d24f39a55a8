//! Answers that are complete before they are sent, because an intermediary holds bodies back. Size and time are
//! limited. If an answer exceeds a limit, its visitor gets an error with the reason.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Method};

use crate::defaults;
use crate::domain::ErrorCode;
use crate::http1::embedded::embed;
use crate::message::framing::is_incremental_answer;
use crate::message::problem::Problem;
use crate::message::spool::{SpoolError, SpoolRoom, Spooled};
use crate::message::{Request, interim};
use crate::session::Handler;

/// The name of this hop in `Proxy-Status`.
const HOP: &str = "ptth-agent";
/// The `error` in `Proxy-Status` of an answer that did not arrive as a whole (RFC 9209 §2.3.12).
pub const INCOMPLETE: &str = "http_response_incomplete";
/// The `error` in `Proxy-Status` of an answer that would not be forwarded while it arrives (RFC 10036).
pub const INCREMENTAL_REFUSED: &str = "incremental_refused";
const HELD: &str = "The answer must be forwarded while it arrives (Incremental), and something between the agent and the \
                    relay holds bodies back until they are complete. Remove what holds the bodies back.";
const EVENTS: &[u8] = b"text/event-stream";

/// Calls the handler, and takes the envelope of its answer in. An answer that does not end in time, or is too large,
/// becomes a 502 for its visitor.
pub(super) async fn answer(request: Request, handler: &dyn Handler, room: &SpoolRoom) -> Spooled {
    let (method, accept) = (request.method().clone(), request.headers().get(ACCEPT).cloned());
    let accept: HeaderMap = accept.map(|accept| (ACCEPT, accept)).into_iter().collect();
    let answer = handler.call(request, interim::Sender::default()).await;
    if is_incremental_answer(&answer) {
        return apology(ErrorCode::NotIncremental, INCREMENTAL_REFUSED, HELD, &accept).await;
    }
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().get(..EVENTS.len()));
    let patience = match kind.is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS)) {
        true => defaults::WHOLE_EVENTS,
        false => defaults::WHOLE,
    };
    let taking_in = room.take_in(embed(answer, &method, false));
    let why = match tokio::time::timeout(patience, taking_in).await {
        Ok(Ok(whole)) => return whole,
        Ok(Err(error @ SpoolError::Broken(_))) => {
            tracing::info!(%error, "an answer broke off");
            let detail = "The service behind the agent did not complete its answer.";
            return apology(ErrorCode::OriginIncomplete, INCOMPLETE, detail, &accept).await;
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
    apology(ErrorCode::AnswerHeld, INCOMPLETE, &detail, &accept).await
}

/// The answer to a request for an Upgrade, whose stream cannot cross.
pub(super) async fn no_upgrade(request_headers: &HeaderMap) -> Spooled {
    let detail = "Something between the agent and the relay holds bodies back until they are complete, and the \
                  stream of an Upgrade is never complete. Use the service without the Upgrade, or remove what holds \
                  the bodies back.";
    apology(ErrorCode::NoUpgrade, "http_upgrade_failed", detail, request_headers).await
}

/// The envelope of an error response. `detail` is the reason why the visitor gets no other answer, and `error` that of
/// `Proxy-Status`.
pub async fn apology(code: ErrorCode, error: &str, detail: &str, request_headers: &HeaderMap) -> Spooled {
    let error = Some(error);
    let problem = Problem { code, detail, hop: HOP, error, retry_after: None, request: None, pages: None };
    let envelope = embed(problem.response(request_headers), &Method::GET, false);
    // The envelope is short, and has the room for itself.
    SpoolRoom::default().take_in(envelope).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;
    use http_body::{Body as _, Frame};
    use http_body_util::{BodyExt, StreamBody};
    use tokio::time::Instant;

    use super::*;
    use crate::message::{Body, Response};
    use crate::net::Scope;
    use crate::session::envelope::agent::{Answer, AnswerMode, serve};
    use crate::session::handler_fn;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

    async fn served(request: &'static str, mode: AnswerMode, answer: fn() -> Response) -> Answer {
        let handler = handler_fn(move |_| async move { answer() });
        let scope = Scope::new();
        let room = SpoolRoom::new(2_000, 3_000);
        serve(Body::full(request), Arc::new(handler), &scope, &room, mode).await.unwrap()
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
