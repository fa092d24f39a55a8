//! Compares this implementation with hyper on the same bytes. Each kind of difference is listed with its reason, and a
//! listed kind that no longer occurs fails the test.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::client::{self, Connection, Home};
use super::super::server::{self, HalfClose, ServerOptions, Service};
use super::CONFIG;
use crate::message::{Body, Request, Response, interim};
use crate::net::{Io, Scope};

/// One message as an implementation parses it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Read {
    /// Method and target, or status.
    line: String,
    fields: Vec<(String, Vec<u8>)>,
    /// The body and the number of its trailers. `None` if the body is broken.
    body: Option<(Bytes, usize)>,
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

async fn taken<B: http_body::Body<Data = Bytes>>(body: B) -> Option<(Bytes, usize)> {
    let all = body.collect().await.ok()?;
    let trailers = all.trailers().map_or(0, HeaderMap::len);
    Some((all.to_bytes(), trailers))
}

/// An intended difference.
struct Difference {
    why: &'static str,
    /// Whether a message may differ for this reason.
    of: fn(&str) -> bool,
}

/// Differences for requests and responses.
const BOTH: &[Difference] = &[
    Difference {
        why: "`Transfer-Encoding` beside `Content-Length` is refused, not resolved (RFC 9112 §6.3)",
        of: |text| text.contains("ransfer-") && text.contains("ontent-L"),
    },
    Difference {
        why: "`chunked` may appear only once (RFC 9112 §7)",
        of: |text| text.matches("chunked").count() > 1,
    },
    Difference {
        why: "a repeated length is passed on once",
        of: |text| text.matches("ontent-L").count() > 1 || text.contains("3, 3"),
    },
    Difference {
        why: "more than 100 fields are accepted, up to our own limit",
        of: |text| text.matches("\r\nX-Many").count() > 100,
    },
    Difference {
        why: "a field that belongs in the head is not accepted as a trailer (RFC 9110 §6.5.1)",
        of: |text| text.contains("0\r\nHost: "),
    },
    Difference {
        why: "a chunk size of more than 15 digits is refused, whatever its value",
        of: |text| text.contains("0000000000000003"),
    },
];

const REQUESTS: &[Difference] = &[
    Difference {
        why: "a `#` in a target is refused, because the `http` crate would drop the bytes behind it",
        of: |text| text.split("\r\n").next().is_some_and(|line| line.contains('#')),
    },
    Difference {
        why: "a coding before `chunked` would be lost, and is refused (RFC 9112 §6.1)",
        of: |text| text.contains("gzip, chunked"),
    },
    Difference {
        why: "an incomplete malformed head closes the connection without an answer",
        of: |text| text.ends_with("\r\n3\r\nabc\r\n"),
    },
];

const RESPONSES: &[Difference] = &[
    Difference {
        why: "space before the colon is removed (RFC 9112 §5.1)",
        of: |text| text.contains("Spaced : ") || text.contains("\nA : "),
    },
    Difference {
        why: "a malformed length is refused even if no body follows (RFC 9112 §6.3)",
        of: |text| text.starts_with("HTTP/1.1 204 x") && text.contains("ontent-L"),
    },
    Difference {
        why: "a coding other than `chunked` would be lost, and is refused (RFC 9112 §6.1)",
        of: |text| text.contains("gzip"),
    },
];

fn many() -> String {
    (0..120).map(|number| format!("X-Many-{number}: y\r\n")).collect()
}

