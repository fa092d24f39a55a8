//! `ptth doctor`, on a way that works and on one that ends at each of its steps.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use crate::inspection::inspector;
use crate::process::Outcome;
use crate::site::{LOGIN, Site, WITH_PASSWORD, free_port, squid};
use crate::socks::socks;

/// Runs it. The steps with their verdicts, such as `PASS name`, hold each line to its form.
fn examined(doctor: &mut Command) -> (Outcome, Vec<String>) {
    let outcome = Outcome::of(doctor);
    let steps = outcome.out.lines().filter(|line| !line.starts_with("all steps passed"));
    let steps = steps.map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        assert!(words.len() > 4 && words[2].parse::<u64>().is_ok() && words[3] == "ms", "{line}");
        format!("{} {}", words[0], words[1])
    });
    let steps = steps.collect();
    (outcome, steps)
}

/// Asserts that it passes what comes before `step`, fails there, and says what to do.
#[track_caller]
fn fails_at(doctor: &mut Command, step: &str, code: i32, wanted: &[&str]) {
    let (outcome, steps) = examined(doctor);
    let report = format!("{}{}", outcome.out, outcome.err);
    let order = ["name", "tcp", "proxy", "tls", "upgrade", "target"];
    let place = order.iter().position(|s| *s == step).unwrap();
    let before = order[..place].iter().map(|s| format!("PASS {s}"));
    assert_eq!(steps, before.chain([format!("FAIL {step}")]).collect::<Vec<_>>(), "{report}");
    assert_eq!(outcome.code, code, "{report}");
    assert_eq!(outcome.err.lines().count(), 1, "stderr is not exactly one line: {report}");
    for text in wanted {
        assert!(report.contains(text), "{text}: {report}");
    }
}

#[test]
fn every_step_passes() {
    let site = Site::new();
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = service.local_addr().unwrap().to_string();
    let (outcome, steps) = examined(site.command("doctor", &site.near()).arg(&target));
    assert_eq!((outcome.code, &*outcome.err), (0, ""), "{}", outcome.out);
    assert_eq!(
        steps,
        ["PASS name", "PASS tcp", "PASS proxy", "PASS tls", "PASS upgrade", "PASS target"],
        "{}",
        outcome.out
    );
    let url = format!("https://shop.relay.test:{}/", site.port);
    for text in ["TLS 1.3", &url, &target, "all steps passed"] {
        assert!(outcome.out.contains(text), "{text}: {}", outcome.out);
    }
}

#[test]
fn every_step_passes_behind_a_proxy() {
    let (site, squid, socks) = (Site::new(), squid(WITH_PASSWORD), socks(None, 0));
    for proxy in
        [format!("http://{LOGIN}@127.0.0.1:{}", squid.port), format!("socks5h://127.0.0.1:{}", socks.port)]
    {
        let (outcome, steps) = examined(site.command("doctor", &site.far()).env("HTTPS_PROXY", proxy));
        assert_eq!(outcome.code, 0, "{} {}", outcome.out, outcome.err);
        assert_eq!(steps.len(), 5);
        assert!(outcome.out.contains("the proxy resolves relay.test itself"), "{}", outcome.out);
        assert!(!outcome.out.contains("p%40ss") && !outcome.out.contains("p@ss"), "{}", outcome.out);
    }
}

/// Also not one that wants its name for itself alone.
#[test]
fn a_running_agent_is_not_disturbed() {
    let site = Site::new();
    let agent = site.serves(site.agent(&site.near()).arg("--exclusive"));
    for _ in 0..5 {
        let (outcome, _) = examined(&mut site.command("doctor", &site.near()));
        assert_eq!(outcome.code, 0, "{} {}", outcome.out, outcome.err);
    }
    // The relay tells of every connection that it gives requests to, and of the end of each.
    assert_eq!(site.relay.count("agent connected"), 1, "{}", site.relay);
    assert_eq!(site.relay.count("agent connection ended"), 0, "{}", site.relay);
    assert_eq!(agent.count("disconnected"), 0, "{agent}");
}

