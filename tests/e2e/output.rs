//! The output of an agent for scripts.

use crate::process::Process;
use crate::site::Site;

#[test]
fn events_are_json_objects() {
    let site = Site::new();
    let relay = site.relay();
    let mut agent = Process::start(site.agent_command(&relay.url(), "1").arg("--json"));
    let event = |number: usize, agent: &Process| -> serde_json::Value {
        serde_json::from_str(&agent.line(number)).unwrap_or_else(|error| panic!("{error}: {agent}"))
    };
    let connected = event(0, &agent);
    assert_eq!(connected["event"], "connected");
    assert_eq!(connected["urls"][0], format!("https://shop.ptth.localhost:{}/", relay.port));
    let target = event(1, &agent);
    assert!(target["event"] == "target" && target["answers"] == false, "{target}");
    let address = format!("127.0.0.1:{}", relay.port);
    drop(relay);
    assert_eq!(event(2, &agent)["event"], "disconnected");
    let _relay = site.relay_at(&address);
    assert_eq!(event(3, &agent)["event"], "connected");
    assert!(agent.runs());
}

#[test]
fn a_quiet_agent_prints_its_url_alone() {
    let site = Site::new();
    let relay = site.relay();
    let agent = Process::start(site.agent_command(&relay.url(), "1").arg("--quiet"));
    assert_eq!(agent.line(0), format!("https://shop.ptth.localhost:{}/", relay.port));
    drop(relay);
    agent.logs("trying again");
    assert_eq!(agent.out.all().len(), 1, "{agent}");
    assert!(!agent.err.all().iter().any(|line| line.contains(" INFO ")), "{agent}");
}
