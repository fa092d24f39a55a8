//! RelayHttp: wire §2. What leads out, and above all what does not.

use std::net::SocketAddr;
use std::time::Duration;

use ptth::internals::relay::config::Destination;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::support::{Answer, Bench, Raw, STEP};

const MESSAGE: &str = "Content-Type: message/http\r\n";

/// A service that requests are relayed to.
struct Service {
    listener: TcpListener,
    at: SocketAddr,
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { at: listener.local_addr().unwrap(), listener }
    }

    /// Takes one request and answers with these bytes; the connection stays open if they do not say otherwise.
    async fn serves(&self, answer: &str) -> (Answer, Raw) {
        let (stream, _) = tokio::time::timeout(STEP, self.listener.accept()).await.unwrap().unwrap();
        let mut raw = Raw { stream, read: Vec::new() };
        let asked = read_request(&mut raw).await;
        raw.stream.write_all(answer.as_bytes()).await.unwrap();
        (asked, raw)
    }

    /// Nobody has come, and what was asked for is over.
    async fn assert_no_connection(&self) {
        let came = tokio::time::timeout(Duration::from_millis(50), self.listener.accept()).await;
        assert!(came.is_err(), "{came:?}");
    }
}

/// A request, with its body by its length; its head stands in `head`.
async fn read_request(raw: &mut Raw) -> Answer {
    let head = raw.until("\r\n\r\n").await;
    let fields = head.lines().skip(1).filter_map(|l| l.split_once(": "));
    let fields = fields.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let mut asked = Answer { status: 0, head, fields, body: String::new() };
    let length: usize = asked.field("Content-Length").parse().unwrap_or(0);
    while raw.read.len() < length {
        assert!(raw.more().await);
    }
    asked.body = String::from_utf8(std::mem::take(&mut raw.read)).unwrap();
    asked
}

impl Bench {
    fn with_destinations(destinations: &[&str]) -> Self {
        Self::with(|config| {
            config.relay_http = destinations.iter().map(|text| Destination::parse(text).unwrap()).collect();
        })
    }

    /// Relays a message to a destination, with the bench's token.
    async fn relayed(&self, to: &str, message: &str) -> Answer {
        let fields = format!("{MESSAGE}Authorization: Bearer {}\r\n", self.token);
        self.request("POST", &format!("/reversehttp/_relay/{to}"), &fields, message).await
    }
}

