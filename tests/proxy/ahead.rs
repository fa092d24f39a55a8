//! What comes before an answer, and what does not come any more, on ways that hold bodies back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::boxes::{holding, nginx};
use crate::holder::Holds;
use crate::process::Process;
use crate::service::fetch;
use crate::site::Site;

/// An origin that says 103 before its answer, or breaks it off. It ends with the process.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    port
}

fn serve(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    for line in lines {
        if line.is_empty() {
            break;
        }
    }
    let answer = match first.contains(" /hints ") {
        true => {
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhalf"
        }
        false => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    };
    let _ = stream.write_all(answer.as_bytes());
}

/// Whether interim responses come through on this way. What breaks off never looks whole, and is told at once.
#[track_caller]
fn interim(site: &Site, url: &str) -> bool {
    let mut agent = site.command("agent", url);
    let agent = Process::start(agent.args(["--transport", "reversehttp"]).arg(origin().to_string()));
    agent.says(" connected ");
    let (status, text) = fetch(site.port, "/hints").unwrap();
    let interim = status == 103;
    assert!(text.ends_with("half") && (interim == text.contains("HTTP/1.1 200")), "{status} {text}");
    let (status, text) = fetch(site.port, "/broken").unwrap();
    match interim {
        true => assert_eq!((status, &*text), (200, "half"), "it said 9 bytes"),
        false => assert!(status == 502 && text.contains("origin-incomplete"), "{status} {text}"),
    }
    interim
}

/// A relay, as one that does not know the word `live`: it never reads it. The port in front of it.
fn older(relay: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(("127.0.0.1", relay)).unwrap());
            let (mut answers, mut back) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            std::thread::spawn(move || io::copy(&mut answers, &mut back));
            std::thread::spawn(move || mute(near, far));
        }
    });
    port
}

fn mute(mut near: TcpStream, mut far: TcpStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let count = near.read(&mut bytes)?;
        if count == 0 {
            return far.shutdown(std::net::Shutdown::Write);
        }
        if let Some(word) = bytes[..count].windows(6).position(|bytes| bytes == b"live=1") {
            bytes[word + 5] = b'0';
        }
        far.write_all(&bytes[..count])?;
    }
}

#[test]
fn a_relay_that_does_not_know_them_gets_none() {
    let site = Site::with("http");
    let mut agent = site.command("agent", &format!("http://localhost:{}", older(site.port)));
    let agent = Process::start(agent.args(["--transport", "reversehttp"]).arg(origin().to_string()));
    agent.says(" connected ");
    assert_eq!(fetch(site.port, "/hints").unwrap(), (200, "half".to_owned()));
}

#[test]
fn what_an_agent_sends_decides_whether_interim_responses_pass() {
    for (up, down) in [(false, false), (false, true), (true, false), (true, true)] {
        let site = Site::with("http");
        assert_eq!(interim(&site, &holding(&site, Holds { up, down })), !up, "up {up}, down {down}");
    }
    let site = Site::with("http");
    assert!(!interim(&site, &nginx(&site, "").url()));
    let rules = "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off;
                 proxy_request_buffering off; client_max_body_size 0;";
    let site = Site::with("http");
    assert!(interim(&site, &nginx(&site, rules).url()));
}