#[test]
fn an_unresolvable_name_fails_the_name_step() {
    let site = Site::new();
    let doctor = &mut site.command("doctor", "https://relay.invalid");
    fails_at(doctor, "name", 1, &["relay.invalid", "check the host in --relay"]);
    let doctor = &mut site.command("doctor", &site.far());
    fails_at(
        doctor.args(["--proxy", "http://proxy.invalid:3128"]),
        "name",
        1,
        &["proxy.invalid", "check --proxy"],
    );
}

#[test]
fn a_closed_port_fails_the_tcp_step() {
    let site = Site::new();
    let gone = free_port();
    let doctor = &mut site.command("doctor", &format!("https://localhost:{gone}"));
    fails_at(doctor, "tcp", 1, &["check that the relay runs"]);
    let doctor = &mut site.command("doctor", &site.far());
    let proxy = format!("socks5h://127.0.0.1:{gone}");
    fails_at(doctor.args(["--proxy", &proxy]), "tcp", 1, &["cannot connect to the proxy", "check --proxy"]);
}

#[test]
fn a_refusal_by_the_proxy_fails_the_proxy_step() {
    let (site, wary, strict) = (Site::new(), squid(WITH_PASSWORD), squid("http_access deny all"));
    let doctor = |port| {
        let mut doctor = site.command("doctor", &site.far());
        doctor.args(["--proxy", &format!("http://127.0.0.1:{port}")]);
        doctor
    };
    fails_at(&mut doctor(wary.port), "proxy", 1, &["wants a password (407)", "USER:PASSWORD@127.0.0.1"]);
    fails_at(&mut doctor(strict.port), "proxy", 1, &["refused CONNECT", "(403)", "have relay.test and port"]);
    fails_at(&mut doctor(site.port), "proxy", 1, &["check its port"]);
}

#[test]
fn an_untrusted_certificate_or_a_plain_port_fails_the_tls_step() {
    let site = Site::new();
    let inspector = inspector(&site, "localhost");
    let doctor = &mut site.command("doctor", &format!("https://localhost:{inspector}"));
    fails_at(doctor, "tls", 1, &["\"Corp Inspection CA\"", "pass its root with --ca FILE"]);
    let mut doctor = crate::site::ptth();
    doctor.args(["doctor", "--relay", &site.near(), "--token-file"]).arg(site.at("token"));
    fails_at(&mut doctor, "tls", 1, &["\"ptth development CA ", "pass --ca FILE with the ca.pem"]);
    let plain = Site::with("http");
    fails_at(&mut plain.command("doctor", &plain.near()), "tls", 1, &["is the relay's TLS port"]);
}

#[test]
fn a_refusal_by_the_relay_ends_with_code_3() {
    let site = Site::new();
    std::fs::write(site.at("token"), "ptth_0123456789ab_nonsense\n").unwrap();
    fails_at(&mut site.command("doctor", &site.near()), "upgrade", 3, &["(401)", "ptth token new"]);
    let site = Site::new();
    let doctor = &mut site.command("doctor", &site.near());
    fails_at(doctor.args(["--name", "bank"]), "upgrade", 3, &["\"bank\"", "(403)", "try another --name"]);
}

#[test]
fn a_server_that_is_no_relay_fails_the_upgrade_and_poll_steps() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            if stream.read(&mut head).is_ok_and(|length| length > 0) {
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    let site = Site::new();
    let (outcome, steps) = examined(&mut site.command("doctor", &format!("http://localhost:{port}")));
    assert_eq!(steps[4..], ["FAIL upgrade", "FAIL poll"], "{}", outcome.out);
    assert!(outcome.out.contains("404") && outcome.code == 1, "{}", outcome.out);
    assert!(outcome.err.contains("check that --relay is the address of a ptth relay"), "{}", outcome.err);
}

#[test]
fn an_unreachable_target_fails_the_target_step() {
    let site = Site::new();
    let target = free_port().to_string();
    let doctor = &mut site.command("doctor", &site.near());
    fails_at(doctor.arg(&target), "target", 1, &["nothing listens on port", "start the service"]);
}
