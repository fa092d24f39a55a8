use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::dev::{CertHost, DevCerts, ephemeral};
use super::*;

fn certs(hosts: &[&str]) -> DevCerts {
    let hosts: Vec<CertHost> = hosts.iter().map(|host| host.parse().unwrap()).collect();
    ephemeral(&hosts).unwrap()
}

/// A handshake in memory: the negotiated protocol, or the client's error.
async fn handshake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    host: &str,
) -> io::Result<Option<Vec<u8>>> {
    let (near, far) = tokio::io::duplex(16 << 10);
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let (_, client) = tokio::join!(
        TlsAcceptor::from(server).accept(far),
        tokio::time::timeout(Duration::from_secs(30), TlsConnector::from(client).connect(name, near)),
    );
    Ok(client.unwrap()?.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
}

fn server(certs: &DevCerts) -> Arc<ServerConfig> {
    server_config_from_pem(certs.relay.cert.as_bytes(), certs.relay.key.as_bytes(), &[b"h2", b"http/1.1"])
        .unwrap()
}

fn client(certs: &DevCerts) -> Arc<ClientConfig> {
    client_config_from_pem(certs.ca.cert.as_bytes(), &[b"http/1.1"]).unwrap()
}

#[tokio::test]
async fn the_development_ca_is_trusted_for_its_hosts() {
    let certs = certs(&["ptth.localhost", "*.ptth.localhost", "192.0.2.7"]);
    for host in ["ptth.localhost", "shop.ptth.localhost", "192.0.2.7", "localhost", "127.0.0.1", "::1"] {
        let alpn = handshake(server(&certs), client(&certs), host).await;
        assert_eq!(alpn.unwrap_or_else(|e| panic!("{host}: {e}")).as_deref(), Some(&b"http/1.1"[..]));
    }
}

#[tokio::test]
async fn a_wrong_host_or_ca_is_explained() {
    let (ours, theirs) = (certs(&["a.test"]), certs(&["a.test"]));
    let explained = |result: io::Result<_>| explain_io(&result.unwrap_err()).unwrap();
    let text = explained(handshake(server(&ours), client(&ours), "b.test").await);
    assert!(text.contains("not valid for b.test but for a.test, localhost,"), "{text}");
    let text = explained(handshake(server(&ours), client(&theirs), "a.test").await);
    assert!(text.contains("--ca FILE") && text.contains("\"ptth development CA "), "{text}");
    let text = explained(handshake(server(&ours), client(&theirs), "c.test").await);
    assert!(text.contains("another server answers in the relay's place"), "{text}");
    let none = client_config_for_none().unwrap();
    assert!(handshake(server(&ours), none, "a.test").await.is_err());
}

/// The constraint is in the CA, and not only in the certificates that it signs. Addresses have no
/// constraint: see [`super::dev`].
#[tokio::test]
async fn the_ca_is_rejected_for_other_names_even_if_its_key_signs_them() {
    let narrow = certs(&["a.test"]);
    let key = rcgen::KeyPair::from_pem(&narrow.ca.key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&narrow.ca.cert, key).unwrap();
    let forged_key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["b.test".to_owned()]).unwrap();
    let forged = params.signed_by(&forged_key, &issuer).unwrap().pem();
    let server =
        server_config_from_pem(forged.as_bytes(), forged_key.serialize_pem().as_bytes(), &[]).unwrap();
    let error = handshake(server, client(&narrow), "b.test").await.unwrap_err();
    assert!(explain_io(&error).is_some(), "{error}");
    assert!(error.to_string().contains("NameConstraint"), "{error}");
}

#[test]
fn the_error_names_the_unusable_file() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let (one, two) = (certs(&["a.test"]), certs(&["a.test"]));
    let pair = PairFiles { cert: cert.clone(), key: key.clone() };
    let fails = |text: &str| {
        let error = pair.check().unwrap_err().to_string();
        assert!(error.contains(text) && !error.contains('\n'), "{error}");
    };
    fails("cert.pem");
    fs::write(&cert, &one.relay.cert).unwrap();
    fails("key.pem");
    fs::write(&key, "nothing").unwrap();
    fails("PRIVATE KEY");
    fs::write(&key, &two.relay.key).unwrap();
    fails("cannot be used");
    fs::write(&key, &one.relay.key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o660)).unwrap();
    fails("chmod go-w");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(pair.check().is_ok());

    let error = client_config(Some(&key), &[]).unwrap_err().to_string();
    assert!(error.contains("key.pem") && error.contains("CERTIFICATE"), "{error}");
    assert!(client_config(Some(&cert), &[]).is_ok());
}

