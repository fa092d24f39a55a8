//! A process that is killed, and is started again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;

use crate::long::limit;
use crate::process::PATIENCE;
use crate::site::{Agent, Relay, Site, free_port, poll};

#[test]
fn a_restarted_agent_serves_under_the_same_name() {
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
fn a_name_without_an_agent_is_503_and_an_unknown_name_is_404() {
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
fn an_agent_reconnects_to_a_restarted_relay() {
    let site = Site::new();
    site.write("files/index.html", "here");
    let listen = format!("127.0.0.1:{}", free_port());
    let mut relay = site.relay_at(&listen);
    let agent = site.agent(&relay, site.at("files"));
    assert_eq!(site.curl([&agent.url]).text(), "here");
    relay.process.kill();
    agent.process.logs(" disconnected");
    let started = Instant::now();
    let relay = site.relay_at(&listen);
    let listening = started.elapsed();
    relay.process.logs(" agent connected ");
    let back = started.elapsed();
    let again = agent.process.logs_times(" connected ", 2);
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
    agent.logs("cannot reach the relay");
    assert!(agent.out.all().is_empty(), "{agent}");
    let _relay = site.relay_at(&format!("127.0.0.1:{port}"));
    let url = agent.line(0);
    let answer = poll(|| Some(site.curl([&url])).filter(|answer| answer.status == 200));
    assert_eq!(answer.unwrap().text(), "here");
    let tries = agent.err.all().iter().filter(|line| line.contains("cannot reach")).count();
    assert_eq!(tries, 1, "a lasting failure is logged once; {agent}");
}

/// Starts an origin that never answers a POST, and answers each GET but the first. Returns the count of its requests.
fn holding() -> (tokio::runtime::Runtime, u16, Arc<AtomicUsize>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let (port, received) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let (all, gets) = (received.clone(), Arc::new(AtomicUsize::new(0)));
    let hold = async move |answers: bool| {
        all.fetch_add(1, Ordering::SeqCst);
        if !answers {
            std::future::pending::<()>().await;
        }
        "again"
    };
    let held = hold.clone();
    let app = get(move || async move { hold(gets.fetch_add(1, Ordering::SeqCst) > 0).await })
        .post(move || async move { held(false).await });
    runtime.spawn(async move { axum::serve(listener, Router::new().route("/", app)).await });
    (runtime, port, received)
}

fn visitor(relay: &Relay, method: &str, body: &str) -> TcpStream {
    let mut visitor = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
    visitor.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let fields = format!("Host: shop.ptth.localhost\r\nConnection: close\r\nContent-Length: {length}");
    write!(visitor, "{method} / HTTP/1.1\r\n{fields}\r\n\r\n{body}").unwrap();
    visitor
}

fn answer(visitor: &mut TcpStream) -> String {
    let mut answer = String::new();
    visitor.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn requests_of_a_killed_polling_agent_are_settled_by_its_next_boot() {
    for transport in ["reversehttp", "comet"] {
        let site = Site::new();
        let (_runtime, port, received) = holding();
        let relay = site.relay_at("http://127.0.0.1:0");
        let url = format!("http://localhost:{}", relay.port);
        let start = || {
            let mut command = site.agent_command(&url, port.to_string());
            Agent::start(command.args(["--transport", transport, "--state"]).arg(site.at("agent")))
        };
        let mut agent = start();
        let (mut get, mut post) = (visitor(&relay, "GET", ""), visitor(&relay, "POST", "abc"));
        poll(|| (received.load(Ordering::SeqCst) == 2).then_some(())).expect("a request did not arrive");
        agent.process.kill();
        let _agent = start();
        let restarted = Instant::now();
        assert!(answer(&mut post).starts_with("HTTP/1.1 502 "), "{transport}");
        assert!(answer(&mut get).ends_with("again"), "{transport}");
        println!("{transport}: settled {:?} after the next boot", restarted.elapsed());
        assert!(restarted.elapsed() < Duration::from_secs(8), "{transport}: {:?}", restarted.elapsed());
    }
}
