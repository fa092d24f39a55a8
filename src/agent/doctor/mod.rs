//! Checks the connection from this machine to a relay step by step, and finds the step that fails.

mod remedy;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::remedy::{Trouble, of_dial, of_open, poll_remedy};
use super::ladder::Ladder;
use super::origin::trust::presented_pin;
use super::origin::{self, OriginConfig};
use crate::defaults;
use crate::domain::{Instance, Name, Offer, Secret, Wanted};
use crate::net::Scope;
use crate::net::dial::{self, DialError, DialRoute, DialTarget, Proxies, ProxyFault};
use crate::session::Kind;
use crate::transport::{self, AgentCredentials, AgentLink, Call, OpenError, Opened};

/// The relay to check, with the settings that an agent would use.
pub struct Exam {
    /// The relay.
    pub relay: http::Uri,
    /// The proxies between this machine and the relay.
    pub proxies: Proxies,
    /// The TLS configuration, with the roots that the relay's certificate must chain to.
    pub tls: Arc<rustls::ClientConfig>,
    /// The token; never printed.
    pub token: Option<Secret>,
    /// The routes that an agent would request; an empty list requests the only name of the token.
    pub wanted: Vec<Wanted>,
    /// The name that an agent would suggest if it requests no route.
    pub suggested: Option<Name>,
    /// The origin that an agent would serve.
    pub target: Option<OriginConfig>,
}

/// The result of one step.
#[derive(Debug)]
pub struct Finding {
    /// The name of the step.
    pub step: &'static str,
    /// The duration of the step.
    pub elapsed: Duration,
    /// The finding, or the fault.
    pub found: Result<String, String>,
}

/// The result of all steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every step passed.
    Passed,
    /// A step failed; the text is the remedy.
    Failed(String),
    /// The relay refuses the token, or the routes requested with it (401, 403); the text is the remedy.
    Refused(String),
}

/// Runs the steps. `report` receives each finding as soon as its step ends. A step is skipped when an earlier step that
/// it needs has failed.
///
/// The offer to the relay is marked as a probe and comes from an instance of its own, so that agents that serve the
/// same name are not disturbed. Dropping the future cancels the check.
pub async fn examine(exam: &Exam, mut report: impl FnMut(Finding)) -> Verdict {
    let connection = check_connection(exam, &mut report).await;
    let target = match &exam.target {
        Some(target) => step("target", &mut report, probe_target(target)).await,
        None => Ok(()),
    };
    match connection.and(target) {
        Ok(()) => Verdict::Passed,
        Err(Trouble { remedy, refused: true, .. }) => Verdict::Refused(remedy),
        Err(Trouble { remedy, .. }) => Verdict::Failed(remedy),
    }
}

/// Checks that the relay can be reached and accepts the token, with any transport that an agent would use. A relay that
/// refuses no more than the routes or the moment accepts the token. Dropping the future cancels the check.
pub async fn check_token(exam: &Exam) -> Verdict {
    let via = exam.proxies.via(exam.relay.host().unwrap_or_default());
    let transports: Vec<_> = transport::ALL.iter().copied().filter(|t| t.is_automatic()).collect();
    let call = probe_call(exam, &via, "");
    let trouble = match Ladder::new(&transports, &call, true, defaults::CLIMB_FIRST).open().await {
        Ok((_, Opened { link: AgentLink::Flipped { mut io, .. }, .. })) => {
            let _ = io.shutdown().await;
            return Verdict::Passed;
        }
        Ok(_) => return Verdict::Passed,
        Err(OpenError::Refused { status, .. }) if ![401, 403].contains(&status.as_u16()) => {
            return Verdict::Passed;
        }
        Err(error) => of_open(&error),
    };
    let text = format!("{}; {}", trouble.fault, trouble.remedy);
    if trouble.refused { Verdict::Refused(text) } else { Verdict::Failed(text) }
}

async fn check_connection(exam: &Exam, report: &mut impl FnMut(Finding)) -> Result<(), Trouble> {
    let relay = transport::place(&exam.relay);
    let via = exam.proxies.via(exam.relay.host().unwrap_or_default());
    let steps = ConnectionSteps { first_hop: first_hop(&via, &relay), via: &via, relay: &relay };
    let addresses = step("name", report, steps.resolve()).await?;
    let stream = step("tcp", report, steps.connect(addresses)).await?;
    let stream = step("proxy", report, steps.tunnel(stream)).await?;
    step("tls", report, steps.secure(stream, exam)).await?;
    let upgraded = step("upgrade", report, upgrade(exam, &via)).await;
    match upgraded {
        Err(trouble) if trouble.blocked => match step("poll", report, poll(exam, &via)).await {
            Ok(()) => Err(Trouble { remedy: poll_remedy(), ..trouble }),
            Err(_) => Err(trouble),
        },
        upgraded => upgraded,
    }
}

