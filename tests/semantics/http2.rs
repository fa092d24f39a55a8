//! HTTP/2 itself, frame by frame: messages that are malformed, and how they are refused (RFC 9113 §5.4, §8.1.1).

use std::time::Duration;

use crate::exchange::{OK, at_origin, host};
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, values,
};
use crate::support::{QUIET, STEP, Wire, within};
use crate::visitor::{Http2, request};
use crate::world::{Before, FRONT, On, World};

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

type Fields<'a> = &'a [(&'a str, &'a str)];

/// The frames of a message: a head, a body and trailers, of which the last ends the stream.
fn message(head: &[u8], body: Option<&str>, trailers: Option<Fields<'_>>) -> Vec<u8> {
    let ends = |last: bool| if last { END_STREAM } else { 0 };
    let mut out = frame(HEADERS, END_HEADERS | ends(body.is_none() && trailers.is_none()), 1, head);
    if let Some(body) = body {
        out.extend(frame(DATA, ends(trailers.is_none()), 1, body));
    }
    if let Some(trailers) = trailers {
        out.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(trailers)));
    }
    out
}

fn asking(method: &str, fields: Fields<'_>) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", &*host()), (":path", "/")];
    [block(&pseudo), block(fields)].concat()
}

fn answering(fields: Fields<'_>) -> Vec<u8> {
    [block(&[(":status", "200")]), block(fields)].concat()
}

/// The code of a frame that resets a stream or ends a connection.
fn code(payload: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(payload[at..at + 4].try_into().unwrap())
}

async fn visitor(world: &World) -> Frames {
    Frames::client(world.relay.tls_as(&host(), b"h2").await).await
}

/// The next connection at an origin with HTTP/2, with a request on it.
async fn origin(world: &World) -> Frames {
    let mut origin = Frames::server(world.origin.accept().await.into_io(), &[]).await;
    origin.until(STEP, |frame| frame.kind == HEADERS).await.expect("a request");
    origin
}

/// Sends a malformed request: its stream is reset with PROTOCOL_ERROR, and the origin gets no complete request.
async fn is_reset(world: &World, frames: &[u8]) {
    let mut visitor = visitor(world).await;
    visitor.send(frames).await;
    let ends = |frame: &Frame| [RST_STREAM, HEADERS, GOAWAY].contains(&frame.kind);
    let reset = within("a reset", visitor.until(2 * STEP, ends)).await.expect("a reset");
    assert_eq!((reset.kind, reset.stream), (RST_STREAM, 1), "{reset:?}");
    assert_eq!(code(&reset.payload, 0), PROTOCOL_ERROR);
    is_incomplete(world).await;
}

/// The origin gets nothing, or a request that breaks off.
async fn is_incomplete(world: &World) {
    if let Ok(mut origin) = tokio::time::timeout(QUIET, world.origin.accept()).await {
        let got = origin.rest().await;
        let text = String::from_utf8_lossy(&got);
        assert!(!text.ends_with("0\r\n\r\n") && !text.contains("ontent-length: 2\r\n"), "complete: {text}");
    }
}

/// Sends a malformed answer: the visitor gets an error, or an answer that breaks off.
async fn is_no_answer(on: On, frames: &[u8]) {
    let world = on.world_of_http2().await;
    let mut visitor = Http2::open(&world).await;
    let (answer, _) = visitor.begin(request("GET", "/").body(()).unwrap(), true).await;
    let mut origin = origin(&world).await;
    origin.send(frames).await;
    let answer = answer.whole().await;
    assert!(answer.as_ref().is_err() || answer.as_ref().unwrap().head.status() == 502, "{answer:?}");
    drop(origin);
}

pub(crate) async fn blanks_around_field_values(on: On) {
    let world = on.world().await;
    for value in [" a", "a ", "\ta", "a\t", " "] {
        is_reset(&world, &message(&asking("GET", &[("x-a", value)]), None, None)).await;
    }
    is_reset(&world, &message(&asking("POST", &[]), Some("hi"), Some(&[("x-a", " a")]))).await;
}

pub(crate) async fn blanks_around_values_of_an_http2_origin(on: On) {
    for value in [" a", "a\t"] {
        is_no_answer(on, &message(&answering(&[("x-a", value)]), Some("ok"), None)).await;
        is_no_answer(on, &message(&answering(&[]), Some("ok"), Some(&[("x-a", value)]))).await;
    }
    let world = on.world_of_http2().await;
    let mut visitor = Http2::open(&world).await;
    let (answer, _) = visitor.begin(request("GET", "/").body(()).unwrap(), true).await;
    let mut origin = origin(&world).await;
    origin.send(frame(HEADERS, END_HEADERS, 1, answering(&[("x-a", " a")]))).await;
    let reset = origin.until(STEP, |frame| frame.kind == RST_STREAM).await.expect("a reset");
    assert_eq!(code(&reset.payload, 0), PROTOCOL_ERROR);
    assert_eq!(answer.whole().await.unwrap().head.status(), 502);
}

