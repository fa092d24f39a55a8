use std::future::poll_fn;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Connection, SendResponse};

use super::probe::certified;
use super::*;
use crate::message::interim;
use crate::message::login::VisitorMark;

type Served = Connection<Box<dyn crate::net::io::Duplex>, Bytes>;

/// An HTTP/2-only origin.
struct RawHttp2 {
    listener: TcpListener,
    origin: Arc<Origin>,
}

impl RawHttp2 {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = origin(&format!("h2c://{}", listener.local_addr().unwrap()));
        Self { listener, origin }
    }

    async fn accept(&self) -> Served {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        within(h2::server::handshake(Box::new(stream) as _)).await.unwrap()
    }

    /// The first request of the next connection.
    async fn accept_request(&self) -> ((http::Request<RecvStream>, SendResponse<Bytes>), Served) {
        let mut served = self.accept().await;
        (next_request(&mut served).await, served)
    }
}

async fn next_request(served: &mut Served) -> (http::Request<RecvStream>, SendResponse<Bytes>) {
    within(served.accept()).await.unwrap().unwrap()
}

/// Answers with `body`, and writes the answer.
async fn send_answer(served: &mut Served, respond: &mut SendResponse<Bytes>, body: &'static str) {
    let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
    stream.send_data(body.into(), true).unwrap();
    // One poll of the connection writes the answer.
    let _ = futures_util::poll!(std::pin::pin!(served.accept()));
}

#[tokio::test]
async fn interim_responses_bodies_and_trailers_pass() {
    let raw = RawHttp2::start().await;
    let mut request = http::Request::post("https://shop.test:8443/a?b").body(Body::full("hello")).unwrap();
    for (name, value) in [("te", "trailers"), ("connection", "x-hop"), ("x-hop", "1"), ("x-mine", "kept")] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let (sender, receiver) = interim::channel();
    let answer = raw.origin.call(request, sender);
    let serve = async {
        let mut served = raw.accept().await;
        let (got, mut respond) = next_request(&mut served).await;
        assert_eq!(
            (got.method(), got.uri().to_string().as_str()),
            (&http::Method::POST, "http://shop.test:8443/a?b")
        );
        assert_eq!(
            (&got.headers()["te"], &got.headers()["x-mine"]),
            (&"trailers".parse().unwrap(), &"kept".parse().unwrap())
        );
        assert!(!got.headers().contains_key("x-hop") && !got.headers().contains_key("host"), "{got:?}");
        respond.send_informational(http::Response::builder().status(103).body(()).unwrap()).unwrap();
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        stream.send_data("ok".into(), false).unwrap();
        let trailers = http::HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
        stream.send_trailers(trailers).unwrap();
        let _ = served.accept().await;
    };
    let answered = async {
        let body = within(answer).await.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-sum"], "1");
        assert_eq!(body.to_bytes(), "ok");
    };
    tokio::select! {
        () = serve => panic!("the connection ended"),
        () = answered => {}
    }
    let heads = receiver.take(&std::task::Context::from_waker(std::task::Waker::noop()));
    assert_eq!(heads.iter().map(|head| head.status().as_u16()).collect::<Vec<_>>(), [103]);
}

#[tokio::test]
async fn requests_share_a_connection_and_a_closed_one_is_replaced() {
    let raw = RawHttp2::start().await;
    for _ in 0..2 {
        let mut first = Box::pin(raw.origin.answer(get("/1")));
        let ((got, mut first_respond), mut served) = tokio::select! {
            accepted = raw.accept_request() => accepted,
            _ = &mut first => panic!("the call ended before the origin answered"),
        };
        assert_eq!((got.uri().path(), got.uri().host()), ("/1", Some("shop.test")));
        let second = raw.origin.answer(get("/2"));
        let served = async {
            let (_, mut second_respond) = next_request(&mut served).await;
            send_answer(&mut served, &mut second_respond, "two").await;
            send_answer(&mut served, &mut first_respond, "one").await;
            served.graceful_shutdown();
            while within(served.accept()).await.is_some() {}
        };
        let (first, second, ()) = tokio::join!(within(first), within(second), served);
        assert_eq!((text(first).await, text(second).await), ("one".into(), "two".into()));
    }
}

