//! Wrong input of a user: the exit code, and one line that reports the fault.

use std::process::Command;

use crate::process::Process;
use crate::site::{Relay, Site, ptth};

/// Runs a command that must end by itself, with this code and one line.
fn ends(command: &mut Command, code: i32) -> String {
    let mut process = Process::start(command);
    assert_eq!(process.ends(), code, "{process}");
    // Its last line may be read after its exit code.
    assert_eq!(process.err.wait(|_| None::<()>), None);
    let lines = process.err.all();
    assert_eq!(process.out.all().len(), 0, "{process}");
    let [line] = &lines[..] else { panic!("stderr is not exactly one line: {process}") };
    line.clone()
}

fn relay(site: &Site) -> (Relay, String) {
    let relay = site.relay();
    let url = relay.url();
    (relay, url)
}

#[test]
fn a_wrong_token_is_refused() {
    let site = Site::new();
    let (relay, url) = relay(&site);
    site.secret("token", "ptth_wrong_token\n");
    let line = ends(&mut site.agent_command(&url, "3000"), 3);
    assert!(line.contains("401") && line.contains("token is not valid") && line.contains(&url), "{line}");
    assert!(!format!("{line}{}", relay.process).contains("wrong_token"), "the secret was printed: {line}");
}

#[test]
fn a_name_of_another_token_is_refused() {
    let site = Site::new();
    let (_relay, url) = relay(&site);
    let line = ends(site.agent_command(&url, "3000").args(["--name", "other"]), 3);
    assert!(line.contains("403") && line.contains("\"other\"") && line.contains(&url), "{line}");
}

#[test]
fn a_revoked_token_ends_its_agent() {
    let site = Site::new();
    site.write("files/index.html", "here");
    let (relay, _) = relay(&site);
    let mut agent = site.agent(&relay, site.at("files"));
    let id = site.run(ptth().args(["token", "list", "--state"]).arg(site.at("state")));
    let id = id.split_whitespace().next().unwrap();
    site.run(ptth().args(["token", "revoke", id, "--state"]).arg(site.at("state")));
    assert_eq!(agent.process.ends(), 3, "{}", agent.process);
    let last = agent.process.logs("ptth: ");
    assert!(last.contains("401") && last.contains("revoked"), "{last}");
}

#[test]
fn a_port_in_use_ends_the_relay() {
    let site = Site::new();
    let (relay, _) = relay(&site);
    let listen = format!("127.0.0.1:{}", relay.port);
    let line = ends(&mut site.relay_command(&listen), 1);
    assert!(line.contains(&listen) && line.contains("--listen"), "{line}");
}

#[test]
fn invalid_input_is_reported_before_anything_starts() {
    let site = Site::new();
    let url = "https://localhost:1";
    let line = ends(site.agent_command(url, "3000").args(["--name", "not a name"]), 2);
    assert!(line.contains("not a name") && line.contains("--name"), "{line}");
    let broken = site.write("broken.toml", "domain = \"ptth.localhost\"\nlisten = [\n");
    let line = ends(ptth().args(["relay", "--config"]).arg(&broken), 2);
    assert!(line.contains(&format!("{}:2:", broken.display())), "{line}");
    let line = ends(&mut site.agent_command(url, "no-such-directory/at-all"), 2);
    assert!(line.contains("no-such-directory"), "{line}");
}

#[test]
fn an_unreachable_relay_is_reported_once_and_retried() {
    let site = Site::new();
    let relay = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", relay.local_addr().unwrap().port());
    drop(relay);
    let mut agent = Process::start(site.agent_command(&url, "3000").arg("--verbose"));
    let line = agent.logs(" WARN ");
    assert!(line.contains(&url) && line.contains("trying again"), "{line}");
    // At the debug level each attempt is logged. Only the first is a warning.
    agent.logs_times("cannot reach the relay", 4);
    assert_eq!(agent.err.all().iter().filter(|line| line.contains(" WARN ")).count(), 1, "{agent}");
    assert!(agent.runs() && agent.out.all().is_empty(), "{agent}");
}
