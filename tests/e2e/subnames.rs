//! `--subnames`: all hosts below a name or a host, and the names of other tokens among them.

use std::process::Command;

use crate::process::PATIENCE;
use crate::site::{Agent, Answer, Relay, Site, poll, ptth};

/// Issues a token with these grants into a file of the site.
fn token(site: &Site, file: &str, grants: &[&str]) {
    let text = site.run(ptth().args(["token", "new", "--state"]).arg(site.at("state")).args(grants));
    site.secret(file, &text);
}

/// The command line of an agent that serves a directory whose `index.html` is its name.
fn agent(site: &Site, relay: &Relay, token: &str, wanted: &[&str]) -> Command {
    site.write(&format!("{token}-site/index.html"), token);
    let mut command = ptth();
    command.arg("agent").arg(site.at(format!("{token}-site"))).args(["--relay", &url(relay), "--token-file"]);
    command.arg(site.at(token)).args(wanted);
    command
}

fn url(relay: &Relay) -> String {
    format!("http://127.0.0.1:{}", relay.port)
}

fn visit(site: &Site, relay: &Relay, host: &str) -> (u16, String) {
    let Answer { status, body, .. } = site.curl(["--header", &format!("Host: {host}"), &url(relay)]);
    (status, if status == 200 { String::from_utf8(body).unwrap() } else { String::new() })
}

#[track_caller]
fn is_refused(command: &mut Command, expected: &str) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_name_is_served_with_all_hosts_below_it() {
    let site = Site::new();
    token(&site, "wide", &["--name", "shop", "--name", "*.shop"]);
    token(&site, "any", &["--name", "*"]);
    let relay = site.relay_at("http://127.0.0.1:0");
    let wide = Agent::start(&mut agent(&site, &relay, "wide", &["--name", "shop", "--subnames"]));
    assert_eq!(wide.process.line(1), format!("http://*.shop.ptth.localhost:{}/", relay.port));
    for host in ["shop.ptth.localhost", "a.shop.ptth.localhost", "B-2.Shop.ptth.localhost:80"] {
        assert_eq!(visit(&site, &relay, host), (200, "wide".into()), "{host}");
    }
    for host in ["a.b.shop.ptth.localhost", "a.other.ptth.localhost", "ashop.ptth.localhost"] {
        assert_eq!(visit(&site, &relay, host).0, 404, "{host}");
    }
    is_refused(&mut agent(&site, &relay, "any", &["--name", "news", "--subnames"]), "may not claim *.news");
    is_refused(&mut agent(&site, &relay, "token", &["--name", "shop", "--subnames"]), "may not claim *.shop");
    drop(wide);
    let absent = poll(|| (visit(&site, &relay, "a.shop.ptth.localhost").0 == 503).then_some(()));
    assert!(absent.is_some(), "no 503 within {PATIENCE:?}");

    let paths = Relay::start(site.relay_command("http://127.0.0.1:0").args(["--routing", "path"]));
    is_refused(&mut agent(&site, &paths, "wide", &["--name", "shop", "--subnames"]), "routes by host");
}

#[test]
fn a_wildcard_takes_no_host_that_another_token_lists() {
    let site = Site::new();
    token(&site, "wide", &["--host", "shop.example.com", "--host", "*.shop.example.com"]);
    token(&site, "exact", &["--host", "x.shop.example.com"]);
    token(&site, "greedy", &["--host", "*.ptth.localhost", "--host", "ptth.localhost"]);
    let relay = site.relay_at("http://127.0.0.1:0");
    let _wide =
        Agent::start(&mut agent(&site, &relay, "wide", &["--host", "shop.example.com", "--subnames"]));
    let seen = |host: &str| visit(&site, &relay, host);
    assert_eq!(seen("y.shop.example.com"), (200, "wide".into()));
    assert_eq!(seen("x.shop.example.com").0, 503, "the other token's agent is not connected yet");
    is_refused(
        &mut agent(&site, &relay, "wide", &["--host", "x.shop.example.com"]),
        "may not claim the host",
    );

    let exact = Agent::start(&mut agent(&site, &relay, "exact", &["--host", "x.shop.example.com"]));
    assert_eq!(seen("x.shop.example.com"), (200, "exact".into()));
    assert_eq!(seen("X.SHOP.example.com."), (200, "exact".into()));
    assert_eq!(seen("y.shop.example.com"), (200, "wide".into()));
    is_refused(
        &mut agent(&site, &relay, "exact", &["--host", "x.shop.example.com", "--subnames"]),
        "may not claim *.",
    );
    drop(exact);
    let absent = poll(|| (seen("x.shop.example.com").0 == 503).then_some(()));
    assert!(absent.is_some(), "the wildcard got the visitors of an agent that has disconnected");
    is_refused(
        &mut agent(&site, &relay, "greedy", &["--host", "ptth.localhost", "--subnames"]),
        "may not claim the host",
    );

    // A host below the wildcard, alone, is free for its token.
    let _one = Agent::start(&mut agent(&site, &relay, "wide", &["--host", "z.shop.example.com"]));
    // When the exact token is gone, the wildcard covers its host.
    let list = site.run(ptth().args(["token", "list", "--state"]).arg(site.at("state")));
    let id = list.lines().find(|line| line.contains("host x.shop")).and_then(|line| line.split(' ').next());
    site.run(ptth().args(["token", "revoke", "--state"]).arg(site.at("state")).arg(id.unwrap()));
    let covered = poll(|| (seen("x.shop.example.com").0 == 200).then_some(()));
    assert!(covered.is_some(), "the wildcard does not cover the host of a revoked token");
}

#[test]
fn subnames_need_a_name() {
    let site = Site::new();
    let output =
        ptth().args(["agent", "3000", "--relay", "http://127.0.0.1:1", "--subnames"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--subnames needs --name or --host"));
    for bad in ["*.test", "*.*.example.com", "a.*.example.com"] {
        let mut command = ptth();
        let output =
            command.args(["token", "new", "--host", bad, "--state"]).arg(site.at("s")).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{bad}");
    }
}
