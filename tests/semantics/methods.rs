//! Methods.

use http::Request;

use crate::exchange::{CLOSING, exchange, head, host, refusal, refused};
use crate::visitor::Http2;
use crate::world::On;

/// The registry of IANA, but CONNECT and the PRI of HTTP/2.
const METHODS: [&str; 39] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
    "QUERY",
    "*",
];

pub(crate) async fn every_method(on: On) {
    let world = on.world().await;
    for method in METHODS {
        passes(&world, method).await;
    }
}

async fn passes(world: &crate::world::World, method: &str) {
    let answer = if method == "HEAD" { CLOSING.trim_end_matches("ok") } else { CLOSING };
    let ((got, _), (answered, _)) = exchange(world, head(method, "/a?b", ""), answer).await;
    assert_eq!(got.first, format!("{method} /a?b HTTP/1.1"));
    assert_eq!(answered.status(), 200);
}

pub(crate) async fn an_unregistered_method(on: On) {
    let world = on.world().await;
    for method in ["BREW", "get", "M-SEARCH", "!#$%&'*+-.^_`|~0Az"] {
        passes(&world, method).await;
    }
}

pub(crate) async fn a_405_lists_the_methods(on: On) {
    let world = on.world().await;
    let connect = "CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\n\r\n".to_owned();
    let own = "DELETE / HTTP/1.1\r\nHost: ptth.localhost\r\n\r\n".to_owned();
    for (request, allowed) in
        [(connect, ""), (own, "GET, HEAD"), (head("TRACE", "/", "Max-Forwards: 0\r\n"), "OPTIONS")]
    {
        let mut visitor = world.relay.visitor().await;
        visitor.send(request).await;
        let (answer, _) = refusal(&world, &mut visitor).await;
        assert_eq!((answer.status(), answer.get("allow")), (405, Some(allowed)));
    }
}

pub(crate) async fn connect_is_refused(on: On) {
    let world = on.world().await;
    for target in [&*host(), "origin.test:22", "127.0.0.1:22"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host());
        let status = refused(&world, request).await;
        assert!(matches!(status, Some(400 | 404 | 405)), "{target}: {status:?}");
    }
    world.still_works().await;
}

pub(crate) async fn connect_over_http2_is_refused(on: On) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    let request = Request::connect(host()).body(()).unwrap();
    let (answering, stream) = visitor.begin(request, false).await;
    let status = answering.whole().await.unwrap().head.status().as_u16();
    assert!(matches!(status, 400 | 404 | 405), "{status}");
    drop(stream);
    world.origin.quiet().await;
    world.still_works().await;
}

pub(crate) async fn max_forwards(on: On) {
    let world = on.world().await;
    for method in ["OPTIONS", "TRACE"] {
        let ((got, _), _) = exchange(&world, head(method, "/", "Max-Forwards: 5\r\n"), CLOSING).await;
        assert_eq!(got.get("max-forwards"), Some("4"), "{method}");
    }
    // The field limits no other method.
    let ((got, _), _) = exchange(&world, head("GET", "/", "Max-Forwards: 0\r\n"), CLOSING).await;
    assert_eq!(got.get("max-forwards"), Some("0"));
    assert_eq!(refused(&world, head("OPTIONS", "/", "Max-Forwards: 0\r\n")).await, Some(204));
    let mut visitor = world.relay.visitor().await;
    visitor.send(head("TRACE", "/", "Cookie: a=1\r\nMax-Forwards: 0\r\n")).await;
    let (answer, body) = refusal(&world, &mut visitor).await;
    assert_eq!((answer.status(), answer.get("allow")), (405, Some("OPTIONS")));
    assert!(!body.contains("a=1"), "{body}");
}
