use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use proptest::prelude::*;

use super::super::fuzz::{Event, requests, responses, write};
use super::super::{BadBody, BadHead, FieldFault, FramingFault};
use crate::defaults;

fn whole(text: &str) -> Vec<Event> {
    requests(text.as_bytes(), text.len().max(1))
}

fn answer(text: &str) -> Vec<Event> {
    responses(text.as_bytes(), text.len().max(1), &Method::GET)
}

fn bad(events: &[Event]) -> Option<BadHead> {
    match events {
        [Event::BadHead(bad)] => Some(*bad),
        _ => None,
    }
}

#[test]
fn ambiguous_heads_are_refused() {
    let get = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n");
    for (text, why) in [
        (get("Content-Length: 1\r\nContent-Length: 2\r\n"), FramingFault::LengthsDiffer.into()),
        (get("Content-Length: 1, 2\r\n"), FramingFault::LengthsDiffer.into()),
        (get("Content-Length: +1\r\n"), FramingFault::Length.into()),
        (get("Content-Length: \r\n"), FramingFault::Length.into()),
        (get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), FramingFault::LengthAndCoding.into()),
        (get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), FramingFault::Coding.into()),
        (get("Transfer-Encoding: gzip, chunked\r\n"), FramingFault::Coding.into()),
        (get("Transfer-Encoding: identity\r\n"), FramingFault::Coding.into()),
        (get("Transfer-Encoding: chunked\r\n").replace("1.1", "1.0"), FramingFault::CodingInHttp10.into()),
        (get("A: b\r\n c\r\n"), FieldFault::Folded.into()),
        (get("A : b\r\n"), FieldFault::SpaceBeforeColon.into()),
        (get(" A: b\r\n"), FieldFault::Folded.into()),
        (get("A: b\0\r\n"), FieldFault::Value.into()),
        (get("A: b\rB: c\r\n"), FieldFault::BareCr.into()),
        (get("nothing\r\n"), FieldFault::NoColon.into()),
        ("GET  / HTTP/1.1\r\n\r\n".into(), BadHead::StartLine),
        ("GET / HTTP/2.0\r\n\r\n".into(), BadHead::Version),
        ("GET / HTTP/1.2\r\n\r\n".into(), BadHead::Version),
        ("GET /\r\n\r\n".into(), BadHead::StartLine),
        ("GET /<a> HTTP/1.1\r\n\r\n".into(), BadHead::TargetByte),
        ("GET /a#b HTTP/1.1\r\n\r\n".into(), BadHead::TargetByte),
        ("GET <a> HTTP/1.1\r\n\r\n".into(), BadHead::StartLine),
        ("GE\x7fT / HTTP/1.1\r\n\r\n".into(), BadHead::StartLine),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(65_534)), BadHead::Target),
    ] {
        assert_eq!(bad(&whole(&text)), Some(why), "{text:.80}");
    }
}

#[test]
fn the_error_names_the_exceeded_limit() {
    let long = format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(defaults::VISITOR_HEAD));
    assert_eq!(bad(&whole(&long)), Some(BadHead::Bytes(defaults::VISITOR_HEAD)));
    let many = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert!(bad(&whole(&many(defaults::H1_FIELDS))).is_none());
    let too_many = bad(&whole(&many(defaults::H1_FIELDS + 1))).unwrap();
    assert!(too_many.to_string().contains("512 fields"), "{too_many}");
}

#[test]
fn a_repeated_content_length_is_passed_on_once() {
    for fields in ["Content-Length: 3\r\nContent-Length: 3\r\n", "Content-Length: 3, 3\r\n"] {
        let events = whole(&format!("POST / HTTP/1.1\r\n{fields}\r\nabc"));
        let Event::Request(_, _, _, headers) = &events[0] else { panic!("{events:?}") };
        assert_eq!(headers.get_all("content-length").iter().collect::<Vec<_>>(), ["3"]);
        assert_eq!(events[1..], [Event::Data("abc".as_bytes().into()), Event::End(None)]);
    }
}

