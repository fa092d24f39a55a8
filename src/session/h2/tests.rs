use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use tokio::io::DuplexStream;
use tokio::time::Instant;

use super::*;
use crate::domain::{AgentId, AnswerTimeout, SessionId};
use crate::message::{Body, Request};
use crate::net::{Core, Io, Scope};
use crate::session::{Kind, Link, Load, SendError, SendErrorKind, Session, handler_fn, send_half};

fn get(path: &str) -> Request {
    http::Request::get(format!("http://a.test{path}")).body(Body::empty()).unwrap()
}

/// The relay's end of a connection in a session, and the agent's end.
async fn linked(scope: &Scope) -> (Arc<Session>, Arc<Link>, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let budget = ReceiveBudget::new(1 << 20);
    let (carrier, driver) = send_half(Io::other(near), Kind::H2, scope, &budget).await.unwrap();
    scope.spawn(driver);
    let timeout = AnswerTimeout::default();
    let session = Session::new(SessionId(1), AgentId("a".into()), None, false, Box::default(), timeout);
    let link = Link::new(carrier, Kind::H2, Core::default(), session.freed());
    session.add(link.clone());
    (session, link, far)
}

async fn answer_to(session: &Session, request: Request) -> Result<crate::message::Response, SendError> {
    session.send(request, &mut None, &crate::message::interim::Sender::default()).await
}

type Agent = Connection<DuplexStream, Bytes>;

async fn agent(far: DuplexStream, streams: u32) -> Agent {
    Builder::new().max_concurrent_streams(streams).enable_connect_protocol().handshake(far).await.unwrap()
}

async fn accept_request(agent: &mut Agent) -> (String, SendResponse<Bytes>) {
    let (request, respond) = agent.accept().await.unwrap().unwrap();
    (request.uri().path().to_owned(), respond)
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_stay_within_the_stream_limit_of_the_agent() {
    let scope = Scope::new();
    let (session, link, far) = linked(&scope).await;
    let serve = async {
        let mut agent = agent(far, 2).await;
        let (_, mut first) = accept_request(&mut agent).await;
        first.send_response(http::Response::new(()), true).unwrap();
        let accepted = [accept_request(&mut agent).await, accept_request(&mut agent).await];
        let (third, _) = accept_request(&mut agent).await;
        panic!("the agent got {third} beside {}", accepted.len());
    };
    let requests = async {
        // The agent's SETTINGS come before its answer.
        assert_eq!(answer_to(&session, get("/0")).await.unwrap().status(), 200);
        assert_eq!(link.in_flight(), 0);
        tokio::select! {
            biased;
            _ = answer_to(&session, get("/1")) => panic!("this request was answered"),
            _ = answer_to(&session, get("/2")) => panic!("this request was answered"),
            third = answer_to(&session, get("/3")) => third.err().unwrap(),
        }
    };
    let refused = tokio::select! {
        () = serve => unreachable!(),
        refused = tokio::time::timeout(2 * crate::defaults::WAIT_FREE, requests) => refused,
    };
    let refused = refused.expect("the third request waits too long");
    assert_eq!((refused.kind, refused.unsent.is_some()), (SendErrorKind::Busy, true));
    scope.abort();
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_waits_for_the_settings_of_the_agent() {
    const LATE: Duration = Duration::from_millis(7);
    let scope = Scope::new();
    let (session, _, far) = linked(&scope).await;
    let mut upgrade = get("/");
    crate::message::hop::set_upgrade(upgrade.headers_mut(), http::HeaderValue::from_static("x"));
    let began = Instant::now();
    let serve = async {
        tokio::time::sleep(LATE).await;
        let mut agent = agent(far, 10).await;
        let (request, mut respond) = agent.accept().await.unwrap().unwrap();
        assert_eq!((request.method(), began.elapsed()), (&http::Method::CONNECT, LATE));
        respond.send_response(http::Response::new(()), false).unwrap();
        let _ = poll_fn(|cx| agent.poll_closed(cx)).await;
    };
    tokio::select! {
        () = serve => panic!("the connection ended"),
        answer = answer_to(&session, upgrade) => assert_eq!(answer.unwrap().status(), 101),
    }
    scope.abort();
}

#[tokio::test(start_paused = true)]
async fn a_sent_request_is_returned_only_if_a_repeat_is_harmless() {
    for (method, returned) in [(http::Method::GET, true), (http::Method::DELETE, false)] {
        let scope = Scope::new();
        let (session, _, far) = linked(&scope).await;
        let mut request = get("/a?b");
        *request.method_mut() = method;
        request.headers_mut().insert("x-a", http::HeaderValue::from_static("1"));
        let serve = async {
            let mut agent = agent(far, 10).await;
            let request = agent.accept().await.unwrap().unwrap();
            drop((request, agent));
            std::future::pending::<()>().await;
        };
        let lost = tokio::select! {
            () = serve => unreachable!(),
            answer = answer_to(&session, request) => answer.unwrap_err(),
        };
        assert_eq!((lost.kind, lost.unsent.is_some()), (SendErrorKind::Closed, false));
        let again = lost.repeatable.map(|request| (request.uri().to_string(), request.headers().len()));
        assert_eq!(again, returned.then(|| ("http://a.test/a?b".into(), 1)));
        scope.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_hop_by_hop_fields_arrives_without_them() {
    let scope = Scope::new();
    let (session, _, far) = linked(&scope).await;
    let handler = handler_fn(|_| async {
        let mut response = crate::message::Response::new(Body::full("ok"));
        response.headers_mut().insert("connection", http::HeaderValue::from_static("close, x-a"));
        response.headers_mut().insert("transfer-encoding", http::HeaderValue::from_static("chunked"));
        response.headers_mut().insert("x-a", http::HeaderValue::from_static("1"));
        response
    });
    let (load, budget) = (Load::new(Arc::default()), ReceiveBudget::new(1 << 20));
    let serving = serve::run(Io::other(far), Arc::new(handler), load, budget, scope.clone());
    let answer = tokio::select! {
        _ = serving => panic!("the connection ended"),
        answer = answer_to(&session, get("/")) => answer.unwrap(),
    };
    let names: Vec<_> = answer.headers().keys().map(|name| name.as_str()).collect();
    assert_eq!((answer.status().as_u16(), names), (200, vec!["content-length"]));
    scope.abort();
}
