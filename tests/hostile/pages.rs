//! What the relay itself says, on the public port and beside it, and which path leads where.

use std::net::Ipv4Addr;

use ptth::internals::domain::{HostName, Name};
use ptth::internals::policy::{Grants, Tokens};
use ptth::internals::relay::Relay;
use ptth::internals::relay::config::{Admin, Listen, RelayConfig, Routing};

use crate::devtools::Browser;
use crate::recorder::Recorder;
use crate::site::Site;
use crate::support::{AgentPlan, Head, TestOrigin, TestRelay, Wire, named, run, serve, within};
use crate::world::{NAME, On, connect};

const EVIL: &str = "<svg/onload=document.title=1>";

/// A relay of this configuration on a plain listener, and where that is.
fn relay(change: impl FnOnce(&mut RelayConfig)) -> (Relay, Tokens, std::net::SocketAddr) {
    let tokens = Tokens::in_memory();
    let mut config = RelayConfig::new(HostName::parse("ptth.localhost").unwrap(), tokens.clone());
    config.listen = vec![Listen::plain((Ipv4Addr::LOCALHOST, 0).into())];
    config.cores = 1;
    change(&mut config);
    let relay = Relay::start(config).unwrap();
    let address = relay.addresses()[0].address;
    (relay, tokens, address)
}

async fn fetch(at: std::net::SocketAddr, request: &str) -> (Head, String) {
    let mut wire = Wire::new(connect(at).await);
    wire.send(request).await;
    let head = wire.head().await;
    let body = wire.body(&head).await;
    (head, String::from_utf8_lossy(&body).into_owned())
}

/// A13, A22, A24: nothing that a visitor writes comes back in the relay's own words, and nobody keeps them.
#[test]
fn relay_pages_repeat_no_input() {
    run(async {
        let (_relay, _, at) = relay(|_| {});
        let unkeyed = format!(
            "X-Forwarded-Host: evil.test\r\nX-Forwarded-Prefix: /{EVIL}\r\nX-Forwarded-Proto: evil.test\r\nX-Original-URL: \
             //evil.test/\r\nX-Forwarded-Port: 1\r\nForwarded: host=evil.test\r\nUser-Agent: {EVIL}\r\nReferer: //evil.test\r\n"
        );
        for host in ["ptth.localhost", "nobody.ptth.localhost", "evil.test", "127.0.0.1"] {
            for target in [
                "/",
                "//evil.test",
                "/\\evil.test",
                "/javascript:alert(1)",
                "/?next=//evil.test",
                &format!("/?{EVIL}"),
                "/evil.test/..;/",
            ] {
                for accept in ["text/html", "*/*"] {
                    let request =
                        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n{unkeyed}\r\n");
                    let (head, body) = fetch(at, &request).await;
                    let whole = format!("{head:?}{body}");
                    assert!(!whole.contains("evil") && !whole.contains("onload"), "{request}: {whole}");
                    assert_eq!(head.get("location"), None, "{request}: {head:?}");
                    if body.is_empty() && head.status() == 400 {
                        // What is no HTTP gets no words at all.
                        continue;
                    }
                    assert_eq!(head.get("cache-control"), Some("no-store"), "{request}: {head:?}");
                    assert_eq!(head.get("x-content-type-options"), Some("nosniff"), "{request}: {head:?}");
                    let policy = head.get("content-security-policy").unwrap_or_default();
                    assert!(
                        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
                        "{request}: {head:?}"
                    );
                    assert_eq!(
                        head.all("access-control-allow-origin"),
                        Vec::<&str>::new(),
                        "{request}: {head:?}"
                    );
                }
            }
        }
    });
}

/// A24, zrok CVE-2026-40302: no script runs in what a relay says of a request that is one.
#[test]
fn no_script_runs_in_an_error_page() {
    let site = Site::new();
    let relay = site.relay_at("http://127.0.0.1:0");
    let mut browser = Browser::start();
    let script = "%3Csvg%20onload=document.title=1%3E%3Cscript%3Edocument.title=1%3C/script%3E";
    for (host, title) in [
        ("ptth.localhost", "404 Not Found"),
        ("nobody.ptth.localhost", "404 Not Found"),
        ("shop.ptth.localhost", "503 Service Unavailable"),
    ] {
        let tab = browser.open(format!("http://{host}:{}/{script}?{script}", relay.port));
        assert_eq!(browser.text(&tab, "document.title"), title);
    }
}