/// Runs one step and reports its finding.
async fn step<T>(
    step: &'static str,
    report: &mut impl FnMut(Finding),
    check: impl Future<Output = Result<(T, String), Trouble>>,
) -> Result<T, Trouble> {
    let start = Instant::now();
    let outcome = check.await;
    let elapsed = start.elapsed();
    match outcome {
        Ok((value, found)) => {
            report(Finding { step, elapsed, found: Ok(found) });
            Ok(value)
        }
        Err(trouble) => {
            report(Finding { step, elapsed, found: Err(trouble.fault.clone()) });
            Err(trouble)
        }
    }
}

/// The first hop: the proxy if there is one, otherwise the relay.
fn first_hop<'a>(via: &'a DialRoute, relay: &'a DialTarget) -> &'a DialTarget {
    match via {
        DialRoute::Direct => relay,
        DialRoute::Proxy(proxy) => &proxy.address,
    }
}

/// Limits one step of dialling to the timeout of a complete dial.
async fn with_timeout<T>(
    target: &DialTarget,
    dialling: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    let within = defaults::CONNECT;
    let outcome = tokio::time::timeout(within, dialling).await;
    outcome.unwrap_or_else(|_| Err(DialError::Timeout { target: target.clone(), within }))
}

struct ConnectionSteps<'a> {
    /// The target of the TCP connection.
    first_hop: &'a DialTarget,
    via: &'a DialRoute,
    relay: &'a DialTarget,
}

impl ConnectionSteps<'_> {
    /// A fault before the request to the proxy is reported as a fault of the proxy.
    async fn to_first<T>(&self, dialling: impl Future<Output = Result<T, DialError>>) -> Result<T, Trouble> {
        with_timeout(self.first_hop, dialling).await.map_err(|error| match self.via {
            DialRoute::Direct => of_dial(&error),
            DialRoute::Proxy(proxy) => {
                of_dial(&proxy.failed(self.relay, ProxyFault::Unreachable(Box::new(error))))
            }
        })
    }

    async fn resolve(&self) -> Result<(Vec<SocketAddr>, String), Trouble> {
        let addresses = self.to_first(dial::addresses(self.first_hop)).await?;
        let list: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
        let mut text = format!("{} is {}", self.first_hop.host, list.join(", "));
        if let DialRoute::Proxy(proxy) = self.via {
            text = format!("the proxy {text}");
            if proxy.resolves() {
                text.push_str(&format!("; the proxy resolves {} itself", self.relay.host));
            }
        }
        Ok((addresses, text))
    }

    async fn connect(&self, addresses: Vec<SocketAddr>) -> Result<(TcpStream, String), Trouble> {
        let stream = self.to_first(dial::connect_any(addresses, self.first_hop)).await?;
        let text = match stream.peer_addr() {
            Ok(address) => format!("{address} accepts connections"),
            Err(_) => format!("{} accepts connections", self.first_hop),
        };
        Ok((stream, text))
    }

    async fn tunnel(&self, mut stream: TcpStream) -> Result<(TcpStream, String), Trouble> {
        let DialRoute::Proxy(proxy) = self.via else { return Ok((stream, "no proxy is configured".into())) };
        let tunnelled = tokio::time::timeout(defaults::CONNECT, proxy.tunnel(&mut stream, self.relay)).await;
        let tunnelled = tunnelled.unwrap_or_else(|_| Err(proxy.failed(self.relay, ProxyFault::Timeout)));
        tunnelled.map_err(|error| of_dial(&error))?;
        Ok((stream, format!("{proxy} connects to {}", self.relay)))
    }

    async fn secure(&self, stream: TcpStream, exam: &Exam) -> Result<((), String), Trouble> {
        let secured = with_timeout(self.relay, dial::secure(stream, self.relay, &exam.tls)).await;
        let mut io = secured.map_err(|error| of_dial(&error))?;
        let text = match io.tls_version().and_then(|version| version.as_str()) {
            Some(version) => {
                let version = version.replace("TLSv", "TLS ").replace('_', ".");
                format!("{version}, and the certificate for {} is trusted", self.relay.host)
            }
            None => "none: plain HTTP, on this machine".into(),
        };
        let _ = io.shutdown().await;
        Ok(((), text))
    }
}

