//! An axum application behind a firewall, served through a relay without a local port.
//!
//! Without `PTTH_RELAY` in the environment it starts a relay of its own, sends one request through it and ends:
//!
//! ```text
//! cargo run --example axum
//! ```
//!
//! With `PTTH_RELAY`, `PTTH_NAME` and `PTTH_TOKEN` (and `PTTH_CA` for a private root) it serves there until Ctrl-C.

use std::error::Error;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use ptth::{Agent, Grants, HostName, Listen, Relay, RelayConfig, Tokens};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn app() -> Router {
    Router::new()
        .route("/", get(|| async { "hello from behind the firewall\n" }))
        .route("/hello/{name}", get(|Path(name): Path<String>| async move { format!("hello, {name}\n") }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Ok(relay) = std::env::var("PTTH_RELAY") else { return with_own_relay().await };
    let mut agent = Agent::builder().relay(relay).token(std::env::var("PTTH_TOKEN")?);
    if let Ok(name) = std::env::var("PTTH_NAME") {
        agent = agent.name(name);
    }
    if let Ok(ca) = std::env::var("PTTH_CA") {
        agent = agent.ca_file(ca);
    }
    let mut serving = agent.build()?.serve(app())?;
    println!("{}", serving.connected().await?.join(" "));
    Ok(serving.ended().await?)
}

/// Starts a relay and an agent in one program. Several relays in one test work the same way.
async fn with_own_relay() -> Result<(), Box<dyn Error>> {
    let tokens = Tokens::in_memory();
    let (_, token) = tokens.issue(Grants::names(["shop".parse()?]))?;
    let mut config = RelayConfig::new(HostName::parse("ptth.localhost")?, tokens);
    config.listen = vec![Listen::plain(([127, 0, 0, 1], 0).into())];
    let relay = Relay::start(config)?;
    let address = relay.addresses()[0].address;

    let agent =
        Agent::builder().relay(format!("http://{address}")).name("shop").token(token.expose()).build()?;
    let mut serving = agent.serve(app())?;
    println!("{}", serving.connected().await?.join(" "));

    let mut visitor = TcpStream::connect(address).await?;
    visitor
        .write_all(b"GET /hello/you HTTP/1.1\r\nHost: shop.ptth.localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    visitor.read_to_string(&mut answer).await?;
    println!("{answer}");

    serving.stop(std::time::Duration::from_secs(1)).await;
    relay.stop().await;
    Ok(())
}
