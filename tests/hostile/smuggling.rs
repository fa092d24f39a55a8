//! Messages that a relay and an origin might cut in different places (CWE-444).

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use crate::messages::{self, Row, Strict};
use crate::recorder::Seen;
use crate::strict::Request;
use crate::support::{named, within};
use crate::world::{NAME, On, World, raw, status};

/// Connections at once.
const AT_ONCE: usize = 24;
/// A relay that has not answered within this does not, as it waits for more.
const PATIENCE: Duration = Duration::from_millis(400);

fn marker(number: usize) -> String {
    format!("GET /m/{number} HTTP/1.1\r\nHost: {}\r\nX-Marker: yes\r\n\r\n", named(NAME))
}

fn fill(text: &str, number: usize) -> String {
    let marker = marker(number);
    text.replace("{p}", &format!("/r/{number}"))
        .replace("{h}", &format!("Host: {}\r\n", named(NAME)))
        .replace("{ml}", &marker.len().to_string())
        .replace("{cl}", &(marker.len() + 5).to_string())
        .replace("{m}", &marker)
}

/// Each character is the byte of its number; one beyond them stands as UTF-8.
fn bytes(text: &str) -> Vec<u8> {
    let byte = |c: char| match u8::try_from(c) {
        Ok(byte) => vec![byte],
        Err(_) => c.to_string().into_bytes(),
    };
    text.chars().flat_map(byte).collect()
}

/// A7, A9.
pub(crate) async fn relay_and_origin_agree_where_a_message_ends(on: On) {
    let world = on.world().await;
    let rows = messages::all();
    let relay = &world.relay;
    let send = |(number, row): (usize, &Row)| {
        let message = bytes(&fill(&row.text, number));
        async move { raw(relay, &message, PATIENCE).await }
    };
    let answers: Vec<_> = stream::iter(rows.iter().enumerate().map(send)).buffered(AT_ONCE).collect().await;
    // Behind all of them: whatever was on its way to the origin is there.
    world.is_healthy().await;
    let seen = world.origin.seen();
    let faults: Vec<_> = rows
        .iter()
        .zip(&answers)
        .enumerate()
        .filter_map(|(number, (row, answer))| {
            let fault = judge(number, row, answer, &seen)?;
            Some(format!(
                "{} ({}): {fault}",
                row.name,
                String::from_utf8_lossy(&answer[..answer.len().min(40)])
            ))
        })
        .collect();
    let malformed: Vec<_> = seen.iter().filter(|seen| matches!(seen, Seen::Malformed(_))).collect();
    assert!(faults.is_empty(), "{} of {} messages: {faults:#?}", faults.len(), rows.len());
    assert!(malformed.is_empty(), "{malformed:#?}");
    let upgraded = seen
        .iter()
        .any(|seen| matches!(seen, Seen::Whole(r) if r.all("upgrade").iter().any(|t| t.contains("h2c"))));
    assert!(!upgraded, "an Upgrade to h2c was forwarded");
}

fn judge(number: usize, row: &Row, answer: &[u8], seen: &[Seen]) -> Option<String> {
    let at = |path: String| -> Vec<&Request> {
        let whole =
            seen.iter().filter_map(|seen| if let Seen::Whole(request) = seen { Some(request) } else { None });
        whole.filter(|request| request.target() == path).collect()
    };
    let (own, markers) = (at(format!("/r/{number}")), at(format!("/m/{number}")));
    let status = status(answer);
    match &row.strict {
        Strict::Pipelined(_) => {}
        _ if !markers.is_empty() => return Some("the marker is a request of its own".into()),
        _ => {}
    }
    let wanted = match &row.strict {
        Strict::Refuse if !own.is_empty() => return Some(format!("forwarded to the origin: {:?}", own[0])),
        Strict::Refuse if (1..400).contains(&status) => return Some("the message was not refused".into()),
        Strict::Refuse => return None,
        Strict::Body(body) => fill(body, number),
        Strict::Pipelined(body) => (*body).to_owned(),
    };
    match &own[..] {
        [] if (1..400).contains(&status) => Some("an answer without a request".into()),
        [] => None,
        [one] if one.body == wanted.as_bytes() => None,
        several => Some(format!("the origin reads another body: {several:?}")),
    }
}

/// Pingora CVE-2026-2833, Envoy CVE-2026-73548: what stands behind an Upgrade is neither passed on before the 101, nor
/// left in a connection that another visitor's request takes.
pub(crate) async fn bytes_behind_a_refused_upgrade_are_not_forwarded(on: On) {
    let world = on.world().await;
    let own = |token: &str, number: usize| {
        format!(
            "GET /up/{number} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: {token}\r\n\r\n{}",
            named(NAME),
            "\x01\x02raw bytes that are no request\r\n\r\n"
        )
    };
    for (number, token) in
        ["websocket", "foo", "h2c", "PTTH/1.0", "ptth", "TLS/1.2", "connect-udp"].iter().enumerate()
    {
        let answer = raw(&world.relay, &bytes(&own(token, number)), PATIENCE).await;
        // Whole messages carry no Upgrade, and say so to whoever asks for the one that they might carry.
        let wanted = if on.transport == "comet" && status(&answer) != 200 { 501 } else { 200 };
        assert_eq!(status(&answer), wanted, "{token}: {}", String::from_utf8_lossy(&answer));
        within("the next visitors", async {
            for _ in 0..3 {
                world.is_healthy().await;
            }
        })
        .await;
    }
    let paths: Vec<_> = world.origin.whole().iter().map(|r| r.target().to_owned()).collect();
    assert!(paths.iter().all(|path| path == "/honest" || path.starts_with("/up/")), "{paths:?}");
    assert!(!world.origin.seen().iter().any(|seen| matches!(seen, Seen::Cut)), "{:?}", world.origin.seen());
}

/// A10, CVE-2024-45410: naming a field in `Connection` takes it away only if nobody depends on it.
pub(crate) async fn connection_removes_no_protected_field(on: On) {
    let world: World = on.world().await;
    let connection = "X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Forwarded, Host, Authorization, Cookie, \
                      Content-Length, Via, X-Plain, close";
    for (number, line) in
        [connection.to_owned(), connection.to_uppercase(), connection.replace(", ", ",,\t,")]
            .iter()
            .enumerate()
    {
        let request = format!(
            "POST /hop/{number} HTTP/1.1\r\nHost: {}\r\nConnection: {line}\r\nAuthorization: Bearer mine\r\nCookie: a=b\r\n\
             X-Forwarded-For: 1.2.3.4\r\nX-Plain: gone\r\nContent-Length: 5\r\n\r\nhello",
            named(NAME)
        );
        assert_eq!(world.relay.fetch(&request).await.0.status(), 200);
        let seen = world.origin.whole();
        let request =
            seen.iter().find(|r| r.target() == format!("/hop/{number}")).expect("the request at the origin");
        assert_eq!(request.body, b"hello");
        for (name, value) in [
            ("host", &*named(NAME)),
            ("authorization", "Bearer mine"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", &named(NAME)),
            ("x-forwarded-proto", "http"),
        ] {
            assert_eq!(request.all(name), [value], "{name}: {request:?}");
        }
        assert!(request.all("x-plain").is_empty() && request.all("connection").is_empty(), "{request:?}");
        assert!(request.all("via").len() == 1 && request.all("forwarded").len() == 1, "{request:?}");
    }
}
