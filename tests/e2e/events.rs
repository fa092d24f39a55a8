//! Server-sent events, one each second, as a page that stays open gets them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ptth::internals::session::Kind;

use crate::library::agent_over;
use crate::long::is_long;
use crate::site::{Site, curl};

/// The number of events, one each second: two minutes of events with `--long`.
fn events() -> u32 {
    if is_long() { 120 } else { 3 }
}

/// Sends one event each second, and then the end.
fn send_events(mut stream: TcpStream) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).unwrap();
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        .unwrap();
    let begun = Instant::now();
    for number in 0..events() {
        std::thread::sleep(
            (begun + Duration::from_secs(1) * number).saturating_duration_since(Instant::now()),
        );
        stream.write_all(format!("id: {number}\ndata: tick\n\n").as_bytes()).unwrap();
    }
}

#[test]
fn each_event_arrives_when_it_happens() {
    each_event_arrives_on(Kind::H2);
}

#[test]
fn each_event_arrives_on_h1() {
    each_event_arrives_on(Kind::H1);
}

#[test]
fn each_event_arrives_through_an_agent_that_polls() {
    each_event_arrives_on(Kind::Envelope);
}

fn each_event_arrives_on(carrier: Kind) {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || send_events(stream.unwrap()));
        }
    });
    let relay = site.relay();
    let _agent = agent_over(&site, &relay, &format!("http://127.0.0.1:{port}"), carrier);
    let url = format!("https://shop.ptth.localhost:{}/", relay.port);
    let visits = ["--http1.1", "--http2"].map(|version| {
        let mut command = curl();
        command.args(["--no-buffer", version, "--max-time", "200", "--cacert"]).arg(site.ca()).arg(&url);
        command.stdout(Stdio::piped()).spawn().unwrap()
    });
    let listeners = visits.map(|mut visit| {
        std::thread::spawn(move || {
            let lines = BufReader::new(visit.stdout.take().unwrap()).lines().map_while(Result::ok);
            let numbers = lines.filter_map(|line| line.strip_prefix("id: ")?.parse::<u32>().ok());
            let arrived: Vec<_> = numbers.map(|number| (number, Instant::now())).collect();
            assert!(visit.wait().unwrap().success());
            arrived
        })
    });
    for listener in listeners {
        let arrived = listener.join().unwrap();
        let numbers: Vec<_> = arrived.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..events()).collect::<Vec<_>>());
        for (number, at) in &arrived {
            let late = at.duration_since(arrived[0].1).as_secs_f64() - f64::from(*number);
            assert!(late.abs() < 0.9, "event {number} arrived {late} s late");
        }
    }
}
