//! Fields that an agent sets and removes on the way to the target and back.

use crate::origin::Nginx;
use crate::site::{Agent, Site};

#[test]
fn fields_are_edited_on_the_way_there_and_back() {
    let site = Site::new();
    let nginx = Nginx::start(&site);
    let relay = site.relay();
    let start =
        |flags: &[&str]| Agent::start(site.agent_command(&relay.url(), nginx.port.to_string()).args(flags));
    site.secret("secrets", "X-Mine: secret\n\nX-Forwarded-For: 192.0.2.7\n");
    let file = format!("@{}", site.at("secrets").display());
    let agent = start(&[
        "--no-forwarded",
        "--request-header",
        &file,
        "--response-header=-X-Origin",
        "--response-header",
        "X-Frame-Options: DENY",
        "--response-header=Content-Type: text/x-edited",
    ]);
    let seen = site.curl(["--header", "X-Mine: visitor", &format!("{}seen", agent.url)]);
    assert_eq!(seen.text(), "GET /seen shop.ptth.localhost  secret \n");
    let fields = ["x-origin", "x-frame-options", "content-type"].map(|name| seen.field(name));
    assert_eq!(fields, ["", "DENY", "text/x-edited"]);
    // The edits come after the forwarding fields are removed, so that they may set these fields.
    assert_eq!(site.curl([format!("{}sender", agent.url)]).text(), "192.0.2.7 |  | ");
    drop(agent);

    let agent = start(&["--request-header=-X-Mine"]);
    let seen = site.curl(["--header", "X-Mine: visitor", &format!("{}seen", agent.url)]);
    assert_eq!(
        (seen.text().as_str(), seen.field("x-origin")),
        ("GET /seen shop.ptth.localhost https  \n", "nginx")
    );
}

#[test]
fn edits_that_would_break_messages_are_refused_at_the_start() {
    let site = Site::new();
    let exposed = site.write("exposed", "X-Key: secret\n");
    std::fs::set_permissions(&exposed, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let exposed = format!("@{}", exposed.display());
    for (edit, expected) in [
        ("Host: a.test", "host is set with --host-header"),
        ("-Connection", "connection cannot be edited"),
        ("Transfer-Encoding: chunked", "transfer-encoding cannot be edited"),
        ("Content-Length: 1", "content-length cannot be edited"),
        ("PTTH-Status: 200", "ptth-status cannot be edited"),
        (":path: /x", "write 'NAME: VALUE'"),
        ("-:path", "\":path\" is not the name of a field"),
        ("X-Key", "write 'NAME: VALUE'"),
        ("X-Key: secret\u{7f}", "the value for x-key cannot be"),
        (&exposed, "may be written by others"),
        ("@/nonexistent", "/nonexistent"),
    ] {
        for flag in ["--request-header", "--response-header"] {
            let mut command = site.agent_command("https://localhost:1", "3000");
            let output = command.args([flag, edit]).output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{edit}: {text}");
            assert!(text.contains(expected) && text.lines().count() == 1, "{edit}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
