//! How long a visitor waits for the head of an answer: the limits of the relay, of the token and of the agent.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use ptth::internals::domain::{AnswerLimit, Name};
use ptth::internals::message::{Body, Request};
use ptth::internals::policy::{Grants, Limits};
use ptth::internals::session::Handler;
use ptth::internals::session::handler::handler_fn;

use crate::support::{Plan, TestRelay, serve};
use crate::ways::{NAME, Way, each, get, token};

/// The limits of the relay, of the token and of the agent, in seconds.
type Seconds = (u64, Option<u64>, Option<u64>);

/// Answers after this time.
fn after(wait: Duration) -> Arc<dyn Handler> {
    Arc::new(handler_fn(move |_: Request| async move {
        tokio::time::sleep(wait).await;
        Response::new(Body::full("late"))
    }))
}

/// The status, `Proxy-Status` and body that a visitor gets, and the warnings that the agent gets.
async fn visited(way: Way, limits: Seconds, wait: Duration) -> (u16, String, String, Vec<String>) {
    let (relay, of_token, of_agent) = limits;
    let relay = Some(AnswerLimit::from_seconds(relay).duration());
    let relay = TestRelay::planned(Plan { answer: relay, ..Plan::default() });
    let answer_timeout = of_token.map(AnswerLimit::from_seconds);
    let grants = Grants::names([Name::parse(NAME).unwrap()]);
    let grants = Grants { limits: Limits { answer_timeout, ..Limits::default() }, ..grants };
    let mut plan = way.agent(&relay, token(&relay.tokens, grants));
    plan.config.answer_timeout = of_agent.map(AnswerLimit::from_seconds);
    let agent = serve(&plan, after(wait)).await;
    let warnings = agent.status()[0].borrow().warnings.clone();
    let (head, body) = get(&relay, "").await;
    (head.status(), head.get("proxy-status").unwrap_or_default().to_owned(), body, warnings)
}

#[test]
fn a_504_names_the_limit_that_expired() {
    each(async |way: Way| {
        let cases = [
            ((1, None, None), "relay", false),
            ((1, None, Some(60)), "relay", true),
            ((60, None, Some(1)), "agent", false),
            ((60, Some(60), Some(1)), "agent", false),
            ((60, Some(1), Some(60)), "token", true),
            ((60, Some(1), None), "token", false),
        ];
        let cases = cases.map(|(limits, source, warns)| async move {
            let (status, proxy_status, body, warnings) = visited(way, limits, Duration::MAX).await;
            assert_eq!(status, 504, "{limits:?}: {body}");
            assert!(body.contains(&format!("within 1 s, the limit of the {source}.")), "{limits:?}: {body}");
            let details = format!("error=http_response_timeout; details=\"limit of the {source}: 1 s\"");
            assert!(proxy_status.ends_with(&details), "{limits:?}: {proxy_status}");
            let warned = warnings.iter().any(|text| text.contains(&format!("than the {source} allows")));
            assert_eq!((warned, warnings.len()), (warns, usize::from(warns)), "{limits:?}: {warnings:?}");
        });
        futures_util::future::join_all(cases).await;
    });
}

#[test]
fn a_token_may_allow_a_longer_wait_than_the_relay() {
    each(async |way: Way| {
        let cases = [(1, Some(60), Some(60)), (1, Some(0), Some(0)), (0, None, None)];
        let cases = cases.map(|limits| async move {
            let (status, _, body, warnings) = visited(way, limits, Duration::from_secs(2)).await;
            assert_eq!((status, &*body), (200, "late"), "{limits:?}");
            assert!(warnings.is_empty(), "{limits:?}: {warnings:?}");
        });
        futures_util::future::join_all(cases).await;
    });
}

#[test]
fn a_malformed_limit_is_refused() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let secret = relay.token(&[NAME]);
        for (text, accepted) in [("7", true), ("1.5", false), ("-1", false), ("x", false)] {
            let field = format!("PTTH-Answer-Timeout: {text}\r\n");
            let mut wire = relay.visitor().await;
            wire.send(way.offer(&secret, &field)).await;
            let head = wire.head().await;
            assert_eq!(head.status() == 400, !accepted, "{text}: {head:?}");
            assert_eq!(head.get("ptth-answer-timeout"), accepted.then_some("7"), "{text}: {head:?}");
        }
    });
}
