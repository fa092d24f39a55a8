//! What is asked for, and of whom.

use crate::exchange::{CLOSING, OK, at_origin, exchange, head, host, refused};
use crate::visitor::{Http2, request};
use crate::world::On;

const TARGETS: [&str; 14] = [
    "/",
    "//",
    "//evil.test/",
    "/a//b/",
    "/%2f%2F%2e%2E/",
    "/a/../b/./c/..",
    "/../../etc/passwd",
    "/;a=1/b;c",
    "/a?",
    "/?a=b&c=%20&d=?//../",
    "/a:b@c",
    "/~!$&'()*+,=",
    "/%00%0d%0aX:%20y",
    "/%zz%",
];

pub(crate) async fn as_they_came(on: On) {
    let world = on.world().await;
    for target in TARGETS {
        let ((got, _), _) = exchange(&world, head("GET", target, ""), CLOSING).await;
        assert_eq!(got.first, format!("GET {target} HTTP/1.1"));
    }
}

pub(crate) async fn a_long_one(on: On) {
    let world = on.world().await;
    let target = format!("/{}", "a".repeat(7_999));
    let ((got, _), _) = exchange(&world, head("GET", &target, ""), OK).await;
    assert_eq!(got.first, format!("GET {target} HTTP/1.1"));
}

pub(crate) async fn absolute_form(on: On) {
    let world = on.world().await;
    let request = format!("GET http://{}/a/../b?c HTTP/1.1\r\nHost: other.test\r\n\r\n", host());
    let ((got, _), _) = exchange(&world, request, OK).await;
    assert_eq!((&*got.first, got.get("host")), ("GET /a/../b?c HTTP/1.1", Some(&*host())));
}

pub(crate) async fn absolute_form_without_path(on: On) {
    let world = on.world().await;
    for (target, wanted) in [("", "/"), ("?a=b", "/?a=b")] {
        let request = format!("GET http://{}{target} HTTP/1.1\r\nHost: {}\r\n\r\n", host(), host());
        let ((got, _), _) = exchange(&world, request, CLOSING).await;
        assert_eq!(got.first, format!("GET {wanted} HTTP/1.1"));
    }
}

pub(crate) async fn asterisk_form(on: On) {
    let world = on.world().await;
    let ((got, _), _) = exchange(&world, head("OPTIONS", "*", ""), OK).await;
    assert_eq!(got.first, "OPTIONS * HTTP/1.1");
}

pub(crate) async fn of_an_http2_visitor(on: On) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    for target in TARGETS {
        let (answering, _) = visitor.begin(request("GET", target).body(()).unwrap(), true).await;
        let (mut origin, got) = at_origin(&world).await;
        assert_eq!(got.first, format!("GET {target} HTTP/1.1"));
        assert_eq!(got.get("host"), Some(&*host()));
        origin.send(CLOSING).await;
        assert_eq!(answering.whole().await.unwrap().body, "ok");
    }
}

pub(crate) async fn host_as_it_came(on: On) {
    let world = on.world().await;
    for host in [host().to_uppercase(), format!("{}:4711", host()), format!("{}.", host())] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let ((got, _), _) = exchange(&world, request, CLOSING).await;
        assert_eq!(got.get("host"), Some(&*host));
    }
}

pub(crate) async fn two_hosts(on: On) {
    let world = on.world().await;
    let host = host();
    for hosts in [
        format!("Host: {host}\r\nHost: {host}\r\n"),
        format!("Host: {host}\r\nHost: other.test\r\n"),
        String::new(),
        "Host:\r\n".to_owned(),
        format!("Host: {host}, other.test\r\n"),
        format!("Host: user@{host}\r\n"),
        format!("Host: {host}/x\r\n"),
    ] {
        assert_eq!(refused(&world, format!("GET / HTTP/1.1\r\n{hosts}\r\n")).await, Some(400), "{hosts:?}");
    }
}

pub(crate) async fn host_against_authority(on: On) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    let asked = request("GET", "/").header("host", "other.test").body(()).unwrap();
    assert_eq!(visitor.ask(asked).await.unwrap().head.status(), 400);
    world.origin.quiet().await;
    let asked = request("GET", "/").header("host", host()).body(()).unwrap();
    let (answering, _) = visitor.begin(asked, true).await;
    let (mut origin, got) = at_origin(&world).await;
    assert_eq!(got.get("host"), Some(&*host()));
    origin.send(OK).await;
    assert_eq!(answering.whole().await.unwrap().body, "ok");
}
