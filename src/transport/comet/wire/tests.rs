use http::{Method, StatusCode, Version};
use http_body_util::BodyExt as _;
use proptest::prelude::*;

use super::read::InvalidMessage;
use super::*;
use crate::message::{Body, Response};

/// The traces of the page, as JSON instead of Python.
const REQUEST: &str = r#"{"message-id": "d8af2ffb-4ee1-11dd-9f26-001b63926250", "method": "GET", "request-uri": "/",
    "http-version": "PTTH/0.9", "headers": [["Host", "127.0.0.1:65331"], ["Accept-encoding", "identity"],
    ["Accept", "text/plain;q=0.5,text/html"]], "body": ""}"#;
const ANSWER: &str = r#"{"message-id": "d8af2ffb-4ee1-11dd-9f26-001b63926250", "http-version": "PTTH/0.9",
    "status": 200, "reason": "OK", "headers": [["Content-type", "text/plain"]], "body": "Hello World!\n"}"#;

fn bytes(body: Body) -> Bytes {
    let mut body = body;
    match futures_util::FutureExt::now_or_never(body.frame()) {
        Some(Some(Ok(frame))) => frame.into_data().unwrap(),
        _ => Bytes::new(),
    }
}

fn answered(text: &str) -> Result<Response, InvalidMessage> {
    match read_answer(text.as_bytes()) {
        Ok(Some((_, response))) => Ok(response),
        Ok(None) => panic!("nothing in {text}"),
        Err(malformed) => Err(malformed.reason),
    }
}

