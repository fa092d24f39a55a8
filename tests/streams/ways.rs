//! Both ways in, what the transport is told of a stream, and what a relay does not start with.

use std::sync::Arc;

use ptth::internals::domain::{HostName, Secret};
use ptth::internals::net::{Cores, Io};
use ptth::internals::policy::Tokens;
use ptth::internals::relay::BadTransport;
use ptth::internals::relay::config::{Listen, RelayConfig};
use ptth::internals::relay::{Relay, StartError};
use ptth::transport;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::line::{Line, PREFACE};
use crate::support::relay::{connect, trust};
use crate::support::{DOMAIN, Wire, named, run, within};
use crate::world::{Agent, LOOPBACK, NAME, call, own_listeners, refused, relay, served, visit};

/// A listener for visitors takes agents of the transport by their ALPN id, and visitors as before.
#[test]
fn a_stream_is_served_by_its_alpn_id() {
    run(async {
        let line = Line::new();
        let relay = relay(&line, |_| {});
        let token = relay.token(&[NAME]);
        assert_eq!(visit(&relay).await.0, 503);
        let begin = async |alpn: &[&[u8]], said| {
            let call = call("https", relay.tls.port(), Some(token.clone()));
            call.credentials.replace_tls(trust(alpn));
            Agent::start(&line, call, said).await
        };
        // More than the relay has cores, so that some are dealt to another than the one that accepted them.
        let mut agents = Vec::new();
        for _ in 0..5 {
            agents.push(begin(&[], "by its id").await);
        }
        served(&relay, "by its id").await;
        // An agent may offer the ids of visitors as well, and an older one of the transport.
        for alpn in [&[&b"h2"[..], b"http/1.1", b"line/2"][..], &[b"line/1"]] {
            agents = vec![begin(alpn, "among others").await];
            within("the new agent", async {
                while visit(&relay).await != (200, "among others".into()) {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        let taken = line.taken();
        let alpns: Vec<_> = taken.iter().map(|taken| taken.alpn.as_deref().unwrap()).collect();
        assert_eq!(alpns, [[&b"line/2"[..]; 6].as_slice(), &[b"line/1"]].concat());
        for taken in taken {
            let facts = taken.facts;
            assert_eq!(facts.server_name, Some(HostName::parse(DOMAIN).unwrap()));
            assert_eq!(*facts.authority, *format!("{DOMAIN}:{}", relay.tls.port()));
            assert!(facts.tls && facts.remote.ip().is_loopback());
            assert!(facts.credential.is_none() && facts.certificate.is_none());
        }
        let host = named(NAME);
        for alpn in [&[&b"http/1.1"[..]][..], &[b"http/1.1", b"http/1.0"], &[]] {
            let name = ServerName::try_from(host.clone()).unwrap();
            let stream = TlsConnector::from(trust(alpn)).connect(name, connect(relay.tls).await).await;
            let mut visitor = Wire::new(stream.unwrap());
            visitor.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(visitor.message().await.1, "among others", "{alpn:?}");
        }
        let mut visitor = relay.visitor_h2(&host).await;
        let request = http::Request::get(format!("https://{host}/")).body(ptth::Body::empty()).unwrap();
        assert_eq!(visitor.send(request).await.status(), 200);
        assert!(line.taken().is_empty());
        drop(agents);
    });
}

/// A listener of the transport's own takes every stream: with TLS or without, whatever its ALPN id is.
#[test]
fn a_stream_is_served_by_its_listener() {
    run(async {
        let line = Line::new();
        let relay = relay(&line, |_| {});
        let [tls, plain] = own_listeners(&relay);
        let token = relay.token(&[NAME]);
        let ids: [(u16, &str, &[&[u8]]); 5] = [
            (tls.port(), "https", &[b"line/1"]),
            (tls.port(), "https", &[b"h2"]),
            (tls.port(), "https", &[b"http/1.1"]),
            (tls.port(), "https", &[b"h2", b"unknown", b"line/1"]),
            (plain.port(), "http", &[]),
        ];
        for (port, scheme, alpn) in ids {
            let call = call(scheme, port, Some(token.clone()));
            call.credentials.replace_tls(trust(alpn));
            let _agent = Agent::start(&line, call, "by its listener").await;
            served(&relay, "by its listener").await;
            let [taken] = &line.taken()[..] else { panic!("one stream") };
            assert_eq!((taken.facts.tls, taken.alpn.is_some()), (scheme == "https", scheme == "https"));
            // Visitors come in by another port, which is that of the agent's public URL.
            let (host, port) = match scheme {
                "https" => (DOMAIN, relay.tls.port()),
                _ => ("127.0.0.1", relay.plain.port()),
            };
            assert_eq!(*taken.facts.authority, *format!("{host}:{port}"));
        }
        // Without any ALPN.
        let name = ServerName::try_from(DOMAIN).unwrap();
        let stream = TlsConnector::from(trust(&[])).connect(name, connect(tls).await).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), None);
        let mut wire = Wire::new(stream);
        wire.send([format!("{NAME} {}\n", token.expose()).as_bytes(), PREFACE].concat()).await;
        // RFC 9113 §4.1: SETTINGS, type 4, and no preface in front of it.
        let head = wire.exact(9).await;
        assert_eq!((&head[..2], head[3], &head[5..]), (&[0, 0][..], 4, &[0; 4][..]));
        assert_eq!(line.taken()[0].alpn, None);
    });
}

/// A request is no request there, and neither is the preface of HTTP/2.
#[test]
fn a_listener_of_a_transport_does_not_sniff() {
    run(async {
        let line = Line::new();
        let relay = relay(&line, |_| {});
        let [_, plain] = own_listeners(&relay);
        let request = format!("GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n");
        for first in [request.as_bytes(), PREFACE, b"POST /reversehttp HTTP/1.1\r\n\r\n"] {
            let mut wire = Wire::new(connect(plain).await);
            wire.send(first).await;
            wire.finish().await;
            assert_eq!(wire.rest().await, "", "the listener answered in HTTP");
            assert_eq!(line.taken().len(), 1);
        }
        refused(&relay, "malformed-offer", 3).await;
    });
}

#[test]
fn a_refusal_is_written_in_the_form_of_the_transport_and_counted() {
    run(async {
        let line = Line::new();
        let relay = relay(&line, |_| {});
        let [_, plain] = own_listeners(&relay);
        let wrong = "ptth_0123456789ab_wrong".to_owned();
        let other = relay.token(&["other"]).expose().to_owned();
        for (token, answer, code) in [(wrong, "no 401\n", "bad-credential"), (other, "no 403\n", "not-yours")]
        {
            let mut wire = Wire::new(connect(plain).await);
            wire.send([format!("{NAME} {token}\n").as_bytes(), PREFACE].concat()).await;
            assert_eq!(wire.rest().await, answer);
            refused(&relay, code, 1).await;
        }
    });
}

/// Transports whose sessions begin with requests say so, to whoever hands them a stream all the same.
#[test]
fn a_request_transport_refuses_a_stream() {
    run(async {
        let line = Line::new();
        let relay = relay(&line, |_| {});
        let [_, plain] = own_listeners(&relay);
        let mut wire = Wire::new(connect(plain).await);
        wire.finish().await;
        wire.closed().await;
        let facts = line.taken().remove(0).facts;
        for transport in transport::ALL.iter().filter(|transport| !transport.takes_streams()) {
            let (mut far, near) = tokio::io::duplex(64);
            let side = transport.relay(line.admissions());
            let refused = side.accept_stream(Io::other(near), facts.clone()).await.unwrap_err();
            assert!(refused.message.contains("HTTP request"), "{}: {refused}", transport.name());
            let read = tokio::io::AsyncReadExt::read(&mut far, &mut [0]).await.unwrap();
            assert_eq!(read, 0, "{}: the stream is still open", transport.name());
        }
    });
}

#[test]
fn a_relay_does_not_start_with_transports_that_it_cannot_serve() {
    let start = |change: &dyn Fn(&mut RelayConfig, Line)| {
        let mut config = RelayConfig::new(HostName::parse(DOMAIN).unwrap(), Tokens::in_memory());
        config.listen = vec![Listen::plain(LOOPBACK)];
        change(&mut config, Line::new());
        match Relay::start(config).err().expect("the relay started") {
            StartError::Transport(why) => why,
            other => panic!("{other}"),
        }
    };
    let named = |name| Line { name, ..Line::new() };
    let twice = start(&|config, line| config.transports = vec![Arc::new(line.clone()), Arc::new(line)]);
    assert_eq!(twice, BadTransport::Name("line"));
    let known = start(&|config, _| config.transports = vec![Arc::new(named("ptth10"))]);
    assert_eq!(known, BadTransport::Name("ptth10"));
    let alpns = |ids: &[&'static [u8]]| {
        let other = Line { alpns: ids.to_vec(), ..named("other") };
        start(&|config, line| config.transports = vec![Arc::new(line), Arc::new(other.clone())])
    };
    let long: &'static [u8] = &[b'x'; 256];
    for (ids, why) in [
        (&[&b"line/1"[..]][..], r#""line/1": another transport uses this id"#),
        (&[b"h2"], r#""h2": HTTP uses this id"#),
        (&[b"http/1.1"], "HTTP uses this id"),
        (&[b"a\xff", b"a\xff"], r#"a\\xff": another transport uses this id"#),
        (&[b""], "1 to 255 bytes"),
        (&[long], "1 to 255 bytes"),
    ] {
        let bad = alpns(ids);
        assert!(bad.to_string().contains(why) && bad.to_string().contains("\"other\""), "{bad}");
    }
    let unknown = start(&|config, _| config.listen.push(Listen::tls(LOOPBACK).of("line")));
    assert_eq!(unknown, BadTransport::Unknown(Listen::tls(LOOPBACK).of("line")));
    assert!(unknown.to_string().contains("line://127.0.0.1:0"), "{unknown}");
    for transport in transport::ALL.iter().filter(|transport| !transport.takes_streams()) {
        let listen = Listen::plain(LOOPBACK).of(transport.name());
        let bad = start(&|config, _| config.listen.push(listen));
        assert_eq!(bad, BadTransport::NoStreams(listen));
    }
    let needs = start(&|config, line| {
        config.listen.push(Listen::plain(LOOPBACK).of("line"));
        config.transports = vec![Arc::new(Line { certificate: true, ..line })];
    });
    assert!(matches!(needs, BadTransport::NoCertificates(_)), "{needs}");
}

/// Without further transports nothing changes: an id that nobody has is refused in the handshake.
#[test]
fn an_alpn_id_of_no_transport_is_refused() {
    run(async {
        let relay = crate::support::TestRelay::start();
        let name = ServerName::try_from(DOMAIN).unwrap();
        let connecting = TlsConnector::from(trust(&[b"line/1"])).connect(name, connect(relay.tls).await);
        let error = within("a handshake", connecting).await.unwrap_err();
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    });
}

/// The relay stops with a session of the transport, and with a stream that is not admitted yet.
#[test]
fn a_relay_stops_with_streams_open() {
    run(async {
        let line = Line::new();
        let relay = relay(&line, |config| config.cores = 1);
        let [tls, plain] = own_listeners(&relay);
        let token: Secret = relay.token(&[NAME]);
        let _agent = Agent::start(&line, call("https", tls.port(), Some(token)), "still here").await;
        served(&relay, "still here").await;
        let mut silent = Wire::new(connect(plain).await);
        silent.send("half a li").await;
        within("the stream at its transport", async {
            while line.taken().iter().all(|taken| taken.facts.tls) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(relay.stop().await, 0, "a stream was cut");
        silent.closed().await;
    });
}

/// The relay's ambient runtime does as well.
#[test]
fn a_relay_on_the_callers_runtime_accepts_streams() {
    run(async {
        let line = Line::new();
        let mut config = RelayConfig::new(HostName::parse(DOMAIN).unwrap(), Tokens::in_memory());
        config.listen = vec![Listen::plain(LOOPBACK).of("line")];
        config.transports = vec![Arc::new(line.clone())];
        let relay = Relay::start_on(config, Cores::ambient()).unwrap();
        let [own] = relay.addresses() else { panic!("one listener") };
        assert_eq!(own.to_string(), format!("line+plain://{}", own.address));
        let mut wire = Wire::new(connect(own.address).await);
        wire.finish().await;
        wire.closed().await;
        // No listener is for visitors, so the authority is the listener's own.
        assert_eq!(*line.taken()[0].facts.authority, *own.address.to_string());
    });
}
