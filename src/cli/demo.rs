//! `ptth demo`: relay, agent and origin in one process, without stored state.

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use crate::agent::config as agent;
use crate::agent::origin::sample;
use crate::agent::{self as agent_side};
use crate::defaults;
use crate::domain::{HostName, Instance, Name};
use crate::policy::{Grants, Tokens};

use crate::net::dial::Proxies;
use crate::net::{Cores, Scope};
use crate::relay::Relay;
use crate::relay::config::{self as relay, Listen};
use crate::session::Kind;
use crate::tls;
use crate::tls::dev::{self, CertHost};
use crate::tls::files;

use super::access::Access;
use super::agent::of_fatal;
use super::running::{self, Signals};
use super::text::parse;
use super::{AccessArgs, Failure, print_line};

/// The name under which the sample origin is reached.
const NAME: &str = "hello";

/// The grace period of a stop. It is short, because the requests of a stopped demo are no longer needed.
const GRACE: Duration = Duration::from_secs(1);

/// The flags of `ptth demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The address of the relay's listener; port 0 selects a free port [default: 127.0.0.1:0]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::<Listen>)]
    pub listen: Option<Listen>,
    /// What is logged of each request.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// A relay ready to be started, and an agent to be started against it.
pub struct PreparedDemo {
    /// The configuration of the relay.
    pub relay: relay::RelayConfig,
    /// The configuration of the agent, without the URL of the relay: see [`PreparedDemo::agent_for`].
    agent: agent::AgentConfig,
    /// The CA of the relay's certificate, in PEM.
    ca: String,
}

impl PreparedDemo {
    /// The configuration of the agent for a relay with this listener.
    ///
    /// # Errors
    /// [`Failure`] does not happen with the default domain.
    pub fn agent_for(&self, relay: Listen) -> Result<agent::AgentConfig, Failure> {
        let url = url_at(relay, defaults::DOMAIN)?;
        Ok(agent::AgentConfig { relays: vec![url], ..self.agent.clone() })
    }

    /// The address to open in a browser.
    ///
    /// # Errors
    /// [`Failure`] does not happen with the default domain.
    pub fn public_url(&self, relay: Listen) -> Result<Uri, Failure> {
        url_at(relay, &format!("{NAME}.{}", self.relay.domain))
    }
}

fn url_at(Listen { address, tls, .. }: Listen, host: &str) -> Result<Uri, Failure> {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{host}:{}/", address.port()).parse().map_err(Failure::failed)
}

/// Makes token and certificates in memory, and configurations that fit each other.
///
/// # Errors
/// [`Failure`]: code 2 for a listener that other machines reach or that belongs to a transport, 1 when the system
/// provides no random numbers.
pub fn prepare(args: &Args) -> Result<PreparedDemo, Failure> {
    let listen = match args.listen {
        Some(listen) => listen,
        None => Listen::tls((Ipv4Addr::LOCALHOST, 0).into()),
    };
    if !SocketAddr::ip(&listen.address).is_loopback() {
        return Err(Failure::usage(
            "the demo serves this machine only; give --listen a loopback address, such as 127.0.0.1:0",
        ));
    }
    if listen.transport.is_some() {
        return Err(Failure::usage(
            "the demo needs a listener for visitors; give --listen an address without a transport",
        ));
    }
    let domain = HostName::parse(defaults::DOMAIN).map_err(Failure::failed)?;
    let name = Name::parse(NAME).map_err(Failure::failed)?;
    let hosts = [CertHost::Name(domain.clone()), CertHost::Wildcard(domain.clone())];
    let certs = dev::ephemeral(&hosts).map_err(Failure::failed)?;
    let tokens = Tokens::in_memory();
    let (_, token) = tokens.issue(Grants::names([name.clone()])).map_err(Failure::failed)?;
    let mut relay = relay::RelayConfig::new(domain, tokens);
    relay.listen = vec![listen];
    relay.grace = GRACE;
    let server = tls::server_config_from_pem(certs.relay.cert.as_bytes(), certs.relay.key.as_bytes(), &[]);
    relay.tls = Some(server.map_err(Failure::failed)?.into());
    let agent = agent::AgentConfig {
        relays: Vec::new(),
        names: vec![name],
        hosts: Vec::new(),
        subnames: false,
        suggested: None,
        token: Some(token),
        transport: "auto".into(),
        carriers: Kind::PREFERRED.to_vec(),
        climb: defaults::CLIMB_FIRST,
        tls: tls::client_config_from_pem(certs.ca.cert.as_bytes(), &[]).map_err(Failure::failed)?,
        proxies: Proxies::None,
        instance: Instance { id: "demo".into(), boot: 1 },
        exclusive: false,
        visitors: None,
        answer_timeout: None,
    };
    Ok(PreparedDemo { relay, agent, ca: certs.ca.cert })
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    serve(&prepare(args)?, &args.access.start()?)
}

fn serve(prepared: &PreparedDemo, access: &Access) -> Result<(), Failure> {
    let state = tempfile::Builder::new().prefix("ptth-demo-").tempdir();
    let state =
        state.map_err(|error| Failure::failed(format!("cannot make a directory for the CA: {error}")))?;
    let ca = state.path().join("ca.pem");
    files::create(&ca, 0o644, prepared.ca.as_bytes()).map_err(Failure::failed)?;
    running::block_on(async {
        let mut signals = Signals::listen()?;
        let config = relay::RelayConfig { access_log: access.sink(), ..prepared.relay.clone() };
        let relay = Relay::start(config).map_err(Failure::failed)?;
        let listen = relay.addresses().first().copied().ok_or_else(|| Failure::failed("no listener"))?;
        let handler = Arc::new(sample(Scope::new()));
        let mut serving =
            agent_side::start(&prepared.agent_for(listen)?, handler, Cores::ambient()).map_err(of_fatal)?;
        tokio::select! {
            biased;
            () = signals.received() => return Ok(()),
            connected = serving.connected() => connected.map_err(of_fatal)?,
        };
        let url = prepared.public_url(listen)?;
        print_line(&url.to_string())?;
        print_line(&curl_line(listen, &ca, &url))?;
        if std::io::stdout().is_terminal() {
            print_line("each visit is logged below; Ctrl-C stops the demo")?;
        }
        signals.received().await;
        signals.wait_for_stop(serving.stop(GRACE)).await;
        signals.wait_for_stop(relay.stop()).await;
        Ok(())
    })
}

/// The command that requests the sample, to be pasted into another shell.
fn curl_line(listen: Listen, ca: &Path, url: &Uri) -> String {
    match listen.tls {
        true => format!("curl --cacert {} {url}", ca.display()),
        false => format!("curl {url}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::FromText as _;

    #[test]
    fn the_agent_configuration_matches_the_relay() {
        let prepared = prepare(&Args { listen: None, access: AccessArgs::default() }).unwrap();
        let bound = Listen::tls("127.0.0.1:4711".parse().unwrap());
        let agent = prepared.agent_for(bound).unwrap();
        assert_eq!(agent.relays, ["https://ptth.localhost:4711/"]);
        assert_eq!(prepared.public_url(bound).unwrap(), "https://hello.ptth.localhost:4711/");
        let verified = prepared.relay.tokens.verify(agent.token.as_ref().unwrap()).unwrap();
        assert!(verified.grants.allows_name(&agent.names[0]));
    }

    #[test]
    fn a_demo_listens_on_loopback_only() {
        let listen = Listen::from_text("0.0.0.0:0").ok();
        assert_eq!(prepare(&Args { listen, access: AccessArgs::default() }).err().unwrap().code, 2);
    }
}
