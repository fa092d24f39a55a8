//! Logins that an origin ties to the connection on which they arrive.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http_body_util::BodyExt as _;
use ptth::internals::agent::origin::{Origin, OriginTarget};
use ptth::internals::message::Body;
use ptth::internals::net::Scope;
use tokio::net::TcpListener;

use crate::support::{Front, Plan, VisitorH2, Wire, named, within};
use crate::world::{NAME, On, World};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// The three answers of a login, and the last credential of a user.
const OFFER: &str = "NTLM";
const CHALLENGE: &str = "NTLM challenge";
pub(crate) const PROOF: &str = "NTLM proof-of-";

/// The address of a trusted proxy.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// An origin that takes every request on a connection as a request of the user who logged in on it, with an agent and
/// a relay in front of it.
pub(crate) struct LoginWorld {
    /// Where visitors connect.
    pub(crate) front: Front,
    scope: Scope,
    _between: Box<dyn Any>,
}

impl LoginWorld {
    async fn start(on: On) -> Self {
        Self::trusting(on, PROXY).await
    }

    /// A world whose relay trusts a proxy at this address.
    pub(crate) async fn trusting(on: On, proxy: IpAddr) -> Self {
        let scope = Scope::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = scope.clone();
        scope.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve_connection(Wire::new(stream)));
            }
        });
        let trusted_proxies = std::iter::once(proxy.into()).collect();
        let (front, between) = on.front(address, Plan { trusted_proxies, ..Plan::default() }).await;
        Self { front, scope, _between: between }
    }

    pub(crate) async fn http1(&self) -> Visitor {
        Visitor::Http1(self.front.visitor().await)
    }

    pub(crate) async fn http2(&self) -> Visitor {
        Visitor::Http2(self.front.visitor_h2(&named(NAME)).await)
    }
}

impl Drop for LoginWorld {
    fn drop(&mut self) {
        self.scope.abort();
    }
}

pub(crate) fn handler(origin: SocketAddr) -> std::sync::Arc<Origin> {
    let target = OriginTarget::parse(&format!("http://{origin}")).unwrap();
    Origin::new(target, Scope::new(), ptth::internals::tls::client_config_for_none().unwrap())
}

/// Answers 200 with the name of the user of the connection, or 401 with the next step of the login.
async fn serve_connection(mut wire: Wire) {
    let (mut challenged, mut user) = (false, None::<String>);
    while let Some(head) = wire.next_head().await {
        let internal = head.fields.iter().find(|(name, _)| name.to_ascii_lowercase().starts_with("ptth-"));
        assert_eq!(internal, None, "the origin received an internal field");
        match head.get("authorization") {
            Some(credential) => {
                user = credential.strip_prefix(PROOF).filter(|_| challenged).map(str::to_owned);
                challenged = user.is_none() && !credential.starts_with(PROOF);
            }
            None => challenged = false,
        }
        let step = if challenged { CHALLENGE } else { OFFER };
        let answer = match &user {
            Some(user) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{user}", user.len()),
            None => format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a, b\", {step}\r\n\
                 Content-Length: 2\r\n\r\nno"
            ),
        };
        if wire.try_send(answer).await.is_err() {
            return;
        }
    }
}

/// A visitor connection.
pub(crate) enum Visitor {
    Http1(Wire),
    Http2(VisitorH2),
}

impl Visitor {
    /// Sends a request with this credential. Returns the user for whom the origin takes the request, or the next step
    /// of the login.
    pub(crate) async fn request(&mut self, credential: Option<&str>) -> Result<String, String> {
        let (status, challenge, body) = match self {
            Self::Http1(wire) => {
                let field = credential.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
                wire.send(World::head("GET", "/", &field)).await;
                let (head, body) = wire.message().await;
                let challenge = head.get("www-authenticate").map(str::to_owned);
                (head.status(), challenge, body)
            }
            Self::Http2(visitor) => {
                let mut request = http::Request::get(format!("https://{}/", named(NAME)));
                if let Some(credential) = credential {
                    request = request.header(AUTHORIZATION, credential);
                }
                let (head, body) = visitor.send(request.body(Body::empty()).unwrap()).await.into_parts();
                let body = within("a body", body.collect()).await.unwrap().to_bytes();
                let challenge = head.headers.get(WWW_AUTHENTICATE).map(|v| v.to_str().unwrap().to_owned());
                (head.status.as_u16(), challenge, String::from_utf8(body.to_vec()).unwrap())
            }
        };
        match (status, challenge) {
            (200, None) => Ok(body),
            (401, Some(challenge)) => Err(challenge.split_once(", NTLM").unwrap().1.to_owned()),
            other => panic!("{other:?} {body}"),
        }
    }

    pub(crate) async fn begin_login(&mut self) {
        assert_eq!(self.request(None).await, Err(String::new()));
        assert_eq!(self.request(Some("NTLM negotiate")).await, Err(" challenge".into()));
    }

    async fn complete_login(&mut self, user: &str) {
        assert_eq!(self.request(Some(&format!("{PROOF}{user}"))).await.as_deref(), Ok(user));
    }
}

/// The login of each visitor works and stays on its visitor connection, whatever other visitors send meanwhile.
pub(crate) async fn a_connection_login_serves_only_its_visitor(on: On) {
    let world = LoginWorld::start(on).await;
    for alice_has_http2 in [false, true] {
        let mut stranger = if alice_has_http2 { world.http2().await } else { world.http1().await };
        let mut alice = if alice_has_http2 { world.http2().await } else { world.http1().await };
        let mut bob = world.http1().await;
        assert_eq!(stranger.request(None).await, Err(String::new()));
        alice.begin_login().await;
        assert_eq!(stranger.request(None).await, Err(String::new()));
        bob.begin_login().await;
        alice.complete_login("alice").await;
        bob.complete_login("bob").await;
        for _ in 0..3 {
            assert_eq!(stranger.request(None).await, Err(String::new()));
            assert_eq!(alice.request(None).await.as_deref(), Ok("alice"));
            assert_eq!(bob.request(None).await.as_deref(), Ok("bob"));
            assert_eq!(world.http1().await.request(None).await, Err(String::new()));
            assert_eq!(world.http2().await.request(None).await, Err(String::new()));
        }
    }
}

/// A trusted proxy may send the requests of several visitors on one connection, so no login outlives its request.
pub(crate) async fn a_connection_login_fails_behind_a_trusted_proxy(on: On) {
    let world = LoginWorld::start(on).await;
    let mut proxy = Visitor::Http1(world.front.visitor_from(PROXY).await);
    proxy.begin_login().await;
    assert_eq!(proxy.request(Some(&format!("{PROOF}alice"))).await, Err(String::new()));
    assert_eq!(proxy.request(None).await, Err(String::new()));
}

/// A credential that is in each request binds no connection.
pub(crate) async fn a_login_per_request_keeps_the_connection(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) =
        world.begin("GET", "/", "Authorization: Basic bmVnb3RpYXRlOm50bG0=\r\n").await;
    origin.send(OK.replace("OK\r\n", "OK\r\nWWW-Authenticate: Basic realm=\"NTLM\"\r\n")).await;
    assert_eq!(visitor.message().await.1, "ok");
    origin.quiet().await;
}
