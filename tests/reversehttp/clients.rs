//! The clients of 2009 to 2012, byte for byte as they were captured: unmodified where registration is open, and elsewhere
//! with a token in place of their hyphen.

use super::support::{Bench, Raw};

/// Registers with captured bytes and returns the path of the first Request URL.
async fn register(bench: &Bench, name: &str, raw: &mut Raw, bytes: String) -> String {
    raw.send(&bytes).await;
    let answer = raw.read().await;
    assert_eq!(answer.status, 201, "{answer:?}");
    // The Java client knows this spelling alone, and the Perl client wants `rel` first.
    assert!(
        answer.head.contains("\r\nLink: <http://") && answer.head.contains("\r\nLocation: http://"),
        "{}",
        answer.head
    );
    let url = answer.link_url("first");
    assert!(url.starts_with(&format!("http://{}/", bench.at)), "{name}: {url}");
    answer.link("first")
}

async fn python(bench: Bench) {
    let host = bench.at;
    let form = format!("token={}&name=demo", bench.token);
    let bytes = format!(
        "POST /reversehttp HTTP/1.1\r\nAccept-Encoding: identity\r\nContent-Length: {}\r\nHost: {host}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\nUser-Agent: Python-urllib/2.7\r\n\r\n{form}",
        form.len()
    );
    let url = register(&bench, "python", &mut bench.open().await, bytes).await;
    let poll = format!("GET {url} HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: {host}\r\n\r\n");
    // It polls the same URL again after a 204, each time on a connection of its own.
    for _ in 0..2 {
        let mut raw = bench.open().await;
        raw.send(&poll).await;
        assert_eq!(raw.read().await.status, 204);
    }
    let (visit, ()) = tokio::join!(bench.visit("demo", "/p"), async {
        let mut raw = bench.open().await;
        raw.send(&poll).await;
        let polled = raw.read().await;
        let (address, port) = polled.field("Requesting-Client").split_once(':').unwrap();
        assert!(address == "127.0.0.1" && port.parse::<u16>().is_ok());
        let message = "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.3 Python/2.7\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\n\
                       Content-type: text/plain\r\n\r\nhi";
        let length = message.len();
        let post = format!(
            "POST {url} HTTP/1.1\r\nAccept-Encoding: identity\r\nContent-Length: {length}\r\nHost: {host}\r\n\
             Content-Type: message/http\r\n\r\n{message}"
        );
        let mut raw = bench.open().await;
        raw.send(&post).await;
        assert_eq!(raw.read().await.status, 202);
    });
    assert_eq!((visit.status, &*visit.body, visit.field("Content-Length")), (200, "hi", "2"));
}

