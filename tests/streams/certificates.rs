//! Streams of a transport that needs client certificates.

use std::fs;
use std::sync::Arc;

use ptth::internals::relay::config::{ClientCerts, RelayConfig};
use ptth::internals::tls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use crate::line::Line;
use crate::support::relay::{certs, connect, trust};
use crate::support::{DOMAIN, Plan, TestRelay, Wire, named, run, within};
use crate::world::{Agent, NAME, call, own_listeners, refused, relay, served};

/// What agents show, and what the relay believes.
struct Identity {
    dir: TempDir,
    agent: Arc<rustls::ClientConfig>,
}

impl Identity {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(at("ca.pem"), ca.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(ca, key);
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new([named(NAME)]).unwrap().signed_by(&key, &issuer).unwrap();
        fs::write(at("agent.pem"), cert.pem()).unwrap();
        fs::write(at("agent-key.pem"), key.serialize_pem()).unwrap();
        fs::write(at("relay.pem"), &certs().relay.cert).unwrap();
        fs::write(at("relay-key.pem"), &certs().relay.key).unwrap();
        let agent = tls::with_identity(&trust(&[]), &at("agent.pem"), &at("agent-key.pem")).unwrap();
        Self { dir, agent }
    }

    /// Makes a relay take certificates.
    fn accept_certificates(&self) -> impl FnOnce(&mut RelayConfig) + use<> {
        let at = |name: &str| self.dir.path().join(name);
        let clients = at("ca.pem");
        let pair = tls::PairFiles { cert: at("relay.pem"), key: at("relay-key.pem") };
        let server = tls::ServerTls::from_files(&[pair], Some(&clients)).unwrap();
        move |config| {
            config.tls = Some(server);
            config.client_certs = ClientCerts::Accepted;
            // The plain listener of the transport cannot have certificates.
            config.listen.retain(|listen| listen.tls || listen.transport.is_none());
        }
    }
}

fn line() -> Line {
    Line { certificate: true, ..Line::new() }
}

#[test]
fn alpn_ids_are_offered_only_where_certificates_are_accepted() {
    run(async {
        let line = line();
        let transport = line.clone();
        let change = Box::new(|config: &mut RelayConfig| config.transports = vec![Arc::new(transport)]);
        let relay = TestRelay::planned(Plan { change, ..Plan::default() });
        let name = ServerName::try_from(DOMAIN).unwrap();
        let connecting = TlsConnector::from(trust(&[b"line/1"])).connect(name, connect(relay.tls).await);
        let error = within("a handshake", connecting).await.unwrap_err();
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
        assert!(line.taken().is_empty());
    });
}

#[test]
fn a_stream_without_a_certificate_is_closed() {
    run(async {
        let (line, identity) = (line(), Identity::new());
        let relay = relay(&line, identity.accept_certificates());
        let [_, _, own] = relay.listeners() else { panic!("three listeners") };
        for (number, port) in [relay.tls.port(), own.address.port()].into_iter().enumerate() {
            let name = ServerName::try_from(DOMAIN).unwrap();
            let address = ([127, 0, 0, 1], port).into();
            let stream = TlsConnector::from(trust(&[b"line/2"])).connect(name, connect(address).await).await;
            Wire::new(stream.unwrap()).closed().await;
            assert!(line.taken().is_empty(), "the stream reached the transport");
            refused(&relay, "bad-credential", number as u64 + 1).await;

            let call = call("https", port, None);
            call.credentials.replace_tls(identity.agent.clone());
            let _agent = Agent::start(&line, call, "certified").await;
            served(&relay, "certified").await;
            let certificate = line.taken().remove(0).facts.certificate.unwrap();
            assert_eq!(certificate.hosts, [named(NAME).into()]);
        }
    });
}

/// A transport that needs none is told of one all the same.
#[test]
fn an_optional_certificate_is_passed_to_the_transport() {
    run(async {
        let (line, identity) = (Line::new(), Identity::new());
        let taken = identity.accept_certificates();
        let relay = relay(&line, |config| {
            let listen = config.listen.clone();
            taken(config);
            config.listen = listen;
        });
        let [tls, _] = own_listeners(&relay);
        let call = call("https", tls.port(), None);
        call.credentials.replace_tls(identity.agent.clone());
        let _agent = Agent::start(&line, call, "certified").await;
        served(&relay, "certified").await;
        assert!(line.taken()[0].facts.certificate.is_some());
    });
}
