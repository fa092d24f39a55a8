//! An agent whose every byte the case writes, over any transport: it comes, and it waits for a request.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ptth::internals::session::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frames::{Frames, HEADERS};
use crate::support::{Head, STEP, Wire, within};
use crate::world::{On, connect};

const COMET: &str = "/reversehttp/_comet";

/// Where it goes, what it asks for, and what it says of itself.
pub(crate) struct Stranger<'a> {
    pub(crate) on: On,
    pub(crate) at: SocketAddr,
    pub(crate) name: &'a str,
    pub(crate) token: &'a str,
    /// Further fields.
    pub(crate) fields: &'a str,
    /// What it sets on `h2`, each a number and a value.
    pub(crate) settings: &'a [(u16, u32)],
}

/// A connection over which requests come.
pub(crate) enum Foreign {
    H1(Wire),
    H2(Frames),
    /// A poll that waits, and the path that takes its answer.
    Poll(Wire, String),
}

impl<'a> Stranger<'a> {
    pub(crate) fn new(on: On, at: SocketAddr, name: &'a str, token: &'a str) -> Self {
        Self { on, at, name, token, fields: "", settings: &[] }
    }

    /// The bytes that ask for the name. Nothing waits yet, so that there is an answer at once.
    pub(crate) fn offer(&self) -> String {
        let Self { on, name, token, fields, .. } = self;
        let rest = format!("Host: ptth.localhost\r\nAuthorization: Bearer {token}\r\n{fields}");
        let upgrade = |line: &str, protocol: &str| {
            let alpn = on.carrier.alpn_field();
            format!(
                "{line} HTTP/1.1\r\n{rest}Connection: Upgrade\r\nUpgrade: {protocol}\r\nALPN: {alpn}\r\n\r\n"
            )
        };
        match on.transport {
            "ptth" => upgrade(&format!("GET /.well-known/ptth/https%3A%2F%2F{name}.ptth.localhost/"), "ptth"),
            "ptth10" => upgrade(&format!("POST /reversehttp?name={name}"), "PTTH/1.0"),
            "comet" => {
                format!(
                    "POST {COMET}?name={name} HTTP/1.1\r\n{rest}Prefer: wait=0\r\nContent-Length: 0\r\n\r\n"
                )
            }
            _ => format!("POST /reversehttp?name={name} HTTP/1.1\r\n{rest}Content-Length: 0\r\n\r\n"),
        }
    }

    /// Connects as an agent and waits for requests; the status of a refusal.
    pub(crate) async fn connect(&self) -> Result<Foreign, u16> {
        let stream = connect(self.at).await;
        self.connect_over(stream).await
    }

    /// As [`Stranger::connect`], over an open connection.
    pub(crate) async fn connect_over(&self, mut stream: TcpStream) -> Result<Foreign, u16> {
        stream.write_all(self.offer().as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        match head.status() {
            101 if self.on.carrier == Kind::H2 => {
                Ok(Foreign::H2(Frames::server(stream, self.settings).await))
            }
            101 => Ok(Foreign::H1(Wire::new(stream))),
            200 => {
                let mut wire = Wire::new(stream);
                wire.body(&head).await;
                wire.send(self.offer().replace("Prefer: wait=0\r\n", "")).await;
                Ok(Foreign::Poll(wire, format!("{COMET}?name={}", self.name)))
            }
            201 | 204 => {
                let link = head.get("link").unwrap().to_owned();
                let url = link.split_once('<').unwrap().1.split_once('>').unwrap().0;
                let path = url[url.find("/reversehttp").unwrap()..].to_owned();
                let (mut wire, fields) = (Wire::new(stream), self.fields);
                wire.body(&head).await;
                wire.send(format!("GET {path} HTTP/1.1\r\nHost: ptth.localhost\r\n{fields}\r\n")).await;
                Ok(Foreign::Poll(wire, path))
            }
            refused => Err(refused),
        }
    }
}

/// A head, byte by byte: what follows may be another protocol's.
pub(crate) async fn head(stream: &mut TcpStream) -> Head {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a head", stream.read_u8()).await.unwrap());
    }
    Head::parse(std::str::from_utf8(&head[..head.len() - 4]).unwrap())
}

impl Foreign {
    /// The answer to a poll within this time, if any.
    pub(crate) async fn poll_answer(&mut self, patience: Duration) -> Option<Head> {
        let Self::Poll(wire, _) = self else { return None };
        tokio::time::timeout(patience, wire.head()).await.ok()
    }

    /// Waits for a request; what a poll brings of it.
    pub(crate) async fn request(&mut self) -> Bytes {
        match self {
            Self::H1(wire) => {
                wire.head().await;
                Bytes::new()
            }
            Self::H2(frames) => {
                assert!(frames.until(STEP, |f| f.kind == HEADERS).await.is_some(), "no request arrived");
                Bytes::new()
            }
            Self::Poll(wire, _) => {
                let head = wire.head().await;
                let body = wire.body(&head).await;
                assert!(head.status() == 200 && body.len() > 2, "{head:?} {body:?}");
                body
            }
        }
    }
}