pub(crate) async fn pseudo_fields_in_trailers(on: On) {
    let world = on.world().await;
    is_reset(&world, &message(&asking("POST", &[]), Some("hi"), Some(&[(":path", "/other")]))).await;
}

pub(crate) async fn pseudo_fields_in_trailers_of_an_http2_origin(on: On) {
    is_no_answer(on, &message(&answering(&[]), Some("ok"), Some(&[(":status", "200")]))).await;
}

pub(crate) async fn a_body_unlike_its_length(on: On) {
    let world = on.world().await;
    let asking = asking("POST", &[("content-length", "5")]);
    for (body, trailers) in
        [(Some("hello!"), None), (Some("hi"), None), (None, None), (Some("hi"), Some(&[("x-a", "1")][..]))]
    {
        is_reset(&world, &message(&asking, body, trailers)).await;
    }
}

pub(crate) async fn a_body_of_an_http2_origin_unlike_its_length(on: On) {
    let answering = answering(&[("content-length", "5")]);
    for (body, trailers) in
        [(Some("hello!"), None), (Some("hi"), None), (None, None), (Some("hi"), Some(&[("x-a", "1")][..]))]
    {
        is_no_answer(on, &message(&answering, body, trailers)).await;
    }
}

pub(crate) async fn a_reset_does_not_complete_a_request(on: On) {
    let world = on.world().await;
    let begun = [frame(HEADERS, END_HEADERS, 1, asking("POST", &[])), frame(DATA, 0, 1, "hi")].concat();
    for end in [
        frame(RST_STREAM, 0, 1, NO_ERROR.to_be_bytes()),
        frame(GOAWAY, 0, 0, [[0; 4], NO_ERROR.to_be_bytes()].concat()),
    ] {
        let mut visitor = visitor(&world).await;
        visitor.send([&begun[..], &end].concat()).await;
        drop(visitor);
        is_incomplete(&world).await;
    }
}

pub(crate) async fn a_reset_does_not_complete_an_answer(on: On) {
    let begun = [frame(HEADERS, END_HEADERS, 1, answering(&[])), frame(DATA, 0, 1, "hi")].concat();
    for end in [
        frame(RST_STREAM, 0, 1, NO_ERROR.to_be_bytes()),
        frame(GOAWAY, 0, 0, [1_u32.to_be_bytes(), NO_ERROR.to_be_bytes()].concat()),
    ] {
        let ends_connection = end[3] == GOAWAY;
        let world = on.world_of_http2().await;
        let mut visitor = Http2::open(&world).await;
        let (answer, _) = visitor.begin(request("GET", "/").body(()).unwrap(), true).await;
        let mut origin = origin(&world).await;
        origin.send([&begun[..], &end].concat()).await;
        let origin = (!ends_connection).then_some(origin);
        let answer = answer.whole().await;
        assert!(answer.as_ref().is_err() || answer.as_ref().unwrap().head.status() == 502, "{answer:?}");
        drop(origin);
    }
}

/// More trailer fields, or larger trailer fields, than a message may have.
fn too_many() -> [Vec<(String, String)>; 2] {
    [
        (0..=100).map(|n| (format!("x-{n}"), "1".to_owned())).collect(),
        vec![("x-large".to_owned(), "y".repeat(16 << 10))],
    ]
}

fn chunks_with(trailers: &[(String, String)]) -> String {
    let lines: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("3\r\nabc\r\n0\r\n{lines}\r\n")
}

pub(crate) async fn too_many_trailers_of_a_request(on: On) {
    let world = on.world().await;
    for trailers in too_many() {
        let mut visitor = world.relay.visitor().await;
        let head = crate::exchange::head("POST", "/", "Transfer-Encoding: chunked\r\n");
        visitor.send(head + &chunks_with(&trailers)).await;
        is_refused_with_431(&world, visitor.answer_status()).await;

        let mut visitor = Http2::open(&world).await;
        let (answer, mut upload) = visitor.begin(request("POST", "/").body(()).unwrap(), false).await;
        upload.send_data("abc".into(), false).unwrap();
        let fields = trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        upload.send_trailers(fields.collect()).unwrap();
        let status = async { Some(answer.whole().await.unwrap().head.status().as_u16()) };
        is_refused_with_431(&world, status).await;
    }
}