/// Sends the probe as an Upgrade. Tries the transports in turn, each on a new connection, until an Upgrade succeeds.
async fn upgrade(exam: &Exam, via: &DialRoute) -> Result<((), String), Trouble> {
    let mut absent = None;
    for transport in automatic(false) {
        match transport.agent().open(&probe_call(exam, via, transport.name())).await {
            Ok(Opened { urls, warnings, link, .. }) => {
                let (kind, granted) = (link.kind(), grant_text(&urls, &warnings));
                if let AgentLink::Flipped { mut io, .. } = link {
                    let _ = io.shutdown().await;
                }
                let name = transport.name();
                return Ok(((), format!("{name} over {kind} works; the relay grants {granted}")));
            }
            Err(error @ OpenError::Absent { .. }) => absent = absent.or(Some(error)),
            Err(error) => return Err(of_open(&error)),
        }
    }
    Err(absent.map_or_else(Trouble::default, |error| of_open(&error)))
}

/// Sends the probe with the transports that poll, and reports whether bodies stream.
async fn poll(exam: &Exam, via: &DialRoute) -> Result<((), String), Trouble> {
    let mut first_trouble = None;
    for transport in automatic(true) {
        match transport.agent().open(&probe_call(exam, via, transport.name())).await {
            Ok(Opened { urls, warnings, link: AgentLink::Polled(link), .. }) => {
                let urls = grant_text(&urls, &warnings);
                let flow = link.flow().map_or("bodies do not stream".into(), |flow| flow.to_string());
                return Ok(((), format!("{} works; the relay grants {urls}; {flow}", transport.name())));
            }
            Ok(_) => {}
            Err(error) => first_trouble = first_trouble.or(Some(of_open(&error))),
        }
    }
    Err(first_trouble.unwrap_or_default())
}

/// The public URLs and the warnings of a relay, as text.
fn grant_text(urls: &[String], warnings: &[String]) -> String {
    let urls = if urls.is_empty() { "no public URL".into() } else { urls.join(" ") };
    let warnings: Vec<_> = warnings.iter().map(|warning| format!("; warning: {warning}")).collect();
    format!("{urls}{}", warnings.concat())
}

/// The transports that an agent tries by itself: those that poll, or the others.
fn automatic(polls: bool) -> impl Iterator<Item = &'static dyn transport::Transport> {
    let all = transport::ALL.iter().copied().filter(|t| t.is_automatic());
    all.filter(move |t| t.carriers().contains(&Kind::Envelope) == polls)
}

/// A call whose offer is marked as a probe.
fn probe_call(exam: &Exam, via: &DialRoute, transport: &'static str) -> Call {
    Call {
        relay: exam.relay.clone(),
        via: via.clone(),
        credentials: AgentCredentials::new(exam.tls.clone(), exam.token.clone()),
        carriers: Kind::PREFERRED.to_vec(),
        offer: Offer {
            wanted: exam.wanted.clone(),
            instance: Some(Instance::random()),
            exclusive: false,
            probe: true,
            suggested: exam.suggested.clone(),
            transport,
            visitors: None,
            answer_timeout: None,
        },
    }
}

/// The pin is shown for every target with TLS, because its owner may want to trust the target by it.
async fn probe_target(config: &OriginConfig) -> Result<((), String), Trouble> {
    let target = &config.target;
    let pin = presented_pin(target, &config.tls).await;
    let pin = pin.map_or_else(String::new, |pin| format!("; its pin is {pin}"));
    let failed = |fault| {
        let remedy = match pin.is_empty() {
            true => format!("start the service at {target}, or give another TARGET"),
            false => "if this is the certificate of your service, trust it with --origin-pin".into(),
        };
        Trouble { fault, remedy, ..Trouble::default() }
    };
    let served = origin::serve([config.clone()], &Scope::new());
    let (_, served) = served.map_err(|error| failed(format!("{error}{pin}")))?.origins.swap_remove(0);
    let probe = served.probe().await;
    match probe.answers {
        true => Ok(((), format!("{probe}{pin}"))),
        false => Err(failed(format!("{probe}{pin}"))),
    }
}

#[cfg(test)]
mod tests;