/// A25, Caddy CVE-2026-27589: the admin listener answers this machine's own programs, not the pages of others.
#[test]
fn foreign_pages_cannot_read_the_admin_listener() {
    run(async {
        let (relay, _, _) = relay(|config| {
            config.admin = Some(Admin { address: (Ipv4Addr::LOCALHOST, 0).into(), required: true })
        });
        let at = relay.admin().unwrap();
        assert!(at.ip().is_loopback());
        let mine = format!("Host: {at}\r\n");
        for path in ["/live", "/ready", "/metrics", "/sessions"] {
            let (head, _) = fetch(at, &format!("GET {path} HTTP/1.1\r\n{mine}\r\n")).await;
            assert_eq!((head.status(), head.all("access-control-allow-origin").len()), (200, 0), "{head:?}");
            for foreign in [
                "Host: evil.test\r\n".to_owned(),
                format!("Host: evil.test:{}\r\n", at.port()),
                format!("Host: localhost.evil.test:{}\r\n", at.port()),
                format!("{mine}Origin: https://evil.test\r\n"),
                format!("{mine}Origin: null\r\n"),
            ] {
                let (head, body) = fetch(at, &format!("GET {path} HTTP/1.1\r\n{foreign}\r\n")).await;
                assert!([400, 421].contains(&head.status()), "{path} {foreign}: {head:?}");
                assert!(!body.contains("ptth_"), "{body}");
            }
            let (head, _) = fetch(
                at,
                &format!(
                    "POST {path} HTTP/1.1\r\n{mine}Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n"
                ),
            )
            .await;
            assert_eq!(head.status(), 405);
        }
    });
}

/// A25: what a browser sends by itself lets nobody in.
#[test]
fn a_cookie_is_no_credential() {
    run(async {
        let (_relay, tokens, at) = relay(|_| {});
        let token = tokens.issue(Grants::any()).unwrap().1;
        let cookie =
            format!("Cookie: token={0}; authorization={0}\r\nOrigin: https://evil.test\r\n", token.expose());
        for request in [
            format!(
                "POST /reversehttp HTTP/1.1\r\nHost: ptth.localhost\r\nContent-Type: text/plain\r\n{cookie}Content-Length: 9\r\n\r\nname=evil"
            ),
            format!("GET /reversehttp HTTP/1.1\r\nHost: ptth.localhost\r\n{cookie}\r\n"),
            format!(
                "OPTIONS /reversehttp HTTP/1.1\r\nHost: ptth.localhost\r\nAccess-Control-Request-Method: POST\r\n{cookie}\r\n"
            ),
        ] {
            let (head, _) = fetch(at, &request).await;
            assert!(head.status() == 403 || request.starts_with("OPTIONS"), "{request}: {head:?}");
            assert_eq!(head.get("access-control-allow-credentials"), None, "{request}: {head:?}");
            assert_eq!(head.get("set-cookie"), None, "{request}: {head:?}");
        }
    });
}

/// A26, A30: what is admin's is nowhere on the public port, and under a tenant's host every path is the tenant's, byte
/// for byte.
pub(crate) async fn every_path_of_a_tenant_reaches_the_tenant(on: On) {
    let world = on.world().await;
    let mut sent = Vec::new();
    for path in [
        "/metrics",
        "//metrics",
        "/%2e%2e/metrics",
        "/../metrics",
        "/./metrics",
        "/metrics/",
        "/METRICS",
        "/live",
        "/ready",
        "/sessions",
        "/admin",
        "/debug/pprof/",
        "/;/metrics",
        "/%6detrics",
        "/metrics%00",
        "/metrics;a=b",
        "/a/..%2fmetrics",
        "/a/%2e%2e%5cmetrics",
        "/.well-known/ptth/x",
        "/reversehttp",
        "/reversehttp/_relay/x",
        "/demo",
        "/%",
        "/%zz",
        "/a%0d%0ab",
        "/a?b=%0d%0a&c=//d",
        "/a??",
    ] {
        let own = world.relay.fetch(&format!("GET {path} HTTP/1.1\r\nHost: ptth.localhost\r\n\r\n")).await;
        assert!([400, 401, 403, 404, 405, 426].contains(&own.0.status()), "{path}: {own:?}");
        let (head, _) =
            world.relay.fetch(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME))).await;
        assert_eq!(head.status(), 200, "{path}");
        sent.push(path);
    }
    let seen: Vec<_> = world.origin.whole().iter().map(|r| r.target().to_owned()).collect();
    assert_eq!(seen, sent);
}

