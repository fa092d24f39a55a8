//! A transport that the relay does not know: a line with a name and a token, then HTTP/2 with its roles swapped, for
//! which the agent sends the preface, as with HAProxy's reverse HTTP.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use ptth::internals::defaults;
use ptth::internals::domain::{Facts, Name, Offer, Refusal, RefusalKind, Secret, Wanted};
use ptth::internals::message::{Request, Response};
use ptth::internals::net::Io;
use ptth::internals::net::dial::dial_via;
use ptth::internals::session::Kind;
use ptth::transport::{
    Admissions, AgentLink, AgentSide, Call, OpenError, Opened, RelaySide, Transport, open_session, place,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const LONGEST_LINE: usize = 256;

/// A stream that reached the relay's half.
pub(crate) struct Taken {
    pub(crate) facts: Facts,
    pub(crate) alpn: Option<Vec<u8>>,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) alpns: Vec<&'static [u8]>,
    pub(crate) certificate: bool,
    pub(crate) taken: Arc<Mutex<Vec<Taken>>>,
    pub(crate) admissions: Arc<Mutex<Option<Arc<dyn Admissions>>>>,
}

impl Line {
    pub(crate) fn new() -> Self {
        let alpns = vec![&b"line/2"[..], b"line/1"];
        Self { name: "line", alpns, certificate: false, taken: Arc::default(), admissions: Arc::default() }
    }

    /// The streams that came since the last look.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().drain(..).collect()
    }

    /// The admissions of the relay that serves it.
    pub(crate) fn admissions(&self) -> Arc<dyn Admissions> {
        self.admissions.lock().unwrap().clone().expect("a relay serves the transport")
    }
}

impl Transport for Line {
    fn name(&self) -> &'static str {
        self.name
    }

    fn carriers(&self) -> &'static [Kind] {
        &[Kind::H2]
    }

    fn is_automatic(&self) -> bool {
        false
    }

    fn spec(&self) -> &'static str {
        "tests/streams/line.rs"
    }

    fn alpns(&self) -> Vec<Vec<u8>> {
        self.alpns.iter().map(|id| id.to_vec()).collect()
    }

    fn takes_streams(&self) -> bool {
        true
    }

    fn needs_certificate(&self) -> bool {
        self.certificate
    }

    fn relay(&self, admissions: Arc<dyn Admissions>) -> Box<dyn RelaySide> {
        *self.admissions.lock().unwrap() = Some(admissions.clone());
        Box::new(Relay { name: self.name, admissions, taken: self.taken.clone() })
    }

    fn agent(&self) -> Box<dyn AgentSide> {
        Box::new(Agent { alpns: self.alpns() })
    }
}

struct Relay {
    name: &'static str,
    admissions: Arc<dyn Admissions>,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl Relay {
    async fn take(&self, mut io: Io, facts: Facts) -> Result<(), Refusal> {
        let alpn = io.alpn().map(<[u8]>::to_vec);
        self.taken.lock().unwrap().push(Taken { facts: facts.clone(), alpn });
        let (line, io_behind) = line(io).await.ok_or_else(|| malformed("no line"))?;
        io = io_behind;
        let (name, token) = line.split_once(' ').ok_or_else(|| malformed("no token"))?;
        let name = Name::parse(name).map_err(|error| malformed(&error.to_string()))?;
        let mut preface = [0; PREFACE.len()];
        let read = io.read_exact(&mut preface).await;
        if read.is_err() || preface != PREFACE {
            return Err(malformed("no preface"));
        }
        let wanted = vec![Wanted::Name(name)];
        let offer = Offer { wanted, transport: self.name, ..Offer::default() };
        let credential = (!token.is_empty()).then(|| Secret::new(token));
        match self.admissions.check(offer, &Facts { credential, ..facts }).await {
            Ok(admission) => {
                open_session(&self.admissions, io.with_dropped(PREFACE.len()), Kind::H2, admission);
                Ok(())
            }
            Err(refusal) => {
                // The agent may be gone already.
                let _ = io.write_all(format!("no {}\n", refusal.kind.status()).as_bytes()).await;
                let _ = io.shutdown().await;
                Err(refusal)
            }
        }
    }
}

/// The first line of a stream, and the stream behind it. What was read with the line is read again.
async fn line(mut io: Io) -> Option<(String, Io)> {
    let mut read = BytesMut::new();
    let end = loop {
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        if read.len() > LONGEST_LINE || io.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    };
    let line = read.split_to(end + 1);
    Some((std::str::from_utf8(&line[..end]).ok()?.to_owned(), io.with_early(read.freeze())))
}

fn malformed(why: &str) -> Refusal {
    Refusal::new(RefusalKind::Malformed, why)
}

impl RelaySide for Relay {
    fn wants(&self, _request: &Request) -> bool {
        false
    }

    fn accept(&self, _request: Request, _facts: Facts) -> BoxFuture<'_, Result<Response, Refusal>> {
        Box::pin(async { Err(malformed("the transport accepts no request")) })
    }

    fn accept_stream(&self, io: Io, facts: Facts) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(self.take(io, facts))
    }
}

struct Agent {
    alpns: Vec<Vec<u8>>,
}

impl Agent {
    async fn begin(&self, call: &Call) -> Result<Opened, OpenError> {
        let mut tls = rustls::ClientConfig::clone(&call.credentials.tls());
        if tls.alpn_protocols.is_empty() {
            tls.alpn_protocols = self.alpns.clone();
        }
        let mut io = dial_via(&call.via, &place(&call.relay), &Arc::new(tls), defaults::CONNECT).await?;
        let [Wanted::Name(name)] = &call.offer.wanted[..] else { panic!("one name") };
        let token = call.credentials.token();
        let token = token.as_ref().map(Secret::expose).unwrap_or_default();
        let broken = |error: std::io::Error| OpenError::Broken(error.to_string());
        let first = [format!("{name} {token}\n").as_bytes(), PREFACE].concat();
        io.write_all(&first).await.map_err(broken)?;
        io.flush().await.map_err(broken)?;
        // The server of HTTP/2 waits for the preface that this end has sent itself.
        let link = AgentLink::Flipped { kind: Kind::H2, io: io.with_early(PREFACE.into()) };
        Ok(Opened { urls: Vec::new(), warnings: Vec::new(), connections: 1, link })
    }
}

impl AgentSide for Agent {
    fn open<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Opened, OpenError>> {
        Box::pin(self.begin(call))
    }
}
