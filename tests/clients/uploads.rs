//! The HTTP clients of other languages as visitors whose upload is refused early. Some of them send the whole body
//! before they read the answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use crate::client::file;
use crate::long::is_long;
use crate::process::Process;
use crate::site::{Agent, Relay, Site, ptth};

/// More than every buffer between a visitor and the origin holds.
const LARGE: usize = 30_000_000;
/// More than the relay reads of an upload to keep its connection.
const MIDDLE: usize = 300_000;

const TOO_LARGE: &[u8] = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
const UNAUTHORIZED: &[u8] =
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno";

/// The paths of uploads that are refused with 413: by the origin, and by the relay.
const REFUSED: [(&str, &str); 2] = [("shop/upload", "413"), ("guarded/upload", "413")];
/// The paths of uploads that are refused with 401, by the same two.
const LOGIN: [(&str, &str); 2] = [("shop/login", "401"), ("locked/upload", "401")];

/// An origin that answers as soon as it has the head, and closes without reading the body.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut block) = (Vec::new(), [0; 1 << 10]);
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut block) {
                    Ok(read @ 1..) => head.extend_from_slice(&block[..read]),
                    _ => break,
                }
            }
            let is_login = head.windows(6).any(|part| part == b"/login");
            let _ = stream.write_all(if is_login { UNAUTHORIZED } else { TOO_LARGE });
        }
    });
    address
}

/// A relay with and without TLS, and three names: the origin of `shop` refuses uploads, and the relay refuses those
/// for `guarded` and `locked`.
struct World {
    site: Site,
    relay: Relay,
    plain: String,
    _agents: [Agent; 3],
}

impl World {
    fn new() -> Self {
        let site = Site::new();
        for name in ["guarded", "locked"] {
            site.secret(name, &site.token(name));
        }
        let mut command = ptth();
        // By path, because not every resolver knows the names below `localhost`.
        command.args(["relay", "--domain", "localhost", "--routing", "path", "--admin", "off", "--state"]);
        command.arg(site.at("state")).args(["--listen", "127.0.0.1:0", "--listen", "http://127.0.0.1:0"]);
        command
            .arg("--cert")
            .arg(site.at("certs/relay.pem"))
            .arg("--key")
            .arg(site.at("certs/relay-key.pem"));
        let relay = Relay::start(&mut command);
        let plain = relay.process.line(1);
        let plain = format!("http://localhost:{}", plain.rsplit(':').next().unwrap());
        let target = origin().to_string();
        let shop = Agent::start(&mut site.agent_of("shop", "token", &relay.url(), &target));
        let mut guarded = site.agent_of("guarded", "guarded", &relay.url(), &target);
        let guarded = Agent::start(guarded.args(["--visitor-body", "1000"]));
        let users = site.write("users", "ann:secret\n");
        let mut locked = site.agent_of("locked", "locked", &relay.url(), &target);
        let locked = Agent::start(locked.arg("--visitor-basic").arg(users));
        Self { site, relay, plain, _agents: [shop, guarded, locked] }
    }

    /// Runs a program for each kind of refusal: `PROGRAM SCRIPT URL CA BYTES COUNT MORE`.
    fn check(&self, program: &[&str], script: &str, more: &[&str]) {
        let script = file("tests/clients/upload").join(script);
        let program: Vec<_> = program.iter().map(Path::new).chain([&*script]).collect();
        self.check_paths(&REFUSED, &program, more);
    }

    fn check_paths(&self, paths: &[(&str, &str)], program: &[&Path], more: &[&str]) {
        let count = if is_long() { 20 } else { 2 };
        for front in [&self.relay.url(), &self.plain] {
            for (path, status) in paths {
                for size in [LARGE, MIDDLE] {
                    let url = format!("{front}/{path}");
                    let mut command = Command::new(program[0]);
                    command.args(&program[1..]).arg(&url);
                    command.arg(self.site.ca()).args([size.to_string(), count.to_string()]).args(more);
                    let mut run = Process::start(&mut command);
                    let statuses: Vec<_> = (0..count).map(|number| run.line(number)).collect();
                    assert_eq!(statuses, vec![*status; count], "{url} {size} {more:?}: {run}");
                    assert_eq!(run.ends(), 0, "{run}");
                }
            }
        }
    }
}

#[test]
fn python_reads_an_early_refusal() {
    World::new().check(&["python3"], "upload.py", &[]);
}

#[test]
fn node_reads_an_early_refusal() {
    World::new().check(&["node"], "upload.mjs", &[]);
}

#[test]
fn node_reads_an_early_refusal_over_http2() {
    World::new().check(&["node"], "upload.mjs", &["h2"]);
}

/// scripts/test installs Java and Go for the long run alone.
#[test]
fn java_reads_an_early_refusal() {
    if is_long() {
        World::new().check(&["java"], "Upload.java", &[]);
    }
}

/// Without TLS, Java's client speaks HTTP/1.1 here.
#[test]
fn java_reads_an_early_refusal_over_http2() {
    if is_long() {
        World::new().check(&["java"], "Upload.java", &["h2"]);
    }
}

#[test]
fn go_reads_an_early_refusal() {
    if is_long() {
        let world = World::new();
        // Compiled once: `go run` compiles each time.
        let program = world.site.at("upload");
        let source = file("tests/clients/upload/upload.go");
        let built = Command::new("go").args(["build", "-o"]).arg(&program).arg(source).status().unwrap();
        assert!(built.success());
        for more in [&[][..], &["http1"], &["expect"], &["http1", "expect"]] {
            world.check_paths(&[REFUSED, LOGIN].concat(), &[&*program], more);
        }
    }
}

#[test]
fn curl_reads_an_early_refusal() {
    let world = World::new();
    let count = if is_long() { 20 } else { 4 };
    for size in [LARGE, MIDDLE] {
        let body = format!("@{}", world.site.write("body", vec![b'x'; size]).display());
        for name in ["shop", "guarded"] {
            for (front, version) in [
                (world.relay.url(), "--http1.1"),
                (world.relay.url(), "--http2"),
                (world.plain.clone(), "--http1.1"),
                (world.plain.clone(), "--http2-prior-knowledge"),
            ] {
                for _ in 0..count {
                    // Without the wait for a 100.
                    let url = format!("{front}/{name}/upload");
                    let answer =
                        world.site.curl([version, "--header", "Expect:", "--data-binary", &body, &url]);
                    assert_eq!(answer.status, 413, "{url} {version} {size}");
                }
            }
        }
    }
}
