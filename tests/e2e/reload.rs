//! Certificates and CAs that are replaced under a relay and an agent that run, and SIGHUP.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use ptth::internals::tls::dev::{self, CertHost};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::long::limit;
use crate::origin::GatedService;
use crate::process::PATIENCE;
use crate::site::{Agent, Relay, Site, curl, free_port, poll, ptth};

/// The serial number of the certificate that the relay shows for a host, as openssl prints it.
fn serial(port: u16, host: &str) -> String {
    let openssl = |args: &[&str], input: &[u8]| {
        let mut command = Command::new("openssl");
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // openssl may have closed its input already.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap().stdout
    };
    let address = format!("127.0.0.1:{port}");
    let shown = openssl(&["s_client", "-connect", &address, "-servername", host], b"");
    let serial = openssl(&["x509", "-noout", "-serial"], &shown);
    let serial = String::from_utf8(serial).unwrap().trim().to_owned();
    assert!(serial.starts_with("serial="), "no certificate for {host}: {}", String::from_utf8_lossy(&shown));
    serial
}

/// Puts another certificate of the relay in place as `certbot` does: file by file, each replaced as a whole. Returns its CA.
fn renew(site: &Site, name: &str) -> String {
    let hosts = ["ptth.localhost", "*.ptth.localhost"].map(|host| host.parse::<CertHost>().unwrap());
    let made = dev::ephemeral(&hosts).unwrap();
    for (file, text) in [("", &made.relay.cert), ("-key", &made.relay.key)] {
        site.secret("next", text);
        std::fs::rename(site.at("next"), site.at(format!("certs/{name}{file}.pem"))).unwrap();
    }
    made.ca.cert
}