async fn java(bench: Bench) {
    let host = bench.at;
    let form = format!("name=demo&token={}", bench.token);
    let common = format!(
        "User-Agent: Java/17.0.15\r\nHost: {host}\r\n\
         Accept: text/html, image/gif, image/jpeg, */*; q=0.2\r\nConnection: keep-alive\r\n"
    );
    let bytes = format!(
        "POST /reversehttp HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded\r\n{common}Content-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut raw = bench.open().await;
    let url = register(&bench, "java", &mut raw, bytes).await;
    let (visit, ()) = tokio::join!(bench.visit("demo", "/j"), async {
        raw.send(&format!("GET {url} HTTP/1.1\r\n{common}\r\n")).await;
        let polled = raw.read().await;
        assert!(
            polled.head.contains("\r\nLink: <") && polled.head.contains("\r\nRequesting-Client: "),
            "{}",
            polled.head
        );
        let message = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nfrom java";
        let post = format!(
            "POST {url} HTTP/1.1\r\ncontent-type: message/http\r\n{common}Content-Length: {}\r\n\r\n{message}",
            message.len()
        );
        raw.send(&post).await;
        assert_eq!(raw.read().await.status, 202);
    });
    assert_eq!((visit.status, &*visit.body), (200, "from java"));
}

async fn javascript_in_a_page_of_another_origin(bench: Bench) {
    let host = bench.at;
    let origin = "Origin: http://page.test\r\n";
    let preflight = format!(
        "OPTIONS /reversehttp HTTP/1.1\r\nHost: {host}\r\n{origin}Access-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: X-Requested-With\r\n\r\n"
    );
    let mut raw = bench.open().await;
    raw.send(&preflight).await;
    let allowed = raw.read().await;
    assert_eq!((allowed.status, allowed.field("Access-Control-Allow-Origin")), (204, "*"));
    assert!(allowed.field("Access-Control-Allow-Headers").contains("X-Requested-With"), "{allowed:?}");
    assert!(allowed.field("Access-Control-Allow-Methods").contains("POST"), "{allowed:?}");

    let xhr = format!("Host: {host}\r\n{origin}X-Requested-With: XMLHttpRequest\r\n");
    let form = format!("name=demo&token={}", bench.token);
    let bytes = format!(
        "POST /reversehttp HTTP/1.1\r\n{xhr}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let url = register(&bench, "javascript", &mut raw, bytes).await;
    let (visit, ()) = tokio::join!(bench.visit("demo", "/js"), async {
        raw.send(&format!("GET {url} HTTP/1.1\r\n{xhr}Accept: */*, message/http\r\n\r\n")).await;
        let polled = raw.read().await;
        let exposed = polled.field("Access-Control-Expose-Headers");
        assert!(exposed.contains("Link") && exposed.contains("Requesting-Client"), "{polled:?}");
        let message = "HTTP/1.1 200 OK\r\nContent-type: text/html\r\nContent-length: 5\r\n\r\nh\u{e9}llo";
        let post = format!(
            "POST {url} HTTP/1.1\r\n{xhr}Content-Type: message/http;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{message}",
            message.len()
        );
        raw.send(&post).await;
        assert_eq!(raw.read().await.status, 202);
    });
    // It counts characters; what counts is the bytes.
    assert_eq!((visit.status, &*visit.body, visit.field("Content-Length")), (200, "h\u{e9}llo", "6"));
    // A page may read refusals too.
    raw.send(&format!("GET {url} HTTP/1.1\r\n{xhr}\r\n")).await;
    let refused = raw.read().await;
    assert_eq!((refused.status, refused.field("Access-Control-Allow-Origin")), (410, "*"));
}

async fn perl(bench: Bench) {
    let host = bench.at;
    let form = format!("token={}&name=demo", bench.token);
    let common =
        format!("Host: {host}\r\nUser-Agent: AnyEvent-HTTP\r\nConnection: close, Te\r\nTe: trailers\r\n");
    let bytes = format!("POST /reversehttp HTTP/1.1\r\n{common}Content-length: {}\r\n\r\n{form}", form.len());
    let url = register(&bench, "perl", &mut bench.open().await, bytes).await;
    let (visit, ()) = tokio::join!(bench.visit("demo", "/pl"), async {
        let mut raw = bench.open().await;
        raw.send(&format!("GET {url} HTTP/1.1\r\n{common}\r\n")).await;
        assert_eq!(raw.read().await.status, 200);
        let message = "HTTP/1.1 200 OK\nContent-Type: text/plain\n\nHello World";
        let mut raw = bench.open().await;
        raw.send(&format!(
            "POST {url} HTTP/1.1\r\n{common}Content-length: {}\r\n\r\n{message}",
            message.len()
        ))
        .await;
        // Anything but 202 makes it croak.
        assert_eq!(raw.read().await.status, 202);
    });
    assert_eq!((visit.status, &*visit.body), (200, "Hello World"));
}

/// One test for each client, with a token and without.
macro_rules! clients {
    ($($client:ident: $with:ident $without:ident;)*) => {
        $(
            mod $client {
                use super::Bench;

                #[tokio::test]
                async fn with_a_token() {
                    super::$client(Bench::$with()).await;
                }

                #[tokio::test]
                async fn unmodified() {
                    super::$client(Bench::$without()).await;
                }
            }
        )*
    };
}

clients! {
    python: short_hold short_hold_and_open;
    java: start open_to_all;
    javascript_in_a_page_of_another_origin: start open_to_all;
    perl: start open_to_all;
}