/// An answer with this member.
fn answer_with(member: &str) -> String {
    format!(r#"{{"message-id":"m","status":200,{member}}}"#)
}

#[test]
fn the_traces_of_the_wiki_page_are_read() {
    let (message_header, request) = read_request(REQUEST.as_bytes()).unwrap().unwrap();
    let id: Box<str> = "d8af2ffb-4ee1-11dd-9f26-001b63926250".into();
    assert_eq!(message_header, MessageHeader { id, version: "PTTH/0.9" });
    assert_eq!((request.method(), request.uri().path()), (&Method::GET, "/"));
    assert_eq!(
        (&request.headers()["host"], request.headers().len()),
        (&"127.0.0.1:65331".parse().unwrap(), 3)
    );
    let (answer_header, response) = read_answer(ANSWER.as_bytes()).unwrap().unwrap();
    assert_eq!((answer_header.id, response.status().as_u16()), (message_header.id, 200));
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(bytes(response.into_body()), "Hello World!\n");
    for nothing in ["", " ", "{}", " { }\n"] {
        assert!(read_answer(nothing.as_bytes()).unwrap().is_none(), "{nothing:?}");
        assert!(read_request(nothing.as_bytes()).unwrap().is_none(), "{nothing:?}");
    }
}

#[test]
fn a_request_is_written_in_the_form_of_the_wiki_page() {
    let request = http::Request::post("https://shop.test:8443/a//b?c")
        .header("x-two-words", "1")
        .header("accept", "a")
        .header("accept", "b")
        .header("trailer", "x")
        .body(Body::empty())
        .unwrap();
    assert_eq!(request.version(), Version::HTTP_11);
    let text = write_request("m1", &request, &Bytes::from_static(b"a\"b"));
    assert_eq!(
        text,
        r#"{"message-id":"m1","method":"POST","request-uri":"/a//b?c","http-version":"PTTH/0.9","headers":[["Host","shop.test:8443"],["X-Two-Words","1"],["Accept","a"],["Accept","b"],["Content-Length","3"]],"body":"a\"b"}"#
    );
    let empty = write_request("m1", &request, &Bytes::new());
    let (_, read) = read_request(&empty).unwrap().unwrap();
    assert_eq!(read.headers()["content-length"], "0", "some origins require it");
    let binary = write_request("m1", &request, &Bytes::from_static(b"\xff\0"));
    assert!(binary.ends_with(br#""body-encoding":"base64","body":"/wA="}"#), "{binary:?}");
    let control = write_request("m1", &request, &Bytes::from_static(b"\x1b["));
    assert!(control.ends_with(br#""body-encoding":"base64","body":"G1s="}"#), "{control:?}");
}

#[test]
fn unusual_members_are_read_and_invalid_members_refused() {
    for (member, body) in [
        (r#""body":null"#, &b""[..]),
        (r#""body":"\u00e4\ud83d\ude00","x":{"y":[1e999]}"#, "ä😀".as_bytes()),
        (r#""body":"/wA=","body-encoding":"base64""#, b"\xff\0"),
        (r#""body-encoding":"BASE64","body":"/wA""#, b"\xff\0"),
        (r#""http-version":"ptth/1.0","body":"\u0000""#, b"\0"),
    ] {
        assert_eq!(bytes(answered(&answer_with(member)).unwrap().into_body()), body, "{member}");
    }
    for (member, reason) in [
        (r#""http-version":"HTTP/1.1""#, InvalidMessage::Version),
        (r#""body":"x","body-encoding":"gzip""#, InvalidMessage::Body),
        (r#""body":"$$","body-encoding":"base64""#, InvalidMessage::Body),
        (r#""headers":[["A b","c"]]"#, InvalidMessage::Field),
        (r#""headers":[["","c"]]"#, InvalidMessage::Field),
        (r#""headers":[["A","b\r\nSet-Cookie: x"]]"#, InvalidMessage::Field),
        (r#""headers":[["A\r\nB","c"]]"#, InvalidMessage::Field),
        (r#""headers":[["A","b\u0000"]]"#, InvalidMessage::Field),
        (r#""headers":[["A","\u0100"]]"#, InvalidMessage::Field),
    ] {
        assert_eq!(answered(&answer_with(member)).map(|_| ()), Err(reason), "{member}");
    }
    for status in ["0", "99", "100", "101", "199", "1000"] {
        let text = format!(r#"{{"message-id":"m","status":{status}}}"#);
        assert_eq!(answered(&text).map(|_| ()), Err(InvalidMessage::Status), "{status}");
    }
    assert_eq!(answered(r#"{"status":200}"#).map(|_| ()), Err(InvalidMessage::Missing("message-id")));
    assert_eq!(answered(r#"{"message-id":"m"}"#).map(|_| ()), Err(InvalidMessage::Missing("status")));
    let large = answer_with(&format!(r#""body":"{}""#, "x".repeat(crate::defaults::COMET_MESSAGE + 1)));
    assert_eq!(answered(&large).map(|_| ()), Err(InvalidMessage::TooLarge));
}

#[test]
fn malformed_json_is_refused_with_the_id_that_precedes_it() {
    let deep = "[".repeat(100_000);
    let many = format!(r#""headers":[{}["A","b"]]"#, r#"["A","b"],"#.repeat(512));
    let long = format!(r#""headers":[["A","{}"]]"#, "x".repeat(200_000));
    for member in [
        r#""status":200"#,
        r#""message-id":"n""#,
        r#""body":"a","body":"b""#,
        r#""reason":7"#,
        r#""headers":[["A","b","c"]]"#,
        r#""headers":[["A"]]"#,
        r#""headers":{"A":"b"}"#,
        r#""headers":[["A",1]]"#,
        r#""body":"\ud83d""#,
        "\"body\":\"a\0b\"",
        "\"body\":\"a\nb\"",
        r#""body":["a"]"#,
        r#""x":tru"#,
        r#""x":1,"#,
        &deep,
        &many,
        &long,
    ] {
        let malformed = read_answer(answer_with(member).as_bytes()).unwrap_err();
        assert_eq!(malformed.id.as_deref(), Some("m"), "{member:.60}");
        assert!(malformed.reason.to_string().len() < 300, "{}", malformed.reason);
    }
    for text in [
        "[]",
        "null",
        "1",
        "\"x\"",
        "nonsense",
        "{}{}",
        "{} x",
        "'a'",
        "{'a':1}",
        "{\"a\"",
        "\u{feff}{}",
        "[",
    ] {
        let malformed = read_answer(text.as_bytes()).unwrap_err();
        assert!(matches!(malformed.reason, InvalidMessage::Json(_)), "{text}");
    }
    for status in ["-1", "1e400", "70000", "200.5", "\"200\"", "null", "123456789012345678901234567890"] {
        let text = format!(r#"{{"message-id":"m","status":{status}}}"#);
        assert!(matches!(answered(&text), Err(InvalidMessage::Json(_))), "{status}");
    }
    assert!(read_answer(b"{\"message-id\":\"m\",\"status\":200,\"body\":\"\xff\"}").is_err());
    assert_eq!(id_of(br#"{"message-id":"m","status":200,"body":"xx"#).as_deref(), Some("m"));
    assert_eq!(id_of(br#"{"status":200,"body":"xx"#), None);
}

#[test]
fn only_an_unambiguous_content_length_is_kept() {
    let length = |fields: &str| {
        let response = answered(&answer_with(&format!(r#""headers":[{fields}],"body":"abc""#))).unwrap();
        assert!(!response.headers().contains_key("transfer-encoding"));
        assert!(!response.headers().contains_key("x-hop"));
        response.headers().get("content-length").map(|v| v.to_str().unwrap().to_owned())
    };
    assert_eq!(length(r#"["Content-Length","99"],["Transfer-Encoding","chunked"]"#).as_deref(), Some("99"));
    assert_eq!(length(r#"["Content-Length","9"],["content-length","9"]"#).as_deref(), Some("9"));
    for unclear in [
        r#"["Content-Length","9"],["Content-Length","8"]"#,
        r#"["Content-Length","+9"]"#,
        r#"["Content-Length","9, 9"]"#,
    ] {
        assert_eq!(length(unclear), None, "{unclear}");
    }
    assert_eq!(length(r#"["Connection","close, x-hop"],["X-Hop","1"]"#), None);
}

proptest! {
    #[test]
    fn messages_survive_a_round_trip(
        target in "/[a-z/?=&.%-]{0,20}",
        status in 200u16..1000,
        fields in proptest::collection::vec(("[a-z][a-z0-9-]{0,8}x", proptest::collection::vec(0x21u8..=0xff, 0..20)), 0..8),
        body in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &fields {
            // DEL may not stand in a field.
            let value: Vec<u8> = value.iter().map(|b| if *b == 0x7f { b'.' } else { *b }).collect();
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_bytes(&value).unwrap());
        }
        let body = Bytes::from(body);
        let mut request = http::Request::put(format!("http://a.test{target}")).body(Body::empty()).unwrap();
        *request.headers_mut() = headers.clone();
        let (message_header, read) = read_request(&write_request("x", &request, &body)).unwrap().unwrap();
        prop_assert_eq!(read.uri().to_string(), target);
        prop_assert_eq!(&read.headers()["host"], "a.test");
        let mut read_headers = read.headers().clone();
        read_headers.remove("host");
        read_headers.remove("content-length");
        prop_assert_eq!(&read_headers, &headers);
        prop_assert_eq!(bytes(read.into_body()), body.clone());

        let mut response = http::Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        *response.headers_mut() = headers.clone();
        let text = write_answer(&message_header, &response.into_parts().0, &body);
        let (answer_header, read) = read_answer(&text).unwrap().unwrap();
        prop_assert_eq!(answer_header, message_header);
        prop_assert_eq!(read.status().as_u16(), status);
        let mut read_headers = read.headers().clone();
        read_headers.remove("content-length");
        prop_assert_eq!(&read_headers, &headers);
        prop_assert_eq!(bytes(read.into_body()), body);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..250) {
        let _ = (read_answer(&bytes), read_request(&bytes), id_of(&bytes));
        let mut text = ANSWER.as_bytes().to_vec();
        text.truncate(cut);
        text.extend(&bytes);
        let _ = (read_answer(&text), read_request(&text), id_of(&text));
    }

    #[test]
    fn the_json_of_a_body_is_at_most_twice_as_long(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (_, text) = encode_body(&body);
        prop_assert!(serde_json::to_string(&text).unwrap().len() <= 2 * body.len() + 6);
    }
}
