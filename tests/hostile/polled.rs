//! A relay that means harm, against our agent that polls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ptth::internals::domain::Secret;
use ptth::internals::net::Scope;
use ptth::internals::session::Kind;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::foreign::{Foreign, Stranger};
use crate::process::Process;
use crate::program::{MIB, Program, peak};
use crate::recorder::Recorder;
use crate::site::Site;
use crate::support::{AgentPlan, Wire, is_long, named, within};
use crate::world::{NAME, On, connect};

/// What an agent, or a relay, may have at most, in bytes: all messages of comet that it takes in at once, twice while they grow, and
/// itself.
const MOST: usize = 160 * MIB;
/// An agent that takes nothing in for so long has stopped reading.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a poll brings, and what is told about the next.
struct Poll {
    status: &'static str,
    fields: String,
    body: String,
    /// Repeated behind the body, until the agent hangs up or has been sent [`endless_limit`] of it.
    endless: Option<String>,
}

/// A relay stops after so much of a body without an end, in bytes. An agent that kept one such body in memory would exceed
/// [`most_without_end`].
fn endless_limit() -> usize {
    if is_long() { 1 << 30 } else { 96 * MIB }
}

/// The most that an agent may have beside bodies without an end, in bytes: messages of comet stay in memory, those of
/// `reversehttp` go to a file.
fn most_without_end(transport: &str) -> usize {
    if transport == "comet" { MOST } else { 64 * MIB }
}

/// A gateway that hands out these polls one after the other, and then an honest request again and again.
struct Gateway {
    at: SocketAddr,
    transport: &'static str,
    polls: Mutex<Vec<Poll>>,
    answers: Mutex<Vec<String>>,
    answered: Notify,
    /// Polls that are being handed out.
    busy: AtomicUsize,
}

impl Gateway {
    async fn start(
        transport: &'static str,
        polls: impl FnOnce(SocketAddr) -> Vec<Poll>,
        scope: &Scope,
    ) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let polls = Mutex::new(polls(at).into_iter().rev().collect());
        let (answers, answered, busy) = (Mutex::default(), Notify::new(), AtomicUsize::new(0));
        let gateway = Arc::new(Self { at, transport, polls, answers, answered, busy });
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
        let is_poll = match self.transport {
            "comet" => head.first.starts_with("POST") && head.get("prefer") != Some("wait=0"),
            _ => head.first.starts_with("GET"),
        };
        let is_answer = match self.transport {
            "comet" => !body.is_empty(),
            _ => head.first.starts_with("POST") && head.first.contains("/request/"),
        };
        if is_poll {
            self.busy.fetch_add(1, Ordering::Relaxed);
            let poll = self.polls.lock().pop();
            send_poll(&mut wire, poll.unwrap_or_else(|| self.honest())).await;
            self.busy.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        if is_answer {
            self.answers.lock().push(String::from_utf8_lossy(&body).into_owned());
            self.answered.notify_one();
        }
        let (status, fields, body) = match (self.transport, is_answer) {
            ("comet", _) => ("200 OK", "Content-Type: application/json\r\n".into(), "{}"),
            (_, true) => ("202 Accepted", String::new(), ""),
            _ => ("201 Created", self.next().replace("\"next\"", "\"first\""), ""),
        };
        let related = "Link: <http://shop.ptth.localhost/>; rel=\"related\"\r\n";
        let length = body.len();
        // An agent may well hang up on what it gets.
        let _ = wire
            .try_send(format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{related}{fields}\r\n{body}"
            ))
            .await;
    }

    fn next(&self) -> String {
        format!("Link: <http://{}/reversehttp/request/n>; rel=\"next\"\r\n", self.at)
    }

    fn honest(&self) -> Poll {
        let body = match self.transport {
            "comet" => json("GET", "/honest", ""),
            _ => "GET /honest HTTP/1.1\r\nHost: shop.ptth.localhost\r\n\r\n".into(),
        };
        Poll { status: "200 OK", fields: self.next(), body, endless: None }
    }

    /// Waits until all polls are handed out, and an honest request was answered behind them.
    async fn is_finished(&self) {
        let is_success = |answer: &String| answer.contains("200 OK") || answer.contains("\"status\":200");
        within("the hostile polls and an honest request", async {
            // The honest ones behind it are quick.
            while !self.polls.lock().is_empty() || self.busy.load(Ordering::Relaxed) > 0 {
                self.answered.notified().await;
            }
            self.answers.lock().clear();
            while !self.answers.lock().iter().any(is_success) {
                self.answered.notified().await;
            }
        })
        .await;
    }
}

