//! What stands in a message is none of the relay's business.

use crate::exchange::{exchange, head, lines, own_fields};
use crate::world::{On, World};

/// Sends fields and bytes both ways, and compares.
async fn passes(world: &World, status: &str, asked: &str, fields: &str, body: &[u8]) {
    let length = format!("Content-Length: {}\r\n", body.len());
    let request = [head("PUT", "/", &format!("{asked}{length}")).as_bytes(), body].concat();
    let answer = format!("HTTP/1.1 {status}\r\n{fields}{length}Connection: close\r\n\r\n");
    let answer = [answer.as_bytes(), body].concat();
    let ((got, sent), (answered, received)) = exchange(world, request, answer).await;
    assert_eq!((own_fields(&got), &sent[..]), (lines(asked), body));
    assert_eq!((own_fields(&answered), &received[..]), (lines(fields), body));
    assert_eq!(answered.status().to_string(), status[..3]);
}

pub(crate) async fn content_codings(on: On) {
    let world = on.world().await;
    for coding in ["gzip", "br", "zstd", "deflate, gzip", "unheard-of"] {
        let asked = "Accept-Encoding: gzip;q=0.5, br;q=0, *\r\n";
        let fields =
            format!("Content-Encoding: {coding}\r\nVary: Accept-Encoding\r\nContent-Type: text/plain\r\n");
        // It is not even what it says.
        passes(&world, "200 OK", asked, &fields, b"\x1f\x8b\x08\0not really").await;
    }
}

pub(crate) async fn ranges(on: On) {
    let world = on.world().await;
    let fields = "Content-Range: bytes 2-5/10\r\nAccept-Ranges: bytes\r\nETag: \"v\"\r\n";
    passes(&world, "206 Partial Content", "Range: bytes=2-5\r\nIf-Range: \"v\"\r\n", fields, b"2345").await;
    let fields = "Content-Range: bytes */10\r\n";
    passes(&world, "416 Range Not Satisfiable", "Range: bytes=99-\r\n", fields, b"").await;
}

pub(crate) async fn several_ranges(on: On) {
    let world = on.world().await;
    let body = b"\r\n--x\r\nContent-Range: bytes 0-0/3\r\n\r\na\r\n--x\r\nContent-Range: bytes 2-2/3\r\n\r\nc\r\n--x--\r\n";
    let fields = "Content-Type: multipart/byteranges; boundary=x\r\n";
    passes(&world, "206 Partial Content", "Range: bytes=0-0,-1\r\n", fields, body).await;
}

pub(crate) async fn preconditions(on: On) {
    let world = on.world().await;
    let asked = "If-Match: \"a\", W/\"b\"\r\nIf-Unmodified-Since: Sat, 29 Oct 1994 19:43:31 GMT\r\n";
    let fields = "ETag: W/\"c\"\r\nLast-Modified: Sat, 29 Oct 1994 19:43:31 GMT\r\nCache-Control: no-store, private=\"x\"\r\nAge: 7\r\n";
    passes(&world, "412 Precondition Failed", asked, fields, b"no").await;
}

pub(crate) async fn every_byte(on: On) {
    let world = on.world().await;
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    passes(&world, "200 OK", "Content-Type: application/octet-stream\r\n", "", &bytes).await;
}