/// Framing fields, each with bodies that match them and with bodies that do not.
fn framed() -> Vec<String> {
    let fields = [
        "",
        "Content-Length: 3\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 03\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 3 3\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: Chunked\r\n",
        "transfer-encoding:chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    ];
    let bodies = [
        "",
        "abc",
        "abcdef",
        "3\r\nabc\r\n0\r\n\r\n",
        "3;a=b\r\nabc\r\n0\r\n\r\n",
        "3 ;a\r\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
        "3\r\nabc\r\n0\r\nHost: b.test\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\r\n",
        "3\nabc\n0\n\n",
        "0000000000000003\r\nabc\r\n0\r\n\r\n",
        "00000000000000000000003\r\nabc\r\n0\r\n\r\n",
        "x\r\nabc\r\n0\r\n\r\n",
    ];
    fields.iter().flat_map(|fields| bodies.iter().map(move |body| format!("{fields}\r\n{body}"))).collect()
}

/// Lines and fields that do not affect the framing.
fn others() -> Vec<String> {
    let fields = [
        "A: b\r\n",
        "A:b\r\n",
        "A:\tb\t\r\n",
        "A: \r\n",
        "A : b\r\n",
        "Spaced : b\r\n",
        " A: b\r\n",
        "A: b\r\n c\r\n",
        "A: b\r\n\tc\r\n",
        "A: b\0\r\n",
        "A: \x7f\r\n",
        "A: b\rC: d\r\n",
        "A: b\nC: d\n",
        "no colon\r\n",
        ": b\r\n",
        "A(: b\r\n",
        "\u{e4}: b\r\n",
        "A: \u{e4}\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "Expect: 100-continue\r\n",
        "A: b\r\nA: c\r\n",
    ];
    let many = many();
    fields.iter().copied().chain([&*many]).map(|fields| format!("{fields}\r\n")).collect()
}

fn requests() -> Vec<String> {
    let lines = [
        "GET / HTTP/1.1",
        "GET / HTTP/1.0",
        "POST /a?b HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET http://a.test/ HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET /a b HTTP/1.1",
        " GET / HTTP/1.1",
        "G\u{e4}T / HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET /",
        "GET a HTTP/1.1",
        "get / HTTP/1.1",
        "GET /\u{e4} HTTP/1.1",
        "GET /% HTTP/1.1",
        "GET /# HTTP/1.1",
        "\r\nGET / HTTP/1.1",
    ];
    let lined =
        lines.iter().flat_map(|line| others().into_iter().map(move |rest| format!("{line}\r\n{rest}")));
    let framed = ["GET / HTTP/1.1", "POST / HTTP/1.1", "POST / HTTP/1.0"]
        .into_iter()
        .flat_map(|line| framed().into_iter().map(move |rest| format!("{line}\r\n{rest}")));
    lined.chain(framed).collect()
}

fn responses() -> Vec<String> {
    let lines = [
        "HTTP/1.1 200 OK",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 200",
        "HTTP/1.1 200 ",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 999 Odd",
        "HTTP/1.1 204 No Content",
        "HTTP/1.1 304 Not Modified",
        "HTTP/1.2 200 OK",
        "HTTP/2 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 200 \u{e4}",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    ];
    let end = "Content-Length: 0\r\n";
    let lined =
        lines.iter().flat_map(|line| others().into_iter().map(move |rest| format!("{line}\r\n{end}{rest}")));
    let framed = ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 204 x"]
        .into_iter()
        .flat_map(|line| framed().into_iter().map(move |rest| format!("{line}\r\n{rest}")));
    lined.chain(framed).collect()
}

type Seen = Arc<Mutex<Vec<Read>>>;

async fn see(seen: Seen, request: http::Request<impl http_body::Body<Data = Bytes>>) -> Response {
    let (parts, body) = request.into_parts();
    let (line, fields) = (format!("{} {}", parts.method, parts.uri), fields(&parts.headers));
    let at = {
        let mut seen = seen.lock();
        seen.push(Read { line, fields, body: None });
        seen.len() - 1
    };
    let body = taken(body).await;
    seen.lock()[at].body = body;
    Response::new(Body::empty())
}

/// The requests that a server receives, and whether its last answer is a refusal.
type Served = (Vec<Read>, bool);

async fn serve(text: &str, run: impl AsyncFnOnce(tokio::io::DuplexStream, Seen)) -> Served {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let seen = Seen::default();
    near.write_all(text.as_bytes()).await.unwrap();
    near.shutdown().await.unwrap();
    run(far, seen.clone()).await;
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.unwrap();
    let last = answer.rfind("HTTP/1.").map(|at| answer[at + 9..at + 12].to_owned());
    let read = std::mem::take(&mut *seen.lock());
    (read, last.is_some_and(|status| status.starts_with('4') || status.starts_with('5')))
}

async fn by_hyper(text: &str) -> Served {
    serve(text, async |io, seen| {
        let service = service_fn(|request: http::Request<Incoming>| {
            let answer = see(seen.clone(), request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.half_close(true);
        let _ = builder.serve_connection(TokioIo::new(io), service).await;
    })
    .await
}

struct Seeing(Seen);

impl Service for Seeing {
    async fn call(&self, request: Request, _: interim::Sender) -> Response {
        see(self.0.clone(), request).await
    }
}

async fn by_us(text: &str) -> Served {
    serve(text, async |io, seen| {
        let config = ServerOptions {
            head_within: None,
            half_close: HalfClose::Allowed,
            trailers_on_demand: false,
            ..CONFIG
        };
        let _ = server::serve(Io::other(io), &Seeing(seen), &config, std::future::pending()).await;
    })
    .await
}

/// Compares the results for all `texts`, and prints each kind of difference. Fails for an unintended difference, and
/// for a listed kind that does not occur.
fn compare<T: PartialEq + std::fmt::Debug>(texts: &[String], own: &[Difference], both: Vec<(T, T)>) {
    let intended: Vec<_> = own.iter().chain(BOTH).collect();
    let mut counts = vec![0; intended.len()];
    let mut faults = Vec::new();
    for (text, (ours, theirs)) in texts.iter().zip(both) {
        if ours == theirs {
            continue;
        }
        match intended.iter().position(|difference| (difference.of)(text)) {
            Some(kind) => counts[kind] += 1,
            None => faults.push(format!("{text:?}\n  ours:   {ours:?}\n  hyper's: {theirs:?}")),
        }
    }
    for (count, difference) in counts.iter().zip(&intended) {
        println!("{count} of {} messages differ: {}", texts.len(), difference.why);
    }
    assert!(faults.is_empty(), "{} differences are not intended:\n{}", faults.len(), faults.join("\n"));
    let absent: Vec<_> =
        counts.iter().zip(&intended).filter(|(count, _)| **count == 0).map(|(_, d)| d.why).collect();
    assert!(absent.is_empty(), "these do not differ any more: {absent:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_are_read_as_hyper_reads_them() {
    let texts = requests();
    assert!(texts.len() >= 500, "{}", texts.len());
    let mut both = Vec::new();
    for text in &texts {
        both.push((by_us(text).await, by_hyper(text).await));
    }
    compare(&texts, REQUESTS, both);
}

struct Nowhere(Scope);

impl Home for Nowhere {
    fn put_back(self, _: Box<Connection>) {}

    fn scope(&self) -> &Scope {
        &self.0
    }
}

/// The answer that a client receives. `None` if it is invalid.
async fn answered(text: &str, ours: bool) -> Option<Read> {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let answering = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(near.read_u8().await.unwrap());
        }
        near.write_all(text.as_bytes()).await.unwrap();
        near.shutdown().await.unwrap();
        near
    };
    let mut request = Request::default();
    *request.method_mut() = Method::GET;
    let requesting = async {
        if ours {
            let connection = Connection::new(Io::other(far));
            let interim = interim::Sender::default();
            let sent = client::send(connection, request, Nowhere(Scope::new()), &interim).await;
            let (parts, body) = sent.ok()?.0.into_parts();
            return Some(read_of(parts.status, &parts.headers, taken(body).await));
        }
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(far)).await.unwrap();
        let exchange = async {
            let response = sender.send_request(request).await.ok()?;
            let (parts, body) = response.into_parts();
            Some(read_of(parts.status, &parts.headers, taken(body).await))
        };
        tokio::join!(exchange, connection).0
    };
    tokio::join!(answering, requesting).1
}

fn read_of(status: StatusCode, headers: &HeaderMap, body: Option<(Bytes, usize)>) -> Read {
    Read { line: status.as_str().to_owned(), fields: fields(headers), body }
}

#[tokio::test(start_paused = true)]
async fn responses_are_read_as_hyper_reads_them() {
    let texts = responses();
    assert!(texts.len() >= 500, "{}", texts.len());
    let mut both = Vec::new();
    for text in &texts {
        both.push((answered(text, true).await, answered(text, false).await));
    }
    compare(&texts, RESPONSES, both);
}
