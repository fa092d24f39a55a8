//! What an agent makes of each kind of box, and what `ptth doctor` says of it.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::boxes::{IF_UPGRADE, UPGRADE_PASSES, haproxy, holding, nginx};
use crate::holder::Buffering;
use crate::long::{is_long, limit};
use crate::process::{Outcome, Process};
use crate::service::{fetch, service, visit};
use crate::site::{LOGIN, Site, WITH_PASSWORD, squid, tinyproxy};

/// Starts an agent of `service` with what a user must give and nothing else; it stands on this rung.
#[track_caller]
fn stands_on(agent: &mut Command, service: u16, rung: &str) -> Process {
    let agent = Process::start(agent.arg(service.to_string()));
    let line = agent.logs(" connected ");
    assert!(line.contains(&format!("rung=\"{rung}\"")), "{agent}");
    agent
}

/// Asserts what the doctor reports of `step` on this way, and how it ends.
#[track_caller]
fn doctor_reports(doctor: &mut Command, step: &str, wanted: &[&str], code: i32) {
    let outcome = Outcome::of(doctor);
    let line = outcome.out.lines().find(|line| line.split_whitespace().nth(1) == Some(step));
    let line = line.unwrap_or_else(|| panic!("no step {step} was printed: {}{}", outcome.out, outcome.err));
    for text in wanted {
        assert!(line.contains(text), "{text}: {}{}", outcome.out, outcome.err);
    }
    assert_eq!(outcome.code, code, "{}{}", outcome.out, outcome.err);
    if code == 1 {
        assert!(outcome.err.contains("an agent serves from here by long poll"), "{}", outcome.err);
    }
}

/// Asserts that Upgrade does not get through there as `upgrade` says, that the agent serves all the same, and that
/// the doctor reports `flow` of its polls.
#[track_caller]
fn falls_back_to_poll(site: &Site, url: &str, upgrade: &str, flow: &str) -> Process {
    let agent = stands_on(&mut site.command("agent", url), service(), "reversehttp");
    assert_eq!(fetch(site.port, "/echo/hello").unwrap(), (200, "hello".to_owned()), "{agent}");
    let upload = visit(site.port, "POST /up\nConnection: close\nContent-Length: 300000\n", &[b'x'; 300_000]);
    assert_eq!(upload.unwrap(), (200, "300000".to_owned()), "{agent}");
    let large = fetch(site.port, "/large/900000").unwrap();
    assert_eq!((large.0, large.1.len()), (200, 900_000), "{agent}");
    doctor_reports(&mut site.command("doctor", url), "upgrade", &["FAIL", upgrade], 1);
    doctor_reports(&mut site.command("doctor", url), "poll", &["PASS", flow], 1);
    agent
}

const FREE: &str = "bodies stream both ways";
const UP_HELD: &str = "holds bodies to the relay back";
const DOWN_HELD: &str = "holds bodies from the relay back";
const BOTH_HELD: &str = "holds bodies back in both directions";

#[test]
fn an_agent_polls_behind_nginx_as_shipped() {
    let site = Site::with("http");
    let nginx = nginx(&site, "");
    let _agent = falls_back_to_poll(&site, &nginx.url(), "was 426", BOTH_HELD);
    // Its limit of 1 MiB is for what agents send, too: their visitors are told.
    let (status, body) = fetch(site.port, "/large/2000000").unwrap();
    assert!(status == 502 && body.contains("answer-lost") && body.contains("(413"), "{status} {body}");
}

#[test]
fn an_agent_polls_behind_nginx_that_only_drops_upgrade() {
    let site = Site::with("http");
    let rules = "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off;
                 proxy_request_buffering off; client_max_body_size 0;";
    let nginx = nginx(&site, rules);
    falls_back_to_poll(&site, &nginx.url(), "was 426", FREE);
}

#[test]
fn an_agent_polls_when_an_upgrade_is_answered_200_or_400() {
    let site = Site::with("http");
    let answering = nginx(&site, "if ($http_upgrade) { return 200 hello; }");
    falls_back_to_poll(&site, &answering.url(), "was 200", BOTH_HELD);
    let site = Site::with("http");
    let denying = haproxy(&site, "30s", &format!("http-request deny deny_status 400 {IF_UPGRADE}"));
    falls_back_to_poll(&site, &denying.url(), "was 400", FREE);
}

#[test]
fn an_agent_polls_when_an_upgrade_closes_the_connection() {
    let site = Site::with("http");
    let closing = nginx(&site, "if ($http_upgrade) { return 444; }");
    falls_back_to_poll(&site, &closing.url(), "the Upgrade failed", BOTH_HELD);
    let site = Site::with("http");
    let rejecting = haproxy(&site, "30s", &format!("http-request reject {IF_UPGRADE}"));
    falls_back_to_poll(&site, &rejecting.url(), "the Upgrade failed", FREE);
}

#[test]
fn an_agent_polls_when_an_upgrade_is_dropped_silently() {
    let site = Site::with("http");
    let silent = haproxy(&site, "30s", &format!("http-request silent-drop {IF_UPGRADE}"));
    falls_back_to_poll(&site, &silent.url(), "the Upgrade failed", FREE);
}

#[test]
fn an_agent_polls_behind_haproxy_that_buffers_requests() {
    let site = Site::with("http");
    let buffering = haproxy(&site, "30s", "http-request del-header Upgrade\n option http-buffer-request");
    falls_back_to_poll(&site, &buffering.url(), "was 426", UP_HELD);
}

