//! Properties of the HTTP/1 codec for arbitrary bytes: the result does not depend on how the bytes are split, and a
//! message that was read and written is read as the same message again.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Uri, Version};

use super::body::{Decoder, Encoder, Piece};
use super::head::{self, Search};
use super::output::Output;
use super::write::{self, BodyFraming, Case};
use super::{BadBody, BadHead};
use crate::defaults;

/// The number of messages of one stream that are examined.
const MESSAGES: usize = 16;

/// An event in a stream of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Request(Method, Uri, Version, HeaderMap),
    Response(StatusCode, Version, HeaderMap),
    Data(BytesMut),
    End(Option<HeaderMap>),
    BadHead(BadHead),
    BadBody(BadBody),
}

/// The requests in a stream of bytes that arrives in pieces of `size`, up to the first invalid request.
pub(super) fn requests(bytes: &[u8], size: usize) -> Vec<Event> {
    read(bytes, size, |head| {
        let read = head::request(head)?;
        let parts = read.parts;
        Ok((Event::Request(parts.method, parts.uri, parts.version, parts.headers), read.decoder))
    })
}

/// As [`requests`], for responses to requests with `method`.
pub(super) fn responses(bytes: &[u8], size: usize, method: &Method) -> Vec<Event> {
    read(bytes, size, |head| {
        let read = head::response(head, method, false)?;
        let parts = read.parts;
        Ok((Event::Response(parts.status, parts.version, parts.headers), read.decoder))
    })
}

fn read(
    bytes: &[u8],
    size: usize,
    parse: impl Fn(&Bytes) -> Result<(Event, Decoder), BadHead>,
) -> Vec<Event> {
    let (mut events, mut input) = (Vec::new(), BytesMut::new());
    let (mut search, mut body) = (Search::default(), None::<Decoder>);
    let mut pieces = bytes.chunks(size);
    while events.len() < 4 * MESSAGES {
        let Some(decoder) = &mut body else {
            match search
                .take(&mut input, defaults::VISITOR_HEAD)
                .and_then(|head| head.map(|head| parse(&head)).transpose())
            {
                Ok(Some((event, decoder))) => {
                    events.push(event);
                    body = Some(decoder);
                }
                Ok(None) => match pieces.next() {
                    Some(piece) => input.extend_from_slice(piece),
                    None => break,
                },
                Err(bad) => {
                    events.push(Event::BadHead(bad));
                    break;
                }
            }
            continue;
        };
        match (decoder.next(&mut input), events.last_mut()) {
            (Ok(Some(Piece::Data(data))), Some(Event::Data(all))) => all.extend_from_slice(&data),
            (Ok(Some(Piece::Data(data))), _) => events.push(Event::Data(BytesMut::from(data))),
            (Ok(Some(Piece::End(trailers))), _) => {
                events.push(Event::End(trailers));
                body = None;
            }
            (Ok(None), _) => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => match decoder.end_of_stream() {
                    Ok(()) => {}
                    Err(bad) => {
                        events.push(Event::BadBody(bad));
                        break;
                    }
                },
            },
            (Err(bad), _) => {
                events.push(Event::BadBody(bad));
                break;
            }
        }
    }
    events
}

/// Writes the events. `chunks`: bodies are chunked; otherwise each body has a length.
pub(super) fn write(events: &[Event], chunks: bool) -> Vec<u8> {
    let mut output = Output::default();
    for (at, event) in events.iter().enumerate() {
        let length = events[at + 1..].iter().find_map(|event| match event {
            Event::Data(data) => Some(data.len() as u64),
            Event::End(_) => Some(0),
            _ => None,
        });
        let announced = if chunks { BodyFraming::Chunks } else { BodyFraming::Length(length.unwrap_or(0)) };
        match event {
            Event::Request(method, uri, _, headers) => {
                let target = uri.to_string();
                output.with(|out| write::request(out, (method, &target), headers, announced, Case::Lower));
            }
            Event::Response(status, _, headers) => {
                let mut response = http::Response::new(());
                *response.status_mut() = *status;
                response.headers_mut().clone_from(headers);
                let parts = response.into_parts().0;
                output.with(|out| write::response(out, &parts, announced, None, Case::Lower));
            }
            Event::Data(data) if chunks => {
                let mut encoder = Encoder::Chunked;
                assert_eq!(encoder.data(data.clone().freeze(), &mut output), Ok(()));
            }
            Event::Data(data) => output.put(data),
            Event::End(trailers) if chunks => {
                assert_eq!(Encoder::Chunked.end(trailers.clone(), &mut output), Ok(()));
            }
            Event::End(_) | Event::BadHead(_) | Event::BadBody(_) => {}
        }
    }
    output.into_bytes()
}

/// Checks that the events do not depend on how `bytes` are split, and that they are the same after writing and reading.
fn holds(bytes: &[u8], read: impl Fn(&[u8], usize) -> Vec<Event>) {
    let whole = read(bytes, bytes.len().max(1));
    for size in [1, 3] {
        assert_eq!(read(bytes, size), whole, "in pieces of {size}");
    }
    let complete = whole.iter().rposition(|event| matches!(event, Event::End(_))).map_or(0, |last| last + 1);
    let complete: Vec<_> = whole[..complete].iter().cloned().map(plain).collect();
    let written = write(&complete, true);
    let again: Vec<_> = read(&written, written.len().max(1)).into_iter().map(plain).collect();
    if complete.iter().all(has_body) {
        assert_eq!(again, complete, "{}", String::from_utf8_lossy(&written));
    }
}

/// Removes the version and the framing fields, which depend on how a message is written.
fn plain(event: Event) -> Event {
    let strip = |mut headers: HeaderMap| {
        headers.remove(http::header::CONTENT_LENGTH);
        headers.remove(http::header::TRANSFER_ENCODING);
        headers
    };
    match event {
        Event::Request(method, uri, _, headers) => {
            Event::Request(method, uri, Version::HTTP_11, strip(headers))
        }
        Event::Response(status, _, headers) => Event::Response(status, Version::HTTP_11, strip(headers)),
        event => event,
    }
}

/// Whether a message may have a body. A response without a body cannot be chunked.
fn has_body(event: &Event) -> bool {
    match event {
        Event::Response(status, ..) => !status.is_informational() && ![204, 304].contains(&status.as_u16()),
        _ => true,
    }
}

/// Checks arbitrary bytes from a visitor.
pub(crate) fn fuzz_requests(bytes: &[u8]) {
    holds(bytes, requests);
}

/// Checks arbitrary bytes from an origin or an agent.
pub(crate) fn fuzz_responses(bytes: &[u8]) {
    for method in [Method::GET, Method::HEAD] {
        // The answer to a HEAD has no body, so it cannot be written as chunks.
        match method {
            Method::GET => holds(bytes, |bytes, size| responses(bytes, size, &Method::GET)),
            _ => assert_eq!(responses(bytes, 1, &method), responses(bytes, bytes.len().max(1), &method)),
        }
    }
}
