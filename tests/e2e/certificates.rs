//! The certificates that the program makes, verified by the TLS of others: BoringSSL (by gRPC's C core), OpenSSL,
//! Node.js, Go and Java.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{CertificateParams, Issuer, KeyPair};

use crate::site::{Relay, Site, ptth};

/// A program that opens a TLS connection to a host at a port of this machine. It exits with 0 if it accepts the
/// certificate.
type Stack = fn() -> Command;

/// BoringSSL, OpenSSL and Node.js.
const STACKS: [(&str, Stack); 3] = [("BoringSSL", boring), ("OpenSSL", openssl), ("Node.js", node)];

/// Go and Java. scripts/test installs them for the long run alone.
const LONG: [(&str, Stack); 2] = [("Go", go), ("Java", java)];

/// A name, a name below the wildcard for which there is no token, and an address.
const HOSTS: [&str; 3] = ["localhost", "other.ptth.localhost", "127.0.0.1"];

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/tls").join(name)
}

fn boring() -> Command {
    let target = Path::new(env!("CARGO_BIN_EXE_ptth")).ancestors().nth(2).unwrap();
    let mut command = Command::new("python3");
    command.arg(script("visit.py")).env("PYTHONPATH", target.join("python"));
    command
}

fn openssl() -> Command {
    let mut command = Command::new("sh");
    command.arg(script("visit.sh"));
    command
}

fn node() -> Command {
    let mut command = Command::new("node");
    command.arg(script("visit.mjs"));
    command
}

fn go() -> Command {
    let mut command = Command::new("go");
    command.arg("run").arg(script("visit.go"));
    command
}

fn java() -> Command {
    let mut command = Command::new("java");
    command.arg(script("Visit.java"));
    command
}

/// The stacks of this run.
fn stacks() -> impl Iterator<Item = (&'static str, Stack)> {
    let long = std::env::var_os("PTTH_LONG").is_some();
    STACKS.into_iter().chain(LONG.into_iter().filter(move |_| long))
}

fn visit(stack: Stack, relay: &Relay, host: &str, ca: &Path) -> Output {
    let mut command = stack();
    let visited = command.args([&relay.port.to_string(), host]).arg(ca).output();
    visited.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}; scripts/test installs it"))
}

/// Each stack accepts the relay as each of its hosts.
fn accepted(relay: &Relay, ca: &Path) {
    for (name, stack) in stacks() {
        for host in HOSTS {
            let visited = visit(stack, relay, host, ca);
            let (out, err) =
                (String::from_utf8_lossy(&visited.stdout), String::from_utf8_lossy(&visited.stderr));
            assert!(visited.status.success() && out.contains("accepted"), "{name} as {host}: {out}{err}");
        }
    }
}

#[test]
fn every_tls_stack_accepts_the_certificates() {
    let site = Site::new();
    accepted(&site.relay(), &site.ca());
}

/// The same for a relay without a certificate, which makes its own.
#[test]
fn every_tls_stack_accepts_the_relays_own_certificate() {
    let site = Site::new();
    let mut command = ptth();
    command.args([
        "relay",
        "--domain",
        "ptth.localhost",
        "--admin",
        "off",
        "--listen",
        "127.0.0.1:0",
        "--state",
    ]);
    let relay = Relay::start(command.arg(site.at("own")));
    accepted(&relay, &site.at("own/ca.pem"));
}

/// A certificate of the CA is not valid for a name that the CA was not made for.
#[test]
fn every_tls_stack_enforces_the_name_constraints_of_the_ca() {
    let site = Site::new();
    let ca = std::fs::read_to_string(site.ca()).unwrap();
    let key = KeyPair::from_pem(&std::fs::read_to_string(site.at("certs/ca-key.pem")).unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca, key).unwrap();
    let key = KeyPair::generate().unwrap();
    let forged = CertificateParams::new(["other.test".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    site.write("certs/relay.pem", forged.pem());
    site.secret("certs/relay-key.pem", &key.serialize_pem());
    let relay = site.relay();
    // Java ignores the constraints of a CA in its trust store.
    for (name, stack) in stacks().filter(|(name, _)| *name != "Java") {
        let visited = visit(stack, &relay, "other.test", &site.ca());
        let err = String::from_utf8_lossy(&visited.stderr);
        let reasons = ["permitted subtree violation", "is not permitted by any constraint"];
        assert!(!visited.status.success() && reasons.iter().any(|text| err.contains(text)), "{name}: {err}");
    }
}
