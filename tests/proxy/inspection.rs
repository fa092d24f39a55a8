//! A company that opens TLS: the right relay behind a certificate of the company's own making.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::process::Process;
use crate::site::Site;

/// An inspector in front of the site's relay: its port. Its root is `corp.pem`; its certificate is for `host`.
pub(crate) fn inspector(site: &Site, host: &str) -> u16 {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "Corp Inspection CA");
    let ca_key = KeyPair::generate().unwrap();
    fs::write(site.at("corp.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([host.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
    let server =
        ptth::internals::tls::server_config_from_pem(leaf.as_bytes(), key.serialize_pem().as_bytes(), &[])
            .unwrap();
    let client = ptth::internals::tls::client_config(Some(&site.at("certs/ca.pem")), &[]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, relay) = (listener.local_addr().unwrap().port(), site.port);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (server, client) = (server.clone(), client.clone());
            std::thread::spawn(move || inspect(stream, relay, server, client));
        }
    });
    port
}

fn inspect(
    near: TcpStream,
    relay: u16,
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    near.set_nonblocking(true)?;
    runtime.block_on(async {
        let near = TlsAcceptor::from(server).accept(tokio::net::TcpStream::from_std(near)?).await;
        let far = tokio::net::TcpStream::connect(("127.0.0.1", relay)).await?;
        let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
        let mut far = TlsConnector::from(client).connect(name, far).await?;
        tokio::io::copy_bidirectional(&mut near?, &mut far).await.map(drop)
    })
}

#[test]
fn a_tls_inspector_is_named_and_can_be_trusted() {
    let site = Site::new();
    let port = inspector(&site, "localhost");
    let relay = format!("https://localhost:{port}");
    let line = Process::start(&mut site.agent(&relay)).logs("the certificate of the relay");
    for wanted in
        ["issued by \"Corp Inspection CA\"", "on the way intercepts TLS", "pass its root with --ca FILE"]
    {
        assert!(line.contains(wanted), "{line}");
    }
    // What it advises works.
    site.serves(&mut site.agent_trusting(&relay, "corp.pem"));
}

#[test]
fn a_captive_portal_is_distinguished_from_a_tls_inspector() {
    let site = Site::new();
    let port = inspector(&site, "login.hotel.test");
    let line = Process::start(&mut site.agent(&format!("https://localhost:{port}")))
        .logs("the certificate of the relay");
    assert!(line.contains("for another host") && line.contains("login in a browser"), "{line}");
}
