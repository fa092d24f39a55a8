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

/// A handshake in memory: the protocol agreed on, or what the client says.
async fn shake(
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
async fn the_development_ca_is_believed_for_its_hosts() {
    let certs = certs(&["ptth.localhost", "*.ptth.localhost", "192.0.2.7"]);
    for host in ["ptth.localhost", "shop.ptth.localhost", "192.0.2.7", "localhost", "127.0.0.1", "::1"] {
        let alpn = shake(server(&certs), client(&certs), host).await;
        assert_eq!(alpn.unwrap_or_else(|e| panic!("{host}: {e}")).as_deref(), Some(&b"http/1.1"[..]));
    }
}

#[tokio::test]
async fn another_host_or_another_ca_is_explained() {
    let (ours, theirs) = (certs(&["a.test"]), certs(&["a.test"]));
    let why = |result: io::Result<_>| explain_io(&result.unwrap_err()).unwrap();
    let words = why(shake(server(&ours), client(&ours), "b.test").await);
    assert!(words.contains("not valid for b.test but for a.test, localhost,"), "{words}");
    let words = why(shake(server(&ours), client(&theirs), "a.test").await);
    assert!(words.contains("--ca FILE") && words.contains("\"ptth development CA "), "{words}");
    let words = why(shake(server(&ours), client(&theirs), "c.test").await);
    assert!(words.contains("somebody else answers in the relay's place"), "{words}");
    let none = client_config_for_none().unwrap();
    assert!(shake(server(&ours), none, "a.test").await.is_err());
}

/// The constraint is in the CA, and not only in what it happens to sign. Addresses have none: see [`super::dev`].
#[tokio::test]
async fn the_ca_speaks_for_no_other_name_even_if_its_key_does() {
    let narrow = certs(&["a.test"]);
    let key = rcgen::KeyPair::from_pem(&narrow.ca.key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&narrow.ca.cert, key).unwrap();
    let forged_key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["b.test".to_owned()]).unwrap();
    let forged = params.signed_by(&forged_key, &issuer).unwrap().pem();
    let server =
        server_config_from_pem(forged.as_bytes(), forged_key.serialize_pem().as_bytes(), &[]).unwrap();
    let error = shake(server, client(&narrow), "b.test").await.unwrap_err();
    assert!(explain_io(&error).is_some(), "{error}");
    assert!(error.to_string().contains("NameConstraint"), "{error}");
}

#[test]
fn files_are_named_when_they_do_not_fit() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let (one, two) = (certs(&["a.test"]), certs(&["a.test"]));
    let fails = |text: &str| {
        let error = server_config(&cert, &key, &[]).unwrap_err().to_string();
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
    assert!(server_config(&cert, &key, &[]).is_ok());

    let error = client_config(Some(&key), &[]).unwrap_err().to_string();
    assert!(error.contains("key.pem") && error.contains("CERTIFICATE"), "{error}");
    assert!(client_config(Some(&cert), &[]).is_ok());
}
