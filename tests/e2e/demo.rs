//! `ptth demo`: the first command of a new user.

use std::process::Command;

use crate::process::Process;
use crate::site::ptth;

#[test]
fn the_demo_prints_a_url_and_a_working_curl_command() {
    let mut demo = Process::start(ptth().arg("demo"));
    let (url, line) = (demo.line(0), demo.line(1));
    let port = url.strip_prefix("https://hello.ptth.localhost:").and_then(|rest| rest.strip_suffix('/'));
    assert!(port.is_some_and(|port| port.parse::<u16>().is_ok()), "{url}");
    assert!(line.starts_with("curl ") && line.ends_with(&url), "{line}");
    let output = Command::new("sh").arg("-c").arg(&line).env("NO_PROXY", "*").output().unwrap();
    let body = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(body.starts_with("GET / HTTP/1.1\n") && body.contains("\nhost: hello.ptth.localhost"), "{body}");
    // SIGHUP, as after its terminal was closed.
    demo.signal("HUP");
    demo.logs("SIGHUP");
    demo.signal("INT");
    assert_eq!(demo.ends(), 0, "{demo}");
    let ca = line.split_whitespace().nth(2).unwrap();
    assert!(!std::path::Path::new(ca).exists(), "{ca} was left behind");
}
