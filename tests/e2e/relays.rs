//! One agent at two relays, of which one refuses it.

use crate::process::Process;
use crate::site::{Relay, Site, ptth};

/// A relay without TLS, and its URL for agents.
fn plain(site: &Site) -> (Relay, String) {
    let relay = site.relay_at("http://127.0.0.1:0");
    let url = format!("http://127.0.0.1:{}", relay.port);
    (relay, url)
}

#[test]
fn an_agent_refused_by_one_relay_serves_at_the_other() {
    // The token of one is unknown to the other.
    let (own, other) = (Site::new(), Site::new());
    own.write("files/index.html", "here");
    let ((relay, good), (_refusing, bad)) = (plain(&own), plain(&other));
    for relays in [[&bad, &good], [&good, &bad]] {
        let mut command = own.agent_command(relays[0], own.at("files"));
        let mut agent = Process::start(command.args(["--relay", relays[1]]));
        let line = agent.logs("token is not valid");
        assert!(line.contains(" WARN ") && line.contains(&bad), "{line}");
        assert!(line.contains("401") && line.contains("other relays"), "{line}");
        assert_eq!(agent.line(0), format!("http://shop.ptth.localhost:{}/", relay.port), "{agent}");
        assert_eq!(own.curl([agent.line(0)]).text(), "here");
        assert!(agent.runs(), "{agent}");
    }
}

#[test]
fn an_agent_refused_by_both_relays_ends() {
    let (own, other) = (Site::new(), Site::new());
    own.write("files/index.html", "here");
    let ((_relay, good), (_refusing, bad)) = (plain(&own), plain(&other));
    let mut command = own.agent_command(&bad, own.at("files"));
    let mut agent = Process::start(command.args(["--relay", &good]));
    agent.logs("other relays");
    agent.line(1);
    let id = own.run(ptth().args(["token", "list", "--state"]).arg(own.at("state")));
    let id = id.split_whitespace().next().unwrap();
    own.run(ptth().args(["token", "revoke", id, "--state"]).arg(own.at("state")));
    assert_eq!(agent.ends(), 3, "{agent}");
    let last = agent.logs("ptth: ");
    assert!(last.contains(&bad) && last.contains("not valid") && last.contains(&good), "{last}");
    assert!(last.contains("revoked"), "{last}");
}