fn get(host: impl std::fmt::Display) -> String {
    format!("GET /service HTTP/1.0\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn a_request_goes_out_and_its_answer_comes_back() {
    let service = Service::start().await;
    let at = service.at;
    let bench = Bench::with_destinations(&[&at.to_string()]);
    let message = format!(
        "POST /a?b HTTP/1.1\r\nHost: {at}\r\nX-Mine: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
         Expect: 100-continue\r\nProxy-Authorization: x\r\nContent-Length: 4\r\n\r\nbody"
    );
    let answer = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
                  Keep-Alive: timeout=5\r\nContent-Length: 3\r\n\r\nabc";
    // The service keeps the connection open; the answer's own framing ends it.
    let to = at.to_string();
    let (got, (asked, _open)) = tokio::join!(bench.relayed(&to, &message), service.serves(answer));
    assert!(asked.head.starts_with("POST /a?b HTTP/1.1\r\n"), "{}", asked.head);
    assert_eq!((asked.field("Host"), asked.field("Connection")), (&*at.to_string(), "close"));
    assert_eq!((asked.field("X-Mine"), &*asked.body), ("1", "body"));
    for gone in ["X-Hop", "TE", "Te", "Expect", "Proxy-Authorization", "Authorization"] {
        assert!(!asked.fields.contains_key(gone), "{gone}: {}", asked.head);
    }
    assert_eq!((got.status, got.field("Content-Type")), (200, "message/http"));
    assert_eq!(got.field("X-Content-Type-Options"), "nosniff");
    // A redirect is the asker's to follow.
    let message = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
                   Content-Length: 3\r\n\r\nabc";
    assert_eq!(got.body, message);
    service.assert_no_connection().await;
}

impl Bench {
    /// Asks the service for something on a connection that is to be read by hand.
    async fn begin_relaying(&self, service: &Service) -> Raw {
        let (at, message) = (service.at, get(service.at));
        let mut raw = self.open().await;
        raw.send(&format!(
            "POST /reversehttp/_relay/{at} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Length: {}\r\n\r\n{message}",
            self.at,
            self.token,
            message.len()
        ))
        .await;
        raw
    }
}

#[tokio::test]
async fn an_answer_without_a_length_streams() {
    let service = Service::start().await;
    let bench = Bench::with_destinations(&[&service.at.to_string()]);
    let mut raw = bench.begin_relaying(&service).await;
    let first = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    let (_, mut open) = service.serves(first).await;
    let envelope = raw.head().await;
    assert_eq!((envelope.status, envelope.field("Transfer-Encoding")), (200, "chunked"), "{envelope:?}");
    // The message itself is in no coding, and its second half is not written before the first was read.
    let text = raw.until("first").await;
    assert!(text.contains("HTTP/1.1 200 OK\r\n\r\n") && !text.contains("chunked"), "{text}");
    open.send("6\r\nsecond\r\n0\r\n\r\n").await;
    assert!(raw.until("0\r\n\r\n").await.contains("second"));
}

#[tokio::test]
async fn a_truncated_answer_stays_truncated() {
    let service = Service::start().await;
    let bench = Bench::with_destinations(&[&service.at.to_string()]);
    let mut raw = bench.begin_relaying(&service).await;
    drop(service.serves("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await);
    let envelope = raw.head().await;
    let length: usize = envelope.field("Content-Length").parse().unwrap();
    while raw.more().await {}
    assert!(raw.read.len() < length, "{:?}", String::from_utf8_lossy(&raw.read));
}

#[tokio::test]
async fn httpd_js_works_unmodified() {
    let service = Service::start().await;
    let at = service.at;
    let bench = Bench::with(|config| {
        config.open_registration = true;
        config.relay_http = vec![Destination::parse(&at.to_string()).unwrap()];
    });
    let message = format!("GET /service?x=1 HTTP/1.0\r\nHost: {at}\r\nContent-length: 0\r\n\r\n");
    for kind in ["message/http", "message/http;charset=UTF-8", "text/plain", ""] {
        let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let fields = format!("Origin: http://page.test\r\nX-Requested-With: XMLHttpRequest\r\n{kind}");
        let path = format!("/reversehttp/_relay/{at}");
        let (got, (asked, _)) = tokio::join!(
            bench.request("POST", &path, &fields, &message),
            service.serves("HTTP/1.0 404 Not Found\r\nContent-Length: 2\r\nX-Y: z\r\n\r\nno"),
        );
        assert!(asked.head.starts_with("GET /service?x=1 HTTP/1."), "{}", asked.head);
        assert_eq!((got.status, got.field("Content-Type")), (200, "message/http"), "{got:?}");
        assert_eq!(got.field("Access-Control-Allow-Origin"), "*");
        assert_eq!(got.body, "HTTP/1.1 404 Not Found\r\nX-Y: z\r\nContent-Length: 2\r\n\r\nno");
    }
    let allowed = bench.request("OPTIONS", "/reversehttp/_relay/x", "Origin: http://page.test\r\n", "").await;
    assert_eq!((allowed.status, allowed.field("Access-Control-Allow-Methods")), (204, "POST"));
    assert!(allowed.field("Access-Control-Allow-Headers").contains("Content-Type, X-Requested-With"));
}

#[tokio::test]
async fn relaying_is_off_without_destinations() {
    let service = Service::start().await;
    let bench = Bench::start();
    for to in [service.at.to_string(), "www.example.com".to_owned(), String::new()] {
        assert_eq!(bench.relayed(&to, &get(&to)).await.status, 404, "{to}");
    }
    service.assert_no_connection().await;
}

#[tokio::test]
async fn relaying_requires_the_credentials_of_an_agent() {
    let service = Service::start().await;
    let at = service.at.to_string();
    let mut bench = Bench::with_destinations(&[&at]);
    let path = format!("/reversehttp/_relay/{at}");
    // The id of the request, which differs, comes last.
    let words = |body: &str| body.split_once(r#","request":""#).unwrap().0.to_owned();
    for fields in ["", "Authorization: Bearer wrong\r\n", "Authorization: Bearer ptth_0123456789ab_x\r\n"] {
        let refused = bench.request("POST", &path, fields, &get(&at)).await;
        assert_eq!(refused.status, 401, "{fields}");
        // Not even where it leads.
        let other = bench.request("POST", "/reversehttp/_relay/other", fields, "").await;
        assert_eq!(words(&other.body), words(&refused.body));
    }
    service.assert_no_connection().await;
    bench.config.open_registration = true;
    let bench = bench.restarted().await;
    let refused = bench.request("POST", &path, "Authorization: Bearer ptth_x\r\n", &get(&at)).await;
    assert_eq!(refused.status, 401);
    service.assert_no_connection().await;
    let message = get(&at);
    let (got, _) = tokio::join!(
        bench.request("POST", &path, "", &message),
        service.serves("HTTP/1.1 204 No Content\r\n\r\n")
    );
    assert_eq!((got.status, got.body.starts_with("HTTP/1.1 204 ")), (200, true), "{got:?}");
}

/// Ways to say "this machine", or "the network behind it", to a program that only looks for "127.0.0.1".
#[tokio::test]
async fn no_spelling_of_an_internal_address_is_dialled() {
    let service = Service::start().await;
    let port = service.at.port();
    // Names are allowed here; what they resolve to is looked at. The last is allowed as an address: another one.
    let allowed = [
        format!("localhost:{port}"),
        format!("app.localhost:{port}"),
        format!("ptth.localhost:{port}"),
        "127.0.0.1:1".to_owned(),
    ];
    let bench = Bench::with_destinations(&allowed.iter().map(String::as_str).collect::<Vec<_>>());
    for (host, status) in [
        ("localhost", 403),
        ("LOCALHOST", 403),
        ("localhost.", 403),
        ("app.localhost", 403),
        ("ptth.localhost", 403),
        ("127.0.0.1", 403),
        ("127.0.0.2", 403),
        ("0.0.0.0", 403),
        ("10.0.0.1", 403),
        ("169.254.169.254", 403),
        ("192.168.0.1", 403),
        ("[::1]", 403),
        ("[::]", 403),
        ("[::ffff:127.0.0.1]", 403),
        ("[::ffff:7f00:1]", 403),
        ("[::127.0.0.1]", 403),
        ("[64:ff9b::7f00:1]", 403),
        ("[2002:7f00:1::]", 403),
        ("[fe80::1]", 403),
        ("[fc00::1]", 403),
        ("2130706433", 400),
        ("0x7f000001", 400),
        ("017700000001", 400),
        ("0177.0.0.1", 400),
        ("0x7f.1", 400),
        ("127.1", 400),
        ("127.0.1", 400),
        ("127.0.0.1.", 403),
        ("127.0.0.01", 400),
        ("[::1%25lo]", 400),
        ("%6cocalhost", 400),
        ("user@localhost", 400),
        ("www.example.com", 403),
    ] {
        let to = format!("{host}:{port}");
        let refused = bench.relayed(&to, &get(&to)).await;
        assert_eq!(refused.status, status, "{to}: {refused:?}");
    }
    service.assert_no_connection().await;
}

#[tokio::test]
async fn an_address_listed_by_the_operator_is_dialled() {
    let service = Service::start().await;
    let at = service.at;
    let pinned = format!("intranet.test:{}", at.port());
    let bench = Bench::with_destinations(&[&at.to_string(), &format!("{pinned}=127.0.0.1")]);
    for to in [at.to_string(), pinned] {
        let (got, (asked, _)) = tokio::join!(
            bench.relayed(&to, "GET / HTTP/1.0\r\n\r\n"),
            service.serves("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        );
        assert_eq!((got.status, asked.field("Host")), (200, &*to), "the relay adds a missing Host");
    }
}

#[tokio::test]
async fn an_ambiguous_or_misdirected_request_is_not_relayed() {
    let service = Service::start().await;
    let at = service.at;
    let bench = Bench::with_destinations(&[&at.to_string()]);
    let line = |text: &str| text.replace("AT", &at.to_string());
    for message in [
        "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: AT\r\nHost: AT\r\n\r\n",
        "GET http://other.test/ HTTP/1.1\r\nHost: AT\r\n\r\n",
        "GET https://AT/ HTTP/1.1\r\nHost: AT\r\n\r\n",
        "CONNECT AT HTTP/1.1\r\nHost: AT\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: AT\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: AT\r\nContent-Length: 0\r\n\r\nGET /second HTTP/1.1\r\nHost: AT\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: AT\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: AT\r\nA: b\rX: y\r\n\r\n",
        "GET / HTTP/2\r\nHost: AT\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: AT\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: AT\r\n",
        "",
    ] {
        let refused = bench.relayed(&at.to_string(), &line(message)).await;
        assert_eq!(refused.status, 400, "{message:?}: {refused:?}");
    }
    let (path, bearer) =
        (format!("/reversehttp/_relay/{at}"), format!("Authorization: Bearer {}\r\n", bench.token));
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(bench.request(method, &path, &bearer, "").await.status, 405, "{method}");
    }
    let several = format!("{bearer}Content-Type: Application/HTTP; x=y\r\n");
    assert_eq!(bench.request("POST", &path, &several, &get(at)).await.status, 415);
    for bad in ["", ":80", "a:x", "a:0", "a:65536", "a:1:2", "[::1", "a/b", "a%00"] {
        assert_eq!(bench.relayed(bad, &get(at)).await.status, 400, "{bad:?}");
    }
    let large = format!("POST / HTTP/1.1\r\nHost: {at}\r\n\r\n{}", "x".repeat((1 << 20) + 1));
    assert_eq!(bench.relayed(&at.to_string(), &large).await.status, 413);
    service.assert_no_connection().await;
}

#[tokio::test]
async fn a_destination_without_a_valid_answer_is_502() {
    let service = Service::start().await;
    let at = service.at.to_string();
    let gone = {
        let gone = Service::start().await;
        gone.at.to_string()
    };
    let bench = Bench::with_destinations(&[&at, &gone, "does-not-exist.invalid"]);
    for to in [&gone, "does-not-exist.invalid"] {
        let failed = bench.relayed(to, &get(to)).await;
        assert_eq!(failed.status, 502, "{to}: {failed:?}");
        assert!(!failed.body.contains("refused") && !failed.body.contains("127.0.0.1"), "{failed:?}");
    }
    for answer in ["this is no HTTP\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"] {
        let message = get(&at);
        let (failed, _) = tokio::join!(bench.relayed(&at, &message), async {
            // Closed behind the answer.
            drop(service.serves(answer).await);
        });
        assert_eq!(failed.status, 502, "{answer:?}: {failed:?}");
    }
}

#[tokio::test]
async fn the_relay_path_under_an_agents_host_belongs_to_the_agent() {
    let service = Service::start().await;
    let bench = Bench::with_destinations(&[&service.at.to_string()]);
    bench.another_token(&["demo"]);
    let mut raw = bench.open().await;
    let path = format!("/reversehttp/_relay/{}", service.at);
    raw.send(&format!("POST {path} HTTP/1.1\r\nHost: demo.relay.test\r\nContent-Length: 0\r\n\r\n")).await;
    assert_eq!(raw.read().await.status, 503);
    service.assert_no_connection().await;
}