#[tokio::test]
async fn a_request_with_a_refused_stream_is_repeated_on_a_fresh_connection() {
    let raw = RawHttp2::start().await;
    for method in ["DELETE", "GET"] {
        let request =
            || http::Request::builder().method(method).uri("http://shop.test/").body(Body::empty()).unwrap();
        let serve = async {
            let ((_, mut respond), mut served) = raw.accept_request().await;
            send_answer(&mut served, &mut respond, "first").await;
            let (_, mut respond) = next_request(&mut served).await;
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            let ((_, mut respond), mut fresh) = tokio::select! {
                accepted = raw.accept_request() => accepted,
                Some(_) = served.accept() => panic!("the request came on the same connection"),
            };
            send_answer(&mut fresh, &mut respond, "again").await;
            fresh.graceful_shutdown();
            while within(fresh.accept()).await.is_some() {}
        };
        let visit = async {
            assert_eq!(text(within(raw.origin.answer(request())).await).await, "first");
            assert_eq!(text(within(raw.origin.answer(request())).await).await, "again", "{method}");
        };
        tokio::join!(serve, visit);
    }
}

#[tokio::test]
async fn a_connection_with_a_login_is_not_shared() {
    let raw = RawHttp2::start().await;
    let login = |name: &'static str| {
        let mut request = get("/");
        request.headers_mut().insert(name, "Negotiate YIIJ".parse().unwrap());
        request
    };
    // Serves one request and returns its connection, which must not be `old`.
    let serve = async |request: Request, challenge: bool, mut old: Option<Served>| {
        let mut call = Box::pin(raw.origin.answer(request));
        let ((_, mut respond), mut served) = tokio::select! {
            accepted = raw.accept_request() => accepted,
            Some(_) = async { old.as_mut()?.accept().await } => {
                panic!("a request came on a connection with a login")
            }
            _ = &mut call => panic!("the call ended before the origin answered"),
        };
        let mut answer = http::Response::builder();
        if challenge {
            answer = answer.status(401).header("www-authenticate", "Negotiate");
        }
        respond.send_response(answer.body(()).unwrap(), true).unwrap();
        tokio::select! {
            _ = served.accept() => panic!("another request"),
            response = within(call) => drop(response),
        }
        served
    };
    let challenged = serve(get("/"), true, None).await;
    let shared = serve(get("/"), false, Some(challenged)).await;
    let alice = serve(login("authorization"), false, Some(shared)).await;
    let again = serve(login("proxy-authorization"), true, Some(alice)).await;
    let bob = serve(get("/"), false, Some(again)).await;
    drop(serve(login("authorization"), false, Some(bob)).await);
}

#[tokio::test]
async fn a_connection_with_a_login_serves_its_visitor_connection_alone() {
    let raw = RawHttp2::start().await;
    let alice = VisitorMark::random();
    let marked = |login: bool| {
        let mut request = get("/");
        request.extensions_mut().insert(alice);
        if login {
            request.headers_mut().insert("authorization", "Negotiate YIIJ".parse().unwrap());
        }
        raw.origin.answer(request)
    };
    let (response, mut private) = {
        let serve = async {
            let ((_, mut respond), mut served) = raw.accept_request().await;
            send_answer(&mut served, &mut respond, "login").await;
            served
        };
        tokio::join!(within(marked(true)), serve)
    };
    drop(response);
    for _ in 0..2 {
        let serve = async {
            let (_, mut respond) = next_request(&mut private).await;
            send_answer(&mut private, &mut respond, "alice").await;
        };
        let (response, ()) = tokio::join!(within(marked(false)), serve);
        drop(response);
    }
    let mut call = Box::pin(raw.origin.answer(get("/")));
    tokio::select! {
        _ = raw.accept_request() => {}
        _ = private.accept() => panic!("another visitor's request came on a private connection"),
        _ = &mut call => panic!("the call ended before the origin answered"),
    }
}

