//! A WebSocket client through the relay to a WebSocket origin.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::origin::GatedService;
use crate::process::PATIENCE;
use crate::site::{Agent, Site};

#[test]
fn messages_cross_both_ways() {
    messages_cross("auto");
}

#[test]
fn messages_cross_through_an_agent_that_polls() {
    messages_cross("reversehttp");
}

fn messages_cross(transport: &str) {
    let site = Site::new();
    let service = GatedService::start();
    let relay = site.relay();
    let mut agent = site.agent_command(&relay.url(), service.port.to_string());
    let agent = Agent::start(agent.args(["--transport", transport]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, send_messages(&site, relay.port, &agent.url))
            .await
            .expect("the WebSocket takes too long");
    });
}

async fn send_messages(site: &Site, port: u16, url: &str) {
    let tls = ptth::internals::tls::client_config(Some(&site.ca()), &[b"http/1.1"]).unwrap();
    let host = ServerName::try_from("shop.ptth.localhost").unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(tls).connect(host, stream).await.unwrap();
    let url = format!("{}ws", url.replace("https:", "wss:"));
    let (mut socket, response) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    assert_eq!(response.status(), 101);
    let large = Message::binary((0..3_u32 << 20).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>());
    for message in [Message::text("hello"), large, Message::text("")] {
        socket.send(message.clone()).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap() == message, "the echo differs from the message");
    }
    // No hop closes a silent connection.
    let quiet = tokio::time::timeout(Duration::from_secs(1), socket.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    socket.send(Message::text("still there")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still there"));
    socket.close(None).await.unwrap();
    let mut last = socket.next().await;
    while let Some(Ok(_)) = last {
        last = socket.next().await;
    }
    assert!(last.is_none(), "the WebSocket did not close cleanly: {last:?}");
}