/// The files of a relay, in a directory of their own.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new(pair: &dev::Pair) -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        site.write("cert.pem", &pair.cert);
        site.write("key.pem", &pair.key);
        site
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        files::replace(&self.at(name), 0o600, text.as_bytes()).unwrap();
    }

    fn pair(&self) -> PairFiles {
        PairFiles { cert: self.at("cert.pem"), key: self.at("key.pem") }
    }

    fn tls(&self) -> ServerTls {
        ServerTls::from_files(&[self.pair()], None).unwrap()
    }
}

/// Whether a client of this CA accepts the certificate that it is shown.
async fn is_shown(tls: &ServerTls, certs: &DevCerts, host: &str) -> bool {
    let (near, far) = tokio::io::duplex(16 << 10);
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let acceptor = tls.acceptor(Vec::new()).current();
    let results = tokio::join!(acceptor.accept(far), TlsConnector::from(client(certs)).connect(name, near));
    results.1.is_ok()
}

#[tokio::test]
async fn a_changed_pair_is_loaded_when_both_files_are_stable() {
    let (old, new) = (certs(&["a.test"]), certs(&["a.test"]));
    let site = Site::new(&old.relay);
    let tls = site.tls();
    let shows = async |certs| is_shown(&tls, certs, "a.test").await;
    assert!(shows(&old).await);
    assert!(!tls.reload(false).unsettled, "nothing has changed");

    site.write("cert.pem", &new.relay.cert);
    assert!(tls.reload(false).unsettled, "the new key may follow");
    site.write("key.pem", &new.relay.key);
    let reloaded = tls.reload(false);
    assert!(reloaded.unsettled && reloaded.failed.is_empty() && shows(&old).await, "{reloaded:?}");
    let reloaded = tls.reload(false);
    assert!(!reloaded.unsettled && reloaded.failed.is_empty(), "{reloaded:?}");
    let [replaced] = &reloaded.replaced[..] else { panic!("{reloaded:?}") };
    assert!(replaced.file == site.at("cert.pem") && replaced.contents.contains("serial"), "{replaced:?}");
    assert!(shows(&new).await && !shows(&old).await);
}

#[tokio::test]
async fn a_broken_pair_changes_nothing_and_is_reported_once() {
    let (old, new) = (certs(&["a.test"]), certs(&["a.test"]));
    let site = Site::new(&old.relay);
    let tls = site.tls();
    let half = &new.relay.cert[..new.relay.cert.len() / 2];
    for (cert, key, named) in [
        (&*new.relay.cert, &*old.relay.key, "key.pem"),
        (half, &new.relay.key, "cert.pem"),
        ("", &new.relay.key, "cert.pem"),
        (&old.relay.cert, "nothing", "key.pem"),
    ] {
        site.write("cert.pem", cert);
        site.write("key.pem", key);
        assert!(tls.reload(false).unsettled);
        let reloaded = tls.reload(false);
        let [error] = &reloaded.failed[..] else { panic!("{named}: {reloaded:?}") };
        assert!(error.to_string().contains(named) && reloaded.replaced.is_empty(), "{named}: {error}");
        let again = tls.reload(false);
        assert!(again.failed.is_empty() && !again.unsettled, "{named}: {again:?}");
        assert_eq!(tls.reload(true).failed.len(), 1, "a requested reload reports the error again");
        assert!(is_shown(&tls, &old, "a.test").await, "{named}");
    }
    fs::remove_file(site.at("key.pem")).unwrap();
    assert!(tls.reload(true).failed[0].to_string().contains("key.pem"));
    site.write("cert.pem", &old.relay.cert);
    site.write("key.pem", &old.relay.key);
    let reloaded = tls.reload(true);
    assert!(reloaded.failed.is_empty() && reloaded.replaced.is_empty(), "{reloaded:?}");
    site.write("cert.pem", &new.relay.cert);
    site.write("key.pem", &new.relay.key);
    assert_eq!(tls.reload(true).replaced.len(), 1, "at once");
    assert!(is_shown(&tls, &new, "a.test").await);
}

