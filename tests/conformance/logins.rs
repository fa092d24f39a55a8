//! Logins that an origin ties to the connection that they came on.

use tokio::io::AsyncReadExt as _;

use crate::support::Wire;
use crate::world::{On, World};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An origin with such a login takes every later request of a connection as its sender's.
pub(crate) async fn a_connection_login_serves_only_its_visitor(on: On) {
    let world = on.world().await;
    let mut alice = world.relay.visitor().await;
    for scheme in ["NTLM", "Negotiate", "negotiate"] {
        let (mut stranger, mut challenged, _) = world.begin("GET", "/", "").await;
        challenged
            .send(format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a, b\", {scheme}\r\n\
                 Content-Length: 2\r\n\r\nno"
            ))
            .await;
        assert_eq!(stranger.message().await.0.status(), 401);
        let login = format!("Authorization: {scheme} YIIJ\r\nContent-Length: 2\r\n");
        alice.send(World::head("POST", "/", &login) + "hi").await;
        let mut logged_in = on_a_fresh_connection(&world, challenged).await;
        assert_eq!(logged_in.message().await.1, "hi");
        logged_in.send(OK).await;
        assert_eq!(alice.message().await.1, "ok");
        let mut bob = world.relay.visitor().await;
        bob.send(World::head("GET", "/", "Connection: close\r\n")).await;
        let mut origin = on_a_fresh_connection(&world, logged_in).await;
        assert_eq!(origin.head().await.get("authorization"), None);
        origin.send(OK.replace("OK\r\n", "OK\r\nConnection: close\r\n")).await;
        assert_eq!(bob.message().await.1, "ok");
    }
}

/// A password that each request brings along is nothing that a connection remembers.
pub(crate) async fn a_login_per_request_keeps_the_connection(on: On) {
    let world = on.world().await;
    let (mut visitor, mut origin, _) =
        world.begin("GET", "/", "Authorization: Basic bmVnb3RpYXRlOm50bG0=\r\n").await;
    origin.send(OK.replace("OK\r\n", "OK\r\nWWW-Authenticate: Basic realm=\"NTLM\"\r\n")).await;
    assert_eq!(visitor.message().await.1, "ok");
    origin.quiet().await;
}

/// The next connection of the agent, as the last one, with its login, brings nothing more.
async fn on_a_fresh_connection(world: &World, last: Wire) -> Wire {
    let (mut last, mut read) = (last.into_io(), Vec::new());
    tokio::select! {
        biased;
        origin = world.origin.accept() => origin,
        ended = last.read_buf(&mut read) => {
            let text = String::from_utf8_lossy(&read);
            assert!(matches!(ended, Ok(0) | Err(_)), "a request used a connection with a login: {text}");
            world.origin.accept().await
        }
    }
}
