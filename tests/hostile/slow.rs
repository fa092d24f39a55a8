//! Peers that take their time, and peers that take too much: what one of them holds, others do not wait for.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ptth::internals::session::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frames::PREFACE;
use crate::process::Process;
use crate::recorder::Recorder;
use crate::site::{Agent, Relay, Site, poll};
use crate::support::{TestRelay, is_long, named, run, serve, within};
use crate::world::{NAME, On, connect, honest};

/// Several times the relay's deadlines for a handshake (`defaults::HANDSHAKE`, 10 s) and for a head (`defaults::HEAD`,
/// 30 s), so that a busy machine stays below.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(50);
const HEAD: Duration = Duration::from_secs(150);

pub(crate) fn slow_count() -> usize {
    if is_long() { 800 } else { 200 }
}

/// Waits for the end of a connection; how long it took.
async fn time_to_close(mut stream: TcpStream, most: Duration) -> Option<Duration> {
    let (began, mut read) = (Instant::now(), Vec::new());
    let reading = async { while let Ok(1..) = stream.read_buf(&mut read).await {} };
    tokio::time::timeout(most, reading).await.ok().map(|()| began.elapsed())
}

/// A14: heads that never end. CVE-2007-6750 (slowloris).
pub(crate) async fn incomplete_heads_delay_no_visitor(on: On) {
    let world = on.world().await;
    let host = named(NAME);
    let halves = [
        String::new(),
        "G".into(),
        "GET / HTTP/1.1\r\n".into(),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-A: "),
        String::from_utf8_lossy(PREFACE).into_owned(),
        "PRI * HTTP/2.0\r\n".into(),
    ];
    let mut slow = Vec::new();
    for number in 0..slow_count() {
        let mut stream = connect(world.relay.plain).await;
        stream.write_all(halves[number % halves.len()].as_bytes()).await.unwrap();
        slow.push(stream);
        if number % 20 == 0 {
            world.is_healthy().await;
        }
    }
    for stream in &mut slow {
        let _ = stream.write_all(b"x").await;
    }
    world.is_healthy().await;
    if is_long() {
        // An HTTP/2 visitor that is silent is asked, and has longer.
        let kinds = slow.into_iter().enumerate().filter(|(n, _)| n % halves.len() < 4).map(|(_, s)| s);
        let ended = join_all(kinds.map(|stream| time_to_close(stream, HEAD))).await;
        assert!(ended.iter().all(Option::is_some), "an incomplete head is still open after {HEAD:?}");
    }
}

/// A14: bodies that never end. On `h1` each takes a connection of the agent, of which there are 64; on the others a
/// stream.
pub(crate) async fn incomplete_bodies_delay_no_visitor(on: On) {
    let world = on.world().await;
    let count = if on.carrier == Kind::H1 { 40 } else { slow_count().min(200) };
    let begun =
        format!("POST /slow HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\nbegun", named(NAME));
    let mut slow = Vec::new();
    for number in 0..count {
        let mut stream = connect(world.relay.plain).await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        slow.push(stream);
        if number % 20 == 0 {
            world.is_healthy().await;
        }
    }
    world.is_healthy().await;
    drop(slow);
    world.is_healthy().await;
}

/// A14: handshakes that stop at each byte, and what is no TLS. rustls 2024-0399, Traefik CVE-2026-26999 and -32305.
#[test]
fn incomplete_handshakes_end_in_time() {
    run(async {
        let (relay, origin) = (TestRelay::start(), Recorder::start().await);
        let on = On { transport: "ptth10", carrier: Kind::H2 };
        let _agent = serve(&on.agent(&relay, NAME), origin.handler()).await;
        let hello = client_hello().await;
        let mut slow = Vec::new();
        for cut in (0..hello.len()).step_by(7) {
            let mut stream = connect(relay.tls).await;
            stream.write_all(&hello[..cut]).await.unwrap();
            slow.push(stream);
        }
        // One byte in each record.
        let mut fragmented = connect(relay.tls).await;
        for byte in &hello[5..] {
            fragmented.write_all(&[0x16, 3, 1, 0, 1, *byte]).await.unwrap();
        }
        let answered = within("an answer to a fragmented ClientHello", fragmented.read_u8()).await;
        assert!(answered.is_ok_and(|kind| kind == 0x16 || kind == 0x15));
        for nonsense in [
            &b"SSH-2.0-OpenSSH_9.0\r\n"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\xff\xff\xff",
            b"\x16\x03\x01\0\0",
            &[0x80; 300],
            &[0; 300],
        ] {
            let mut stream = connect(relay.tls).await;
            stream.write_all(nonsense).await.unwrap();
            assert!(time_to_close(stream, HANDSHAKE).await.is_some(), "{nonsense:?}");
            honest(&relay, NAME).await;
        }
        let ended = join_all(slow.into_iter().map(|stream| time_to_close(stream, HANDSHAKE))).await;
        assert!(ended.iter().all(Option::is_some), "a handshake is still open");
        honest(&relay, NAME).await;
    });
}

/// What a client of rustls says first.
async fn client_hello() -> Vec<u8> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = ptth::internals::tls::client_config_for_none().unwrap();
    let stream = connect(listener.local_addr().unwrap()).await;
    let name = rustls::pki_types::ServerName::try_from("ptth.localhost").unwrap();
    let connecting = tokio_rustls::TlsConnector::from(tls).connect(name, stream);
    let reading = async {
        let mut stream = listener.accept().await.unwrap().0;
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.unwrap();
        let mut rest = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        stream.read_exact(&mut rest).await.unwrap();
        [&head[..], &rest].concat()
    };
    tokio::select! {
        hello = reading => hello,
        _ = connecting => unreachable!("the handshake gets no answer"),
    }
}

/// F9: no descriptors left for visitors. The accept loop goes on, and its agents stay.
#[test]
fn a_relay_without_descriptors_recovers() {
    let site = Site::new();
    site.write("files/index.html", "here");
    let command = site.relay_command("http://127.0.0.1:0");
    let mut limited = std::process::Command::new("sh");
    limited
        .args(["-c", "ulimit -n 96; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    let relay = Relay::start(&mut limited);
    let url = format!("http://localhost:{}", relay.port);
    let agent = Agent::start(&mut site.agent_command(&url, site.at("files")));
    let visit = || site.curl(["--max-time", "10", &agent.url]);
    assert_eq!(visit().status, 200);
    let crowd: Vec<_> =
        (0..200).map(|_| std::net::TcpStream::connect(("127.0.0.1", relay.port)).unwrap()).collect();
    // A quarter is not for visitors.
    poll(|| (descriptors(&relay.process) >= 70).then_some(())).expect("the crowd uses the descriptors");
    drop(crowd);
    let answered = poll(|| (descriptors(&relay.process) < 60).then(visit)).expect("the crowd has left");
    assert_eq!(answered.status, 200);
    assert_eq!(
        agent.process.err.all().iter().filter(|l| l.contains("disconnected")).count(),
        0,
        "{}",
        agent.process
    );
}

pub(crate) fn descriptors(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count()
}
