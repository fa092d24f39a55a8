//! A process that dies without a word, and is started again.

use std::time::{Duration, Instant};

use crate::long::limit;
use crate::site::{Site, free_port, poll};

#[test]
fn a_killed_agent_comes_back_under_its_name() {
    let site = Site::new();
    site.write("files/index.html", "here");
    let relay = site.relay();
    let mut agent = site.agent(&relay, site.at("files"));
    let url = agent.url.clone();
    assert_eq!(site.curl([&url]).text(), "here");
    agent.process.kill();
    let started = Instant::now();
    let agent = site.agent(&relay, site.at("files"));
    assert_eq!(agent.url, url);
    let answer = site.curl([&url]);
    assert_eq!((answer.status, &*answer.text()), (200, "here"));
    println!("an agent that was killed and started again answered after {:?}", started.elapsed());
}

#[test]
fn without_its_agent_a_known_name_is_503_and_an_unknown_one_404() {
    let site = Site::new();
    let relay = site.relay();
    let at = |name: &str| site.curl([format!("https://{name}.ptth.localhost:{}/", relay.port)]);
    let (known, unknown) = (at("shop"), at("nobody"));
    assert_eq!((known.status, known.field("content-type")), (503, "application/problem+json"), "{known:?}");
    assert!(
        !known.field("retry-after").is_empty() && known.field("proxy-status").contains("ptth"),
        "{known:?}"
    );
    assert_eq!(unknown.status, 404, "{unknown:?}");
}

#[test]
fn a_killed_relay_gets_its_agents_back() {
    let site = Site::new();
    site.write("files/index.html", "here");
    let listen = format!("127.0.0.1:{}", free_port());
    let mut relay = site.relay_at(&listen);
    let agent = site.agent(&relay, site.at("files"));
    assert_eq!(site.curl([&agent.url]).text(), "here");
    relay.process.kill();
    agent.process.says(" disconnected");
    let started = Instant::now();
    let relay = site.relay_at(&listen);
    let listening = started.elapsed();
    relay.process.says(" agent connected ");
    let back = started.elapsed();
    let again = agent.process.says_times(" connected ", 2);
    assert!(again.contains(&agent.url), "{again}");
    assert_eq!(site.curl([&agent.url]).text(), "here");
    println!("the relay listened after {listening:?}, its agent was back after {back:?}");
    assert!(back < limit(Duration::from_secs(5)), "{back:?}");
    assert_eq!(agent.process.out.all().len(), 2, "the URL is printed once; {}", agent.process);
}

#[test]
fn an_agent_that_starts_before_its_relay_waits_for_it() {
    let site = Site::new();
    site.write("files/index.html", "here");
    let port = free_port();
    let agent = crate::process::Process::start(
        &mut site.agent_command(&format!("https://localhost:{port}"), site.at("files")),
    );
    agent.says("cannot reach the relay");
    assert!(agent.out.all().is_empty(), "{agent}");
    let _relay = site.relay_at(&format!("127.0.0.1:{port}"));
    let url = agent.line(0);
    let answer = poll(|| Some(site.curl([&url])).filter(|answer| answer.status == 200));
    assert_eq!(answer.unwrap().text(), "here");
    let tries = agent.err.all().iter().filter(|line| line.contains("cannot reach")).count();
    assert_eq!(tries, 1, "one line for each thing that is wrong; {agent}");
}
