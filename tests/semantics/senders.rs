//! Who sent it.

use crate::exchange::{
    CLOSING, OK, at_origin, at_origin_unless_answered, exchange, head, host, lines, own_fields, refusal,
};
use crate::support::Wire;
use crate::visitor::{Http2, request};
use crate::world::{Before, FRONT, On, World};

const CLAIMS: &str = "Forwarded: for=1.2.3.4;proto=https\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
                      X-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\nX-Real-IP: 1.2.3.4\r\n\
                      X-Client-IP: 1.2.3.4\r\nTrue-Client-IP: 1.2.3.4\r\nRequesting-Client: 1.2.3.4:5\r\n\
                      X-Forwarded-Ssl: on\r\nX-Forwarded-Scheme: https\r\nX-Forwarded-Server: e\r\n\
                      Front-End-Https: on\r\nX-Original-Host: e\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n\
                      X-Cluster-Client-IP: 1.2.3.4\r\nCF-Connecting-IP: 1.2.3.4\r\nProxy: http://e\r\nRemote-User: e\r\n\
                      X-SSL-Client-Verify: SUCCESS\r\nX-Client-Cert: e\r\nX-Envoy-External-Address: 1.2.3.4\r\n\
                      PTTH-Instance: x;boot=9\r\nPTTH-Connections: 9\r\nPTTH-Exclusive: ?1\r\nPTTH-Anything: 1\r\n";

async fn only_relay_fields_arrive(on: On, claims: &str) {
    let world = on.world().await;
    let ((got, _), _) = exchange(&world, head("GET", "/", &format!("{claims}X-Mine: kept\r\n")), OK).await;
    assert_eq!(own_fields(&got), lines("X-Mine: kept\r\n"));
    let address = on.address().to_string();
    let node = if on.address().is_ipv6() { format!("\"[{address}]\"") } else { address.clone() };
    let forwarded = format!("for={node};host=\"{}\";proto=http", host());
    assert_eq!(got.get("forwarded"), Some(&*forwarded));
    assert_eq!(got.get("x-forwarded-for"), Some(&*address));
    assert_eq!(got.get("x-forwarded-proto"), Some("http"));
    assert_eq!(got.get("x-forwarded-host"), Some(&*host()));
}

pub(crate) async fn forged_forwarding_fields(on: On) {
    only_relay_fields_arrive(on, CLAIMS).await;
}

pub(crate) async fn forged_fields_with_underscores(on: On) {
    only_relay_fields_arrive(on, &CLAIMS.replace('-', "_").replace("1_2", "1-2")).await;
}

pub(crate) async fn via(on: On) {
    let world = on.world().await;
    for (version, passed) in [("1.1", "1.1 ptth"), ("1.0", "1.0 ptth")] {
        let request = format!("GET / HTTP/{version}\r\nHost: {}\r\nVia: 1.1 front\r\n\r\n", host());
        let ((got, _), _) = exchange(&world, request, CLOSING).await;
        assert_eq!(got.all("via").join(", "), format!("1.1 front, {passed}"));
    }
    let mut visitor = Http2::open(&world).await;
    let (mut answering, _) = visitor.begin(request("GET", "/").body(()).unwrap(), true).await;
    let (mut origin, got) = answering.at_origin(&world).await;
    assert_eq!(got.get("via"), Some("2.0 ptth"));
    origin.send(CLOSING).await;
    assert_eq!(answering.whole().await.unwrap().body, "ok");
}

pub(crate) async fn a_loop_ends(on: On) {
    let world = on.world().await;
    let via = |hops: usize| format!("Via: {}\r\n", vec!["1.1 ptth"; hops].join(", "));
    exchange(&world, head("GET", "/", &via(7)), CLOSING).await;
    let mut visitor = world.relay.visitor().await;
    visitor.send(head("GET", "/", &via(8))).await;
    let (answer, body) = refusal(&world, &mut visitor).await;
    assert_eq!(
        (answer.status(), answer.get("proxy-status")),
        (502, Some("ptth-relay; error=proxy_loop_detected"))
    );
    assert!(body.contains("(Via)"), "{body}");

    let (front, _looped) = on.looped().await;
    let (answer, body) = front.fetch(&head("GET", "/", "")).await;
    assert_eq!(
        (answer.status(), answer.get("proxy-status")),
        (502, Some("ptth-relay; error=proxy_loop_detected"))
    );
    assert!(body.contains("(Via)"), "{body}");
}

async fn connect_from_front(world: &World) -> Wire {
    world.relay.visitor_from(FRONT).await
}

