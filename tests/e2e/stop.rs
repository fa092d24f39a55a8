//! SIGTERM: the requests in flight finish, and the process exits with 0.

use std::time::Duration;

use crate::long::limit;
use crate::origin::GatedService;
use crate::process::Process;
use crate::site::{Agent, Answer, Relay, Site, curl, poll};

struct Running {
    site: Site,
    service: GatedService,
    relay: Relay,
    agent: Agent,
}

fn start() -> Running {
    let site = Site::new();
    let service = GatedService::start();
    let relay = site.relay();
    let agent = site.agent(&relay, service.port.to_string());
    Running { site, service, relay, agent }
}

/// Runs `meanwhile` while a request over each version of HTTP is in flight, and then lets the requests finish.
fn in_flight(site: &Site, service: &GatedService, url: &str, meanwhile: impl FnOnce()) -> Vec<Answer> {
    std::thread::scope(|scope| {
        let visitors = ["--http1.1", "--http2"].map(|flag| {
            let url = format!("{url}wait/patience");
            scope.spawn(move || site.curl([flag, &url]))
        });
        service.wait_for_requests(2);
        meanwhile();
        service.open_gate();
        visitors.into_iter().map(|visitor| visitor.join().unwrap()).collect()
    })
}

#[test]
fn a_relay_finishes_requests_in_flight_after_sigterm() {
    let Running { site, service, mut relay, mut agent } = start();
    let mut late = None;
    let answers = in_flight(&site, &service, &agent.url, || {
        relay.process.signal("TERM");
        relay.process.logs("stopping");
        // Neither a visitor nor an agent can connect now.
        let refused = poll(|| {
            let done = curl().arg("--cacert").arg(site.ca()).arg(&agent.url).output().unwrap();
            (done.status.code() == Some(7)).then_some(())
        });
        assert!(refused.is_some(), "the relay still accepts visitors; {}", relay.process);
        let second = Process::start(&mut site.agent_command(&relay.url(), service.port.to_string()));
        second.logs("cannot reach the relay");
        late = Some(second);
    });
    for answer in answers {
        assert_eq!((answer.status, &*answer.text()), (200, "patience"), "{answer:?}");
    }
    assert_eq!(relay.process.ends(), 0, "{}", relay.process);
    assert!(!relay.process.err.all().iter().any(|line| line.contains("were cut")), "{}", relay.process);
    assert!(late.is_some_and(|mut second| second.runs()), "the agent ended although the relay restarts");
    assert!(agent.process.runs(), "{}", agent.process);
}

#[test]
fn an_agent_finishes_requests_in_flight_after_sigterm() {
    let Running { site, service, relay, mut agent } = start();
    let answers = in_flight(&site, &service, &agent.url, || {
        agent.process.signal("TERM");
        agent.process.logs("stopping");
        // The relay sends this agent no new request, and no other agent connects.
        assert_eq!(site.curl([format!("{}wait/late", agent.url)]).status, 503);
    });
    for answer in answers {
        assert_eq!((answer.status, &*answer.text()), (200, "patience"), "{answer:?}");
    }
    assert_eq!(agent.process.ends(), 0, "{}", agent.process);
    relay.process.logs(" agent connection ended ");
}

#[test]
fn sighup_ends_neither_a_relay_nor_an_agent() {
    let Running { site, service, mut relay, mut agent } = start();
    service.open_gate();
    for _ in 0..2 {
        for process in [&relay.process, &agent.process] {
            process.signal("HUP");
        }
        relay.process.logs("SIGHUP");
        agent.process.logs("SIGHUP");
        assert_eq!(site.curl([format!("{}wait/on", agent.url)]).text(), "on");
    }
    for process in [&mut agent.process, &mut relay.process] {
        process.signal("TERM");
        assert_eq!(process.ends(), 0, "{process}");
    }
}

#[test]
fn an_idle_process_stops_at_once() {
    for signal in ["TERM", "INT"] {
        let Running { mut relay, mut agent, service: _service, site: _site } = start();
        let started = std::time::Instant::now();
        agent.process.signal(signal);
        assert_eq!(agent.process.ends(), 0, "{}", agent.process);
        relay.process.signal(signal);
        assert_eq!(relay.process.ends(), 0, "{}", relay.process);
        assert!(started.elapsed() < limit(Duration::from_secs(3)), "{:?}", started.elapsed());
    }
}

#[test]
fn a_relay_logs_the_requests_cut_at_the_end_of_the_grace_period() {
    let (site, service) = (Site::new(), GatedService::start());
    let mut relay = Relay::start(site.relay_command("127.0.0.1:0").args(["--grace-seconds", "1"]));
    let agent = site.agent(&relay, service.port.to_string());
    std::thread::scope(|scope| {
        let url = format!("{}wait/patience", agent.url);
        scope.spawn(move || curl().arg("--insecure").arg(&url).output().unwrap());
        service.wait_for_requests(1);
        relay.process.signal("TERM");
        assert_eq!(relay.process.ends(), 0, "{}", relay.process);
    });
    let line = relay.process.logs("requests were cut at the end of the grace period");
    assert!(line.contains("requests=1") && line.contains("routes=shop.ptth.localhost"), "{line}");
    let connected = relay.process.logs("agent connected");
    let id = connected.split_whitespace().find(|word| word.starts_with("agent=")).unwrap();
    assert!(line.contains(id), "{line}");
}
