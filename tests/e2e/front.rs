//! A relay behind a trusted proxy, and behind a load balancer with the PROXY protocol.

use crate::origin::Nginx;
use crate::site::{Relay, Site};

/// The address of the visitors. All other connections come from 127.0.0.1.
const VISITOR: &str = "127.0.0.3";

#[test]
fn a_relay_behind_nginx_identifies_the_visitor() {
    let site = Site::new();
    let origin = Nginx::start(&site);
    let mut command = site.relay_command("http://127.0.0.1:0");
    let relay = Relay::start(command.args(["--trusted-proxy", "127.0.0.1/32"]));
    let url = format!("http://127.0.0.1:{}", relay.port);
    let _agent = crate::site::Agent::start(&mut site.agent_command(&url, origin.port.to_string()));
    let front = Nginx::before(&site, relay.port);

    let fetch = |url: String| {
        let claims = ["X-Forwarded-For: 1.1.1.1", "Forwarded: for=1.1.1.1", "X-Forwarded-Proto: gopher"];
        let claims = claims.iter().flat_map(|claim| ["--header", *claim]);
        site.curl(["--interface", VISITOR, "--http2", &url].into_iter().chain(claims))
    };
    let through = fetch(format!("https://shop.ptth.localhost:{}/sender", front.tls_port));
    let host = format!("host=\"shop.ptth.localhost:{}\"", front.tls_port);
    assert_eq!(
        through.text(),
        format!(
            "1.1.1.1, {VISITOR}, 127.0.0.1 | https | for={VISITOR};{host};proto=https, for=127.0.0.1;{host};proto=http"
        )
    );
    // Without the proxy, the relay ignores the addresses that a visitor sends.
    let direct = fetch(format!("http://shop.ptth.localhost:{}/sender", relay.port));
    let host = format!("host=\"shop.ptth.localhost:{}\"", relay.port);
    assert_eq!(direct.text(), format!("{VISITOR} | http | for={VISITOR};{host};proto=http"));
}

#[test]
fn the_proxy_protocol_header_identifies_the_visitor() {
    let site = Site::new();
    let origin = Nginx::start(&site);
    let mut command = site.relay_command("127.0.0.1:0");
    let relay = Relay::start(command.args(["--proxy-protocol", VISITOR]));
    let agent = site.agent(&relay, origin.port.to_string());
    let url = format!("{}sender", agent.url);
    // curl writes a header of version 1, in front of TLS.
    let answer = site.curl(["--interface", VISITOR, "--haproxy-protocol", &url]);
    assert!(answer.text().starts_with(&format!("{VISITOR} | https | for={VISITOR};")), "{}", answer.text());
    // Without the header the connection is closed. From other addresses the header is not accepted, as it is not TLS.
    for arguments in [&["--interface", VISITOR, &url][..], &["--haproxy-protocol", &url]] {
        let done = crate::site::curl().arg("--cacert").arg(site.ca()).args(arguments).output().unwrap();
        assert!(!done.status.success() && done.stdout.is_empty(), "{done:?}");
    }
    assert!(site.curl([&url]).text().starts_with("127.0.0.1 | https"));
}
