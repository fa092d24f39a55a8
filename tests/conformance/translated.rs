//! What stands in front of a relay may speak HTTP/2 to it, and turn an Upgrade into an extended CONNECT (RFC 8441 §5).

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ptth::internals::message::{Body, BoxError, hop};
use ptth::internals::net::Scope;
use ptth::internals::session::Kind;
use tokio::net::TcpListener;

use crate::support::{AgentPlan, DOMAIN, Front, TestOrigin, TestRelay, named, run, within};
use crate::world::{NAME, World};

/// A proxy that speaks HTTP/1.1 to agents and HTTP/2 to the relay.
struct Translator {
    address: SocketAddr,
    upgrades: Arc<AtomicUsize>,
    scope: Scope,
}

impl Translator {
    async fn start(relay: Front) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (scope, upgrades) = (Scope::new(), Arc::<AtomicUsize>::default());
        let (owner, counter) = (scope.clone(), upgrades.clone());
        scope.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (scope, counter) = (owner.clone(), counter.clone());
                owner.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let (scope, counter) = (scope.clone(), counter.clone());
                        async move { Ok::<_, Infallible>(pass(request, relay, scope, counter).await) }
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, upgrades, scope }
    }
}

impl Drop for Translator {
    fn drop(&mut self) {
        self.scope.abort();
    }
}

async fn pass(
    request: Request<Incoming>,
    relay: Front,
    scope: Scope,
    upgrades: Arc<AtomicUsize>,
) -> Response<Body> {
    if let Some(token) = request.headers().get(UPGRADE).cloned() {
        upgrades.fetch_add(1, Ordering::Relaxed);
        let method = request.method().clone();
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = connect(relay, token.to_str().unwrap(), request, &scope).await;
        if answer.status().is_success() {
            // A real one joins the streams. The relay that this is about resets its own at once.
            assert!([Method::GET, Method::POST].contains(&method));
            hop::set_upgrade(answer.headers_mut(), token);
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        return answer;
    }
    forward(request, relay).await.unwrap_or_else(|error| panic!("a request was not forwarded: {error}"))
}

/// Other requests go on as they came.
async fn forward(mut request: Request<Incoming>, relay: Front) -> Result<Response<Body>, BoxError> {
    request.headers_mut().remove(CONNECTION);
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let stream = tokio::net::TcpStream::connect(relay.plain).await?;
    let (mut handle, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let sent = handle.send_request(Request::from_parts(parts, Body::full(body)));
    let exchange = async {
        let (parts, body) = sent.await?.into_parts();
        Ok::<_, BoxError>(Response::from_parts(parts, Body::full(body.collect().await?.to_bytes())))
    };
    tokio::select! {
        response = exchange => response,
        ended = connection => Err(format!("the relay went away: {ended:?}").into()),
    }
}

async fn open(relay: Front, scope: &Scope) -> SendRequest<Bytes> {
    let (mut handle, connection) = h2::client::handshake(relay.tls_as(DOMAIN, b"h2").await).await.unwrap();
    scope.spawn(async move {
        let _ = connection.await;
    });
    within("SETTINGS", async {
        while !handle.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        poll_fn(|cx| handle.poll_ready(cx)).await.unwrap();
    })
    .await;
    handle
}

/// The status that the relay gives to such an Upgrade.
async fn connect<B>(relay: Front, token: &str, mut request: Request<B>, scope: &Scope) -> StatusCode {
    let mut handle = open(relay, scope).await;
    for name in [CONNECTION, UPGRADE, HOST, http::header::CONTENT_LENGTH] {
        request.headers_mut().remove(name);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("https://{DOMAIN}{path}").parse().unwrap();
    *request.method_mut() = Method::CONNECT;
    *request.version_mut() = http::Version::HTTP_2;
    request.extensions_mut().insert(Protocol::from(token));
    let (answer, _stream) = handle.send_request(request.map(|_| ()), false).unwrap();
    within("an answer", answer).await.unwrap().status()
}

#[test]
fn an_agents_extended_connect_is_answered_501() {
    run(async {
        let relay = TestRelay::start();
        let token = relay.token(&[NAME]);
        let scope = Scope::new();
        for (protocol, path) in [
            ("PTTH/1.0", format!("/reversehttp?name={NAME}")),
            ("ptth", format!("/.well-known/ptth/https%3A%2F%2F{NAME}.{DOMAIN}/")),
        ] {
            for alpn in ["h2", "http%2F1.1"] {
                let offer = Request::get(&path)
                    .header("authorization", format!("Bearer {}", token.expose()))
                    .header("alpn", alpn)
                    .body(())
                    .unwrap();
                assert_eq!(connect(*relay, protocol, offer, &scope).await, 501, "{protocol} with {alpn}");
            }
        }
        // Nothing was claimed.
        assert_eq!(relay.fetch(&World::head("GET", "/", "")).await.0.status(), 503);
        scope.abort();
    });
}

#[test]
fn an_agent_behind_a_translating_proxy_polls() {
    run(async {
        let relay = TestRelay::start();
        let proxy = Translator::start(*relay).await;
        let url = format!("http://{DOMAIN}:{}/", proxy.address.port());
        let mut plan = AgentPlan::new(&url, NAME, relay.token(&[NAME]), "auto", Kind::H2);
        plan.config.carriers = vec![Kind::H2, Kind::H1];
        let origin = TestOrigin::start().await;
        let mut agent = plan.start(origin.handler());
        within("an agent connecting", agent.connected()).await.expect("the relay admits the agent");
        assert_eq!(agent.status()[0].borrow().rung, "reversehttp");
        relay.works(&named(NAME), &origin).await;
        // One for each carrier that an Upgrade could have.
        assert!(proxy.upgrades.load(Ordering::Relaxed) <= 2, "{:?}", proxy.upgrades);
    });
}
