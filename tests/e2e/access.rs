//! The access log: a line for each request, also for a failed request.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::origin::echo;
use crate::process::PATIENCE;
use crate::site::{Agent, Relay, Site, curl, poll};

/// Starts a service with an endless download, and returns its port.
fn service(runtime: &tokio::runtime::Runtime) -> u16 {
    let endless = || async {
        Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 4096]))))
    };
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/up", post(|body: Bytes| async move { format!("{} bytes", body.len()) }))
        .route("/endless", get(endless))
        .route("/ws", get(echo));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    runtime.spawn(async move { axum::serve(listener, app).await });
    port
}

async fn send_message(site: &Site, port: u16) {
    let tls = ptth::internals::tls::client_config(Some(&site.ca()), &[b"http/1.1"]).unwrap();
    let host = ServerName::try_from("shop.ptth.localhost").unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(tls).connect(host, stream).await.unwrap();
    let url = format!("wss://shop.ptth.localhost:{port}/ws");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    socket.close(None).await.unwrap();
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
}

/// Waits for the log line that contains all of `parts`, and asserts that it is the only such line.
fn line(file: &Path, parts: &[&str]) -> String {
    let lines = || -> Vec<String> {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
    };
    let found = poll(|| Some(lines()).filter(|lines| !lines.is_empty()));
    let found = found.unwrap_or_else(|| panic!("no {parts:?} in {}", fs::read_to_string(file).unwrap()));
    assert_eq!(found.len(), 1, "{found:#?}");
    println!("{}", found[0]);
    found[0].clone()
}

/// One request of each kind.
fn visit(site: &Site, port: u16, runtime: &tokio::runtime::Runtime) {
    let url = |name: &str, path: &str| format!("https://{name}.ptth.localhost:{port}{path}");
    let secrets = ["-H", "Authorization: Bearer s3cret", "-H", "Cookie: a=s3cret"];
    let get = site.curl(secrets.into_iter().chain([&*url("shop", "/?key=s3cret")]));
    assert_eq!(get.text(), "hello");
    assert_eq!(site.curl(["--data-binary", "12345", &url("shop", "/up")]).text(), "5 bytes");
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, send_message(site, port)).await.expect("the WebSocket takes too long");
    });
    let mut download = curl();
    download.arg("--cacert").arg(site.ca()).arg(url("shop", "/endless")).stdout(Stdio::piped());
    let mut download = download.spawn().unwrap();
    download.stdout.take().unwrap().read_exact(&mut [0; 10_000]).unwrap();
    download.kill().unwrap();
    download.wait().unwrap();
    let none = site.curl([url("none", "/404")]);
    assert_eq!((none.status, none.field("x-request-id").len()), (404, 32));
    assert_eq!(site.curl([url("away", "/503")]).status, 503);
    let large = format!("X-Large: {}", "x".repeat(80 << 10));
    assert_eq!(site.curl(["--http1.1", "-H", &large, &url("shop", "/431")]).status, 431);
    assert_eq!(site.curl([url("polls", "/")]).text(), "hello");
}

/// A relay that logs to `access.log` of the site, two agents of `service` behind it, and one request of each kind.
fn visited(form: &str) -> (Site, Relay, [Agent; 2], tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let site = Site::new();
    let port = service(&runtime);
    site.token("away");
    site.secret("polls", &site.token("polls"));
    let mut relay = site.relay_command("127.0.0.1:0");
    relay.args(["--access-log", form, "--access-log-file"]).arg(site.at("access.log"));
    let relay = Relay::start(&mut relay);
    let mut agent = site.agent_command(&relay.url(), port.to_string());
    let shop = Agent::start(agent.args(["--access-log", form]));
    let mut polls = site.agent_of("polls", "polls", &relay.url(), port.to_string());
    let polls = Agent::start(polls.args(["--transport", "reversehttp"]));
    visit(&site, relay.port, &runtime);
    (site, relay, [shop, polls], runtime)
}

#[test]
fn each_kind_of_request_is_logged_as_text() {
    let (site, relay, [shop, _polls], _runtime) = visited("text");
    let file = site.at("access.log");
    let host = |name: &str| format!(" {name}.ptth.localhost:{} ", relay.port);
    let get = line(&file, &[" GET ", &host("shop"), " / 200 in=0 out=5 first="]);
    for part in
        ["ms total=", " route=shop.ptth.localhost session=s", " transport=ptth", " carrier=h2", " id="]
    {
        assert!(get.contains(part), "{part} in {get}");
    }
    line(&file, &[" POST ", " /up 200 in=5 out=7 "]);
    let socket = line(&file, &[" GET ", " /ws 101 in="]);
    assert!(!socket.contains("in=0 ") && !socket.contains("out=0 "), "{socket}");
    line(&file, &[" GET ", " /endless 200 in=0 ", " failed=visitor/visitor-gone "]);
    line(&file, &[&host("none"), " /404 404 ", " failed=relay/no-route "]);
    line(&file, &[&host("away"), " /503 503 ", " failed=relay/no-agent "]);
    line(&file, &[" 431 in=0 ", " failed=relay/head-too-large "]);
    line(&file, &[&host("polls"), " / 200 in=0 out=5 ", " transport=reversehttp carrier=envelope "]);
    assert!(!fs::read_to_string(&file).unwrap().contains("s3cret"), "secrets are not logged");
    for part in [" / 200 in=0 out=5 ", " /up 200 in=5 out=7 ", " /ws 101 in="] {
        println!("{}", shop.process.logs(part));
    }
    fs::rename(&file, site.at("access.log.1")).unwrap();
    relay.process.signal("HUP");
    relay.process.logs("SIGHUP");
    site.curl([format!("https://shop.ptth.localhost:{}/", relay.port)]);
    line(&file, &[" GET ", " / 200 in=0 out=5 "]);
}