#[test]
fn the_method_and_the_status_decide_where_an_answer_ends() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    let text = format!("{head}{head}");
    assert_eq!(responses(text.as_bytes(), text.len(), &Method::HEAD).len(), 4, "no body of a HEAD");
    for status in [100, 103, 204, 304] {
        let text = format!("HTTP/1.1 {status} x\r\nContent-Length: 3\r\n\r\n{head}abc");
        assert_eq!(answer(&text).len(), 5, "{status}: {:?}", answer(&text));
    }
    let open = answer("HTTP/1.0 200 OK\r\n\r\nto the end");
    assert_eq!(open[1..], [Event::Data("to the end".as_bytes().into()), Event::End(None)]);
    assert_eq!(
        answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc").last(),
        Some(&Event::BadBody(BadBody::Incomplete))
    );
}

#[test]
fn a_status_is_any_number_from_100_to_999() {
    for status in [199, 299, 600, 999] {
        let events = answer(&format!("HTTP/1.1 {status} \r\nContent-Length: 0\r\n\r\n"));
        assert!(matches!(&events[0], Event::Response(got, ..) if got.as_u16() == status), "{events:?}");
    }
    for text in ["HTTP/1.1 099 x\r\n\r\n", "HTTP/1.1 000 x\r\n\r\n"] {
        assert_eq!(bad(&answer(text)), Some(BadHead::Status));
    }
}

#[test]
fn chunks_are_read_strictly() {
    let post = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (chunks, data) in [
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3;a=b\r\nabc\r\n00\r\n\r\n", "abc"),
        ("3 ;a=\"b;c\"\r\nabc\r\n0;x\r\n\r\n", "abc"),
        ("A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", "0123456789x"),
    ] {
        let events = whole(&format!("{post}{chunks}"));
        assert_eq!(events[1..], [Event::Data(data.as_bytes().into()), Event::End(None)], "{chunks:?}");
    }
    for (chunks, why) in [
        ("x\r\n", BadBody::Chunk),
        ("-1\r\n", BadBody::Chunk),
        (" 3\r\nabc\r\n", BadBody::Chunk),
        ("0x3\r\nabc\r\n", BadBody::Chunk),
        ("\r\n", BadBody::Chunk),
        ("3\nabc\r\n", BadBody::Chunk),
        ("3\r\nabc\n", BadBody::Chunk),
        ("3\r\nabcd\r\n", BadBody::Chunk),
        ("3;a\rb\r\nabc\r\n", BadBody::Chunk),
        ("1000000000000000\r\n", BadBody::Chunk),
        ("0\r\nno field\r\n\r\n", BadBody::Chunk),
        ("0\r\nA: b\r\n folded: c\r\n\r\n", BadBody::Chunk),
        ("3\r\nab", BadBody::Incomplete),
        ("3\r\nabc\r\n0\r\n", BadBody::Incomplete),
    ] {
        let events = whole(&format!("{post}{chunks}"));
        assert_eq!(events.last(), Some(&Event::BadBody(why)), "{chunks:?}");
    }
    let extension = format!("1;{}\r\nx\r\n", "e".repeat(4_000)).repeat(5);
    assert_eq!(whole(&format!("{post}{extension}")).last(), Some(&Event::BadBody(BadBody::Extensions)));
    let trailers = "A: b\r\n".repeat(defaults::TRAILER_FIELDS + 1);
    assert_eq!(whole(&format!("{post}0\r\n{trailers}\r\n")).last(), Some(&Event::BadBody(BadBody::Trailers)));
}

#[test]
fn trailers_pass_unless_they_belong_in_the_head() {
    let text =
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n";
    let events = whole(text);
    let Some(Event::End(Some(trailers))) = events.last() else { panic!("{events:?}") };
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"1".parse().unwrap()));
}

