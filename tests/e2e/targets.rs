//! Targets of an agent other than a port: a directory, a unix socket, a service behind TLS, a missing target.

use std::os::unix::fs::symlink;

use crate::origin::Nginx;
use crate::site::{Agent, Site};

#[test]
fn a_directory_is_served() {
    let site = Site::new();
    site.write("files/index.html", "<p>index\n");
    site.write("files/digits.txt", "0123456789");
    site.write("secret.txt", "secret");
    symlink(site.at("secret.txt"), site.at("files/way-out")).unwrap();
    let relay = site.relay();
    let agent = site.agent(&relay, site.at("files"));
    assert!(agent.process.line(1).starts_with("target: the files of "), "{}", agent.process);
    let get = |path: &str, flags: &[&str]| {
        let url = format!("{}{path}", agent.url);
        site.curl(flags.iter().copied().chain(["--path-as-is", &url]))
    };
    let index = get("", &[]);
    assert_eq!(
        (index.status, index.field("content-type"), &*index.text()),
        (200, "text/html; charset=utf-8", "<p>index\n")
    );
    let part = get("digits.txt", &["--range", "2-4"]);
    assert_eq!((part.status, &*part.text(), part.field("content-range")), (206, "234", "bytes 2-4/10"));
    assert_eq!(get("digits.txt", &["--range", "20-30"]).status, 416);
    assert_eq!(get("none", &[]).status, 404);
    assert_eq!(get("digits.txt", &["--request", "DELETE"]).status, 405);
    assert_eq!(get("digits.txt", &["--request", "PUT", "--data", "x"]).status, 405);
    for way_out in ["../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt", "a/../../secret.txt", "way-out"]
    {
        for flag in ["--http1.1", "--http2"] {
            let got = get(way_out, &[flag]);
            assert!(got.status >= 400 && !got.text().contains("secret"), "{way_out}: {got:?}");
        }
    }
}

#[test]
fn a_unix_socket_is_served() {
    let site = Site::new();
    let _nginx = Nginx::start(&site);
    let relay = site.relay();
    let agent = site.agent(&relay, format!("unix:{}", site.at("nginx.sock").display()));
    assert!(agent.process.line(1).ends_with(" answers"), "{}", agent.process);
    let seen = site.curl([format!("{}seen", agent.url)]);
    assert_eq!((seen.status, &*seen.text()), (200, "GET /seen shop.ptth.localhost https  \n"));
}

#[test]
fn a_service_behind_tls_is_served_and_verified() {
    let site = Site::new();
    let nginx = Nginx::start(&site);
    let relay = site.relay();
    let agent = site.agent(&relay, format!("https://ptth.localhost:{}", nginx.tls_port));
    let seen = site.curl([format!("{}seen", agent.url)]);
    assert_eq!((seen.status, &*seen.text()), (200, "GET /seen shop.ptth.localhost https  on\n"));
    // The certificate is not for this address.
    let agent = site.agent(&relay, format!("https://127.0.0.2:{}", nginx.tls_port));
    assert!(agent.process.line(1).contains("requests will be answered 502"), "{}", agent.process);
}

#[test]
fn a_host_header_replaces_the_visitors_host() {
    let site = Site::new();
    let nginx = Nginx::start(&site);
    let relay = site.relay();
    for (flag, host) in [("rewrite", "localhost"), ("dev.test:99", "dev.test")] {
        let mut command = site.agent_command(&relay.url(), nginx.port.to_string());
        let agent = Agent::start(command.args(["--host-header", flag]));
        let seen = site.curl([format!("{}seen", agent.url)]);
        assert_eq!((seen.status, &*seen.text()), (200, &*format!("GET /seen {host} https  \n")));
    }
    let refused = site.agent_command(&relay.url(), "3000").args(["--host-header", "a b"]).output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(text.contains("write rewrite, or a host such as localhost:3000"), "{text}");
}

#[test]
fn a_missing_target_is_reported_and_answered_502() {
    let site = Site::new();
    let relay = site.relay();
    let port = crate::site::free_port();
    let agent = site.agent(&relay, port.to_string());
    let line = agent.process.line(1);
    assert!(line.contains(&format!("nothing listens on port {port}")) && line.contains("502"), "{line}");
    let got = site.curl([&agent.url]);
    assert_eq!((got.status, got.field("content-type")), (502, "application/problem+json"), "{got:?}");
    assert!(!got.text().contains(&port.to_string()), "the answer reveals the origin's port: {}", got.text());
    // The target is served as soon as it listens, without a restart of the agent.
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let origin = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhere\n").unwrap();
    });
    assert_eq!(site.curl([&agent.url]).text(), "here\n");
    origin.join().unwrap();
}