/// The visitor gets a 431. What the origin gets meanwhile breaks off.
async fn is_refused_with_431(world: &World, status: impl Future<Output = Option<u16>>) {
    let mut status = std::pin::pin!(status);
    let at_origin: Option<Wire> = tokio::select! {
        biased;
        status = &mut status => {
            assert_eq!(status, Some(431));
            None
        }
        origin = world.origin.accept() => Some(origin),
    };
    if let Some(mut origin) = at_origin {
        let (got, status) = tokio::join!(origin.rest(), status);
        assert_eq!(status, Some(431));
        assert!(!got.ends_with(b"\r\n0\r\n\r\n"), "the request is complete");
    }
}

pub(crate) async fn too_many_trailers_of_an_answer(on: On) {
    for trailers in too_many() {
        let world = on.world().await;
        let chunks = chunks_with(&trailers);
        let answer =
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let mut visitor = world.relay.visitor().await;
        visitor.send(crate::exchange::head("GET", "/", "TE: trailers\r\nConnection: te, close\r\n")).await;
        let (mut origin, _) = at_origin(&world).await;
        origin.send(&answer).await;
        let head = visitor.head().await;
        assert_eq!((head.status(), &visitor.body(&head).await[..]), (200, &b"abc"[..]));
        let mut visitor = Http2::open(&world).await;
        let (answering, _) = visitor.begin(request("GET", "/").body(()).unwrap(), true).await;
        let (mut origin, _) = at_origin(&world).await;
        origin.send(&answer).await;
        let answer = answering.whole().await.unwrap();
        assert_eq!((&answer.body[..], answer.trailers), (&b"abc"[..], None));
    }
}

pub(crate) async fn too_many_trailers_of_an_http2_origin(on: On) {
    for trailers in too_many() {
        let fields: Vec<_> = trailers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let (head, rest) = fields.split_at(fields.len() / 2);
        let world = on.world_of_http2().await;
        let mut visitor = Http2::open(&world).await;
        let (answer, _) = visitor.begin(request("GET", "/").body(()).unwrap(), true).await;
        let mut origin = origin(&world).await;
        origin.send(frame(HEADERS, END_HEADERS, 1, answering(&[]))).await;
        origin.send(frame(DATA, 0, 1, "abc")).await;
        let last = block(rest);
        let (first, second) = last.split_at(last.len() / 2);
        origin.send(frame(HEADERS, END_STREAM, 1, block(head))).await;
        origin.send(frame(CONTINUATION, 0, 1, first)).await;
        origin.send(frame(CONTINUATION, END_HEADERS, 1, second)).await;
        let answer = answer.whole().await.unwrap();
        assert_eq!((&answer.body[..], answer.trailers), (&b"abc"[..], None));
    }
}

pub(crate) async fn an_unknown_protocol(on: On) {
    let world = on.world().await;
    let mut visitor = Http2::open(&world).await;
    let mut asked = request("CONNECT", "/").body(()).unwrap();
    asked.extensions_mut().insert(h2::ext::Protocol::from_static("unknown"));
    let (mut answer, _upload) = visitor.begin(asked, false).await;
    let (mut origin, _) = answer.at_origin(&world).await;
    origin.send(OK).await;
    let answer = within("an answer", answer.whole()).await.unwrap();
    assert_eq!(answer.head.status(), 501);
}

/// The status that an HTTP/2 visitor gets, or `None` when the origin gets the request.
async fn status_with(world: &World, mut visitor: Http2, scheme: &str) -> Option<(u16, String)> {
    let asked = http::Request::get(format!("{scheme}://{}/", host())).body(()).unwrap();
    let (answer, _) = visitor.begin(asked, true).await;
    tokio::select! {
        _ = at_origin(world) => None,
        answer = answer.whole() => {
            let answer = answer.unwrap();
            Some((answer.head.status().as_u16(), String::from_utf8_lossy(&answer.body).into_owned()))
        }
    }
}

fn is_wrong_scheme(answer: Option<(u16, String)>) {
    let (status, body) = answer.expect("the origin got a request");
    assert!(status == 400 && body.contains("scheme") && body.contains("--trusted-proxy"), "{status} {body}");
}

pub(crate) async fn the_scheme_of_an_http2_visitor(on: On) {
    let world = on.world().await;
    is_wrong_scheme(status_with(&world, Http2::open(&world).await, "http").await);
    is_wrong_scheme(status_with(&world, Http2::open_plain(&world, None).await, "https").await);
    is_wrong_scheme(status_with(&world, Http2::open_plain(&world, None).await, "ftp").await);
    assert_eq!(status_with(&world, Http2::open_plain(&world, None).await, "http").await, None);
}