pub(crate) async fn fields_of_a_trusted_proxy_are_extended(on: On) {
    let world = on.world_behind(Before::Proxy).await;
    let mut visitor = connect_from_front(&world).await;
    let claims = "X-Forwarded-For: 9.9.9.9, 192.0.2.7, 127.0.0.2\r\nX-Forwarded-Proto: https\r\n\
                  X-Forwarded-Host: front.test\r\nX-Real-IP: 192.0.2.7\r\nRequesting-Client: 1.2.3.4:5\r\n";
    visitor.send(head("GET", "/", claims)).await;
    let (mut origin, got) = at_origin(&world).await;
    assert_eq!(got.get("x-forwarded-for"), Some("9.9.9.9, 192.0.2.7, 127.0.0.2, 127.0.0.2"));
    assert_eq!(
        (got.get("x-forwarded-proto"), got.get("x-forwarded-host")),
        (Some("https"), Some("front.test"))
    );
    let (host, got_forwarded) = (host(), got.get("forwarded").unwrap());
    let forwarded =
        format!("for=192.0.2.7;host=\"{host}\";proto=https, for=127.0.0.2;host=\"{host}\";proto=http");
    assert_eq!(got_forwarded, forwarded);
    assert_eq!(own_fields(&got), lines("X-Real-IP: 192.0.2.7\r\n"));
    origin.send(CLOSING).await;
    assert_eq!(visitor.message().await.1, "ok");
    // Nobody else is believed.
    forged_fields_are_replaced(&world).await;
}

async fn forged_fields_are_replaced(world: &World) {
    let mut visitor = world.relay.visitor().await;
    visitor.send(head("GET", "/", CLAIMS)).await;
    let (mut origin, got) = at_origin_unless_answered(world, &mut visitor).await;
    let address = world.relay.plain.ip().to_string();
    assert_eq!((got.get("x-forwarded-for"), got.get("x-real-ip")), (Some(&*address), None));
    origin.send(CLOSING).await;
    assert_eq!(visitor.message().await.1, "ok");
}

pub(crate) async fn contradictory_forwarding_fields(on: On) {
    let world = on.world_behind(Before::Proxy).await;
    for claims in [
        "Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 192.0.2.7\r\n",
        "Forwarded: for=\"1.2.3.4, for=192.0.2.7\r\n",
    ] {
        let mut visitor = connect_from_front(&world).await;
        visitor.send(head("GET", "/", claims)).await;
        let (answer, body) = refusal(&world, &mut visitor).await;
        assert_eq!(answer.status(), 400);
        assert!(body.contains("unclear-sender"), "{body}");
    }
    world.origin.quiet().await;
}

async fn with_proxy_header(on: On, header: &[u8], remote: &str, proto: &str) {
    let world = on.world_behind(Before::Balancer).await;
    let mut visitor = connect_from_front(&world).await;
    let request = head("GET", "/", "X-Forwarded-For: 1.2.3.4\r\n");
    visitor.send([header, request.as_bytes()].concat()).await;
    let (mut origin, got) = at_origin(&world).await;
    assert_eq!((got.get("x-forwarded-for"), got.get("x-forwarded-proto")), (Some(remote), Some(proto)));
    origin.send(CLOSING).await;
    assert_eq!(visitor.message().await.1, "ok");
    forged_fields_are_replaced(&world).await;
}

pub(crate) async fn proxy_protocol_1(on: On) {
    with_proxy_header(on, b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", "192.0.2.7", "http").await;
    with_proxy_header(on, b"PROXY UNKNOWN\r\n", &FRONT.to_string(), "http").await;
}

const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

pub(crate) async fn proxy_protocol_2(on: On) {
    let ssl = [0x20, 0, 5, 1, 0, 0, 0, 0];
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 187];
    let header = [BINARY, &[0x21, 0x11, 0, 20], &addresses, &ssl].concat();
    with_proxy_header(on, &header, "192.0.2.7", "https").await;
    with_proxy_header(on, &[BINARY, &[0x20, 0, 0, 0]].concat(), &FRONT.to_string(), "http").await;
}

pub(crate) async fn a_missing_proxy_header(on: On) {
    let world = on.world_behind(Before::Balancer).await;
    let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
    let unending = [BINARY, &[0x21, 0x11, 0xff, 0xff]].concat();
    for bytes in
        [head("GET", "/", "").as_bytes(), long.as_bytes(), &unending, b"PROXY TCP4 1.2.3.4\r\n", &[0x16; 64]]
    {
        let mut visitor = connect_from_front(&world).await;
        visitor.send(bytes).await;
        visitor.closed().await;
    }
    world.origin.quiet().await;
    forged_fields_are_replaced(&world).await;
}

pub(crate) async fn an_untrusted_proxy_header(on: On) {
    let world = on.world_behind(Before::Balancer).await;
    for header in
        [&b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"[..], &[BINARY, &[0x20, 0, 0, 0]].concat()]
    {
        let mut visitor = world.relay.visitor().await;
        visitor.send([header, head("GET", "/", "").as_bytes()].concat()).await;
        let status = tokio::select! {
            status = visitor.answer_status() => status,
            (_, head) = at_origin(&world) => panic!("the origin got a request: {}", head.first),
        };
        assert!(matches!(status, None | Some(400)), "{status:?}");
    }
    world.origin.quiet().await;
    forged_fields_are_replaced(&world).await;
}
