//! An agent as a program embeds it.

use std::any::Any;

use ptth::internals::agent::config::AgentConfig;
use ptth::internals::agent::origin::{Origin, OriginTarget};
use ptth::internals::domain::{Instance, Name, Secret};
use ptth::internals::net::{Cores, Scope};
use ptth::internals::session::Kind;
use tokio::runtime::Runtime;

use crate::site::{Agent, Relay, Site};

/// An agent of the library, because only there can the carrier be chosen, on a thread of its own.
pub(crate) fn agent(
    site: &Site,
    relay: &Relay,
    target: &str,
    (name, token): (&str, &str),
    (transport, carrier): (&str, Kind),
) -> Runtime {
    let config = AgentConfig {
        relays: vec![relay.url().parse().unwrap()],
        names: vec![Name::parse(name).unwrap()],
        hosts: Vec::new(),
        subnames: false,
        suggested: None,
        token: Some(Secret::new(token.trim())),
        transport: transport.into(),
        carriers: vec![carrier],
        tls: ptth::internals::tls::client_config(Some(&site.ca()), &[]).unwrap(),
        proxies: ptth::internals::net::dial::Proxies::None,
        instance: Instance { id: name.into(), boot: 1 },
        exclusive: false,
        visitors: None,
        answer_timeout: None,
        climb: ptth::internals::defaults::CLIMB_FIRST,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let target = OriginTarget::parse(target).unwrap();
        let origin =
            Origin::new(target, Scope::new(), ptth::internals::tls::client_config_for_none().unwrap());
        let mut serving = ptth::internals::agent::start(&config, origin, Cores::ambient()).unwrap();
        serving.connected().await.unwrap();
        // It serves for as long as its runtime exists.
        std::mem::forget(serving);
    });
    runtime
}

/// An agent of `shop` with this carrier: the `ptth` program, if it can use that carrier. It serves until it is dropped.
pub(crate) fn agent_over(site: &Site, relay: &Relay, target: &str, carrier: Kind) -> Box<dyn Any> {
    let transport = match carrier {
        Kind::H2 => "ptth10",
        Kind::Envelope => "reversehttp",
        Kind::H1 => {
            let token = std::fs::read_to_string(site.at("token")).unwrap();
            return Box::new(agent(site, relay, target, ("shop", &token), ("ptth10", carrier)));
        }
    };
    let mut command = site.agent_command(&relay.url(), target);
    Box::new(Agent::start(command.args(["--transport", transport])))
}
