use super::*;
use crate::defaults;
use crate::message::login::VisitorMark;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_request_is_forwarded_unchanged_without_hop_by_hop_fields() {
    let raw = Raw::start().await;
    let request = http::Request::get("/a%2Fb//c?x=%20&y")
        .header("host", "shop.test:8443")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "5")
        .header("x-kept", "1")
        .body(Body::empty())
        .unwrap();
    let (head, mut response, _wire) = raw
        .fresh(request, "HTTP/1.1 200 Fine\r\nconnection: x-gone\r\nx-gone: 1\r\ncontent-length: 2\r\n\r\nok")
        .await;
    assert_eq!(head, "GET /a%2Fb//c?x=%20&y HTTP/1.1\r\nhost: shop.test:8443\r\nx-kept: 1\r\n\r\n");
    // Each carrier strips the answers that it sends.
    crate::message::hop::strip_answer(&mut response);
    assert_eq!(response.headers().len(), 1, "{:?}", response.headers());
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn bodies_keep_their_framing() {
    for (method, fields, body, wanted) in [
        ("POST", &[("content-length", "0")][..], Body::empty(), "content-length: 0\r\n\r\n"),
        ("GET", &[], Body::empty(), "x: 1\r\n\r\n"),
        ("POST", &[("content-length", "2")], Body::full("hi"), "content-length: 2\r\n\r\nhi"),
        ("GET", &[], unsized_body("hi"), "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        ("POST", &[], unsized_body("hi"), "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    ] {
        let raw = Raw::start().await;
        let mut request =
            http::Request::builder().method(method).uri("/").header("host", "shop.test").header("x", "1");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let serve = async {
            let mut wire = raw.accept().await;
            let received = wire.read_until(wanted).await;
            wire.write(OK).await;
            received
        };
        let (_, received) = tokio::join!(within(raw.origin.answer(request.body(body).unwrap())), serve);
        assert_eq!(
            received,
            format!(
                "{method} / HTTP/1.1\r\nhost: shop.test\r\nx: 1\r\n{}",
                wanted.trim_start_matches("x: 1\r\n")
            )
        );
    }
}

fn unsized_body(text: &'static str) -> Body {
    let frame = Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::from(text)));
    Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter([frame])))
}

#[tokio::test]
async fn the_connection_used_last_is_reused_first() {
    let raw = Raw::start().await;
    let (_, a, mut wire_a) = raw.fresh(get("/a"), OK).await;
    let (_, b, mut wire_b) = raw.fresh(get("/b"), OK).await;
    text(a).await;
    text(b).await;
    raw.wait_for_idle(2).await;
    for _ in 0..3 {
        text(raw.reuse(&mut wire_b, get("/again"), OK).await).await;
    }
    raw.wait_for_idle(2).await;
    assert!(wire_a.is_quiet().await);
}

#[tokio::test]
async fn a_request_on_a_dead_idle_connection_moves_to_a_fresh_one() {
    let raw = Raw::start().await;
    let (_, response, wire) = raw.fresh(get("/"), OK).await;
    text(response).await;
    raw.wait_for_idle(1).await;
    // Both ends arrive with one turn of the event queue, and this test runs before the connection's own task: the
    // connection gets a request before its task has seen the end.
    let near = TcpStream::connect(raw.listener.local_addr().unwrap()).await.unwrap();
    let far = raw.accept().await;
    drop((wire, far));
    near.readable().await.unwrap();
    assert_eq!(raw.idle(), 1);
    let request = http::Request::post("/")
        .header("host", "shop.test")
        .header("content-length", "2")
        .body(Body::full("hi"))
        .unwrap();
    let (head, response, _wire) = raw.fresh(request, OK).await;
    assert!(head.starts_with("POST / "), "{head}");
    assert_eq!(text(response).await, "ok");
}

/// A rested connection. The origin reads the next request on it and closes it.
async fn closing(raw: &Raw) -> impl Future<Output = ()> + use<> {
    let (_, response, mut wire) = raw.fresh(get("/"), OK).await;
    text(response).await;
    raw.wait_for_idle(1).await;
    tokio::time::sleep(2 * defaults::ORIGIN_RESTED).await;
    async move { drop(wire.head().await) }
}

#[tokio::test]
async fn a_post_without_an_answer_is_not_repeated() {
    let raw = Raw::start().await;
    let serve = closing(&raw).await;
    let post = http::Request::post("/").header("host", "shop.test").body(Body::empty()).unwrap();
    let (response, ()) = tokio::join!(within(raw.origin.answer(post)), serve);
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["proxy-status"], "ptth-agent; error=http_response_incomplete");
    assert!(futures_util::poll!(std::pin::pin!(raw.listener.accept())).is_pending(), "a second attempt");
}