#[tokio::test]
async fn a_dropped_request_resets_its_stream() {
    let raw = RawHttp2::start().await;
    let mut call = Box::pin(raw.origin.answer(get("/")));
    let ((_, mut respond), mut served) = tokio::select! {
        accepted = raw.accept_request() => accepted,
        _ = &mut call => panic!("the call ended before the origin answered"),
    };
    drop(call);
    let reset = tokio::select! {
        reset = within(poll_fn(|cx| respond.poll_reset(cx))) => reset,
        _ = served.accept() => panic!("another request"),
    };
    assert_eq!(reset.unwrap(), h2::Reason::CANCEL);
}

#[tokio::test]
async fn over_tls_http2_is_negotiated_by_alpn() {
    let (config, roots) = certified(&["localhost"]);
    let mut config = rustls::ServerConfig::clone(&config);
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("h2://localhost:{}", listener.local_addr().unwrap().port());
    let origin = Origin::new(OriginTarget::parse(&target).unwrap(), Scope::new(), trust(roots));
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        let mut served = h2::server::handshake(Box::new(tls) as _).await.unwrap();
        let (got, mut respond) = next_request(&mut served).await;
        assert_eq!(got.uri().scheme_str(), Some("https"));
        send_answer(&mut served, &mut respond, "secret").await;
        let _ = served.accept().await;
    };
    tokio::select! {
        () = serve => panic!("the connection ended"),
        answer = async { text(within(origin.answer(get("/"))).await).await } => assert_eq!(answer, "secret"),
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http2_becomes_a_502() {
    let raw = RawHttp2::start().await;
    let serve = async {
        let (mut stream, _) = raw.listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    };
    let (answer, ()) = tokio::join!(within(raw.origin.answer(get("/"))), serve);
    assert_eq!(answer.status(), 502);
    assert!(text(answer).await.contains("HTTP/2"));
}

#[tokio::test]
async fn simultaneous_first_requests_share_one_connection() {
    let raw = RawHttp2::start().await;
    let calls = futures_util::future::join_all((0..10).map(|_| raw.origin.answer(get("/"))));
    let serve = async {
        let mut served = raw.accept().await;
        let mut requests = vec![next_request(&mut served).await];
        let another = futures_util::poll!(std::pin::pin!(raw.listener.accept()));
        assert!(another.is_pending(), "a second connection was opened");
        while requests.len() < 10 {
            requests.push(next_request(&mut served).await);
        }
        for (_, respond) in &mut requests {
            send_answer(&mut served, respond, "word").await;
        }
        let _ = served.accept().await;
    };
    tokio::select! {
        () = serve => panic!("the connection ended"),
        answers = within(calls) => assert!(answers.iter().all(|answer| answer.status() == 200)),
    }
}

#[tokio::test]
async fn simultaneous_first_requests_share_one_failure() {
    let raw = RawHttp2::start().await;
    let calls = futures_util::future::join_all((0..10).map(|_| raw.origin.answer(get("/"))));
    let hang_up = async {
        drop(raw.listener.accept().await.unwrap());
        let another = futures_util::poll!(std::pin::pin!(raw.listener.accept()));
        assert!(another.is_pending(), "a second connection was opened");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = hang_up => {}
        answers = within(calls) => assert!(answers.iter().all(|answer| answer.status() == 502)),
    }
}

#[tokio::test]
async fn a_request_without_a_valid_host_is_refused() {
    let raw = RawHttp2::start().await;
    for host in [None, Some("a b")] {
        let mut request = http::Request::get("/secret?a").body(Body::empty()).unwrap();
        if let Some(host) = host {
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        let answer = within(raw.origin.answer(request)).await;
        assert_eq!(answer.status(), 400, "{host:?}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("unclear-host"), "{body:?}");
    }
}
