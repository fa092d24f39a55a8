//! What a visitor's connection is for.

use crate::exchange::{OK, at_origin, head, host};
use crate::support::Wire;
use crate::world::On;

pub(crate) async fn http10(on: On) {
    let world = on.world().await;
    for (answer, wanted) in [
        (OK, "ok"),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "ok",
        ),
    ] {
        // With TLS, curl --http1.0 offers http/1.0 by ALPN and nothing else.
        let plain = world.relay.visitor().await;
        let encrypted = Wire::new(world.relay.tls_as(&host(), b"http/1.0").await);
        for mut visitor in [plain, encrypted] {
            visitor.send(format!("GET /old HTTP/1.0\r\nHost: {}\r\n\r\n", host())).await;
            let (mut origin, got) = at_origin(&world).await;
            assert_eq!(got.first, "GET /old HTTP/1.1");
            origin.send(answer.replace("200 OK\r\n", "200 OK\r\nConnection: close\r\n")).await;
            let answer = visitor.head().await;
            assert_eq!((answer.status(), answer.get("transfer-encoding")), (200, None));
            assert_eq!(visitor.rest().await, wanted);
        }
    }
}

pub(crate) async fn pipelined(on: On) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    let second = head("POST", "/2", "Content-Length: 3\r\n") + "two";
    visitor
        .send(format!("{}{second}{}", head("GET", "/1", ""), head("GET", "/3", "Connection: close\r\n")))
        .await;
    for (number, body) in [(1, ""), (2, "two"), (3, "")] {
        let (mut origin, got) = at_origin(&world).await;
        assert_eq!(got.first.split(' ').nth(1), Some(&*format!("/{number}")));
        assert_eq!(origin.body(&got).await, body);
        origin
            .send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{number}"))
            .await;
    }
    for number in ["1", "2", "3"] {
        assert_eq!(visitor.message().await.1, number);
    }
    visitor.closed().await;
}

pub(crate) async fn connection_close_is_obeyed(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) = world.begin("GET", "/", "Connection: close\r\n").await;
    origin.send(OK).await;
    let answer = visitor.head().await;
    assert_eq!(
        (answer.get("connection").map(str::to_ascii_lowercase).as_deref(), visitor.rest().await.as_ref()),
        (Some("close"), &b"ok"[..])
    );
}

pub(crate) async fn a_connection_is_kept_alive(on: On) {
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    for number in 0..5 {
        visitor.send(head("GET", &format!("/{number}"), "")).await;
        let (mut origin, got) = at_origin(&world).await;
        assert_eq!(got.first, format!("GET /{number} HTTP/1.1"));
        // That the origin closes concerns nobody else.
        origin.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(visitor.message().await.1, "ok");
    }
}
