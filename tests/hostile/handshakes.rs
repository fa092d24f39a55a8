//! TLS that stops half way, and what answers in its place.

use std::sync::Arc;

use futures_util::future::join_all;
use ptth::internals::domain::Secret;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::recorder::Recorder;
use crate::slow::{HANDSHAKE, slow_count};
use crate::support::relay::{certs, trust};
use crate::support::{AgentPlan, DOMAIN, QUIET, TestRelay, is_long, run, serve, within};
use crate::world::{NAME, On, connect, honest};

const TOKEN: &str = "a-token-that-nobody-may-read";

/// A client that goes no higher than TLS 1.2: its handshake has one flight more.
fn tls12_client() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certs().ca.cert.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// A handshake of which the relay gets so many bytes and no more; whether the relay ended it in time. What it takes in
/// all is told when it is done.
async fn stops_at(relay: &TestRelay, tls: Arc<ClientConfig>, most: usize) -> Result<bool, usize> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut from_client, mut to_client) = tokio::io::split(far);
    let (mut from_relay, mut to_relay) = connect(relay.tls).await.into_split();
    let name = ServerName::try_from(DOMAIN).unwrap();
    let shaking = async {
        let stream = TlsConnector::from(tls).connect(name, near).await;
        // A client that is through says something, so that the last of its handshake goes out. With TLS 1.3 it is
        // through before that has arrived.
        if let Ok(mut stream) = stream
            && most == usize::MAX
        {
            let _ = stream.write_all(b"G").await;
            let _ = stream.flush().await;
            tokio::time::sleep(QUIET).await;
            return;
        }
        std::future::pending::<()>().await;
    };
    let mut sent = 0;
    let sending = async {
        let mut buffer = vec![0; 4096];
        while sent < most {
            let room = (most - sent).min(buffer.len());
            let read = from_client.read(&mut buffer[..room]).await.unwrap();
            if read == 0 || to_relay.write_all(&buffer[..read]).await.is_err() {
                break;
            }
            sent += read;
        }
        std::future::pending::<()>().await
    };
    let answering = tokio::io::copy(&mut from_relay, &mut to_client);
    let ended = tokio::select! {
        biased;
        () = shaking => None,
        () = sending => unreachable!("the sender does not end"),
        _ = answering => Some(true),
        () = tokio::time::sleep(HANDSHAKE) => Some(false),
    };
    ended.ok_or(sent)
}

/// A14, Traefik CVE-2026-26999: a handshake that stops at any flight has its deadline, in either version of TLS.
#[test]
fn handshakes_stopped_at_any_flight_end_in_time() {
    run(async {
        let (relay, origin) = (TestRelay::start(), Recorder::start().await);
        let on = On { transport: "ptth10", carrier: ptth::internals::session::Kind::H2 };
        let _agent = serve(&on.agent(&relay, NAME), origin.handler()).await;
        let relay = &relay;
        let mut all = Vec::new();
        for tls in [trust(&[]), tls12_client()] {
            let whole = stops_at(relay, tls.clone(), usize::MAX).await.expect_err("a whole handshake");
            // The last bytes are a letter behind it, in a record of its own.
            let steps = if is_long() { slow_count() / 2 } else { 60 };
            all.extend((0..steps).map(|n| (tls.clone(), (whole - 24) * n / steps)));
        }
        let halves = join_all(
            all.into_iter().map(|(tls, most)| async move { (most, stops_at(relay, tls, most).await) }),
        );
        let beside = async {
            for _ in 0..20 {
                honest(relay, NAME).await;
            }
        };
        let (ended, ()) = tokio::join!(halves, beside);
        for (most, ended) in ended {
            assert_eq!(ended, Ok(true), "a handshake that stopped at byte {most} is still open");
        }
        honest(relay, NAME).await;
    });
}