#[tokio::test]
async fn a_get_without_an_answer_is_repeated_once_on_a_fresh_connection() {
    let raw = Raw::start().await;
    let serve = closing(&raw).await;
    let again = async {
        serve.await;
        let mut wire = raw.accept().await;
        assert!(wire.head().await.starts_with("GET /again "));
        wire.write(OK).await;
        wire
    };
    let (response, _wire) = tokio::join!(within(raw.origin.answer(get("/again"))), again);
    assert_eq!(text(response).await, "ok");

    let raw = Raw::start().await;
    let serve = closing(&raw).await;
    let refuse = async {
        serve.await;
        drop(raw.accept().await.head().await);
    };
    let (response, ()) = tokio::join!(within(raw.origin.answer(get("/"))), refuse);
    assert_eq!(response.status(), 502);
    assert!(futures_util::poll!(std::pin::pin!(raw.listener.accept())).is_pending(), "a third attempt");
}

#[tokio::test]
async fn a_visitor_that_leaves_before_the_answer_cancels_the_request() {
    let raw = Raw::start().await;
    let mut call = raw.origin.answer(get("/"));
    let mut wire = tokio::select! {
        _ = &mut call => panic!("the call ended before the origin answered"),
        wire = async { let mut wire = raw.accept().await; wire.head().await; wire } => wire,
    };
    drop(call);
    assert_eq!(wire.read_to_end().await, "");
    assert_eq!(raw.idle(), 0);
}

#[tokio::test]
async fn a_visitor_that_leaves_during_the_answer_cancels_the_request() {
    let raw = Raw::start().await;
    let answer =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
    let (_, response, mut wire) = raw.fresh(get("/events"), answer).await;
    let mut body = response.into_body();
    assert_eq!(within(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "ok");
    drop(body);
    assert_eq!(wire.read_to_end().await, "");
    raw.wait_for_idle(0).await;
}

#[tokio::test]
async fn an_unread_empty_body_does_not_close_the_connection() {
    let raw = Raw::start().await;
    let (_, response, mut wire) = raw.fresh(get("/"), "HTTP/1.1 204 No Content\r\n\r\n").await;
    drop(response);
    raw.wait_for_idle(1).await;
    text(raw.reuse(&mut wire, get("/"), OK).await).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_idle_connection_is_closed() {
    let raw = Raw::start().await;
    let (_, response, mut wire) = raw.fresh(get("/"), OK).await;
    text(response).await;
    raw.wait_for_idle(1).await;
    assert_eq!(wire.read_to_end().await, "");
    assert_eq!(raw.idle(), 0);
}

#[tokio::test]
async fn stopping_does_not_wait_for_idle_connections() {
    let scope = Scope::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = OriginTarget::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let origin = Origin::new(target, scope.clone(), trust(rustls::RootCertStore::empty()));
    let raw = Raw { listener, origin };
    let (_, response, _wire) = raw.fresh(get("/"), OK).await;
    text(response).await;
    raw.wait_for_idle(1).await;
    assert_eq!(within(scope.stop(Duration::from_secs(10))).await, 0);
}

#[tokio::test]
async fn an_early_answer_passes_while_the_upload_still_runs() {
    let raw = Raw::start().await;
    let (tx, body) = channel_body(1);
    let request = http::Request::post("/").header("host", "shop.test").body(body).unwrap();
    let (_, response, mut wire) =
        raw.fresh(request, "HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await;
    assert_eq!(response.status(), 413);
    assert_eq!(text(response).await, "no");
    assert_eq!(raw.idle(), 0, "no reuse before the upload has ended");
    tx.send("hi").await.unwrap();
    drop(tx);
    wire.read_until("2\r\nhi\r\n0\r\n\r\n").await;
    raw.wait_for_idle(1).await;
}

/// A body that the test feeds.
fn channel_body(capacity: usize) -> (tokio::sync::mpsc::Sender<&'static str>, Body) {
    let (tx, rx) = tokio::sync::mpsc::channel::<&str>(capacity);
    let frames = futures_util::stream::unfold(rx, |mut rx| async {
        let text = rx.recv().await?;
        Some((Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::from(text))), rx))
    });
    (tx, Body::wrap(http_body_util::StreamBody::new(frames)))
}

#[tokio::test]
async fn an_http_1_0_answer_is_forwarded_as_http_1_1() {
    let raw = Raw::start().await;
    let (_, response, wire) = raw.fresh(get("/"), "HTTP/1.0 200 OK\r\n\r\nold").await;
    drop(wire);
    assert_eq!(response.version(), http::Version::HTTP_11);
    assert_eq!(text(response).await, "old");
}

#[tokio::test]
async fn a_unix_socket_is_an_origin_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let origin = origin(&format!("unix:{}", path.display()));
    let serve = async {
        let mut wire = Wire(within(listener.accept()).await.unwrap().0);
        wire.head().await;
        wire.write(OK).await;
    };
    let (response, ()) = tokio::join!(within(origin.answer(get("/"))), serve);
    assert_eq!(text(response).await, "ok");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn an_early_answer_survives_the_reset_that_follows() {
    for round in 0..50 {
        let raw = Raw::start().await;
        let chunks = futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::from_static(&[0; 16 << 10])))
        });
        let body = Body::wrap(http_body_util::StreamBody::new(chunks));
        let request = http::Request::post("/").header("host", "shop.test").body(body).unwrap();
        // The origin goes away with most of the upload unread, so that its kernel sends a reset.
        let serve = async {
            let mut wire = raw.accept().await;
            wire.head().await;
            wire.write("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno").await;
        };
        let (response, ()) = tokio::join!(within(raw.origin.answer(request)), serve);
        assert_eq!(response.status(), 413, "round {round}");
        assert_eq!(text(response).await, "no");
    }
}

