//! Client certificates: alone, beside a token, and required.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ptth::internals::agent::Fatal;
use ptth::internals::domain::{Name, Secret};
use ptth::internals::policy::Grants;
use ptth::internals::relay::config::{ClientCerts, Destination};
use ptth::internals::tls::{self, PairFiles, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use tempfile::TempDir;

use crate::support::relay::{DOMAIN, certs, trust};
use crate::support::{AgentPlan, TestRelay, serve, within};
use crate::ways::{NAME, Way, each, echo, relay, status, token};

/// A CA for agents, and what it has signed.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), ca.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(ca, key) }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What an agent shows that holds a certificate for these hosts.
    fn identity(&self, hosts: &[&str]) -> Arc<rustls::ClientConfig> {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(hosts).unwrap().signed_by(&key, &self.issuer).unwrap();
        fs::write(self.at("agent.pem"), cert.pem()).unwrap();
        fs::write(self.at("agent-key.pem"), key.serialize_pem()).unwrap();
        tls::with_identity(&trust(&[]), &self.at("agent.pem"), &self.at("agent-key.pem")).unwrap()
    }

    /// A relay that takes its certificates.
    fn relay(&self, mode: ClientCerts) -> TestRelay {
        self.relay_open(mode, false)
    }

    fn relay_open(&self, mode: ClientCerts, open: bool) -> TestRelay {
        let server = self.server(&self.at("ca.pem")).unwrap();
        relay(move |config| {
            config.tls = Some(server);
            config.client_certs = mode;
            config.open_registration = open;
            config.relay_http = vec![Destination::parse("192.0.2.1:9").unwrap()];
        })
    }

    fn server(&self, ca: &Path) -> Result<ServerTls, tls::TlsError> {
        let pair = &certs().relay;
        fs::write(self.at("relay.pem"), &pair.cert).unwrap();
        fs::write(self.at("relay-key.pem"), &pair.key).unwrap();
        let files = PairFiles { cert: self.at("relay.pem"), key: self.at("relay-key.pem") };
        ServerTls::from_files(&[files], Some(ca))
    }
}

