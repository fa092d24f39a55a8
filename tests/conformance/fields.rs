//! What a visitor may say, and what the relay says.

use crate::answers::answer;
use crate::support::named;
use crate::world::{NAME, On};

pub(crate) async fn forwarding_fields_are_set_by_the_relay(on: On) {
    let world = on.world().await;
    let spoofed = "Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
                   X-Forwarded-Host: evil.test\r\nX-Real-IP: 1.2.3.4\r\nRequesting-Client: 1.2.3.4:5\r\n\
                   PTTH-Instance: x;boot=9\r\n";
    let (_visitor, _origin, head) = world.begin("GET", "/", spoofed).await;
    let host = named(NAME);
    assert_eq!(head.get("forwarded"), Some(&*format!("for=127.0.0.1;host=\"{host}\";proto=http")));
    assert_eq!(head.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.get("x-forwarded-proto"), Some("http"));
    assert_eq!(head.get("x-forwarded-host"), Some(&*host));
    assert_eq!(head.get("via"), Some("1.1 ptth"));
    for name in ["x-real-ip", "requesting-client", "ptth-instance"] {
        assert_eq!(head.get(name), None, "{name}");
    }
}

pub(crate) async fn an_encrypted_visitor(on: On) {
    let world = on.world().await;
    let host = format!("{}:{}", named(NAME), world.relay.tls.port());
    let mut visitor = world.relay.visitor_tls(&named(NAME)).await;
    visitor.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let mut origin = world.origin.accept().await;
    let head = origin.head().await;
    assert_eq!(head.get("x-forwarded-proto"), Some("https"));
    assert_eq!(head.get("x-forwarded-host"), Some(&*host));
    answer(&mut origin, &mut visitor).await;
}

pub(crate) async fn hop_by_hop_fields_are_not_forwarded(on: On) {
    let world = on.world().await;
    let mine = "Connection: keep-alive, X-Secret, close-not\r\nKeep-Alive: timeout=5\r\nX-Secret: s\r\n\
                Proxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nX-Mine: kept\r\n";
    let (mut visitor, mut origin, head) = world.begin("GET", "/", mine).await;
    for name in
        ["keep-alive", "x-secret", "proxy-connection", "te", "upgrade", "http2-settings", "connection"]
    {
        assert_eq!(head.get(name), None, "{name}: {head:?}");
    }
    assert_eq!(head.get("x-mine"), Some("kept"));
    origin
        .send(
            "HTTP/1.1 200 OK\r\nConnection: X-Theirs\r\nX-Theirs: s\r\nKeep-Alive: timeout=9\r\n\
             Upgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
        )
        .await;
    let head = visitor.head().await;
    for name in ["keep-alive", "x-theirs", "upgrade", "connection"] {
        assert_eq!(head.get(name), None, "{name}: {head:?}");
    }
    assert_eq!(visitor.body(&head).await, "ok");
}

pub(crate) async fn host_is_unchanged(on: On) {
    let world = on.world().await;
    for host in [named(NAME).to_uppercase(), format!("{}:4711", named(NAME)), format!("{}.", named(NAME))] {
        let mut visitor = world.relay.visitor().await;
        visitor.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        let mut origin = world.origin.accept().await;
        assert_eq!(origin.head().await.get("host"), Some(&*host));
        origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(visitor.message().await.1, "ok");
    }
}