#[test]
fn a_reason_phrase_is_passed_on_unchanged() {
    use super::super::head;
    use super::super::write::Reason;
    for (line, reason) in [
        ("HTTP/1.1 200 OK", None),
        ("HTTP/1.1 200 Fine", Some("Fine")),
        ("HTTP/1.1 200 ", Some("")),
        ("HTTP/1.1 200", Some("")),
        ("HTTP/1.1 299 Not yet known", Some("Not yet known")),
    ] {
        let head = bytes::Bytes::from(format!("{line}\r\nContent-Length: 0\r\n\r\n"));
        let parts = head::response(&head, &Method::GET, false).unwrap().parts;
        let got = parts.extensions.get::<Reason>().map(|reason| String::from_utf8_lossy(reason.as_bytes()));
        assert_eq!(got.as_deref(), reason, "{line:?}");
        let mut out = BytesMut::new();
        super::super::write::response(
            &mut out,
            &parts,
            super::super::write::BodyFraming::Length(0),
            None,
            super::super::write::Case::Title,
        );
        let wanted = if line.ends_with("200") { format!("{line} ") } else { line.to_owned() };
        assert!(out.starts_with(format!("{wanted}\r\n").as_bytes()), "{out:?}");
    }
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let field = ("x-[a-z][a-z0-9-]{0,8}", "[!-~]([ -~]{0,20}[!-~])?");
    prop::collection::vec(field, 0..6).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        headers
    })
}

/// The events of one message with some body and, in chunks, some trailers.
fn message(head: Event, body: &[u8], trailers: &HeaderMap, chunks: bool) -> Vec<Event> {
    let data = (!body.is_empty()).then(|| Event::Data(BytesMut::from(body)));
    let trailers = (chunks && !trailers.is_empty()).then(|| trailers.clone());
    [head].into_iter().chain(data).chain([Event::End(trailers)]).collect()
}

/// Removes the framing fields, which a message that was read has in addition to the fields that were written.
fn without_length(events: Vec<Event>) -> Vec<Event> {
    let strip = |mut headers: HeaderMap| {
        headers.remove("content-length");
        headers.remove("transfer-encoding");
        headers
    };
    let plain = |event| match event {
        Event::Request(method, uri, version, headers) => Event::Request(method, uri, version, strip(headers)),
        Event::Response(status, version, headers) => Event::Response(status, version, strip(headers)),
        event => event,
    };
    events.into_iter().map(plain).collect()
}

proptest! {
    #[test]
    fn written_messages_are_read_in_pieces_of_any_size(
        headers in headers(),
        trailers in headers(),
        body in prop::collection::vec(any::<u8>(), 0..40),
        target in "/[a-z0-9/?=&%.-]{0,20}",
        status in 200_u16..1000,
        (chunks, size) in (any::<bool>(), 1_usize..80),
    ) {
        let uri = Uri::try_from(target.replace('%', "")).unwrap();
        let request = Event::Request(Method::POST, uri, Version::HTTP_11, headers.clone());
        let messages = message(request, &body, &trailers, chunks);
        let written = write(&messages, chunks);
        for size in [size, 1, written.len()] {
            prop_assert_eq!(&without_length(requests(&written, size)), &messages);
        }
        prop_assume!(![204, 304].contains(&status));
        let response = Event::Response(StatusCode::from_u16(status).unwrap(), Version::HTTP_11, headers);
        let messages = message(response, &body, &trailers, chunks);
        let written = write(&messages, chunks);
        for size in [size, 1, written.len()] {
            prop_assert_eq!(&without_length(responses(&written, size, &Method::GET)), &messages);
        }
    }

    #[test]
    fn no_bytes_cause_a_panic_or_a_result_that_depends_on_piece_sizes(
        start in prop::sample::select(vec![
            "", "GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ]),
        rest in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b':')], 0..80),
    ) {
        let bytes = [start.as_bytes(), &rest].concat();
        super::super::fuzz::fuzz_requests(&bytes);
        super::super::fuzz::fuzz_responses(&bytes);
    }
}