/// An agent with what it shows.
fn agent(
    way: Way,
    relay: &TestRelay,
    token: Option<Secret>,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> AgentPlan {
    let mut plan = way.agent(relay, Secret::new("x"));
    plan.config.token = token;
    plan.config.tls = tls.unwrap_or_else(|| trust(&[]));
    plan
}

async fn refused(plan: &AgentPlan, what: &str) {
    let refused = within("the refusal", plan.start(echo()).connected()).await;
    assert!(matches!(&refused, Err(Fatal::Refused(why)) if why.contains(what)), "{what}: {refused:?}");
}

const SHOP: &str = "shop.ptth.localhost";

#[test]
fn a_certificate_admits_an_agent_without_a_token() {
    each(async |way: Way| {
        let authority = Authority::new();
        let relay = authority.relay(ClientCerts::Accepted);
        let shop = authority.identity(&[SHOP]);
        let served = serve(&agent(way, &relay, None, Some(shop)), echo()).await;
        assert_eq!(status(&relay, "").await, 200, "visitors need no certificate");
        // Another certificate of the same names is the same party.
        let _same = serve(&agent(way, &relay, None, Some(authority.identity(&[SHOP]))), echo()).await;
        drop(served);
        for other in [
            &["other.ptth.localhost"][..],
            &["ptth.localhost"],
            &["x.shop.ptth.localhost"],
            &["*.localhost"],
            &[],
        ] {
            refused(&agent(way, &relay, None, Some(authority.identity(other))), "403").await;
        }
        refused(&agent(way, &relay, None, None), "token").await;
        // A token alone goes on to do.
        let other =
            AgentPlan::new(&relay.url(), "other", relay.token(&["other"]), way.transport, way.carrier);
        let _other = serve(&other, echo()).await;
    });
}

#[test]
fn every_presented_credential_must_allow_the_claim() {
    each(async |way: Way| {
        let authority = Authority::new();
        for mode in [ClientCerts::Accepted, ClientCerts::Required] {
            let relay = authority.relay(mode);
            let right = || Some(authority.identity(&[SHOP]));
            let wrong = || Some(authority.identity(&["other.ptth.localhost"]));
            let token = |name: &str| Some(token(&relay.tokens, Grants::names([Name::parse(name).unwrap()])));
            refused(&agent(way, &relay, token("other"), right()), "403").await;
            refused(&agent(way, &relay, token(NAME), wrong()), "403").await;
            let bad = Some(Secret::new("ptth_0123456789ab_wrong"));
            refused(&agent(way, &relay, bad, right()), "token is not valid").await;
            if mode == ClientCerts::Required {
                refused(&agent(way, &relay, None, right()), "token").await;
                refused(&agent(way, &relay, token(NAME), None), "--cert").await;
            }
            let _agent = serve(&agent(way, &relay, token(NAME), right()), echo()).await;
            assert_eq!(status(&relay, "").await, 200, "visitors need no certificate");
            let mut visitor = relay.visitor_tls(SHOP).await;
            visitor.send(format!("GET / HTTP/1.1\r\nHost: {SHOP}\r\n\r\n")).await;
            assert_eq!(visitor.message().await.0.status(), 200);
        }
    });
}

#[test]
fn open_registration_still_requires_the_certificate() {
    each(async |way: Way| {
        let authority = Authority::new();
        let right = || Some(authority.identity(&[SHOP]));
        let relay = authority.relay_open(ClientCerts::Required, true);
        refused(&agent(way, &relay, None, None), "--cert").await;
        refused(&agent(way, &relay, Some(Secret::new("a word")), None), "--cert").await;
        refused(&agent(way, &relay, None, Some(authority.identity(&["other.ptth.localhost"]))), "403").await;
        let _agent = serve(&agent(way, &relay, None, right()), echo()).await;
        assert_eq!(status(&relay, "").await, 200);
        // Where it does as well as a token, it is one: it takes its name from whoever holds it with nothing.
        let relay = authority.relay_open(ClientCerts::Accepted, true);
        let mut first = agent(way, &relay, None, None);
        first.config.visitors = Some("net=(\"192.0.2.0/24\")".into());
        let _open = serve(&first, echo()).await;
        assert_eq!(status(&relay, "").await, 403);
        let _named = serve(&agent(way, &relay, None, right()), echo()).await;
        assert_eq!(status(&relay, "").await, 200, "the rules of the replaced agent still apply");
    });
}

#[test]
fn relaying_requires_the_certificate_of_an_agent() {
    crate::support::run(async {
        let authority = Authority::new();
        let relay = authority.relay_open(ClientCerts::Required, true);
        // What may be asked is judged first: this asks for a destination that is not listed.
        let ask = "POST /reversehttp/_relay/192.0.2.2:9 HTTP/1.1\r\nHost: ptth.localhost\r\nContent-Length: 0\r\n\r\n";
        for (identity, expected) in [(trust(&[]), "--cert"), (authority.identity(&[SHOP]), "not relayed to")]
        {
            let mut asker = tls(&relay, identity).await;
            asker.send(ask).await;
            let (head, body) = asker.message().await;
            assert!(body.contains(expected), "{head:?} {body}");
        }
    });
}

#[test]
fn a_certificate_of_another_ca_is_refused() {
    each(async |way: Way| {
        let (ours, theirs) = (Authority::new(), Authority::new());
        let relay = ours.relay(ClientCerts::Accepted);
        let mut forged = agent(way, &relay, None, Some(theirs.identity(&[SHOP]))).start(echo());
        let connected = tokio::time::timeout(4 * crate::support::QUIET, forged.connected()).await;
        assert!(!matches!(connected, Ok(Ok(_))), "{connected:?}");
        // Where certificates mean nothing, one is no credential.
        let relay = TestRelay::start();
        refused(&agent(way, &relay, None, Some(ours.identity(&[SHOP]))), "token").await;
    });
}

#[test]
fn an_unreadable_ca_is_an_error() {
    let authority = Authority::new();
    for (name, text) in [
        ("missing.pem", None),
        ("empty.pem", Some("")),
        ("text.pem", Some("nothing of the kind")),
        ("cut.pem", Some("-----BEGIN CERTIFICATE-----\nAAAA\n")),
        ("bad.pem", Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
    ] {
        if let Some(text) = text {
            fs::write(authority.at(name), text).unwrap();
        }
        let error = authority.server(&authority.at(name)).err();
        let error = error.unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(authority.server(&authority.at("ca.pem")).is_ok());
    let plain = std::panic::catch_unwind(|| {
        relay(|config| {
            config.listen.iter_mut().for_each(|listen| listen.tls = false);
            config.client_certs = ClientCerts::Required;
        })
    });
    assert!(plain.is_err(), "a relay without TLS cannot require certificates");
}

#[test]
fn a_sealed_url_requires_the_certificate_of_its_owner() {
    crate::support::run(async {
        let authority = Authority::new();
        let relay = authority.relay(ClientCerts::Accepted);
        let register =
            "POST /reversehttp?name=shop HTTP/1.1\r\nHost: ptth.localhost\r\nContent-Length: 0\r\n\r\n";
        let mut owner = tls(&relay, authority.identity(&[SHOP])).await;
        owner.send(register).await;
        let head = owner.message().await.0;
        assert_eq!(head.status(), 201);
        let private = head.get("location").unwrap().to_owned();
        let path = &private[private.find("/reversehttp").unwrap()..];
        let show = format!("GET {path} HTTP/1.1\r\nHost: ptth.localhost\r\n\r\n");
        for (identity, status) in [
            (authority.identity(&[SHOP]), 200),
            (authority.identity(&["other.ptth.localhost"]), 403),
            (trust(&[]), 403),
        ] {
            let mut asker = tls(&relay, identity).await;
            asker.send(&show).await;
            assert_eq!(asker.message().await.0.status(), status);
        }
    });
}

async fn tls(relay: &TestRelay, config: Arc<rustls::ClientConfig>) -> crate::support::Wire {
    let name = rustls::pki_types::ServerName::try_from(DOMAIN).unwrap();
    let tcp = tokio::net::TcpStream::connect(relay.tls).await.unwrap();
    crate::support::Wire::new(
        within("a handshake", tokio_rustls::TlsConnector::from(config).connect(name, tcp)).await.unwrap(),
    )
}

/// A resumed session brings the certificate of the session that it resumes, and never to another's connection.
#[test]
fn resumption_does_not_transfer_an_identity() {
    crate::support::run(async {
        let authority = Authority::new();
        let relay = authority.relay(ClientCerts::Accepted);
        let offer = |name: &str| {
            format!(
                "POST /reversehttp?name={name} HTTP/1.1\r\nHost: ptth.localhost\r\nContent-Length: 0\r\n\r\n"
            )
        };
        let register = async |config: &Arc<rustls::ClientConfig>, name: &str| {
            let host = rustls::pki_types::ServerName::try_from(DOMAIN).unwrap();
            let tcp = tokio::net::TcpStream::connect(relay.tls).await.unwrap();
            let stream = tokio_rustls::TlsConnector::from(config.clone()).connect(host, tcp).await.unwrap();
            let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            let mut wire = crate::support::Wire::new(stream);
            wire.send(offer(name)).await;
            (wire.message().await.0.status(), resumed)
        };
        let shop = authority.identity(&[SHOP]);
        assert_eq!(register(&shop, NAME).await, (201, false));
        assert_eq!(register(&shop, NAME).await, (204, true), "a resumed session keeps its identity");
        assert_eq!(register(&shop, "other").await, (403, true));
        // Others that would use the very same tickets: one with another certificate, one with none.
        let other = authority.identity(&["other.ptth.localhost"]);
        for (thief, own) in [(&*other, 201), (&*trust(&[]), 403)] {
            let mut config = thief.clone();
            config.resumption = shop.resumption.clone();
            let config = Arc::new(config);
            let (status, resumed) = register(&config, NAME).await;
            assert_eq!(status, 403, "resumed: {resumed}");
            assert_eq!(register(&config, "other").await.0, own);
        }
    });
}

/// Offers every ticket to every name, as no honest client does.
#[derive(Debug)]
struct ForAnyName(ClientSessionMemoryCache);

impl ForAnyName {
    fn one() -> ServerName<'static> {
        ServerName::try_from(DOMAIN).unwrap()
    }
}

impl ClientSessionStore for ForAnyName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(Self::one(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&Self::one())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(Self::one(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&Self::one())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&Self::one());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(Self::one(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&Self::one())
    }
}

/// nginx CVE-2025-23419: a session that began under the name of one tenant is not resumed under that of another.
#[test]
fn a_tls_session_is_resumed_only_under_its_name() {
    crate::support::run(async {
        let authority = Authority::new();
        let relay = authority.relay(ClientCerts::Accepted);
        let mut config = (*authority.identity(&[SHOP])).clone();
        config.resumption = Resumption::store(Arc::new(ForAnyName(ClientSessionMemoryCache::new(8))));
        let config = Arc::new(config);
        let resumes = async |host: &str| {
            let name = ServerName::try_from(host.to_owned()).unwrap();
            let tcp = tokio::net::TcpStream::connect(relay.tls).await.unwrap();
            let stream = tokio_rustls::TlsConnector::from(config.clone()).connect(name, tcp).await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            // The ticket comes with the first answer.
            let mut wire = crate::support::Wire::new(stream);
            wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            wire.message().await;
            kind == Some(rustls::HandshakeKind::Resumed)
        };
        assert!(!resumes(SHOP).await);
        assert!(resumes(SHOP).await, "a session of the same name");
        assert!(!resumes("other.ptth.localhost").await, "a session of another name");
        assert!(!resumes(DOMAIN).await, "a session of another name");
    });
}
