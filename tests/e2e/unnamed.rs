//! An agent that requests no name.

use std::process::Command;

use crate::site::{Agent, Site, ptth};

/// An agent without `--name`, of a user whose state is in the site's directory.
fn command(site: &Site, relay: &str, target: &str, token: &str) -> Command {
    let mut command = ptth();
    command.args(["agent", target, "--relay", relay, "--ca"]).arg(site.ca());
    command.arg("--token-file").arg(site.at(token)).env("XDG_STATE_HOME", site.at("user"));
    command
}

fn name(command: &mut Command) -> String {
    let agent = Agent::start(command);
    agent.url.strip_prefix("https://").and_then(|url| url.split_once('.')).unwrap().0.to_owned()
}

#[test]
fn a_random_name_is_kept_for_its_target() {
    let site = Site::new();
    let any = site.run(ptth().args(["token", "new", "--state"]).arg(site.at("state")));
    site.secret("any", &any);
    site.secret("team", &site.token("team-*"));
    let relay = site.relay();
    let of = |target: &str, token: &str| command(&site, &relay.url(), target, token);
    let first = name(&mut of("3000", "any"));
    let (word, rest) = first.split_once('-').unwrap();
    assert_eq!((word.len(), rest.len()), (6, 4), "{first}");
    for transport in ["ptth10", "ptth10-h1", "reversehttp", "comet"] {
        assert_eq!(name(of("3000", "any").args(["--transport", transport])), first, "{transport}");
    }
    assert_ne!(name(&mut of("3001", "any")), first);
    assert_eq!(name(&mut of("3000", "team")), format!("team-{first}"));
    assert_eq!(name(&mut of("3000", "token")), "shop", "the only name of the token");
    let mut doctor = ptth();
    doctor
        .args(["doctor", "--relay", &relay.url(), "--ca"])
        .arg(site.ca())
        .arg("--token-file")
        .arg(site.at("any"));
    assert!(site.run(&mut doctor).contains("all steps passed"));
    // A token that lists names leaves the choice to the agent.
    let mut new = ptth();
    new.args(["token", "new", "--name", "a", "--name", "b", "--state"]).arg(site.at("state"));
    site.secret("two", &site.run(&mut new));
    let refused = of("3000", "two").output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && text.contains("choose one with --name: a, b"), "{text}");
}
