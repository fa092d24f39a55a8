//! What comes before an answer, and what does not come any more, on ways that hold bodies back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::boxes::{holding, nginx};
use crate::holder::Buffering;
use crate::process::Process;
use crate::service::{fetch, visit};
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
    let mut read = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if read.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let waits = head.to_ascii_lowercase().contains("\r\nexpect: ");
    let answer = match head.split(' ').nth(1) {
        Some("/hints") => {
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nhalf"
        }
        Some("/upload") => {
            if waits {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            }
            read.read_exact(&mut [0; 5]).unwrap();
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfive"
        }
        Some("/refuse") => {
            if !waits {
                read.read_exact(&mut [0; 5]).unwrap();
            }
            "HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
        }
        _ => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf",
    };
    let _ = stream.write_all(answer.as_bytes());
}

/// Whether interim responses come through on this way, and whether the 100 for an upload is the origin's. What breaks
/// off never looks whole, and is told at once.
#[track_caller]
fn passes(site: &Site, url: &str) -> (bool, bool) {
    let mut agent = site.command("agent", url);
    let agent = Process::start(agent.args(["--transport", "reversehttp"]).arg(origin().to_string()));
    agent.logs(" connected ");
    let (status, text) = fetch(site.port, "/hints").unwrap();
    let interim = status == 103;
    assert!(text.ends_with("half") && (interim == text.contains("HTTP/1.1 200")), "{status} {text}");
    let (status, text) = fetch(site.port, "/broken").unwrap();
    match interim {
        true => assert_eq!((status, &*text), (200, "half"), "Content-Length was 9"),
        false => assert!(status == 502 && text.contains("origin-incomplete"), "{status} {text}"),
    }
    let upload = |path| {
        let request = format!("POST {path}\nConnection: close\nExpect: 100-continue\nContent-Length: 5\n");
        visit(site.port, &request, b"hello").unwrap()
    };
    let (status, text) = upload("/upload");
    assert!(status == 100 && text.ends_with("five"), "{status} {text}");
    let (status, text) = upload("/refuse");
    assert!([100, 417].contains(&status) && text.ends_with("no"), "{status} {text}");
    (interim, status == 417)
}

/// A relay, as one that does not know the word `live`: it never reads it. The port in front of it.
fn older_relay(relay: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(("127.0.0.1", relay)).unwrap());
            let (mut answers, mut back) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            std::thread::spawn(move || io::copy(&mut answers, &mut back));
            std::thread::spawn(move || clear_live(near, far));
        }
    });
    port
}

fn clear_live(mut near: TcpStream, mut far: TcpStream) -> io::Result<()> {
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
fn an_older_relay_receives_no_interim_responses() {
    let site = Site::with("http");
    let mut agent = site.command("agent", &format!("http://localhost:{}", older_relay(site.port)));
    let agent = Process::start(agent.args(["--transport", "reversehttp"]).arg(origin().to_string()));
    agent.logs(" connected ");
    assert_eq!(fetch(site.port, "/hints").unwrap(), (200, "half".to_owned()));
}

#[test]
fn held_bodies_decide_which_interim_responses_pass() {
    for (up, down) in [(false, false), (false, true), (true, false), (true, true)] {
        let site = Site::with("http");
        let passes = passes(&site, &holding(&site, Buffering { up, down }));
        assert_eq!(passes, (!up, !up && !down), "up {up}, down {down}");
    }
    let site = Site::with("http");
    assert_eq!(passes(&site, &nginx(&site, "").url()), (false, false));
    let rules = "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off;
                 proxy_request_buffering off; client_max_body_size 0;";
    let site = Site::with("http");
    assert_eq!(passes(&site, &nginx(&site, rules).url()), (true, true));
}