/// Signs another certificate of the relay with the site's own CA, so that visitors still trust it.
fn sign_again(site: &Site) {
    let read = |name: &str| std::fs::read_to_string(site.at(name)).unwrap();
    let ca_key = KeyPair::from_pem(&read("certs/ca-key.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("certs/ca.pem"), ca_key).unwrap();
    let hosts = ["localhost", "ptth.localhost", "*.ptth.localhost"].map(str::to_owned);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(hosts).unwrap();
    leaf.use_authority_key_identifier_extension = true;
    site.secret("certs/relay.pem", &leaf.signed_by(&key, &issuer).unwrap().pem());
    site.secret("certs/relay-key.pem", &key.serialize_pem());
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<TcpStream>>;

async fn socket(site: &Site, relay: &Relay, agent: &Agent) -> Socket {
    let tls = ptth::internals::tls::client_config(Some(&site.ca()), &[b"http/1.1"]).unwrap();
    let host = ServerName::try_from("shop.ptth.localhost").unwrap();
    let stream = TcpStream::connect(("127.0.0.1", relay.port)).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(tls).connect(host, stream).await.unwrap();
    let url = format!("{}ws", agent.url.replace("https:", "wss:"));
    tokio_tungstenite::client_async(url, stream).await.unwrap().0
}

async fn echoes(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, socket.next()).await.expect("no echo");
    assert_eq!(answer.unwrap().unwrap(), Message::text(text));
}

fn metric(admin: &str) -> String {
    let done = curl().arg(format!("{admin}/metrics")).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("ptth_certificate_reload_failures_total"));
    line.unwrap_or_else(|| panic!("no such metric in {text}")).to_owned()
}

#[test]
fn a_replaced_certificate_is_loaded_and_a_broken_one_is_ignored() {
    let site = Site::new();
    let service = GatedService::start();
    let mut command = ptth();
    command.args([
        "relay",
        "--domain",
        "ptth.localhost",
        "--admin",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.1:0",
    ]);
    command.arg("--state").arg(site.at("state")).arg("--cert").arg(site.at("certs/relay.pem"));
    let relay = Relay::start(command.arg("--key").arg(site.at("certs/relay-key.pem")));
    let admin = relay.process.line(1).replace("admin on ", "");
    let agent = site.agent(&relay, service.port.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut socket = runtime.block_on(socket(&site, &relay, &agent));
    runtime.block_on(echoes(&mut socket, "before"));
    let shown = || serial(relay.port, "shop.ptth.localhost");
    let first = shown();

    renew(&site, "relay");
    let replaced = Instant::now();
    let second = poll(|| Some(shown()).filter(|serial| *serial != first));
    let second = second.unwrap_or_else(|| panic!("the relay still presents {first}; {}", relay.process));
    println!("{first} became {second} after {:?}", replaced.elapsed());
    assert!(replaced.elapsed() < limit(Duration::from_secs(10)), "{:?}", replaced.elapsed());
    relay.process.logs("loaded again: serial ");
    runtime.block_on(echoes(&mut socket, "after"));
    assert_eq!(metric(&admin), "ptth_certificate_reload_failures_total 0");

    site.secret("certs/relay.pem", "-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n");
    let line = relay.process.logs("the previously loaded files stay in use");
    assert!(line.contains("WARN") && line.contains("certs/relay.pem"), "{line}");
    assert_eq!(metric(&admin), "ptth_certificate_reload_failures_total 1");
    assert_eq!(shown(), second);
    runtime.block_on(echoes(&mut socket, "and still"));
    assert!(!format!("{}", agent.process).contains("disconnected"), "{}", agent.process);
}

#[test]
fn the_certificate_is_chosen_by_the_requested_host() {
    let site = Site::new();
    let hosts = ["--host", "www.shop.test"];
    site.run(ptth().args(["certs", "new", "--out"]).arg(site.at("other")).args(hosts));
    let mut new = ptth();
    new.args(["token", "new", "--name", "shop", "--host", "www.shop.test", "--state"]).arg(site.at("state"));
    site.secret("hosts", &site.run(&mut new));
    let config = "domain = \"ptth.localhost\"\n[[certificate]]\ncert = \"certs/relay.pem\"\nkey = \"certs/relay-key.pem\"\n\
                  [[certificate]]\ncert = \"other/relay.pem\"\nkey = \"other/relay-key.pem\"\n";
    let config = site.write("relay.toml", config);
    let mut command = ptth();
    command.args(["relay", "--admin", "off", "--listen", "127.0.0.1:0", "--state"]).arg(site.at("state"));
    let relay = Relay::start(command.arg("--config").arg(config));
    let serial = |host| serial(relay.port, host);
    assert_eq!(serial("shop.ptth.localhost"), serial("unknown.test"), "the first certificate is the default");
    assert_ne!(serial("shop.ptth.localhost"), serial("www.shop.test"));
    let mut agent = site.agent_of("shop", "hosts", &relay.url(), "3000");
    let mut agent = Agent::start(agent.args(["--host", "www.shop.test"]));
    assert!(agent.process.line(2).starts_with("target: "), "{}", agent.process);
    agent.process.signal("TERM");
    assert_eq!(agent.process.ends(), 0, "{}", agent.process);
    assert_eq!(agent.process.out.all().len(), 3, "two URLs, the target and no warning: {}", agent.process);
}

#[test]
fn an_agent_prints_a_warning_about_a_missing_certificate() {
    let site = Site::new();
    let mut new = ptth();
    new.args(["token", "new", "--host", "www.shop.test", "--state"]).arg(site.at("state"));
    site.secret("hosts", &site.run(&mut new));
    let relay = site.relay();
    let mut command = ptth();
    command
        .args(["agent", "3000", "--relay", &relay.url(), "--host", "www.shop.test", "--ca"])
        .arg(site.ca());
    let agent = Agent::start(command.arg("--token-file").arg(site.at("hosts")));
    assert!(agent.url.starts_with("https://www.shop.test:"), "{}", agent.process);
    let line = agent.process.line(2);
    assert!(line.starts_with("warning: the relay has no certificate for www.shop.test: "), "{line}");
}

/// Sends requests without a pause until `done`. Counts the answers in `served`, and returns the errors.
fn load(site: &Site, url: &str, done: &AtomicBool, served: &AtomicUsize) -> Vec<String> {
    let mut failed = Vec::new();
    while !done.load(Ordering::SeqCst) {
        let mut command = curl();
        command.arg("--cacert").arg(site.ca()).args(["--fail", url]);
        let answer = command.output().unwrap();
        match answer.status.success() {
            true => served.fetch_add(1, Ordering::SeqCst),
            false => {
                failed.push(String::from_utf8_lossy(&answer.stderr).into_owned());
                0
            }
        };
    }
    failed
}

#[test]
fn sighup_reloads_certificates_and_tokens_without_a_failed_request() {
    let site = Site::new();
    site.write("files/index.html", "here");
    // A copy for the agent, so that a change of the copy does not change the relay's file.
    std::fs::copy(site.ca(), site.at("agent-ca.pem")).unwrap();
    let mut command = site.relay_command("127.0.0.1:0");
    let mut relay = Relay::start(command.arg("--client-ca").arg(site.ca()));
    let mut command = ptth();
    command.arg("agent").arg(site.at("files")).args(["--relay", &relay.url(), "--name", "shop", "--ca"]);
    command.arg(site.at("agent-ca.pem")).arg("--token-file").arg(site.at("token"));
    let mut agent = Agent::start(&mut command);
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failed = std::thread::scope(|scope| {
        let loads = [(); 4].map(|()| scope.spawn(|| load(&site, &agent.url, &done, &served)));
        let wait_for_requests = |count: usize| {
            let expected = served.load(Ordering::SeqCst) + count;
            assert!(
                poll(|| (served.load(Ordering::SeqCst) >= expected).then_some(())).is_some(),
                "requests are no longer served"
            );
        };
        wait_for_requests(20);
        relay.process.signal("HUP");
        relay.process.logs("certificates and client CAs are unchanged");
        agent.process.signal("HUP");
        agent.process.logs("CA, client certificate and token are unchanged");
        wait_for_requests(20);
        // A second CA beside the first, another token, and a certificate of the same CA.
        let both = ["certs/ca.pem", "other/ca.pem"];
        site.run(ptth().args(["certs", "new", "--host", "a.test", "--out"]).arg(site.at("other")));
        let cas = both.map(|ca| std::fs::read_to_string(site.at(ca)).unwrap()).concat();
        site.write("agent-ca.pem", &cas);
        site.secret("token", &site.token("shop"));
        sign_again(&site);
        for (process, lines) in [
            (&relay.process, &["loaded again: serial "][..]),
            (&agent.process, &["agent-ca.pem", "loaded the token again"]),
        ] {
            process.signal("HUP");
            lines.iter().for_each(|line| drop(process.logs(line)));
        }
        wait_for_requests(60);
        done.store(true, Ordering::SeqCst);
        loads.map(|load| load.join().unwrap()).concat()
    });
    println!("{} requests, {} failed", served.load(Ordering::SeqCst), failed.len());
    assert!(failed.is_empty(), "{failed:?}");
    assert!(relay.process.runs() && agent.process.runs(), "{} {}", relay.process, agent.process);
}

#[test]
fn an_agent_reconnects_with_its_reloaded_token() {
    let site = Site::new();
    site.write("files/index.html", "here");
    let listen = format!("127.0.0.1:{}", free_port());
    let mut relay = site.relay_at(&listen);
    let agent = site.agent(&relay, site.at("files"));
    let token = |subcommand: &str| {
        let mut command = ptth();
        command.args(["token", subcommand, "--state"]).arg(site.at("state"));
        command
    };
    let list = site.run(&mut token("list"));
    let old = list.split_whitespace().next().unwrap();
    site.secret("token", &site.token("shop"));
    agent.process.signal("HUP");
    agent.process.logs("loaded the token again");
    assert_eq!(site.curl([&agent.url]).text(), "here", "the connection stays open");
    relay.process.signal("TERM");
    assert_eq!(relay.process.ends(), 0, "{}", relay.process);
    site.run(token("revoke").arg(old));
    let _relay = site.relay_at(&listen);
    agent.process.logs_times(" connected", 2);
    assert_eq!(site.curl([&agent.url]).text(), "here");
}
