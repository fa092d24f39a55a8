//! Certificates that an agent must not accept: it reports the reason, ends, and never connects.

use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::process::Process;
use crate::site::{Relay, Site, ptth};

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

/// Runs an agent whose first connection must fail for good, and returns the only line that it prints.
fn refusal(relay: &Relay, mut agent: Command) -> String {
    let output = agent.output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{line}");
    assert!(output.stdout.is_empty() && line.lines().count() == 1, "{line}");
    assert!(line.contains("another attempt would fail too"), "{line}");
    assert!(!format!("{}", relay.process).contains("agent connected"), "{}", relay.process);
    line
}

/// After a connection, the same fault is an outage.
#[test]
fn a_certificate_that_changes_later_is_retried() {
    let site = Site::new();
    let relay = relay_with(&site, "localhost", 2100);
    let mut agent = Process::start(&mut agent(&site, &relay, Some("other-ca.pem")));
    agent.line(0);
    let address = format!("127.0.0.1:{}", relay.port);
    drop(relay);
    let other = Site::new();
    let _other = other.relay_at(&address);
    let line = agent.logs("the certificate of the relay");
    assert!(line.contains("trying again") && agent.runs(), "{agent}");
}

#[test]
fn a_wrong_scheme_ends_the_agent() {
    let site = Site::new();
    let relay = site.relay();
    let plain = format!("http://localhost:{}", relay.port);
    let line = refusal(&relay, site.agent_command(&plain, "3000"));
    assert!(line.contains("the answer is not HTTP") && line.contains("write https://"), "{line}");
    let relay = site.relay_at("http://127.0.0.1:0");
    let line = refusal(&relay, site.agent_command(&relay.url(), "3000"));
    assert!(line.contains("check that it is a TLS port"), "{line}");
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