/// An agent behind a box that holds these bodies: what is complete in time crosses, up to many times what is kept in
/// memory, and what is not is told.
#[track_caller]
fn held(up: bool, down: bool, flow: &str) {
    let site = Site::with("http");
    let agent = falls_back_to_poll(&site, &holding(&site, Buffering { up, down }), "was 426", flow);
    let large = fetch(site.port, "/large/12000000").unwrap();
    assert_eq!((large.0, large.1.len()), (200, 12_000_000));
    let body = vec![b'x'; 12_000_000];
    let upload = visit(site.port, "POST /up\nConnection: close\nContent-Length: 12000000\n", &body).unwrap();
    assert_eq!(upload, (200, "12000000".to_owned()));
    if !up && !down {
        return;
    }
    agent.logs(flow);
    let ask = "GET /events\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n";
    let (status, body) = visit(site.port, &format!("{ask}Sec-WebSocket-Key: x\n"), b"").unwrap();
    assert!(status == 501 && body.contains("no-upgrade"), "{status} {body}");
    if up {
        let since = Instant::now();
        let (status, body) = fetch(site.port, "/events").unwrap();
        assert!(status == 502 && body.contains("answer-held"), "{status} {body}");
        assert!(body.contains("holds bodies back until they are complete"), "{body}");
        assert!(
            since.elapsed() < limit(2 * ptth::internals::defaults::WHOLE_EVENTS),
            "{:?}",
            since.elapsed()
        );
    }
}

#[test]
fn an_agent_serves_through_a_box_that_holds_no_bodies() {
    held(false, false, FREE);
}

#[test]
fn an_agent_serves_through_a_box_that_holds_bodies_to_the_relay() {
    held(true, false, UP_HELD);
}

#[test]
fn an_agent_serves_through_a_box_that_holds_bodies_from_the_relay() {
    held(false, true, DOWN_HELD);
}

#[test]
fn an_agent_serves_through_a_box_that_holds_all_bodies() {
    held(true, true, BOTH_HELD);
}

/// Polls only: what nobody cuts in the test's time is tried with `--long`.
#[test]
fn an_agent_serves_where_polls_are_cut_after_three_seconds() {
    cut_polls("http-request del-header Upgrade", "reversehttp", FREE);
}

/// The last rung, below a gateway that lets one URL through.
#[test]
fn an_agent_serves_by_comet_where_one_url_passes_and_polls_are_cut() {
    let rules = "http-request del-header Upgrade\n http-request return status 404 if { path_beg /reversehttp } !{ path_end /_comet }";
    cut_polls(rules, "comet", "bodies do not stream");
}

fn cut_polls(rules: &str, rung: &str, flow: &str) {
    let site = Site::with("http");
    let cutting = haproxy(&site, "3s", rules);
    let agent = stands_on(&mut site.command("agent", &cutting.url()), service(), rung);
    agent.logs("polls are cut on the way");
    let until = Instant::now() + Duration::from_secs(12);
    let mut number = 0;
    while Instant::now() < until {
        number += 1;
        let wanted = number.to_string();
        assert_eq!(fetch(site.port, &format!("/echo/{wanted}")).unwrap(), (200, wanted), "{agent}");
        // Some find a poll that is about to be cut.
        std::thread::sleep(Duration::from_millis(137));
    }
    assert_eq!((agent.count("disconnected"), agent.count(" connected ")), (0, 1), "{agent}");
    doctor_reports(&mut site.command("doctor", &cutting.url()), "poll", &["PASS", rung, flow], 1);
}

#[test]
fn sessions_survive_an_idle_timeout_of_twenty_seconds() {
    if !is_long() {
        return;
    }
    let site = Site::with("http");
    let passing = haproxy(&site, "20s", "");
    let agent = stands_on(&mut site.command("agent", &passing.url()), service(), "ptth10");
    std::thread::sleep(Duration::from_secs(50));
    assert_eq!(fetch(site.port, "/echo/still").unwrap(), (200, "still".to_owned()), "{agent}");
    assert_eq!((agent.count("disconnected"), agent.count(" connected ")), (0, 1), "{agent}");
    drop((agent, passing));

    let site = Site::with("http");
    let polls = haproxy(&site, "20s", "http-request del-header Upgrade");
    let agent = stands_on(&mut site.command("agent", &polls.url()), service(), "reversehttp");
    agent.logs("polls are cut on the way");
    std::thread::sleep(Duration::from_secs(30));
    assert_eq!(fetch(site.port, "/echo/still").unwrap(), (200, "still".to_owned()), "{agent}");
    assert_eq!((agent.count("disconnected"), agent.count("polls are cut")), (0, 1), "{agent}");
}

#[test]
fn an_agent_uses_ptth10_where_upgrades_pass_or_a_proxy_connects() {
    let site = Site::with("http");
    let passing = nginx(&site, UPGRADE_PASSES);
    stands_on(&mut site.command("agent", &passing.url()), service(), "ptth10");
    doctor_reports(&mut site.command("doctor", &passing.url()), "upgrade", &["PASS", "ptth10 over h2"], 0);

    let (site, squid, tinyproxy) = (Site::new(), squid(WITH_PASSWORD), tinyproxy(""));
    let squid = format!("http://{LOGIN}@127.0.0.1:{}", squid.port);
    let agent = stands_on(site.command("agent", &site.far()).env("HTTPS_PROXY", &squid), service(), "ptth10");
    drop(agent);
    let doctor = &mut site.command("doctor", &site.far());
    doctor_reports(doctor.env("HTTPS_PROXY", &squid), "upgrade", &["PASS", "ptth10 over h2"], 0);
    let proxy = format!("http://127.0.0.1:{}", tinyproxy.port);
    stands_on(site.command("agent", &site.near()).args(["--proxy", &proxy]), service(), "ptth10");
}