/// What a box says in place of a relay's first flight.
fn cleartext_answers() -> Vec<(&'static str, Vec<u8>)> {
    let hello = |version: u8| {
        let body = [&[3, version][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
        let length = u8::try_from(body.len()).unwrap();
        [&[0x16, 3, version, 0, length + 4, 2, 0, 0, length][..], &body].concat()
    };
    let flipped = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: PTTH/1.0\r\n\r\n";
    let request = "GET /planted HTTP/1.1\r\nHost: x\r\n\r\n";
    vec![
        ("a 200", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        ("a 302 to plain HTTP", b"HTTP/1.1 302 Found\r\nLocation: http://ptth.localhost/\r\n\r\n".to_vec()),
        ("a 101 and a request", format!("{flipped}{request}").into_bytes()),
        ("TLS 1.1", hello(2)),
        ("TLS 1.0", hello(1)),
        ("SSL 3.0", hello(0)),
        ("an alert", vec![0x15, 3, 1, 0, 2, 2, 40]),
        ("another protocol", b"SSH-2.0-OpenSSH_9.0\r\n".to_vec()),
        ("nothing", Vec::new()),
    ]
}

/// A27; nginx CVE-2026-1642, RFC 8446 §D.5, RFC 8996: an agent whose relay is https speaks TLS, or nothing: bytes in
/// the clear are neither taken for an answer nor answered.
pub(crate) async fn an_agent_sends_nothing_without_tls(on: On) {
    let origin = Recorder::start().await;
    for (what, answer) in cleartext_answers() {
        // A relay that never had TLS ends the agent, so each answer is for a new one.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{DOMAIN}:{}/", listener.local_addr().unwrap().port());
        let _agent =
            AgentPlan::new(&url, NAME, Secret::new(TOKEN), on.transport, on.carrier).start(origin.handler());
        let (mut stream, _) = within("the agent's first try", listener.accept()).await.unwrap();
        let mut got = Vec::new();
        while got.len() < 200 {
            let read = within("a ClientHello", stream.read_buf(&mut got)).await.unwrap();
            assert!(read > 0, "{what}: no ClientHello");
        }
        // The agent may have hung up already.
        let _ = stream.write_all(&answer).await;
        if answer.is_empty() {
            stream.shutdown().await.unwrap();
        }
        let _ = within("the agent hanging up", stream.read_to_end(&mut got)).await;
        assert_eq!(&got[..2], &[0x16, 3], "{what}: not a TLS handshake");
        let text = String::from_utf8_lossy(&got);
        assert!(!text.contains("HTTP/1") && !text.contains(TOKEN), "{what}: sent in cleartext: {text}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

/// A CA that an agent believes, and certificates that it must not believe, each with its key; all as PEM.
fn bad_certificates() -> (String, Vec<(&'static str, String, String)>) {
    let ca = || {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (ca.self_signed(&key).unwrap().pem(), Issuer::new(ca, key))
    };
    let ((believed, ours), (_, theirs)) = (ca(), ca());
    let sign = |what, host: &str, until: i32, issuer: Option<&Issuer<'_, KeyPair>>| {
        let mut leaf = CertificateParams::new([host.to_owned()]).unwrap();
        leaf.not_before = date_time_ymd(2020, 1, 1);
        leaf.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = match issuer {
            Some(issuer) => leaf.signed_by(&key, issuer).unwrap(),
            None => leaf.self_signed(&key).unwrap(),
        };
        (what, cert.pem(), key.serialize_pem())
    };
    let bad = vec![
        sign("an expired certificate", DOMAIN, 2021, Some(&ours)),
        sign("a certificate for another host", "other.test", 2100, Some(&ours)),
        sign("a certificate of an unknown CA", DOMAIN, 2100, Some(&theirs)),
        sign("a self-signed certificate", DOMAIN, 2100, None),
    ];
    (believed, bad)
}

/// A27: whoever cannot show the relay's certificate hears nothing of what an agent would say, on any rung, and is asked
/// again by TLS.
pub(crate) async fn an_agent_sends_nothing_to_an_untrusted_relay(on: On) {
    let origin = Recorder::start().await;
    let (believed, bad) = bad_certificates();
    for (what, cert, key) in bad {
        let server =
            ptth::internals::tls::server_config_from_pem(cert.as_bytes(), key.as_bytes(), &[]).unwrap();
        for _ in 0..2 {
            // A certificate that is not trusted ends the agent, so each try is of a new one.
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("https://{DOMAIN}:{}/", listener.local_addr().unwrap().port());
            let mut plan = AgentPlan::new(&url, NAME, Secret::new(TOKEN), on.transport, on.carrier);
            plan.config.tls = ptth::internals::tls::client_config_from_pem(believed.as_bytes(), &[]).unwrap();
            let _agent = plan.start(origin.handler());
            let (stream, _) = within("the agent's first try", listener.accept()).await.unwrap();
            let shaken =
                within("the end of a handshake", TlsAcceptor::from(server.clone()).accept(stream)).await;
            // To the server of TLS 1.3 a handshake may look whole before it hears that it is not.
            let mut heard = Vec::new();
            if let Ok(mut stream) = shaken {
                let _ = within("the agent hanging up", stream.read_to_end(&mut heard)).await;
            }
            assert!(heard.is_empty(), "{what}: the agent sent {:?}", String::from_utf8_lossy(&heard));
        }
    }
    assert!(origin.seen().is_empty());
}
