//! What strangers and agents can write into a log, and what must never be in one.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use crate::process::Process;
use crate::site::{Agent, Relay, Site, poll};

/// The longest line of a log, in bytes.
const LONGEST: usize = 8 << 10;

/// Sends bytes, and reads until nothing more comes for a while.
fn send(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    let _ = stream.write_all(bytes);
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    String::from_utf8_lossy(&got).into_owned()
}

/// Every line is one line, short, and of visible letters.
fn is_clean(process: &Process, secrets: &[&str]) {
    for line in process.err.all().iter().chain(&process.out.all()) {
        assert!(line.len() <= LONGEST, "{} bytes: {:?}", line.len(), &line[..200]);
        let foul = |c: char| c.is_control() && c != '\t' || ['\u{2028}', '\u{2029}'].contains(&c);
        assert!(!line.contains(foul), "{line:?}");
        assert!(!line.starts_with("forged"), "{line:?}");
        for secret in secrets {
            assert!(!line.contains(secret), "a secret is in the log: {line}");
        }
    }
}

/// One text in each place that a stranger or an agent writes to.
fn foul_requests(foul: &str, token: &str) -> Vec<String> {
    vec![
        format!("GET /{foul} HTTP/1.1\r\nHost: shop.ptth.localhost\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {foul}\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: shop.ptth.localhost\r\nUser-Agent: {foul}\r\nReferer: {foul}\r\n\r\n"
        ),
        format!("POST /reversehttp?name={foul} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"),
        format!(
            "POST /reversehttp HTTP/1.1\r\nHost: localhost\r\nPTTH-Instance: {foul}\r\nAuthorization: Bearer {foul}\r\nContent-Length: 0\r\n\r\n"
        ),
        format!(
            "POST /x?name={foul} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: PTTH/1.0\r\nAuthorization: Bearer {token}\r\n\r\n"
        ),
        format!(
            "GET /.well-known/ptth/{foul}/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: ptth\r\nAuthorization: Bearer {token}\r\n\r\n"
        ),
        format!("{foul} / HTTP/1.1\r\n\r\n"),
    ]
}

/// A23, CWE-117.
#[test]
fn a_log_event_is_one_line_without_secrets() {
    for format in ["text", "json"] {
        let site = Site::new();
        site.write("files/index.html", "here");
        let loud = |command: &mut Command| {
            command.args(["--verbose", "--verbose", "--log-format", format]);
        };
        let mut command = site.relay_command("http://127.0.0.1:0");
        loud(&mut command);
        let relay = Relay::start(&mut command);
        let url = format!("http://localhost:{}", relay.port);
        let mut command = site.agent_command(&url, site.at("files"));
        loud(&mut command);
        let agent = Agent::start(command.args(["--transport", "reversehttp"]));
        let token = std::fs::read_to_string(site.at("token")).unwrap().trim().to_owned();
        let registration = format!("name=shop&token={token}");
        let answer = send(
            relay.port,
            format!(
                "POST /reversehttp HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{registration}",
                registration.len()
            )
            .as_bytes(),
        );
        let link = answer.lines().find(|line| line.starts_with("Link: ")).unwrap();
        let capability = link.split_once('>').unwrap().0.rsplit('/').next().unwrap().to_owned();
        send(
            relay.port,
            format!("GET /reversehttp/request/{capability}x HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes(),
        );
        let long = "y".repeat(60_000);
        for foul in [
            "\x1b[31mred\x1b]0;title\x07",
            "a\u{2028}forged\u{2029}",
            "\u{9b}31m",
            "%0d%0aforged",
            "\u{202e}desrever",
            "a\rforged",
            "a\nforged",
            "\0",
            &long,
        ] {
            for text in foul_requests(foul, &token) {
                let last = text.replacen(
                    "Host: ",
                    "Connection: close\r\nHost: ",
                    usize::from(!text.contains("Upgrade")),
                );
                send(relay.port, last.as_bytes());
            }
        }
        // Behind all of them.
        let wrong = "POST /reversehttp?name=shop&token=ptth_0_forged%0Aforged%1B HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n\r\n";
        send(relay.port, wrong.as_bytes());
        assert_eq!(site.curl([&agent.url]).status, 200);
        poll(|| relay.process.err.all().iter().any(|line| line.contains("agent refused")).then_some(()))
            .unwrap_or_else(|| panic!("no refusal was logged: {}", relay.process));
        let secret = token.rsplit('_').next().unwrap();
        is_clean(&relay.process, &[&token, secret, &capability, "ptth_0_"]);
        is_clean(&agent.process, &[&token, secret, &capability, "ptth_0_"]);
    }
}

/// chisel CVE-2024-43798, Caddy CVE-2026-27586: what was to be checked and cannot be read is no open door.
#[test]
fn a_relay_that_cannot_read_its_tokens_does_not_start() {
    let site = Site::new();
    let state = site.at("state");
    let file = std::fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_file())
        .unwrap();
    let does_not_start = |site: &Site| {
        let mut process = Process::start(&mut site.relay_command("http://127.0.0.1:0"));
        let code = process.ends();
        assert!(code != 0 && process.out.all().is_empty(), "the relay started: {code} {process}");
    };
    std::fs::write(&file, "no database").unwrap();
    does_not_start(&site);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    does_not_start(&site);
}

/// The same for what an agent is given: each way to say a token is in force, and a wrong one is refused.
#[test]
fn every_token_source_is_checked() {
    let site = Site::new();
    site.write("files/index.html", "here");
    let relay = site.relay_at("http://127.0.0.1:0");
    let url = format!("http://localhost:{}", relay.port);
    let token = std::fs::read_to_string(site.at("token")).unwrap();
    for (given, code) in [(token.trim(), None), ("ptth_000000000000_wrong", Some(3)), ("", Some(2))] {
        site.secret("given", given);
        let by_file = |command: &mut Command| {
            command.arg("--token-file").arg(site.at("given"));
        };
        let by_environment = |command: &mut Command| {
            command.env("PTTH_TOKEN", given);
        };
        for way in [&by_file as &dyn Fn(&mut Command), &by_environment] {
            let mut command = crate::site::ptth();
            command.arg("agent").arg(site.at("files")).args(["--relay", &url, "--name", "shop"]);
            way(&mut command);
            let mut agent = Process::start(&mut command);
            match code {
                Some(code) => assert_eq!(agent.ends(), code, "{agent}"),
                None => assert!(agent.line(0).starts_with("http://shop."), "{agent}"),
            }
            assert!(given.is_empty() || !format!("{agent}{}", relay.process).contains(given), "{agent}");
        }
    }
    let mut agent = Process::start(
        crate::site::ptth().arg("agent").arg(site.at("files")).args(["--relay", &url, "--name", "shop"]),
    );
    assert_eq!(agent.ends(), 3, "{agent}");
}