pub(crate) async fn the_scheme_behind_a_proxy(on: On) {
    let world = on.world_behind(Before::Proxy).await;
    for scheme in ["http", "https"] {
        let visitor = Http2::open_plain(&world, Some(FRONT)).await;
        assert_eq!(status_with(&world, visitor, scheme).await, None);
    }
}

pub(crate) async fn the_scheme_of_an_absolute_target(on: On) {
    let world = on.world().await;
    for (tls, scheme, fits) in [
        (false, "https", false),
        (true, "http", false),
        (false, "ftp", false),
        (false, "HTTP", true),
        (true, "https", true),
    ] {
        let mut visitor =
            if tls { world.relay.visitor_tls(&host()).await } else { world.relay.visitor().await };
        visitor.send(format!("GET {scheme}://{}/ HTTP/1.1\r\nHost: {}\r\n\r\n", host(), host())).await;
        let status = tokio::select! {
            status = visitor.answer_status() => status,
            _ = at_origin(&world) => None,
        };
        assert_eq!(status, (!fits).then_some(400), "{scheme}, TLS: {tls}");
    }
}

/// What a visitor sends, and the code with which the relay ends the connection.
async fn ends_with(on: On, violations: &[(&str, Vec<u8>, u32)]) {
    let world = on.world().await;
    for (what, frames, wanted) in violations {
        let mut visitor = visitor(&world).await;
        // The far end may close the connection before all of it is sent.
        visitor.send(frames).await;
        let goaway = visitor.until(Duration::from_secs(2), |frame| frame.kind == GOAWAY).await;
        let goaway = goaway.unwrap_or_else(|| panic!("{what}: no GOAWAY"));
        assert_eq!(code(&goaway.payload, 4), *wanted, "{what}");
    }
}

pub(crate) async fn goaway_codes(on: On) {
    let head = asking("GET", &[]);
    ends_with(
        on,
        &[
            ("DATA on stream 0", frame(DATA, 0, 0, "x"), PROTOCOL_ERROR),
            ("HEADERS on stream 0", frame(HEADERS, END_HEADERS, 0, &head), PROTOCOL_ERROR),
            ("HEADERS on an even stream", frame(HEADERS, END_HEADERS, 2, &head), PROTOCOL_ERROR),
            ("DATA on an idle stream", frame(DATA, 0, 1, "x"), PROTOCOL_ERROR),
            ("a reset of an idle stream", frame(RST_STREAM, 0, 1, [0; 4]), PROTOCOL_ERROR),
            (
                "a promise",
                frame(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2], &head[..]].concat()),
                PROTOCOL_ERROR,
            ),
            ("CONTINUATION first", frame(CONTINUATION, END_HEADERS, 1, &head), PROTOCOL_ERROR),
            (
                "a frame within a header block",
                [frame(HEADERS, 0, 1, &head), frame(PING, 0, 0, [0; 8])].concat(),
                PROTOCOL_ERROR,
            ),
            ("SETTINGS of a stream", frame(SETTINGS, 0, 1, []), PROTOCOL_ERROR),
            ("a large frame size", frame(SETTINGS, 0, 0, values(&[(5, 1 << 24)])), PROTOCOL_ERROR),
            ("a frame of 16,385 bytes", frame(DATA, 0, 1, [0; 16_385]), FRAME_SIZE_ERROR),
            (
                "a window beyond 2^31",
                frame(WINDOW_UPDATE, 0, 0, 0x7fff_ffff_u32.to_be_bytes()),
                FLOW_CONTROL_ERROR,
            ),
        ],
    )
    .await;
}

pub(crate) async fn goaway_for_a_frame_of_a_wrong_size(on: On) {
    ends_with(
        on,
        &[
            ("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, [0; 5]), FRAME_SIZE_ERROR),
            ("PING of 7 bytes", frame(PING, 0, 0, [0; 7]), FRAME_SIZE_ERROR),
            ("WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, [0; 3]), FRAME_SIZE_ERROR),
        ],
    )
    .await;
}

pub(crate) async fn goaway_for_a_window_setting(on: On) {
    let settings = frame(SETTINGS, 0, 0, values(&[(4, 1 << 31)]));
    ends_with(on, &[("a window beyond 2^31", settings, FLOW_CONTROL_ERROR)]).await;
}

pub(crate) async fn goaway_for_a_broken_header_block(on: On) {
    let broken = frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    ends_with(on, &[("an index that is not in the table", broken, COMPRESSION_ERROR)]).await;
}
