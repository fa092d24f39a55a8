//! The first minute with a relay: one command, and the line that it prints.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::origin::GatedService;
use crate::process::Process;
use crate::site::{Relay, curl, ptth};

#[test]
fn the_agent_command_printed_by_a_new_relay_works() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a state");
    let start = || {
        let mut command = ptth();
        Relay::start(
            command.args(["relay", "--listen", "127.0.0.1:0", "--admin", "off", "--state"]).arg(&state),
        )
    };
    let relay = start();
    let printed = relay
        .process
        .out
        .wait(|lines| lines.iter().find_map(|l| l.split_once("ptth agent ")).map(|l| l.1.to_owned()));
    let line = printed.unwrap_or_else(|| panic!("the relay printed no agent command; {}", relay.process));
    let file = state.join("first-token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(&file).unwrap();
    let everything = format!("{}", relay.process);
    assert!(!everything.contains(token.trim()), "the secret was printed: {everything}");

    let service = GatedService::start();
    service.open_gate();
    let line = line.replacen("3000 ", &format!("{} ", service.port), 1);
    let binary = Path::new(env!("CARGO_BIN_EXE_ptth")).parent().unwrap();
    let mut shell = Command::new("sh");
    // The shell becomes the agent, so that its process id is the agent's.
    shell.arg("-c").arg(format!("PATH={}:$PATH exec ptth agent {line}", binary.display()));
    let agent = Process::start(&mut shell);
    let url = agent.line(0);
    assert_eq!(url, format!("https://hello.ptth.localhost:{}/", relay.port));
    let ca = relay
        .process
        .out
        .wait(|lines| lines.iter().find_map(|l| l.strip_prefix("development CA: ").map(str::to_owned)));
    let output = curl().args(["--cacert", &ca.unwrap(), &format!("{url}wait/word")]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "word", "{error}");

    // The second start makes no second token.
    drop(relay);
    start();
    assert_eq!(fs::read_to_string(&file).unwrap(), token);
    drop(agent);
}
