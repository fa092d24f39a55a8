use std::net::{IpAddr, Ipv6Addr};

use super::*;

pub(super) fn certified(hosts: &[&str]) -> (Arc<rustls::ServerConfig>, rustls::RootCertStore) {
    let names: Vec<_> = hosts.iter().map(|&h| h.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    (Arc::new(config.unwrap()), roots)
}

/// A port without a listener.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_port_is_probed_on_both_loopback_addresses() {
    for ip in [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()] {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let raw = Raw { listener, origin: origin(&port.to_string()) };
        let probe = within(raw.origin.probe()).await;
        assert!(probe.answers);
        let shown = std::net::SocketAddr::new(ip, port);
        assert_eq!(probe.to_string(), format!("http://{shown} answers"));
        drop(raw.accept().await);
        let (_, response, _wire) = raw.fresh(get("/"), "HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(response.status(), 204);
    }
}

#[tokio::test]
async fn a_closed_port_is_reported_and_answered_502() {
    let port = free_port().await;
    let origin = origin(&port.to_string());
    let probe = within(origin.probe()).await;
    assert!(!probe.answers);
    assert_eq!(
        probe.to_string(),
        format!(
            "nothing listens on port {port} (tried 127.0.0.1 and [::1]): start your service; until then, \
             requests will be answered 502"
        )
    );
    let response = within(origin.answer(get("/"))).await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["proxy-status"], "ptth-agent; error=connection_refused");
    let body = text(response).await;
    assert!(body.contains("Start the service") && !body.contains(&port.to_string()), "{body}");
    let mut request = get("/");
    request.headers_mut().insert("accept", http::HeaderValue::from_static("text/html"));
    assert!(text(within(origin.answer(request)).await).await.starts_with("<!doctype html>"));
}

#[tokio::test]
async fn a_missing_socket_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let socket = origin(&format!("unix:{}/none.sock", directory.path().display()));
    assert!(!within(socket.probe()).await.answers);
    assert_eq!(within(socket.answer(get("/"))).await.status(), 502);
}

#[cfg(feature = "cli")]
#[tokio::test]
async fn a_missing_directory_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let files = origin(&directory.path().display().to_string());
    assert!(within(files.probe()).await.answers);
    drop(directory);
    assert!(!within(files.probe()).await.answers);
    assert_eq!(within(files.answer(get("/"))).await.status(), 404);
}

#[tokio::test]
async fn an_answer_that_is_not_http_becomes_a_502() {
    let raw = Raw::start().await;
    let (_, response, _wire) = raw.fresh(get("/"), "SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["proxy-status"], "ptth-agent; error=http_protocol_error");
}

#[tokio::test]
async fn a_connect_request_is_not_forwarded() {
    let request = http::Request::connect("db.test:5432").body(Body::empty()).unwrap();
    let response = within(Raw::start().await.origin.answer(request)).await;
    assert_eq!(response.status(), 501);
}

#[tokio::test]
async fn the_certificate_is_verified_and_the_sni_is_the_host() {
    let (server, roots) = certified(&["localhost"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = tokio_rustls::TlsAcceptor::from(server);
    let to = |roots| Origin::new(OriginTarget::parse(&target).unwrap(), Scope::new(), trust(roots));

    let serve = async {
        let (tcp, _) = within(listener.accept()).await.unwrap();
        let tls = within(acceptor.accept(tcp)).await.unwrap();
        assert_eq!(tls.get_ref().1.server_name(), Some("localhost"));
        let mut wire = Wire(tls);
        wire.head().await;
        wire.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    };
    let origin = to(roots);
    let (response, ()) = tokio::join!(within(origin.answer(get("/"))), serve);
    assert_eq!(response.status(), 204);

    let untrusting = to(rustls::RootCertStore::empty());
    let refuse = async {
        let (tcp, _) = within(listener.accept()).await.unwrap();
        assert!(within(acceptor.accept(tcp)).await.is_err());
    };
    let (response, ()) = tokio::join!(within(untrusting.answer(get("/"))), refuse);
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["proxy-status"], "ptth-agent; error=tls_certificate_error");
}
