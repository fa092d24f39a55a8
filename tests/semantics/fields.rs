//! Fields.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::exchange::{CLOSING, OK, at_origin, exchange, head, lines, own_fields, refusal};
use crate::support::{DOMAIN, Head};
use crate::visitor::{Http2, request};
use crate::world::On;

fn answer(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok")
}

/// What is sent is what arrives, both ways.
async fn pass(on: On, fields: &str) {
    let world = on.world().await;
    let ((got, _), (answered, _)) = exchange(&world, head("GET", "/", fields), answer(fields)).await;
    assert_eq!(own_fields(&got), lines(fields));
    assert_eq!(own_fields(&answered), lines(fields));
}

pub(crate) async fn repeated_fields_keep_their_order(on: On) {
    pass(on, "X-A: 1\r\nX-B: 2\r\nX-A: 3, 4\r\nAccept: b\r\nX-A: 1\r\nAccept: a\r\n").await;
}

pub(crate) async fn set_cookies(on: On) {
    let world = on.world().await;
    let fields = "Set-Cookie: a=1; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT\r\nSet-Cookie: b=2\r\n\
                  Set-Cookie: a=3; HttpOnly; SameSite=Lax\r\n";
    let (_, (answered, _)) = exchange(&world, head("GET", "/", ""), answer(fields)).await;
    assert_eq!(own_fields(&answered), lines(fields));
}

pub(crate) async fn cookie_crumbs(on: On) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    let asked =
        request("GET", "/").header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3; d=4");
    let (answering, _) = visitor.begin(asked.body(()).unwrap(), true).await;
    let (mut origin, got) = at_origin(&world).await;
    assert_eq!(got.get("cookie"), Some("a=1; b=2; c=3; d=4"));
    origin.send(OK).await;
    assert_eq!(answering.whole().await.unwrap().body, "ok");
}

pub(crate) async fn large_fields(on: On) {
    let large: String = (0..8).map(|n| format!("X-Large-{n}: {}\r\n", "x".repeat(8_170))).collect();
    assert!(large.len() > 64_000);
    pass(on, &large).await;
}

pub(crate) async fn bytes_beyond_ascii(on: On) {
    let world = on.world().await;
    let value: Vec<u8> = (0x80..=0xff).chain([b'\t', b' ', b'!', b'~']).collect();
    let line = [b"X-Bytes: ", &value[..], b"\r\n"].concat();
    let place = |text: &str| {
        let (before, after) = text.split_once("{here}").unwrap();
        [before.as_bytes(), &line, after.as_bytes()].concat()
    };
    let mut visitor = world.relay.visitor().await;
    visitor.send(place(&head("GET", "/", "{here}"))).await;
    let mut origin = world.origin.accept().await;
    let has = |head: Bytes| head.windows(value.len()).any(|window| window == value);
    assert!(has(origin.head_bytes().await));
    origin.send(place(&answer("{here}"))).await;
    assert!(has(visitor.head_bytes().await));
}

pub(crate) async fn unusual_field_values(on: On) {
    pass(
        on,
        "X-Empty:\r\nX-Inner: a  b\tc\r\nX-Quoted: \"a, \\\"b\\\"; c\"\r\nX-List: ,, a ,,b\r\nX-Colon: a:b\r\n",
    )
    .await;
}

pub(crate) async fn unusual_field_names(on: On) {
    pass(on, "X_Low: kept\r\nX.Dot: kept\r\nX!#$%&'*+^`|~: kept\r\n1: kept\r\n").await;
}

pub(crate) async fn server_and_date_are_the_origins(on: On) {
    let world = on.world().await;
    let theirs = "Server: theirs/1.0 (old)\r\nX-Powered-By: steam\r\n";
    let at = "Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n";
    let request = || head("GET", "/", "");
    let closing = format!("{at}{theirs}Connection: close\r\n");
    let (_, (answered, _)) = exchange(&world, request(), answer(&closing)).await;
    assert_eq!(answered.get("date"), Some("Tue, 15 Nov 1994 08:12:31 GMT"));
    assert_eq!(
        (answered.get("server"), answered.get("x-powered-by")),
        (Some("theirs/1.0 (old)"), Some("steam"))
    );
    // Who made none is not given one.
    let (_, (answered, _)) = exchange(&world, request(), answer("")).await;
    assert_eq!(answered.get("server"), None);
}