/// A30, Envoy CVE-2019-9901: routing by path takes whole first segments as they are written.
pub(crate) async fn a_path_is_routed_as_it_is_forwarded(on: On) {
    let (_relay, tokens, at) = relay(|config| config.routing = Routing::Path);
    let origins = [Recorder::start().await, Recorder::start().await];
    let mut agents = Vec::new();
    for (name, origin) in ["shop", "b"].iter().zip(&origins) {
        let token = tokens.issue(Grants::names([Name::parse(name).unwrap()])).unwrap().1;
        let url = format!("http://ptth.localhost:{}/", at.port());
        agents.push(
            serve(&AgentPlan::new(&url, name, token, on.transport, on.carrier), origin.handler()).await,
        );
    }
    let rows = [
        ("/shop/a", Some(0)),
        ("/shop", Some(0)),
        ("/shop?x=/b/", Some(0)),
        ("/shop/../b/", Some(0)),
        ("/shop/..%2fb/", Some(0)),
        ("/shop/%2e%2e/b/", Some(0)),
        ("/shop//b", Some(0)),
        ("/shop/%00", Some(0)),
        ("/shop/;/../b", Some(0)),
        ("/b/..%5cshop", Some(1)),
        ("/shopx/", None),
        ("/sho/", None),
        ("//shop/", None),
        ("/./shop/", None),
        ("/x/../shop/", None),
        ("/%73hop/", None),
        ("/shop;x/", None),
        ("/shop%2fa", None),
        ("/shop%00/", None),
        ("/shop./", None),
        ("/b%20/", None),
    ];
    for (target, tenant) in rows {
        let before = origins.each_ref().map(|o| o.whole().len());
        let (head, _) =
            within("an answer", fetch(at, &format!("GET {target} HTTP/1.1\r\nHost: ptth.localhost\r\n\r\n")))
                .await;
        assert_eq!(head.status(), if tenant.is_some() { 200 } else { 404 }, "{target}");
        for (place, origin) in origins.iter().enumerate() {
            let new: Vec<_> = origin.whole()[before[place]..].iter().map(|r| r.target().to_owned()).collect();
            let wanted: &[&str] = if tenant == Some(place) { &[target] } else { &[] };
            assert_eq!(new, wanted, "{target}");
        }
    }
}

/// A12, RFC 6265 §8.6: no name sets cookies for the others.
pub(crate) async fn a_cookie_reaches_no_other_name(on: On) {
    let (relay, origin) = (TestRelay::start(), TestOrigin::start().await);
    let _agent = serve(&on.agent(&relay, NAME), origin.handler()).await;
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME));
    let answering = async {
        let mut wire = origin.accept().await;
        wire.head().await;
        wire.send(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=1; Domain=ptth.localhost; Path=/\r\n\
             Set-Cookie: __Host-b=2; Secure; Path=/\r\nSet-Cookie: c=3; domain=.LOCALHOST\r\n\
             Set-Cookie: d=4; Domain=shop.ptth.localhost\r\n\r\n",
        )
        .await;
        wire
    };
    let ((head, _), _wire) = tokio::join!(relay.fetch(&ask), answering);
    let wanted = ["a=1; Path=/", "__Host-b=2; Secure; Path=/", "c=3", "d=4; Domain=shop.ptth.localhost"];
    assert_eq!(head.all("set-cookie"), wanted);
}

/// A22, CWE-601: where an answer leads is the service's to say, byte for byte; the relay rewrites nothing.
pub(crate) async fn a_redirect_passes_unchanged(on: On) {
    let (relay, origin) = (TestRelay::start(), TestOrigin::start().await);
    let _agent = serve(&on.agent(&relay, NAME), origin.handler()).await;
    let inner = format!("http://{}/inside", origin.address());
    for location in [
        "//evil.test/",
        "/\\evil.test/",
        "javascript:alert(1)",
        "https://evil.test/?https://shop.ptth.localhost/",
        "https://shop.ptth.localhost.evil.test/",
        &inner,
        "/a/../b?c#d",
        "",
    ] {
        let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", named(NAME));
        let answering = async {
            let mut wire = origin.accept().await;
            wire.head().await;
            wire.send(format!(
                "HTTP/1.1 302 Found\r\nLocation: {location}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
            wire
        };
        let ((head, _), _wire) = tokio::join!(relay.fetch(&ask), answering);
        assert_eq!((head.status(), head.get("location")), (302, Some(location)));
    }
}