#[test]
fn each_kind_of_request_is_logged_as_json() {
    let (site, relay, _agents, _runtime) = visited("json");
    let file = site.at("access.log");
    let read = |parts: &[&str]| -> serde_json::Value { serde_json::from_str(&line(&file, parts)).unwrap() };
    let host = |name: &str| format!("\"{name}.ptth.localhost:{}\"", relay.port);
    let get = read(&[&host("shop"), "\"path\":\"/\""]);
    assert_eq!((&get["status"], &get["bytes_out"], &get["method"]), (&200.into(), &5.into(), &"GET".into()));
    assert!(get["total_ms"].as_f64() >= get["first_byte_ms"].as_f64(), "{get}");
    assert_eq!(read(&["\"path\":\"/up\""])["bytes_in"], 5);
    assert_eq!(read(&["\"path\":\"/ws\""])["status"], 101);
    assert_eq!(read(&["\"path\":\"/endless\""])["failed_code"], "visitor-gone");
    assert_eq!(read(&["\"path\":\"/404\""])["failed_code"], "no-route");
    assert_eq!(read(&["\"path\":\"/503\""])["failed_hop"], "relay");
    assert_eq!(read(&["\"status\":431"])["failed_code"], "head-too-large");
    assert_eq!(read(&[&host("polls")])["transport"], "reversehttp");
}

#[test]
fn a_query_is_logged_if_configured() {
    let site = Site::new();
    let config = site
        .write("relay.toml", "access-log = \"text\"\naccess-log-query = true\naccess-log-file = \"q.log\"\n");
    let relay = Relay::start(site.relay_command("127.0.0.1:0").arg("--config").arg(config));
    site.curl([format!("https://none.ptth.localhost:{}/a?b=c", relay.port)]);
    line(&site.at("q.log"), &[" /a?b=c 404 "]);
}

#[test]
fn a_line_at_debug_level_names_its_connection_and_its_request() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let site = Site::new();
    let port = service(&runtime);
    for (filter, has_spans) in [("ptth=debug", true), ("ptth=info", false)] {
        let relay = Relay::start(site.relay_command("127.0.0.1:0").args(["--log", filter]));
        let _agent = site.agent(&relay, port.to_string());
        let connected = relay.process.logs("agent connected");
        assert!(connected.contains(" session=s") && connected.contains(" remote=127.0.0.1:"), "{connected}");
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, send_message(&site, relay.port))
                .await
                .expect("the WebSocket takes too long");
        });
        if has_spans {
            // The task of the request has spawned the task that joins the streams.
            let ended = relay.process.logs("an upgraded stream ended");
            for part in [
                "connection{id=",
                " remote=127.0.0.1:",
                " listener=127.0.0.1:",
                "request{id=",
                " route=shop.",
                " session=s",
            ] {
                assert!(ended.contains(part), "{part} in {ended}");
            }
            println!("{ended}");
        } else {
            assert!(
                !relay
                    .process
                    .err
                    .all()
                    .iter()
                    .any(|line| line.contains("request{") || line.contains("connection{"))
            );
        }
    }
}

#[test]
fn a_request_keeps_the_id_from_a_trusted_proxy() {
    for trusted in [true, false] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (site, file) = (Site::new(), "access.log");
        let port = service(&runtime);
        let mut relay = site.relay_command("127.0.0.1:0");
        relay.args(["--access-log", "text", "--access-log-file"]).arg(site.at(file));
        if trusted {
            relay.args(["--trusted-proxy", "127.0.0.1"]);
        }
        let relay = Relay::start(&mut relay);
        let _agent = Agent::start(&mut site.agent_command(&relay.url(), port.to_string()));
        let url = format!("https://shop.ptth.localhost:{}/", relay.port);
        assert_eq!(site.curl(["-H", "X-Request-Id: front-7", &url]).text(), "hello");
        let line = line(&site.at(file), &[" GET ", " / 200 "]);
        assert_eq!(line.contains(" id=front-7"), trusted, "{line}");
        assert_eq!(line.contains(" visitor-id=front-7"), !trusted, "{line}");
        // The answer of the relay itself has the id too.
        let none = site.curl(["-H", "X-Request-Id: front-8", &url.replace("shop", "none")]);
        assert_eq!((none.status, none.field("x-request-id") == "front-8"), (404, trusted));
    }
}