#[tokio::test]
async fn a_directory_swapped_by_a_symlink_is_noticed() {
    let (old, new) = (certs(&["a.test"]), certs(&["a.test"]));
    let site = Site::new(&old.relay);
    let link = |from: &str| {
        std::os::unix::fs::symlink(from, site.at("next")).unwrap();
        fs::rename(site.at("next"), site.at("live")).unwrap();
    };
    for (name, pair) in [("1", &old.relay), ("2", &new.relay)] {
        fs::create_dir(site.at(name)).unwrap();
        site.write(&format!("{name}/cert.pem"), &pair.cert);
        site.write(&format!("{name}/key.pem"), &pair.key);
    }
    link("1");
    let files = PairFiles { cert: site.at("live/cert.pem"), key: site.at("live/key.pem") };
    let tls = ServerTls::from_files(&[files], None).unwrap();
    link("2");
    tls.reload(false);
    assert_eq!(tls.reload(false).replaced.len(), 1);
    assert!(is_shown(&tls, &new, "a.test").await);
}

#[tokio::test]
async fn each_host_is_shown_its_own_certificate() {
    let (one, two) = (certs(&["a.test"]), certs(&["b.test", "*.b.test"]));
    let site = Site::new(&one.relay);
    site.write("two.pem", &two.relay.cert);
    site.write("two-key.pem", &two.relay.key);
    let second = PairFiles { cert: site.at("two.pem"), key: site.at("two-key.pem") };
    let tls = ServerTls::from_files(&[site.pair(), second], None).unwrap();
    for (certs, host) in [(&one, "a.test"), (&one, "127.0.0.1"), (&two, "b.test"), (&two, "x.b.test")] {
        assert!(is_shown(&tls, certs, host).await, "{host}");
    }
    let covers = |host: &str| tls.covers(&crate::domain::HostName::parse(host).unwrap());
    assert_eq!((covers("x.b.test"), covers("c.test")), (Some(true), Some(false)));
    assert_eq!(ServerTls::from(server(&one)).covers(&"a.test".parse().unwrap()), None, "not known");
}

/// Whether a client's handshake succeeds, and whether it resumed a session.
async fn resumes(acceptor: &Acceptor, client: &Arc<ClientConfig>) -> Option<bool> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (near, far) = tokio::io::duplex(16 << 10);
    let name = ServerName::try_from("a.test").unwrap();
    let serve = async {
        let mut stream = acceptor.current().accept(far).await.ok()?;
        stream.write_all(b"x").await.ok()?;
        Some(stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed))
    };
    let connect = async {
        if let Ok(mut stream) = TlsConnector::from(client.clone()).connect(name, near).await {
            // The ticket arrives with the first byte.
            let _ = stream.read_u8().await;
        }
    };
    tokio::join!(serve, connect).0
}

#[tokio::test]
async fn new_client_cas_apply_at_once_and_invalidate_old_tickets() {
    let (one, two) = (certs(&["a.test"]), certs(&["a.test"]));
    let site = Site::new(&one.relay);
    site.write("clients.pem", &one.ca.cert);
    let tls = ServerTls::from_files(&[site.pair()], Some(&site.at("clients.pem"))).unwrap();
    let acceptor = tls.acceptor(Vec::new());
    let agent = |certs: &DevCerts| {
        site.write("agent.pem", &certs.agent.cert);
        site.write("agent-key.pem", &certs.agent.key);
        with_identity(&client(&one), &site.at("agent.pem"), &site.at("agent-key.pem")).unwrap()
    };
    let (ours, theirs) = (agent(&one), agent(&two));
    assert_eq!(resumes(&acceptor, &ours).await, Some(false));
    assert_eq!(resumes(&acceptor, &ours).await, Some(true), "its session is resumed");
    assert_eq!(resumes(&acceptor, &theirs).await, None);

    site.write("clients.pem", "nothing");
    assert!(tls.reload(true).failed[0].to_string().contains("clients.pem"));
    assert_eq!(resumes(&acceptor, &ours).await, Some(true), "the old CA stays");

    site.write("clients.pem", &two.ca.cert);
    assert_eq!(tls.reload(true).replaced.len(), 1);
    assert_eq!(resumes(&acceptor, &ours).await, None, "its CA is not trusted any more");
    assert_eq!(resumes(&acceptor, &theirs).await, Some(false));
    assert_eq!(resumes(&acceptor, &client(&one)).await, Some(false), "visitors need none");
}
