//! `ptth login`: what it keeps, and that later commands need nothing else.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest as _, Sha256};

use crate::process::Process;
use crate::site::{Agent, Relay, Site, ptth};

/// A command of a user whose state is in the site's directory.
fn command(site: &Site, args: &[&str]) -> Command {
    let mut command = ptth();
    command.args(args).env("XDG_STATE_HOME", site.at("user")).stdin(Stdio::null());
    command
}

/// The token of the site, on stdin.
fn token_on_stdin(site: &Site, command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(site.at("token")).unwrap()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn kept(site: &Site, file: &str) -> PathBuf {
    site.at("user/ptth/login").join(file)
}

/// An agent and a doctor need nothing but the login.
fn serves(site: &Site, relay: &Relay) {
    let files = site.write("files/index.html", "kept");
    let agent = Agent::start(&mut command(site, &["agent", files.parent().unwrap().to_str().unwrap()]));
    assert_eq!(agent.url, format!("https://shop.ptth.localhost:{}/", relay.port));
    let doctor = command(site, &["doctor"]).output().unwrap();
    assert!(doctor.status.success(), "{}", text(&doctor));
}

#[test]
fn a_login_is_all_that_an_agent_needs() {
    let site = Site::new();
    let relay = site.relay();
    let ca = site.ca();
    let login = ["login", &relay.url(), "--ca", ca.to_str().unwrap()];
    let output = token_on_stdin(&site, &mut command(&site, &login));
    assert!(output.status.success() && text(&output).contains("ptth agent 3000"), "{}", text(&output));
    for file in ["relay", "token", "ca.pem"] {
        let mode = fs::metadata(kept(&site, file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(!text(&output).contains(fs::read_to_string(site.at("token")).unwrap().trim()));
    serves(&site, &relay);
    // The same token would be valid at this relay, and is not sent to it.
    let other = site.relay();
    let agent = ["agent", "3000", "--relay", &other.url(), "--name", "shop", "--ca", ca.to_str().unwrap()];
    let refused = command(&site, &agent).output().unwrap();
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
}

#[test]
fn a_refused_token_and_an_unreachable_relay_are_not_kept() {
    let site = Site::new();
    let relay = site.relay();
    let ca = site.ca();
    site.secret("wrong", "ptth_0123456789ab_wrong");
    let wrong = site.at("wrong");
    let flags = ["--ca", ca.to_str().unwrap(), "--token-file", wrong.to_str().unwrap()];
    let login = |url: &str| command(&site, &[&["login", url], &flags[..]].concat()).output().unwrap();
    let output = login(&relay.url());
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(
        text(&output).contains("nothing was kept") && !text(&output).contains("_wrong"),
        "{}",
        text(&output)
    );
    let url = relay.url();
    drop(relay);
    assert_eq!(login(&url).status.code(), Some(1));
    assert!(!kept(&site, "relay").exists());
    let agent = command(&site, &["agent", "3000"]).output().unwrap();
    assert!(agent.status.code() == Some(2) && text(&agent).contains("ptth login"), "{}", text(&agent));
}

/// Another machine has no file of the CA. The relay sends its CA, and the digest decides.
#[test]
fn a_development_ca_is_kept_by_its_digest() {
    let site = Site::new();
    let mut start = ptth();
    start.args(["relay", "--listen", "127.0.0.1:0", "--admin", "off", "--state"]).arg(site.at("state"));
    let relay = Relay::start(&mut start);
    let ca = fs::read(site.at("state/ca.pem")).unwrap();
    let der = ptth::internals::tls::first_certificate(&ca).unwrap();
    let digest: String = Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect();
    let url = relay.url();
    let output = token_on_stdin(&site, &mut command(&site, &["login", &url, "--ca-sha256", &"0".repeat(64)]));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(!kept(&site, "relay").exists());
    let output = token_on_stdin(&site, &mut command(&site, &["login", &url, "--ca-sha256", &digest]));
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(ptth::internals::tls::first_certificate(&fs::read(kept(&site, "ca.pem")).unwrap()), Some(der));
    serves(&site, &relay);
}

#[test]
fn a_token_typed_at_a_terminal_is_not_shown() {
    let site = Site::new();
    let relay = site.relay();
    let binary = Path::new(env!("CARGO_BIN_EXE_ptth"));
    let line = format!("{} login {} --ca {}", binary.display(), relay.url(), site.ca().display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]).env("SHELL", "/bin/sh");
    script.env("XDG_STATE_HOME", site.at("user")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = script.spawn().unwrap();
    let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("(not shown): ") {
        let mut byte = [0];
        assert_eq!(screen.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&shown));
        shown.push(byte[0]);
    }
    let token = fs::read_to_string(site.at("token")).unwrap();
    keys.write_all(format!("{}\r", token.trim()).as_bytes()).unwrap();
    screen.read_to_end(&mut shown).unwrap();
    let shown = String::from_utf8_lossy(&shown);
    assert!(script.wait().unwrap().success(), "{shown}");
    assert!(!shown.contains(token.trim()), "{shown}");
    assert_eq!(fs::read_to_string(kept(&site, "token")).unwrap(), token);
    let agent = Process::start(&mut command(&site, &["agent", "3000"]));
    assert!(agent.line(0).starts_with("https://shop."), "{agent}");
}
