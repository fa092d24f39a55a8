//! Targets with TLS: private CAs, pins, client certificates, and certificates that are not verified.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::origin::Nginx;
use crate::site::{Agent, Relay, Site, ptth};

/// A certificate as `openssl req -x509` makes it by default: self-signed, and a CA.
fn self_signed(site: &Site, algorithm: &[&str]) -> [PathBuf; 2] {
    let pair = [site.at("self.pem"), site.at("self-key.pem")];
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=dev", "-newkey"]).args(algorithm);
    site.run(command.arg("-out").arg(&pair[0]).arg("-keyout").arg(&pair[1]));
    pair
}

/// The pin of a certificate, as curl's manual computes it.
fn pin_of(site: &Site, cert: &Path) -> String {
    let script = "openssl x509 -pubkey -noout -in \"$0\" | openssl pkey -pubin -outform der \
                  | openssl dgst -sha256 -binary | openssl enc -base64";
    format!("sha256//{}", site.run(Command::new("sh").arg("-c").arg(script).arg(cert)).trim())
}

fn agent(site: &Site, relay: &Relay, target: &str, flags: &[&str]) -> Agent {
    Agent::start(site.agent_command(&relay.url(), target).args(flags))
}

fn visit(site: &Site, agent: &Agent) -> (u16, String) {
    let seen = site.curl([format!("{}seen", agent.url)]);
    (seen.status, seen.text())
}

#[test]
fn a_self_signed_certificate_is_trusted_by_its_pin_alone() {
    for (algorithm, protocol) in
        [(&["ec", "-pkeyopt", "ec_paramgen_curve:P-256"][..], "TLSv1.3"), (&["rsa:2048"], "TLSv1.2")]
    {
        let site = Site::new();
        let [cert, key] = self_signed(&site, algorithm);
        let nginx = Nginx::with_pair(&site, &cert, &key, &format!("ssl_protocols {protocol};"));
        let relay = site.relay();
        let target = format!("https://localhost:{}", nginx.tls_port);

        let refused = agent(&site, &relay, &target, &[]);
        assert!(refused.process.line(1).contains("--origin-pin"), "{}", refused.process);
        assert_eq!(visit(&site, &refused).0, 502);
        drop(refused);

        let pin = pin_of(&site, &cert);
        let mut doctor = ptth();
        doctor.args(["doctor", &target, "--relay", &relay.url(), "--name", "shop", "--ca"]).arg(site.ca());
        let output = doctor.arg("--token-file").arg(site.at("token")).output().unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        assert!(found.contains(&format!("; its pin is {pin}")), "{found}");

        // Nothing but handshakes has arrived so far, also from an agent with another pin.
        let other = format!("sha256//{}=", "A".repeat(43));
        let wrong = agent(&site, &relay, &target, &["--origin-pin", &other]);
        let (status, text) = visit(&site, &wrong);
        assert_eq!(status, 502);
        assert!(text.contains("is not the pinned one") && !text.contains(&pin), "{text}");
        wrong.process.logs(&format!("its key has the pin {pin}"));
        assert_eq!(fs::read_to_string(site.at("access.log")).unwrap(), "");
        drop(wrong);

        let trusted = agent(&site, &relay, &target, &["--origin-pin", &other, "--origin-pin", &pin]);
        assert!(trusted.process.line(1).ends_with(" answers"), "{}", trusted.process);
        assert_eq!(visit(&site, &trusted).0, 200);
        assert_eq!(fs::read_to_string(site.at("access.log")).unwrap().lines().count(), 1);
    }
}

#[test]
fn a_private_ca_a_server_name_and_a_client_certificate() {
    let site = Site::new();
    site.run(ptth().args(["certs", "new", "--host", "dev.test", "--out"]).arg(site.at("other")));
    let other = |name: &str| site.at("other").join(name);
    let client = format!("ssl_verify_client on; ssl_client_certificate {};", other("ca.pem").display());
    let nginx = Nginx::with_pair(&site, &other("relay.pem"), &other("relay-key.pem"), &client);
    let relay = site.relay();
    let target = format!("https://127.0.0.1:{}", nginx.tls_port);
    let [ca, cert, key] = ["ca.pem", "agent.pem", "agent-key.pem"].map(|f| other(f).display().to_string());
    let named = ["--origin-ca", &ca, "--origin-server-name", "dev.test"];

    let anonymous = agent(&site, &relay, &target, &named);
    assert_eq!(visit(&site, &anonymous).0, 400, "nginx requires a client certificate");
    drop(anonymous);
    let known = agent(
        &site,
        &relay,
        &target,
        &[&named[..], &["--origin-cert", &cert, "--origin-key", &key]].concat(),
    );
    assert_eq!(visit(&site, &known).0, 200);
    drop(known);
    let unnamed = agent(&site, &relay, &target, &["--origin-ca", &ca, "--origin-server-name", "no.test"]);
    assert!(unnamed.process.line(1).contains("not valid for name"), "{}", unnamed.process);
}

#[test]
fn an_unverified_target_is_private_and_logged() {
    let site = Site::new();
    let [cert, key] = self_signed(&site, &["rsa:2048"]);
    let nginx = Nginx::with_pair(&site, &cert, &key, "");
    let relay = site.relay();
    let target = format!("https://127.0.0.1:{}", nginx.tls_port);
    let insecure = agent(&site, &relay, &target, &["--origin-insecure"]);
    assert!(insecure.process.logs("--origin-insecure").contains("WARN"), "{}", insecure.process);
    assert_eq!(visit(&site, &insecure).0, 200);
}

#[test]
fn flags_that_do_not_fit_the_target_are_one_clear_line() {
    let site = Site::new();
    for (target, flags, expected) in [
        ("https://192.0.2.1", &["--origin-insecure"][..], "applies to private addresses only"),
        ("3000", &["--origin-insecure"], "write https://HOST:PORT"),
        ("3000", &["--origin-pin", "x"], "write sha256//BASE64"),
        ("https://a.test", &["--origin-cert", "x"], "--origin-key"),
        ("https://a.test", &["--origin-insecure", "--origin-ca", "x"], "cannot be used with"),
        ("https://a.test", &["--origin-ca", "/nonexistent"], "/nonexistent"),
        ("https://a.test", &["--origin-server-name", "a b"], "a b"),
    ] {
        let mut command = site.agent_command("https://localhost:1", target);
        let output = command.args(flags).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.contains(expected) && text.lines().count() == 1, "{flags:?}: {text}");
    }
}