async fn send_poll(wire: &mut Wire, Poll { status, fields, body, endless }: Poll) {
    let kind = if body.starts_with('{') { "application/json" } else { "message/http" };
    let told = fields.contains("Content-Length") || endless.is_some();
    let length = if told { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    // A head that goes on has no end yet.
    let end = if endless.is_some() && body.is_empty() { "" } else { "\r\n" };
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n{length}{fields}{end}{body}"
    );
    let mut alive = wire.try_send(text).await.is_ok();
    let mut sent = 0;
    while let Some(more) = endless.as_ref().filter(|_| alive && sent < endless_limit()) {
        let sending = tokio::time::timeout(PATIENCE, wire.try_send(more)).await;
        alive = matches!(sending, Ok(Ok(())));
        sent += more.len();
    }
}

/// A request as comet has it.
fn json(method: &str, uri: &str, more: &str) -> String {
    let id = "0123456789abcdef0123456789abcdef";
    format!(
        r#"{{"message-id":"{id}","method":"{method}","request-uri":"{uri}","http-version":"PTTH/0.9","headers":[["Host","shop.ptth.localhost"]]{more}}}"#
    )
}

fn polls(at: SocketAddr, elsewhere: SocketAddr) -> Vec<Poll> {
    let next = |to: SocketAddr| format!("Link: <http://{to}/reversehttp/request/n>; rel=\"next\"\r\n");
    let brings = |body: String| Poll { status: "200 OK", fields: next(at), body, endless: None };
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
        brings(format!("{get}Host: {elsewhere}\r\n\r\n")),
        brings(format!("{get}X-A: b\r\n folded: c\r\n\r\n")),
        brings(format!("{get}X-A: b\0\r\n\r\n")),
        brings(format!("{get}X-A: b\rx-smuggled: c\r\n\r\n")),
        brings(format!("GET http://{elsewhere}/ HTTP/1.1\r\nHost: {elsewhere}\r\n\r\n")),
        brings(format!("CONNECT {elsewhere} HTTP/1.1\r\nHost: {elsewhere}\r\n\r\n")),
        Poll { status: "200 OK", fields: next(elsewhere), body: format!("{get}\r\n"), endless: None },
        Poll {
            status: "302 Found",
            fields: format!("Location: http://{elsewhere}/\r\n"),
            body: String::new(),
            endless: None,
        },
        Poll {
            status: "200 OK",
            fields: format!("{}Content-Length: 99999999999\r\n", next(at)),
            body: get.into(),
            endless: None,
        },
        Poll {
            status: "200 OK",
            fields: "Link: <::>; rel=\"next\"\r\n".into(),
            body: format!("{get}\r\n"),
            endless: None,
        },
        Poll {
            status: "200 OK",
            fields: format!("X: {}\r\n", "y".repeat(4 * MIB)),
            body: String::new(),
            endless: None,
        },
        Poll { status: "500 Oops", fields: String::new(), body: String::new(), endless: None },
    ]
}

