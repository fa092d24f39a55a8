//! A block that comes or goes while visitors are there.

use std::time::{Duration, Instant};

use ptth::internals::agent::Serving;
use ptth::internals::agent::origin::{Origin, OriginTarget};
use ptth::internals::net::Scope;
use ptth::internals::session::Kind;

use crate::boxes::{Middlebox, UPGRADE_PASSES, nginx};
use crate::long::{is_long, limit};
use crate::process::{PATIENCE, Process};
use crate::service::{Crowd, service};
use crate::site::Site;

/// A crowd that this many were served of shows that the way works.
const MANY: usize = 200;

/// An agent of this process, which tries better ways again after a second and not half a minute.
fn agent(site: &Site, nginx: &Middlebox) -> Serving {
    let token = std::fs::read_to_string(site.at("token")).unwrap();
    let builder = ptth::Agent::builder().relay(nginx.url()).name("shop").token(token);
    let builder = builder.ca_file(site.at("certs/ca.pem")).climb(Duration::from_secs(1));
    let target = OriginTarget::parse(&service().to_string()).unwrap();
    let tls = ptth::internals::tls::client_config_for_none().unwrap();
    builder.build().unwrap().handle(Origin::new(target, Scope::new(), tls)).unwrap()
}

/// Waits until it stands on this rung, with the carrier that belongs to it.
fn stands_on(runtime: &tokio::runtime::Runtime, serving: &Serving, rung: &str, carrier: Kind) {
    let mut status = serving.status().remove(0);
    runtime.block_on(async {
        let stood = status
            .wait_for(|status| status.connected && status.rung == rung && status.carrier == Some(carrier));
        tokio::time::timeout(PATIENCE, stood).await.expect("the agent did not change its rung").unwrap();
    });
}

/// Has a crowd visit while nginx becomes one after the other of these, and the agent follows each time. How many were
/// served, what failed, and the longest time without an answer.
fn visited_while(first: &str, then: &[&str]) -> (usize, Vec<String>, Duration) {
    let site = Site::with("http");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let nginx = nginx(&site, first);
    let _entered = runtime.enter();
    let serving = agent(&site, &nginx);
    let stands = |settings: &str| match settings == UPGRADE_PASSES {
        true => stands_on(&runtime, &serving, "ptth10", Kind::H2),
        false => stands_on(&runtime, &serving, "reversehttp", Kind::Envelope),
    };
    stands(first);
    let crowd = Crowd::start(site.port);
    crowd.wait_for_more(MANY);
    for settings in then {
        nginx.change_rules(settings);
        stands(settings);
        crowd.wait_for_more(MANY);
    }
    let (served, failed, longest) = crowd.end();
    println!("{served} served, {} failed, at most {longest:?} without an answer", failed.len());
    (served, failed, longest)
}

#[test]
fn an_agent_climbs_without_a_failed_request_when_a_block_is_lifted() {
    let (served, failed, _) = visited_while("", &[UPGRADE_PASSES]);
    assert!(served >= 2 * MANY && failed.is_empty(), "{served} served; failed: {failed:?}");
}

/// A firewall is told to remove Upgrade, and closes the connections that had one.
#[test]
fn an_agent_polls_while_upgrade_is_blocked_and_climbs_afterwards() {
    let (_, failed, longest) = visited_while(UPGRADE_PASSES, &["", UPGRADE_PASSES]);
    assert!(longest <= limit(Duration::from_secs(5)), "{longest:?} without an answer");
    // What was on a connection that was cut is told so.
    assert!(failed.len() <= 4, "{failed:?}");
}

#[test]
fn an_agent_with_defaults_climbs_within_half_a_minute() {
    if !is_long() {
        return;
    }
    let site = Site::with("http");
    let nginx = nginx(&site, "");
    let agent = Process::start(site.command("agent", &nginx.url()).arg(service().to_string()));
    agent.logs("rung=\"reversehttp\"");
    nginx.change_rules(UPGRADE_PASSES);
    let since = Instant::now();
    agent.logs("rung=\"ptth10\"");
    assert!(since.elapsed() < ptth::internals::defaults::CLIMB_FIRST + Duration::from_secs(5), "{agent}");
}
