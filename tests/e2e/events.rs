//! Server-sent events, one each second, as a page that stays open gets them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::site::{Site, curl};

/// Of a second each: two minutes where there is time.
fn events() -> u32 {
    if std::env::var_os("PTTH_LONG").is_some() { 120 } else { 3 }
}

/// Sends one event each second, and then the end.
fn tell(mut stream: TcpStream) {
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
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || tell(stream.unwrap()));
        }
    });
    let relay = site.relay();
    let agent = site.agent(&relay, format!("127.0.0.1:{port}"));
    let visits = ["--http1.1", "--http2"].map(|version| {
        let mut command = curl();
        command
            .args(["--no-buffer", version, "--max-time", "200", "--cacert"])
            .arg(site.ca())
            .arg(&agent.url);
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
            assert!(late.abs() < 0.9, "event {number} came {late} s late");
        }
    }
}
