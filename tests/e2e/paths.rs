//! Several targets under one name, and the owner's pages for the errors of the agent.

use crate::origin::Nginx;
use crate::site::{Agent, Site, free_port};

#[test]
fn the_longest_prefix_chooses_the_target() {
    let site = Site::new();
    let nginx = Nginx::start(&site);
    site.write("files/a.txt", "a file\n");
    site.write("files/sub/index.html", "below\n");
    let relay = site.relay();
    let start =
        |flags: &[&str]| Agent::start(site.agent_command(&relay.url(), nginx.port.to_string()).args(flags));
    let files = format!("/files/all={}", site.at("files").display());
    let dead = format!("/files={}", free_port());
    let agent = start(&["--path", &dead, "--path", &files, "--strip-prefix"]);
    agent.process.line(3);
    let lines = agent.process.out.all();
    assert!(lines[2].starts_with("target /files: nothing listens"), "{lines:?}");
    assert!(lines[3].starts_with("target /files/all: the files of"), "{lines:?}");
    let get = |path: &str| site.curl(["--path-as-is", &format!("{}{path}", agent.url)]);
    assert_eq!(get("seen").text(), "GET /seen shop.ptth.localhost https  \n");
    assert_eq!(get("files/all/a.txt").text(), "a file\n");
    assert_eq!(get("files/%61ll/a.txt").text(), "a file\n");
    assert_eq!(get("files/all/sub").field("location"), "/files/all/sub/");
    assert_eq!(get("files/alles").status, 502);
    for dots in ["files/all/../seen", "files/all/%2e%2e/seen", "files/all/..%2fseen", "files/all/..;/seen"] {
        let got = get(dots);
        assert!(got.status == 400 && got.text().contains("dot segment"), "{dots}: {got:?}");
    }
    drop(agent);

    let agent = start(&["--path", &format!("/seen={}", nginx.port)]);
    let seen = site.curl([format!("{}seen?x", agent.url)]);
    assert_eq!(seen.text(), "GET /seen?x shop.ptth.localhost https  \n", "without the flag the prefix stays");
}

#[test]
fn the_owners_page_replaces_an_error_of_the_agent_for_browsers() {
    let site = Site::new();
    site.write("pages/502.html", "<p>we are moving\n");
    let relay = site.relay();
    let pages = site.at("pages").display().to_string();
    let dead = free_port().to_string();
    let mut command = site.agent_command(&relay.url(), dead);
    let agent = Agent::start(command.args(["--error-page", &pages, "--response-header", "X-Edited: yes"]));
    let page = site.curl(["--header", "Accept: text/html", &agent.url]);
    assert_eq!((page.status, &*page.text()), (502, "<p>we are moving\n"));
    let fields = ["content-type", "cache-control", "proxy-status", "content-security-policy", "x-edited"];
    assert_eq!(
        fields.map(|name| page.field(name)),
        ["text/html; charset=utf-8", "no-store", "ptth-agent; error=connection_refused", "", "yes"]
    );
    let problem = site.curl([&agent.url]);
    assert_eq!((problem.status, problem.field("content-type")), (502, "application/problem+json"));
    drop(agent);

    // An error of the target itself is its own.
    let nginx = Nginx::start(&site);
    let mut command = site.agent_command(&relay.url(), nginx.port.to_string());
    let agent = Agent::start(command.args(["--error-page", &pages]));
    let own = site.curl(["--header", "Accept: text/html", &format!("{}broken", agent.url)]);
    assert_eq!((own.status, own.text().contains("moving")), (502, false));
}

#[test]
fn bad_paths_and_pages_are_one_clear_line() {
    let site = Site::new();
    site.write("empty/x", "");
    let empty = site.at("empty").display().to_string();
    for (flags, expected) in [
        (&["--path", "3001"][..], "write PREFIX=TARGET"),
        (&["--path", "api=3001"], "write a path such as /api"),
        (&["--path", "/a/../b=3001"], "write a path such as /api"),
        (&["--path", "/api="], "write a port"),
        (&["--path", "/=3001"], "two targets have the path /"),
        (&["--path", "/api=1", "--path", "/api/=2"], "two targets have the path /api"),
        (&["--strip-prefix"], "--path"),
        (&["--error-page", &empty], "has no 502.html"),
        (&["--error-page", "/nonexistent"], "has no 502.html"),
    ] {
        let output = site.agent_command("https://localhost:1", "3000").args(flags).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.contains(expected) && text.lines().count() == 1, "{flags:?}: {text}");
    }
}