#[tokio::test]
async fn an_answer_beyond_a_limit_becomes_a_502_that_names_the_limit() {
    let raw = Raw::start().await;
    let fields = "X: y\r\n".repeat(crate::defaults::H1_FIELDS + 1);
    for (answer, code, named) in [
        (format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), "origin-too-large", "512 fields"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "origin-invalid",
            "no clear end",
        ),
    ] {
        let serve = async {
            let mut wire = raw.accept().await;
            wire.head().await;
            wire.write(answer).await;
            wire
        };
        let (response, _wire) = tokio::join!(within(raw.origin.answer(get("/"))), serve);
        assert_eq!(response.status(), 502);
        let text = text(response).await;
        assert!(text.contains(code) && text.contains(named) && !text.contains("Check the port"), "{text}");
    }
}

fn login(visitor: Option<VisitorMark>) -> Request {
    let mut request = get("/");
    request.headers_mut().insert("authorization", "NTLM proof".parse().unwrap());
    visitor.and_then(|visitor| request.extensions_mut().insert(visitor));
    request
}

fn marked(path: &str, visitor: VisitorMark) -> Request {
    let mut request = get(path);
    request.extensions_mut().insert(visitor);
    request
}

#[tokio::test]
async fn a_connection_with_a_login_serves_the_requests_of_one_mark_alone() {
    let raw = Raw::start().await;
    let (alice, bob) = (VisitorMark::random(), VisitorMark::random());
    let (_, response, mut private) = raw.fresh(login(Some(alice)), OK).await;
    text(response).await;
    for _ in 0..2 {
        text(raw.reuse(&mut private, marked("/", alice), OK).await).await;
    }
    assert_eq!(raw.idle(), 0, "a connection with a login is shared");
    let (_, response, mut shared) = raw.fresh(marked("/", bob), OK).await;
    text(response).await;
    text(raw.reuse(&mut shared, get("/"), OK).await).await;
    // A mark alone reserves no connection.
    text(raw.reuse(&mut shared, marked("/", bob), OK).await).await;
    text(raw.reuse(&mut private, marked("/", alice), OK).await).await;
}

#[tokio::test]
async fn a_connection_with_a_login_of_an_unmarked_request_is_closed() {
    let raw = Raw::start().await;
    let (_, response, mut wire) = raw.fresh(login(None), OK).await;
    text(response).await;
    assert_eq!(wire.read_to_end().await, "");
    let challenge = OK.replace("200 OK\r\n", "401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\n");
    let (_, response, mut wire) = raw.fresh(get("/"), &challenge).await;
    text(response).await;
    assert_eq!(wire.read_to_end().await, "");
}

#[tokio::test]
async fn a_request_without_exactly_one_valid_host_is_not_forwarded() {
    let raw = Raw::start().await;
    for hosts in [&[][..], &["a.test:x"], &["a.test", "a.test"]] {
        let mut request = http::Request::get("/").body(Body::empty()).unwrap();
        for host in hosts {
            request.headers_mut().append("host", host.parse().unwrap());
        }
        let response = within(raw.origin.answer(request)).await;
        assert_eq!(response.status(), 400, "{hosts:?}");
        let text = text(response).await;
        assert!(text.contains("unclear-host"), "{text}");
    }
    assert!(futures_util::poll!(std::pin::pin!(raw.listener.accept())).is_pending());
}