/// The same in comet's words.
fn comets(elsewhere: SocketAddr) -> Vec<Poll> {
    let brings = |body: String| Poll { status: "200 OK", fields: String::new(), body, endless: None };
    let get = |uri: &str| json("GET", uri, "");
    let field = |name: &str, value: &str| format!(r#","headers":[["{name}","{value}"]]"#);
    let fields =
        |fields: &str| get("/evil").replace(r#","headers":[["Host","shop.ptth.localhost"]]"#, fields);
    vec![
        brings("nonsense".into()),
        brings("[]".into()),
        brings("{".repeat(1 << 20)),
        brings(format!("{{\"x\":{}", "[".repeat(1 << 20))),
        brings(get(&format!("http://{elsewhere}/"))),
        brings(get(&format!("//{elsewhere}/"))),
        brings(get("/evil HTTP/1.1\\r\\nx-smuggled: yes\\r\\n\\r\\nGET /smuggled")),
        brings(get("/evil\\u0000")),
        brings(get("evil")),
        brings(json("CONNECT", &elsewhere.to_string(), "")),
        brings(json("GET /smuggled HTTP/1.1\\r\\n\\r\\nGET", "/evil", "")),
        brings(fields(&field("X-A", "b\\r\\nx-smuggled: yes"))),
        brings(fields(&field("X-A\\r\\nx-smuggled", "yes"))),
        brings(fields(&field("Transfer-Encoding", "chunked"))),
        brings(fields(&field("Content-Length", "99"))),
        brings(fields(&format!(r#","headers":[["Host","{elsewhere}"],["Host","x"]]"#))),
        brings(fields(&field("X", &"y".repeat(1 << 20)))),
        brings(json("POST", "/evil", r#","body":"%%%","body-encoding":"base64""#)),
        Poll {
            status: "302 Found",
            fields: format!("Location: http://{elsewhere}/\r\n"),
            body: String::new(),
            endless: None,
        },
        Poll {
            status: "200 OK",
            fields: format!("Link: <http://{elsewhere}/>; rel=\"next\"\r\n"),
            body: get("/evil"),
            endless: None,
        },
        Poll {
            status: "200 OK",
            fields: "Content-Length: 99999999999\r\n".into(),
            body: get("/evil"),
            endless: None,
        },
        Poll { status: "500 Oops", fields: String::new(), body: String::new(), endless: None },
    ]
}

/// A20, A21 on the envelope: it reaches the one origin in well-formed requests, asks nobody else, and goes on.
pub(crate) async fn a_polling_agent_survives_a_hostile_relay(on: On) {
    if on.carrier != Kind::Envelope {
        return;
    }
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = elsewhere.local_addr().unwrap();
    let (scope, origin) = (Scope::new(), Recorder::start().await);
    let harm = |at| if on.transport == "comet" { comets(other) } else { polls(at, other) };
    let gateway = Gateway::start(on.transport, harm, &scope).await;
    let url = format!("http://{}/", gateway.at);
    let plan = AgentPlan::new(&url, NAME, Secret::new("not-looked-at"), on.transport, Kind::Envelope);
    let _agent = plan.start(origin.handler());
    gateway.is_finished().await;
    let seen = origin.whole();
    assert!(seen.iter().any(|r| r.target() == "/honest"), "{seen:?}");
    let well = |r: &crate::strict::Request| {
        r.target().starts_with('/') && r.target() != "/smuggled" && r.all("x-smuggled").is_empty()
    };
    assert!(seen.iter().all(well), "{seen:?}");
    let dialled = tokio::time::timeout(crate::support::QUIET, elsewhere.accept()).await;
    assert!(dialled.is_err(), "the agent dialled another address than its origin");
    scope.abort();
}

/// A21 on the envelope: heads and messages without end, in a process whose memory is measured.
pub(crate) async fn a_relay_cannot_fill_the_memory_of_a_polling_agent(on: On) {
    if on.carrier != Kind::Envelope {
        return;
    }
    let (site, origin, scope) = (Site::new(), Recorder::start().await, Scope::new());
    let goes_on = |fields: &str, body: String, more: String| Poll {
        status: "200 OK",
        fields: fields.into(),
        body,
        endless: Some(more),
    };
    let letters = "y".repeat(1 << 20);
    let mut endless = vec![
        goes_on("", String::new(), "X: y\r\n".repeat(100_000)),
        goes_on("X: ", String::new(), letters.clone()),
    ];
    if on.transport == "comet" {
        let text = json("POST", "/evil", r#","body":"#).trim_end_matches('}').to_owned();
        endless.push(goes_on("", format!("{text}\""), letters.clone()));
        endless.push(goes_on("", "{".into(), " ".repeat(1 << 20)));
        endless.push(goes_on("", "{".into(), r#""x":"y","#.repeat(100_000)));
    } else {
        endless.push(goes_on("", "GET /evil HTTP/1.1\r\n".into(), "X: y\r\n".repeat(100_000)));
        endless.push(goes_on("", "GET /".into(), letters.clone()));
        let chunks = "POST /evil HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;";
        endless.push(goes_on("", chunks.into(), letters.clone()));
    }
    let gateway = Gateway::start(on.transport, |_| endless, &scope).await;
    let url = format!("http://{}", gateway.at);
    let mut command = site.agent_command(&url, origin.address().to_string());
    let agent = Process::start(command.args(["--transport", on.transport]));
    gateway.is_finished().await;
    let most = peak(agent.id());
    println!("{on}: during endless polls the agent used {} MiB at most", most / MIB);
    assert!(most < most_without_end(on.transport), "{on}: {} MiB", most / MIB);
    scope.abort();
}

/// A5, A19 on the envelope, the other way round: answers without end cost a relay little, read or not.
pub(crate) async fn a_polling_agent_cannot_fill_the_memory_of_a_relay(on: On) {
    if on.carrier != Kind::Envelope {
        return;
    }
    let program = Program::start(&[], &["--transport", "ptth10"]).await;
    program.is_healthy().await;
    let at = ([127, 0, 0, 1], program.relay.port).into();
    let ok = "HTTP/1.1 200 OK\r\n";
    let letters = "y".repeat(64 << 10);
    let endless: Vec<(String, String)> = match on.transport {
        "comet" => vec![
            (r#"{"message-id":"ID","status":200,"body":""#.into(), letters),
            (r#"{"message-id":"ID","status":200,"headers":["#.into(), r#"["A","b"],"#.repeat(8_000)),
            ("{".into(), " ".repeat(64 << 10)),
            (r#"{"x":"#.into(), "[".repeat(64 << 10)),
        ],
        _ => vec![
            (ok.into(), "X: y\r\n".repeat(10_000)),
            (format!("{ok}X: "), letters.clone()),
            (String::new(), "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1_000)),
            (format!("{ok}Transfer-Encoding: chunked\r\n\r\n5;"), letters.clone()),
            (format!("{ok}\r\n"), letters),
        ],
    };
    for (number, (first, then)) in endless.iter().enumerate() {
        let name = format!("evil-{number}");
        let token = program.site.token(&name);
        let agent = Stranger::new(on, at, &name, token.trim());
        // The relay looks for new tokens twice a second.
        let mut link = loop {
            match agent.connect().await {
                Ok(link) => break link,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let mut visitor = Wire::new(connect(at).await);
        visitor.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", named(&name))).await;
        let asked = String::from_utf8_lossy(&link.request().await).into_owned();
        let id = asked.split("\"message-id\":\"").nth(1).and_then(|rest| rest.get(..32)).unwrap_or_default();
        let Foreign::Poll(_, path) = &link else { unreachable!("the agent polls") };
        let mut answer = Wire::new(connect(at).await);
        answer
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: ptth.localhost\r\nAuthorization: Bearer {}\r\nPrefer: wait=0\r\n\
                 Transfer-Encoding: chunked\r\n\r\n",
                token.trim()
            ))
            .await;
        let attack = async {
            answer.send_chunk(first.replace("ID", id)).await;
            let more = format!("{:x}\r\n{then}\r\n", then.len());
            while answer.try_send(&more).await.is_ok() {}
        };
        // Until the relay hangs up, takes no more, or has taken what two seconds bring.
        let _ = tokio::time::timeout(PATIENCE * 2, attack).await;
        program.is_healthy().await;
    }
    let most = peak(program.relay.process.id());
    println!("{on}: during endless answers the relay used {} MiB at most", most / MIB);
    assert!(most < MOST, "{on}: {} MiB", most / MIB);
}
