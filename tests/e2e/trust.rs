//! Certificates that an agent must not accept: it reports the reason, tries again, and never connects.

use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::process::Process;
use crate::site::{Relay, Site, poll, ptth};

/// A relay that shows a certificate for `host`, valid until a year; its CA is `other-ca.pem`.
fn relay_with(site: &Site, host: &str, year: i32) -> Relay {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    site.write("other-ca.pem", ca.self_signed(&ca_key).unwrap().pem());
    let mut leaf = CertificateParams::new([host.to_owned()]).unwrap();
    leaf.not_before = date_time_ymd(2020, 1, 1);
    leaf.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    site.write("certs/relay.pem", leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem());
    site.secret("certs/relay-key.pem", &key.serialize_pem());
    Relay::start(site.relay_command("127.0.0.1:0").arg("--verbose"))
}

fn agent(site: &Site, relay: &Relay, ca: Option<&str>) -> Command {
    let mut command = ptth();
    command
        .args(["agent", "3000", "--relay", &relay.url(), "--name", "shop", "--token-file"])
        .arg(site.at("token"));
    if let Some(ca) = ca {
        command.arg("--ca").arg(site.at(ca));
    }
    command
}

/// Starts an agent that must not connect, and returns the only line that it logs.
fn refusal(relay: &Relay, mut agent: Command) -> String {
    // Each try is a failed handshake at the relay.
    let tries =
        || relay.process.err.all().iter().filter(|line| line.contains("before its first request")).count();
    let before = tries();
    let mut agent = Process::start(&mut agent);
    let several = poll(|| (tries() >= before + 3).then_some(()));
    agent.logs("certificate");
    assert!(several.is_some(), "the agent did not try again; {agent} {}", relay.process);
    assert!(agent.runs() && agent.out.all().is_empty(), "{agent}");
    assert!(!format!("{}", relay.process).contains("agent connected"), "{}", relay.process);
    let lines = agent.err.all();
    let [line] = &lines[..] else { panic!("stderr is not exactly one line: {agent}") };
    assert!(line.contains("trying again"), "{line}");
    line.clone()
}

#[test]
fn an_agent_refuses_an_expired_certificate() {
    let site = Site::new();
    let relay = relay_with(&site, "localhost", 2021);
    let line = refusal(&relay, agent(&site, &relay, Some("other-ca.pem")));
    assert!(line.contains("expired") && line.contains("renew it on the relay"), "{line}");
}

#[test]
fn an_agent_refuses_a_certificate_of_an_untrusted_ca() {
    let site = Site::new();
    let relay = relay_with(&site, "localhost", 2100);
    // Neither the given CA nor a CA of the system has signed the certificate.
    for ca in [Some("certs/ca.pem"), None] {
        let line = refusal(&relay, agent(&site, &relay, ca));
        assert!(line.contains("issuer that is not trusted") && line.contains("--ca"), "{line}");
    }
}

#[test]
fn an_agent_refuses_a_certificate_for_another_host() {
    let site = Site::new();
    let relay = relay_with(&site, "relay.example", 2100);
    let line = refusal(&relay, agent(&site, &relay, Some("other-ca.pem")));
    assert!(line.contains("localhost") && line.contains("relay.example"), "{line}");
}

#[test]
fn an_agent_accepts_a_valid_certificate_of_a_trusted_ca() {
    let site = Site::new();
    let relay = relay_with(&site, "localhost", 2100);
    let agent = Process::start(&mut agent(&site, &relay, Some("other-ca.pem")));
    assert!(agent.line(0).starts_with("https://shop."), "{agent}");
}
