//! What is asked for, and of whom.

use crate::exchange::{CLOSING, OK, exchange, head, host, refusal, refused};
use crate::visitor::{Http2, request};
use crate::world::On;

const TARGETS: [&str; 11] = [
    "/",
    "//",
    "//evil.test/",
    "/a//b/",
    "/a%2f%2F%2e%2E/b",
    "/a/../b/./c/..",
    "/;a=1/b;c",
    "/a?",
    "/?a=b&c=%20&d=?//../",
    "/a:b@c",
    "/~!$&'()*+,=",
];

/// What a server that looks at paths may find odd.
const ODD: [&str; 4] = ["/../../etc/passwd", "/%2f%2F%2e%2E/", "/%00%0d%0aX:%20y", "/%zz%"];

pub(crate) async fn targets_pass_unchanged(on: On) {
    pass(on, &TARGETS).await;
}

pub(crate) async fn unusual_targets_pass_unchanged(on: On) {
    pass(on, &ODD).await;
}

async fn pass(on: On, targets: &[&str]) {
    let world = on.world().await;
    for target in targets {
        let ((got, _), _) = exchange(&world, head("GET", target, ""), CLOSING).await;
        assert_eq!(got.first, format!("GET {target} HTTP/1.1"));
    }
}

pub(crate) async fn a_long_target(on: On) {
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

pub(crate) async fn options_of_a_server(on: On) {
    let world = on.world().await;
    for (target, wanted) in [("", "*"), ("/", "/"), ("?a", "/?a")] {
        let request = format!("OPTIONS http://{}{target} HTTP/1.1\r\nHost: {}\r\n\r\n", host(), host());
        let ((got, _), _) = exchange(&world, request, CLOSING).await;
        assert_eq!(got.first, format!("OPTIONS {wanted} HTTP/1.1"));
    }
}

pub(crate) async fn asterisk_form(on: On) {
    let world = on.world().await;
    let ((got, _), _) = exchange(&world, head("OPTIONS", "*", ""), OK).await;
    assert_eq!(got.first, "OPTIONS * HTTP/1.1");
}

pub(crate) async fn targets_of_an_http2_visitor(on: On) {
    pass_over_http2(on, &TARGETS).await;
}

pub(crate) async fn unusual_targets_of_an_http2_visitor(on: On) {
    pass_over_http2(on, &ODD).await;
}

async fn pass_over_http2(on: On, targets: &[&str]) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    for target in targets {
        let (mut answering, _) = visitor.begin(request("GET", target).body(()).unwrap(), true).await;
        let (mut origin, got) = answering.at_origin(&world).await;
        assert_eq!(got.first, format!("GET {target} HTTP/1.1"));
        assert_eq!(got.get("host"), Some(&*host()));
        origin.send(CLOSING).await;
        assert_eq!(answering.whole().await.unwrap().body, "ok");
    }
}

pub(crate) async fn host_passes_unchanged(on: On) {
    let world = on.world().await;
    for host in [host().to_uppercase(), format!("{}:4711", host()), format!("{}.", host())] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let ((got, _), _) = exchange(&world, request, CLOSING).await;
        assert_eq!(got.get("host"), Some(&*host));
    }
}

pub(crate) async fn two_hosts_or_none(on: On) {
    let host = host();
    let same = format!("Host: {host}\r\nHost: {host}\r\n");
    are_refused(on, &[same, format!("Host: {host}\r\nHost: other.test\r\n"), String::new()]).await;
}

pub(crate) async fn malformed_hosts(on: On) {
    let host = host();
    let broken = [
        String::new(),
        format!("{host}, other.test"),
        format!("user@{host}"),
        format!("{host}/x"),
        format!("{host}:8x"),
    ];
    are_refused(on, &broken.map(|host| format!("Host: {host}\r\n"))).await;
}

async fn are_refused(on: On, hosts: &[String]) {
    let world = on.world().await;
    for hosts in hosts {
        let status = refused(&world, format!("GET / HTTP/1.1\r\n{hosts}\r\n")).await;
        assert_eq!(status, Some(400), "{hosts:?}");
    }
}

pub(crate) async fn hosts_beside_an_absolute_target(on: On) {
    let world = on.world().await;
    let host = host();
    for fields in [
        String::new(),
        "Host: \r\n".to_owned(),
        format!("Host: {host}:8x\r\n"),
        format!("Host: {host}\r\nHost: {host}\r\n"),
    ] {
        let status = refused(&world, format!("GET http://{host}/ HTTP/1.1\r\n{fields}\r\n")).await;
        assert_eq!(status, Some(400), "{fields:?}");
    }
}

pub(crate) async fn host_contradicts_authority(on: On) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    let asked = request("GET", "/").header("host", "other.test").body(()).unwrap();
    assert_eq!(visitor.fetch(asked).await.unwrap().head.status(), 400);
    world.origin.quiet().await;
    let asked = request("GET", "/").header("host", host()).body(()).unwrap();
    let (mut answering, _) = visitor.begin(asked, true).await;
    let (mut origin, got) = answering.at_origin(&world).await;
    assert_eq!(got.get("host"), Some(&*host()));
    origin.send(OK).await;
    assert_eq!(answering.whole().await.unwrap().body, "ok");
}

/// Bytes that should be percent-encoded (RFC 3986 §2), and that some clients send as they are.
pub(crate) async fn unencoded_bytes(on: On) {
    pass(on, &["/\"[]{}|\\^", "/?[]{}|\\^`", "/\u{e9}?\u{fc}"]).await;
}

pub(crate) async fn bytes_that_must_be_encoded(on: On) {
    let world = on.world().await;
    for target in ["/<", "/>", "/`", "/?<", "/?\"", "/#a", "/ a"] {
        let mut visitor = world.relay.visitor().await;
        visitor.send(head("GET", target, "")).await;
        let (answer, body) = refusal(&world, &mut visitor).await;
        assert_eq!(answer.status(), 400, "{target}");
        let names_cause = body.contains("percent-encoded") || target.contains(' ');
        assert!(names_cause && body.contains("bad-head"), "{target}: {body}");
    }
    let latin1 = [b"GET /\xe9 HTTP/1.1\r\nHost: ", host().as_bytes(), b"\r\n\r\n"].concat();
    assert_eq!(refused(&world, latin1).await, Some(400));
}
