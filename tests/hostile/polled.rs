//! A relay that means harm, against our agent that polls.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use ptth::domain::Secret;
use ptth::net::Scope;
use ptth::session::Kind;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::program::MIB;
use crate::recorder::Recorder;
use crate::support::{AgentPlan, Wire, run, within};
use crate::world::NAME;

/// What a poll brings, and what is told about the next.
struct Poll {
    status: &'static str,
    fields: String,
    body: String,
}

/// A gateway that hands out these polls one after the other, and then an honest request again and again.
struct Gateway {
    at: SocketAddr,
    polls: Mutex<Vec<Poll>>,
    answers: Mutex<Vec<String>>,
    answered: Notify,
}

impl Gateway {
    async fn start(polls: impl FnOnce(SocketAddr) -> Vec<Poll>, scope: &Scope) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let polls = Mutex::new(polls(at).into_iter().rev().collect());
        let gateway = Arc::new(Self { at, polls, answers: Mutex::default(), answered: Notify::new() });
        let (owner, serving) = (scope.clone(), gateway.clone());
        scope.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                owner.spawn(serving.clone().serve(stream));
            }
        });
        gateway
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let mut wire = Wire::new(stream);
        let head = wire.head().await;
        let body = wire.body(&head).await;
        let next = format!("Link: <http://{}/reversehttp/request/n>; rel=\"next\"\r\n", self.at);
        let answer = match head.first.split(' ').next().unwrap() {
            "GET" => match self.polls.lock().pop() {
                Some(Poll { status, fields, body }) => {
                    let length = format!("Content-Length: {}\r\n", body.len());
                    let length = if fields.contains("Content-Length") { String::new() } else { length };
                    format!(
                        "HTTP/1.1 {status}\r\nContent-Type: message/http\r\nConnection: close\r\n{length}{fields}\r\n{body}"
                    )
                }
                None => {
                    let body = "GET /honest HTTP/1.1\r\nHost: shop.ptth.localhost\r\n\r\n";
                    let length = body.len();
                    format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: message/http\r\nConnection: close\r\nContent-Length: {length}\r\n{next}\r\n{body}"
                    )
                }
            },
            _ if head.first.contains("/request/") => {
                self.answers.lock().push(String::from_utf8_lossy(&body).into_owned());
                self.answered.notify_one();
                "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned()
            }
            _ => {
                let first =
                    next.replace("\"next\"", "\"first\", <http://shop.ptth.localhost/>; rel=\"related\"");
                format!("HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 0\r\n{first}\r\n")
            }
        };
        // An agent may well hang up on what it gets.
        let _ = wire.try_send(answer).await;
    }
}

fn polls(at: SocketAddr, elsewhere: SocketAddr) -> Vec<Poll> {
    let next = |to: SocketAddr| format!("Link: <http://{to}/reversehttp/request/n>; rel=\"next\"\r\n");
    let brings = |body: String| Poll { status: "200 OK", fields: next(at), body };
    let get = "GET /evil HTTP/1.1\r\nHost: shop.ptth.localhost\r\n";
    let post = get.replace("GET", "POST");
    vec![
        brings("nonsense".into()),
        brings("\0\0\0\x04\0\0\0\0\0".into()),
        brings(format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(4 * MIB / 3))),
        brings(format!("GET /{}", "a".repeat(8 * MIB))),
        brings(format!(
            "{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"
        )),
        brings(format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")),
        brings(format!("{post}Content-Length: +5\r\n\r\nhello")),
        brings(format!("{post}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx")),
        brings(format!("{get}X-A: b\r\n folded: c\r\n\r\n")),
        brings(format!("{get}X-A: b\0\r\n\r\n")),
        brings(format!("{get}X-A: b\rx-smuggled: c\r\n\r\n")),
        brings(format!("GET http://{elsewhere}/ HTTP/1.1\r\nHost: {elsewhere}\r\n\r\n")),
        brings(format!("CONNECT {elsewhere} HTTP/1.1\r\nHost: {elsewhere}\r\n\r\n")),
        Poll { status: "200 OK", fields: next(elsewhere), body: format!("{get}\r\n") },
        Poll {
            status: "302 Found",
            fields: format!("Location: http://{elsewhere}/\r\n"),
            body: String::new(),
        },
        Poll {
            status: "200 OK",
            fields: format!("{}Content-Length: 99999999999\r\n", next(at)),
            body: get.into(),
        },
        Poll { status: "200 OK", fields: "Link: <::>; rel=\"next\"\r\n".into(), body: format!("{get}\r\n") },
        Poll { status: "200 OK", fields: format!("X: {}\r\n", "y".repeat(4 * MIB)), body: String::new() },
        Poll { status: "500 Oops", fields: String::new(), body: String::new() },
    ]
}

/// A20, A21 on the envelope: it reaches the one origin in well-formed requests, asks nobody else, and goes on.
#[test]
fn a_polling_agent_outlives_its_relay() {
    run(async {
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = elsewhere.local_addr().unwrap();
        let (scope, origin) = (Scope::new(), Recorder::start().await);
        let gateway = Gateway::start(|at| polls(at, other), &scope).await;
        let url = format!("http://{}/", gateway.at);
        let plan = AgentPlan::new(&url, NAME, Secret::new("not-looked-at"), "reversehttp", Kind::Envelope);
        let _agent = plan.start(origin.handler());
        within("all that harm, and an honest request", async {
            while !gateway.polls.lock().is_empty()
                || !gateway.answers.lock().iter().any(|a| a.contains("200 OK"))
            {
                gateway.answered.notified().await;
            }
        })
        .await;
        let seen = origin.whole();
        assert!(seen.iter().any(|r| r.target() == "/honest"), "{seen:?}");
        let well = |r: &crate::strict::Request| {
            r.target().starts_with('/') && r.target() != "/smuggled" && r.all("x-smuggled").is_empty()
        };
        assert!(seen.iter().all(well), "{seen:?}");
        let dialled = tokio::time::timeout(crate::support::QUIET, elsewhere.accept()).await;
        assert!(dialled.is_err(), "the agent went where its relay pointed");
        scope.abort();
    });
}