/// Names that some server on the way takes for itself.
pub(crate) async fn fields_that_instruct_other_proxies(on: On) {
    let fields = "X-Accel-Redirect: /elsewhere\r\nX-Accel-Expires: 5\r\nX-Sendfile: /etc/passwd\r\nX-Pad: x\r\nSurrogate-Control: no-store\r\n";
    let world = on.world().await;
    let mut visitor = world.relay.visitor().await;
    visitor.send(head("GET", "/", fields)).await;
    let (mut origin, got) = at_origin(&world).await;
    assert_eq!(own_fields(&got), lines(fields));
    origin.send(answer(&format!("Connection: close\r\n{fields}"))).await;
    tokio::select! {
        answered = visitor.head() => assert_eq!(own_fields(&answered), lines(fields)),
        (_, head) = at_origin(&world) => panic!("the origin got another request: {}", head.first),
    }
}

pub(crate) async fn hop_by_hop(on: On) {
    let world = on.world().await;
    let of_the_hop = "Connection: x-secret\r\nKeep-Alive: timeout=5\r\nX-Secret: s\r\nProxy-Connection: x\r\n\
                      Upgrade: h2c\r\nHTTP2-Settings: AAA\r\n";
    let fields = format!("{of_the_hop}TE: gzip\r\nX-Mine: kept\r\n");
    let theirs = format!("{of_the_hop}X-Theirs: kept\r\n");
    let ((got, _), (answered, _)) = exchange(&world, head("GET", "/", &fields), answer(&theirs)).await;
    assert_eq!(own_fields(&got), lines("X-Mine: kept\r\n"));
    assert_eq!(own_fields(&answered), lines("X-Theirs: kept\r\n"));
}

pub(crate) async fn protected_fields_named_by_connection(on: On) {
    let world = on.world().await;
    let fields = "Connection: X-Forwarded-For, X-Forwarded-Proto, Forwarded, Host, Content-Length, Authorization, Cookie\r\n\
                  Authorization: Basic eDp5\r\nCookie: a=1\r\nContent-Length: 2\r\n";
    let (_, unsaid) = fields.split_once("\r\n").unwrap();
    let ((wanted, _), _) = exchange(&world, head("POST", "/", unsaid) + "hi", CLOSING).await;
    let ((got, body), _) = exchange(&world, head("POST", "/", fields) + "hi", OK).await;
    assert_eq!(body, "hi");
    let names =
        |head: &Head| head.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect::<BTreeSet<_>>();
    assert_eq!(names(&got), names(&wanted));
}

pub(crate) async fn cookie_domains_of_other_names(on: On) {
    let world = on.world().await;
    let own = crate::exchange::host();
    let fields = format!(
        "Set-Cookie: a=1; Domain={DOMAIN}; Path=/\r\nSet-Cookie: b=2; Secure; domain=.LOCALHOST\r\n\
         Set-Cookie: c=3; Domain={own}; Path=/\r\nSet-Cookie: d=4; Domain=other.test\r\n"
    );
    let (_, (answered, _)) = exchange(&world, head("GET", "/", ""), answer(&fields)).await;
    let (kept, other) = (format!("c=3; Domain={own}; Path=/"), "d=4; Domain=other.test");
    assert_eq!(answered.all("set-cookie"), ["a=1; Path=/", "b=2; Secure", &kept, other]);
}

pub(crate) async fn many_fields(on: On) {
    let many: String = (0..300).map(|n| format!("X-Many-{n}: {n}\r\n")).collect();
    pass(on, &many).await;
    let cookies: String = (0..300).map(|n| format!("Set-Cookie: c{n}=v\r\n")).collect();
    let world = on.world().await;
    let (_, (answered, _)) = exchange(&world, head("GET", "/", ""), answer(&cookies)).await;
    assert_eq!(answered.all("set-cookie").len(), 300);
}

pub(crate) async fn space_before_a_colon(on: On) {
    let world = on.world().await;
    let (_, (answered, _)) = exchange(&world, head("GET", "/", ""), answer("X-Device : cam\r\n")).await;
    assert_eq!(answered.get("x-device"), Some("cam"));
    let mut visitor = world.relay.visitor().await;
    visitor.send(head("GET", "/", "X-Device : cam\r\n")).await;
    let (answer, _) = refusal(&world, &mut visitor).await;
    assert_eq!(answer.status(), 400);
}
