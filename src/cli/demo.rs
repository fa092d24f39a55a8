//! `ptth demo`: everything in one process, kept nowhere.

use std::net::SocketAddr;

use http::Uri;

use crate::agent::config as agent;
use crate::defaults;
use crate::domain::{HostName, Instance, Name};
use crate::policy::{Grants, Tokens};

use crate::relay::config::{self as relay, Listen};
use crate::tls;
use crate::tls::dev::{self, CertHost};

use super::Failure;
use super::text::{FromText as _, parse};

/// The name under which the sample origin is reached.
const NAME: &str = "hello";

/// The flags of `ptth demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the relay listens; port 0 takes a free one [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::<Listen>)]
    pub listen: Option<Listen>,
}

/// A relay ready to be started, and an agent to be started against it.
pub struct Prepared {
    /// What the relay does.
    pub relay: relay::Config,
    /// What the agent does, but for the port of the relay: see [`Prepared::agent_for`].
    agent: agent::Config,
}

impl Prepared {
    /// What the agent does, now that the relay has an address.
    ///
    /// # Errors
    /// [`Failure`] does not happen with the default domain.
    pub fn agent_for(&self, relay: Listen) -> Result<agent::Config, Failure> {
        let url = address(relay, defaults::DOMAIN)?;
        Ok(agent::Config { relays: vec![url], ..self.agent.clone() })
    }

    /// The address to open in a browser.
    ///
    /// # Errors
    /// [`Failure`] does not happen with the default domain.
    pub fn public_url(&self, relay: Listen) -> Result<Uri, Failure> {
        address(relay, &format!("{NAME}.{}", self.relay.domain))
    }
}

fn address(Listen { address, tls }: Listen, host: &str) -> Result<Uri, Failure> {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{host}:{}/", address.port()).parse().map_err(Failure::failed)
}

/// Makes token and certificates in memory, and configurations that fit each other.
///
/// # Errors
/// [`Failure`]: code 2 when the listener is open to others, 1 when the system gives no randomness.
pub fn prepare(args: &Args) -> Result<Prepared, Failure> {
    let listen = match args.listen {
        Some(listen) => listen,
        None => Listen::from_text(defaults::LISTEN).map_err(Failure::failed)?,
    };
    if !SocketAddr::ip(&listen.address).is_loopback() {
        return Err(Failure::usage(
            "the demo is for this machine alone; give --listen an address such as 127.0.0.1:0",
        ));
    }
    let domain = HostName::parse(defaults::DOMAIN).map_err(Failure::failed)?;
    let name = Name::parse(NAME).map_err(Failure::failed)?;
    let hosts = [CertHost::Name(domain.clone()), CertHost::Star(domain.clone())];
    let certs = dev::ephemeral(&hosts).map_err(Failure::failed)?;
    let tokens = Tokens::in_memory();
    let (_, token) = tokens.issue(Grants::names([name.clone()])).map_err(Failure::failed)?;
    let mut relay = relay::Config::new(domain, tokens);
    relay.listen = vec![listen];
    let server = tls::server_config_from_pem(certs.relay.cert.as_bytes(), certs.relay.key.as_bytes(), &[]);
    relay.tls = Some(server.map_err(Failure::failed)?);
    let agent = agent::Config {
        relays: Vec::new(),
        names: vec![name],
        hosts: Vec::new(),
        token: Some(token),
        transport: "auto".into(),
        tls: tls::client_config_from_pem(certs.ca.cert.as_bytes(), &[]).map_err(Failure::failed)?,
        instance: Instance { id: "demo".into(), boot: 1 },
        exclusive: false,
    };
    Ok(Prepared { relay, agent })
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    serve(&prepare(args)?)
}

/// The seam to relay, agent and a sample origin: start them, print the URL to open, wait for a signal, stop
/// them.
fn serve(_prepared: &Prepared) -> Result<(), Failure> {
    Err(Failure::failed("this build has nothing to show (not wired)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_and_agent_fit_each_other() {
        let prepared = prepare(&Args { listen: None }).unwrap();
        let bound = Listen { address: "127.0.0.1:4711".parse().unwrap(), tls: true };
        let agent = prepared.agent_for(bound).unwrap();
        assert_eq!(agent.relays, ["https://ptth.localhost:4711/"]);
        assert_eq!(prepared.public_url(bound).unwrap(), "https://hello.ptth.localhost:4711/");
        let verified = prepared.relay.tokens.verify(agent.token.as_ref().unwrap()).unwrap();
        assert!(verified.grants.allows_name(&agent.names[0]));
    }

    #[test]
    fn a_demo_is_not_for_others() {
        let listen = Listen::from_text("0.0.0.0:0").ok();
        assert_eq!(prepare(&Args { listen }).err().unwrap().code, 2);
    }
}
