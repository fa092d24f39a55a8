//! Several services of one agent, from a file.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::process::Process;
use crate::site::{Relay, Site, poll, ptth};

/// A relay, and a site with a token for any name and a directory for each of the services.
fn site() -> (Site, Relay) {
    let site = Site::new();
    let any = site.run(ptth().args(["token", "new", "--state"]).arg(site.at("state")));
    site.secret("any", &any);
    for name in ["a", "b", "c", "other"] {
        site.write(&format!("{name}/index.html"), name);
    }
    let relay = site.relay();
    (site, relay)
}

/// The file of the services `a`, `b` and `c`; `target` is that of `a`.
fn file(site: &Site, relay: &Relay, target: &str) -> String {
    let shared = format!("relay = \"{}\"\nca = \"certs/ca.pem\"\ntoken-file = \"any\"\n", relay.url());
    let service =
        |name: &str, target: &str| format!("[service.{name}]\nname = \"{name}\"\ntarget = \"./{target}\"\n");
    let text = [shared, service("a", target), service("b", "b"), service("c", "c")].concat();
    site.write("ptth.toml", &text);
    text
}

fn agent(site: &Site, services: &[&str]) -> Command {
    let mut command = ptth();
    command.arg("agent").args(services).arg("--config").arg(site.at("ptth.toml"));
    command.env("XDG_STATE_HOME", site.at("user"));
    command
}

fn url(relay: &Relay, name: &str) -> String {
    format!("https://{name}.ptth.localhost:{}/", relay.port)
}

fn check(site: &Site, text: &str) -> String {
    site.write("check.toml", text);
    let mut command = ptth();
    let output = command.args(["config", "check"]).arg(site.at("check.toml")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let fault = String::from_utf8(output.stderr).unwrap();
    fault.split_once("check.toml").unwrap().1.trim_end().to_owned()
}

#[test]
fn a_changed_service_starts_again_and_no_other_is_disturbed() {
    let (site, relay) = site();
    let text = file(&site, &relay, "a");
    let agent = Process::start(&mut agent(&site, &[]));
    for name in ["a", "b", "c"] {
        let line = format!("{name}: {}", url(&relay, name));
        assert!(poll(|| agent.out.all().contains(&line).then_some(())).is_some(), "{line}: {agent}");
        assert_eq!(site.curl([url(&relay, name)]).text(), name);
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = ["b", "c"].map(|name| {
            let (site, relay, done) = (&site, &relay, &done);
            scope.spawn(move || {
                let mut answers = 0;
                while !done.load(Ordering::Relaxed) || answers < 20 {
                    let answer = site.curl([url(relay, name)]);
                    assert_eq!((answer.status, answer.text().as_str()), (200, name));
                    answers += 1;
                }
            })
        });
        file(&site, &relay, "other");
        let changed = poll(|| (site.curl([url(&relay, "a")]).text() == "other").then_some(()));
        assert!(changed.is_some(), "{agent}");
        agent.logs("service=\"a\"");
        // A fault changes nothing.
        site.write("ptth.toml", text.replace("name = \"c\"", "nane = \"c\""));
        let fault = agent.logs("there is no key nane; did you mean name?");
        assert!(fault.contains("ptth.toml:11:1") && fault.contains("go on as they were"), "{fault}");
        assert_eq!(site.curl([url(&relay, "a")]).text(), "other");
        done.store(true, Ordering::Relaxed);
        load.into_iter().for_each(|load| load.join().unwrap());
    });
    let printed = agent.out.all();
    for name in ["b", "c"] {
        let connected = printed.iter().filter(|line| line.starts_with(&format!("{name}: https"))).count();
        assert_eq!(connected, 1, "{agent}");
    }

    // A service that is gone from the file stops, and its name is free after the lease.
    let (rest, _) = text.split_once("[service.c]").unwrap();
    site.write("ptth.toml", rest);
    agent.logs("no longer in the file");
    let stopped = poll(|| (site.curl([url(&relay, "c")]).status == 503).then_some(()));
    assert!(stopped.is_some(), "{agent}");
    assert_eq!(site.curl([url(&relay, "b")]).text(), "b");
}

#[test]
fn selected_services_run_and_a_stop_ends_them_all() {
    let (site, relay) = site();
    file(&site, &relay, "a");
    let mut selected = Process::start(&mut agent(&site, &["b", "a"]));
    for name in ["a", "b"] {
        let line = format!("{name}: {}", url(&relay, name));
        assert!(poll(|| selected.out.all().contains(&line).then_some(())).is_some(), "{line}: {selected}");
    }
    assert_eq!(site.curl([url(&relay, "c")]).status, 404);
    selected.signal("TERM");
    assert_eq!(selected.ends(), 0, "{selected}");
    let mut missing = Process::start(&mut agent(&site, &["d"]));
    assert_eq!(missing.ends(), 2);
    missing.logs("has no service d; it has a, b, c");
    let mut beside = Process::start(agent(&site, &[]).args(["--name", "x"]));
    assert_eq!(beside.ends(), 2);
    beside.logs("--name and --config exclude each other: write name = … into the file");
}

#[test]
fn one_refused_service_ends_alone() {
    let (site, relay) = site();
    let text = file(&site, &relay, "a");
    site.write("ptth.toml", text.replace("[service.b]\n", "[service.b]\ntoken-file = \"token\"\n"));
    let agent = Process::start(&mut agent(&site, &[]));
    agent.logs("service=\"b\"");
    let served = poll(|| (site.curl([url(&relay, "a")]).text() == "a").then_some(()));
    assert!(served.is_some(), "{agent}");
}

#[test]
fn a_fault_in_the_file_is_one_line_with_its_place() {
    let site = Site::new();
    for (text, fault) in [
        ("x = 1\n[service.shop]\ntarget = 1\n", ":1:1: there is no key x"),
        ("[service]\nshop = 3000\n", ":2:1: write [service.shop]"),
        ("[service.shop]\nname = \"shop\"\n", ":1:10: the service shop has no target: write target = 3000"),
        ("[service.shop]\ntarget = true\n", ":2:10: target: write a text in quotes, or a number"),
        ("[service.shop]\ntarget = 1\nlisting = \"yes\"\n", ":3:11: listing: write true or false"),
        ("[service.shop]\ntarget = 1\ntransport = []\n", ":3:13: transport: an empty list is not allowed"),
        ("[service.shop]\ntarget = 1\nhost-heder = \"rewrite\"\n", "did you mean host-header?"),
        (
            "[service.shop]\ntarget = 1\n\nname = \"a..b\"\n",
            ":4:1: service shop: invalid value 'a..b' for '--name",
        ),
        (
            "[service.a]\ntarget = 1\nname = \"x\"\n[service.b]\ntarget = 2\nname = [\"y\", \"x\"]\n",
            ":4:10: the services a and b both have the name x",
        ),
        ("[service.a]\ntarget = 1\n[service.a", "check.toml"),
    ] {
        let found = format!("check.toml{}", check(&site, text));
        assert!(found.contains(fault) && !found.contains('\n'), "{text}: {found}");
    }
    let schema = site.run(ptth().args(["config", "schema"]));
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["required"][0], "service");
}
