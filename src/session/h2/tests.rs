use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
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

/// An agent that reads the whole body of each request, and counts the complete ones.
fn reading_agent(far: DuplexStream, scope: &Scope) -> (impl Future, Arc<AtomicUsize>) {
    let complete = Arc::<AtomicUsize>::default();
    let count = complete.clone();
    let handler = handler_fn(move |request: Request| {
        let count = count.clone();
        async move {
            if http_body_util::BodyExt::collect(request.into_body()).await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
            crate::message::Response::new(Body::empty())
        }
    });
    let (load, budget) = (Load::new(Arc::default()), ReceiveBudget::new(1 << 20));
    (serve::run(Io::other(far), Arc::new(handler), load, budget, scope.clone()), complete)
}

#[tokio::test(start_paused = true)]
async fn a_malformed_request_of_a_relay_is_reset() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let scope = Scope::new();
    let (serving, complete) = reading_agent(far, &scope);
    let relay = async {
        let (mut handle, connection) = h2::client::handshake(near).await.unwrap();
        let requests = async {
            let post = || http::Request::post("http://a.test/");
            let blank = post().header("x-a", " b").body(()).unwrap();
            let in_head = handle.send_request(blank, true).unwrap().0.await.unwrap_err();
            assert_eq!(in_head.reason(), Some(h2::Reason::PROTOCOL_ERROR));
            let (answer, mut stream) = handle.send_request(post().body(()).unwrap(), false).unwrap();
            let blank = [("x-a".parse().unwrap(), "b\t".parse().unwrap())];
            stream.send_trailers(blank.into_iter().collect()).unwrap();
            assert_eq!(answer.await.unwrap_err().reason(), Some(h2::Reason::PROTOCOL_ERROR));
            // No byte of the body is missing on the wire, but the far end has not ended the body.
            let (_answer, mut stream) = handle.send_request(post().body(()).unwrap(), false).unwrap();
            stream.send_data("hi".into(), false).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            stream.send_reset(h2::Reason::NO_ERROR);
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            () = requests => {}
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    };
    tokio::select! {
        _ = serving => panic!("the agent ended"),
        () = relay => {}
    }
    assert_eq!(complete.load(Ordering::Relaxed), 0, "the trailers and the reset break their bodies off");
    scope.abort();
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_acknowledges_no_settings_gets_goaway_with_settings_timeout() {
    /// The preface, empty SETTINGS, and the head of `POST http://a/`.
    const BEGUN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
                           \0\0\x06\x01\x04\0\0\0\x01\x83\x86\x84\x41\x01a";
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingping";
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let scope = Scope::new();
    let handler = handler_fn(|request: Request| async move {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        crate::message::Response::new(Body::empty())
    });
    let budget = ReceiveBudget::new(1 << 20);
    let load = Load::new(Arc::default());
    let serving = serve::run(Io::other(far), Arc::new(handler), load, budget.clone(), scope.clone());
    let relay = async {
        near.write_all(BEGUN).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The windows must become smaller, and the first SETTINGS are not acknowledged.
        budget.take(1 << 20);
        for _ in 0..4 {
            let _ = near.write_all(PING).await;
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        let mut got = Vec::new();
        near.read_to_end(&mut got).await.unwrap();
        got
    };
    let (ended, got) = tokio::join!(serving, relay);
    assert!(matches!(ended, crate::session::Ended::Failed(_)), "{ended:?}");
    assert!(got.ends_with(&[0, 0, 0, 4]), "{got:?}");
    scope.abort();
}
