//! What was recorded and is sent again, and what is another's to end.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use ptth::internals::net::Scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::foreign::Stranger;
use crate::recorder::Recorder;
use crate::support::{STEP, TestRelay, Wire, named, serve, within};
use crate::world::{NAME, On, connect, honest, raw, status};

/// A wire that passes everything on, and keeps what went to the relay: each connection for itself.
struct Tapped {
    at: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    scope: Scope,
}

impl Tapped {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, scope) = (listener.local_addr().unwrap(), Scope::new());
        let heard = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (owner, log) = (scope.clone(), heard.clone());
        scope.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = log.lock().len();
                log.lock().push(Vec::new());
                owner.spawn(pass(stream, to, log.clone(), number));
            }
        });
        Self { at, heard, scope }
    }
}

async fn pass(near: TcpStream, to: SocketAddr, log: Arc<Mutex<Vec<Vec<u8>>>>, number: usize) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    let ((mut near, mut answers), (mut back, mut far)) = (near.into_split(), far.into_split());
    let up = async {
        let mut part = [0; 16 << 10];
        while let Ok(read @ 1..) = near.read(&mut part).await {
            log.lock()[number].extend_from_slice(&part[..read]);
            if far.write_all(&part[..read]).await.is_err() {
                break;
            }
        }
    };
    let down = async {
        let _ = tokio::io::copy(&mut back, &mut answers).await;
    };
    tokio::join!(up, down);
}

/// A28, RFC 8446 §8: whoever has every byte that an agent sent can send them again, and is nobody.
pub(crate) async fn a_replayed_connection_has_no_effect(on: On) {
    let (relay, origin) = (TestRelay::start(), Recorder::start().await);
    let tapped = Tapped::start(relay.tls).await;
    let mut plan = on.agent(&relay, NAME);
    let port = |at: SocketAddr| at.port().to_string();
    plan.config.relays = vec![relay.url().replace(&port(relay.tls), &port(tapped.at)).parse().unwrap()];
    let agent = serve(&plan, origin.handler()).await;
    honest(&relay, NAME).await;
    within("the agent stopping", agent.stop(STEP)).await;
    let recorded = tapped.heard.lock().clone();
    tapped.scope.abort();
    assert!(recorded.iter().any(|bytes| bytes.len() > 500), "nothing was recorded");
    let before = origin.whole().len();
    let mut links = Vec::new();
    for bytes in &recorded {
        let mut link = connect(relay.tls).await;
        let _ = link.write_all(bytes).await;
        let mut heard = Vec::new();
        // An alert, or the start of another handshake, and no more.
        let _ = tokio::time::timeout(crate::support::QUIET, link.read_to_end(&mut heard)).await;
        links.push(link);
    }
    let ask = format!("GET /again HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", named(NAME));
    let got = raw(&relay, ask.as_bytes(), STEP).await;
    assert_eq!(status(&got), 503, "a replayed connection serves the name: {}", String::from_utf8_lossy(&got));
    assert_eq!(origin.whole().len(), before);
}

/// zrok CVE-2026-40304: what one tenant has registered no other ends, moves or takes over.
pub(crate) async fn only_the_owner_ends_a_registration(on: On) {
    let (relay, origin) = (TestRelay::start(), Recorder::start().await);
    let mut mine = on.agent(&relay, NAME);
    let own = relay.token(&[NAME, "beside"]);
    mine.config.token = Some(own.clone());
    let _agent = serve(&mine, origin.handler()).await;
    let own = own.expose();
    let theirs = relay.token(&["theirs"]);
    let bearer = format!("Authorization: Bearer {}\r\n", theirs.expose());
    // URLs of the owner, as a log or a shared screen may show them.
    let registration = format!(
        "POST /reversehttp?name=beside HTTP/1.1\r\nHost: ptth.localhost\r\nAuthorization: Bearer {own}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let head = relay.fetch(&registration).await.0;
    let path = |url: &str| url[url.find("/reversehttp").unwrap()..].to_owned();
    let private = path(head.get("location").unwrap());
    let first = path(head.get("link").unwrap().split('>').next().unwrap());
    for (method, target) in [
        ("DELETE", &*private),
        ("PUT", &private),
        ("GET", &private),
        ("DELETE", &first),
        ("GET", &first),
        ("POST", &first),
        ("DELETE", "/reversehttp/_comet?name=shop"),
        ("DELETE", "/reversehttp/_comet?name=beside"),
        ("DELETE", "/reversehttp?name=beside"),
        ("DELETE", "/reversehttp"),
    ] {
        let ask = format!(
            "{method} {target} HTTP/1.1\r\nHost: ptth.localhost\r\n{bearer}Content-Length: 0\r\n\r\n"
        );
        let (head, _) = relay.fetch(&ask).await;
        assert!((400..500).contains(&head.status()), "{method} {target}: {head:?}");
    }
    let instance = &mine.config.instance.id;
    let fields = format!("PTTH-Instance: {instance};boot=99\r\nPTTH-Exclusive: ?1\r\n");
    let usurper = Stranger { fields: &fields, ..Stranger::new(on, relay.plain, NAME, theirs.expose()) };
    assert_eq!(usurper.connect().await.err(), Some(403), "another agent took the name");
    for _ in 0..4 {
        honest(&relay, NAME).await;
    }
    // It stands, and its owner may end it.
    let end =
        format!("DELETE {private} HTTP/1.1\r\nHost: ptth.localhost\r\nAuthorization: Bearer {own}\r\n\r\n");
    let mut wire = Wire::new(connect(relay.plain).await);
    wire.send(end).await;
    assert_eq!(wire.head().await.status(), 204);
    honest(&relay, NAME).await;
}
