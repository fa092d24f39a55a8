//! Reads messages, which any program may have written.

use std::fmt;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{BASE64, BASE64_ENGINE, VERSION, VERSIONS};
use crate::defaults;
use crate::http1::write::Reason;
use crate::message::{Body, Request, Response, hop};
use crate::session::{AnswerFault, SendErrorKind};

/// The most fields of one message: ten times as many as browsers send.
const FIELDS: usize = 512;
/// The most characters of a JSON error that are passed on: some errors quote the input.
const ERROR_CHARS: usize = 200;

/// Why a text is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::transport::comet) enum InvalidMessage {
    #[error("the JSON is malformed: {0}")]
    Json(String),
    #[error("the member {0:?} is missing")]
    Missing(&'static str),
    #[error("the http-version is neither PTTH/0.9 nor PTTH/1.0")]
    Version,
    #[error("the status is not a number from 200 to 999")]
    Status,
    #[error("a field has a byte that no field may have")]
    Field,
    #[error("the fields are larger than {} bytes", defaults::FIELDS)]
    Fields,
    #[error("the method or the request-uri is malformed")]
    Target,
    #[error("the body-encoding is not \"base64\", or the body does not match it")]
    Body,
    #[error("the body is larger than {} bytes", defaults::COMET_MESSAGE)]
    TooLarge,
}

impl InvalidMessage {
    /// The error for the visitor whose answer this message was to be. An error of the JSON may quote the input.
    pub(in crate::transport::comet) fn for_visitor(&self) -> SendErrorKind {
        SendErrorKind::Invalid(AnswerFault::Json(match self {
            Self::Json(_) => "its JSON is malformed",
            Self::Missing(_) => "its JSON has no message-id or no status",
            Self::Version => "its http-version is neither PTTH/0.9 nor PTTH/1.0",
            Self::Status => "its status is not a number from 200 to 999",
            Self::Field => "a field has a byte that no field may have",
            Self::Fields => "its fields are too large",
            Self::Target => "its method or request-uri is malformed",
            Self::Body => "its body-encoding is not base64, or its body does not match it",
            Self::TooLarge => "it is larger than a JSON message can be",
        }))
    }
}

/// The exchange that a message belongs to, and the version of its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::transport::comet) struct MessageHeader {
    pub(in crate::transport::comet) id: Box<str>,
    pub(in crate::transport::comet) version: &'static str,
}

/// The error of a text that is not a message, and the id that was read before the error.
#[derive(Debug)]
pub(in crate::transport::comet) struct MalformedMessage {
    pub(in crate::transport::comet) id: Option<Box<str>>,
    pub(in crate::transport::comet) reason: InvalidMessage,
}

/// A message and its exchange; `None` if the text is empty or the empty object.
type Read<T> = Result<Option<(MessageHeader, T)>, MalformedMessage>;

/// Reads an agent's answer. The answer keeps a `Content-Length` only if it has exactly one valid length.
pub(in crate::transport::comet) fn read_answer(text: &[u8]) -> Read<Response> {
    message(text, answer)
}

/// Reads a request of the relay.
pub(in crate::transport::comet) fn read_request(text: &[u8]) -> Read<Request> {
    message(text, request)
}

fn message<T>(text: &[u8], make: fn(Members) -> Result<T, InvalidMessage>) -> Read<T> {
    let Some(mut members) = read(text)? else { return Ok(None) };
    let id = members.id.take();
    let made = version(&members).and_then(|version| Ok((version, make(members)?)));
    match (id, made) {
        (Some(id), Ok((version, made))) => Ok(Some((MessageHeader { id, version }, made))),
        (None, Ok(_)) => Err(MalformedMessage { id: None, reason: InvalidMessage::Missing("message-id") }),
        (id, Err(reason)) => Err(MalformedMessage { id, reason }),
    }
}

/// The id in the beginning of a message whose end is missing.
pub(in crate::transport::comet) fn id_of(beginning: &[u8]) -> Option<Box<str>> {
    match read(beginning) {
        Ok(members) => members?.id,
        Err(malformed) => malformed.id,
    }
}

fn read(text: &[u8]) -> Result<Option<Members>, MalformedMessage> {
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut members = Members::default();
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = reader.deserialize_map(&mut members).and_then(|()| reader.end());
    match read {
        Ok(()) if members.count == 0 => Ok(None),
        Ok(()) => Ok(Some(members)),
        Err(error) => {
            let reason = InvalidMessage::Json(error.to_string().chars().take(ERROR_CHARS).collect());
            Err(MalformedMessage { id: members.id, reason })
        }
    }
}

fn answer(members: Members) -> Result<Response, InvalidMessage> {
    let status = members.status.ok_or(InvalidMessage::Missing("status"))?;
    let status = StatusCode::from_u16(status).ok().filter(|s| s.as_u16() >= 200);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status.ok_or(InvalidMessage::Status)?;
    let mut headers = fields(members.headers)?;
    let length = unambiguous_length(&headers);
    let _ = hop::strip(&mut headers);
    headers.remove(TRAILER);
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.headers_mut() = headers;
    let reason =
        members.reason.and_then(|phrase| phrase.chars().map(u8::try_from).collect::<Result<_, _>>().ok());
    if let Some(reason) = reason.and_then(|phrase: Vec<u8>| Reason::of(response.status(), &phrase.into())) {
        response.extensions_mut().insert(reason);
    }
    *response.body_mut() = Body::full(body(members.body.flatten(), members.encoding)?);
    Ok(response)
}

fn request(members: Members) -> Result<Request, InvalidMessage> {
    let method = members.method.ok_or(InvalidMessage::Missing("method"))?;
    let target = members.uri.ok_or(InvalidMessage::Missing("request-uri"))?;
    let target: Uri = target.parse().map_err(|_| InvalidMessage::Target)?;
    let mut headers = fields(members.headers)?;
    let length = unambiguous_length(&headers);
    let _ = hop::strip(&mut headers);
    headers.remove(TRAILER);
    headers.remove(CONTENT_LENGTH);
    // A request without `Host` gets an empty `Host`: the agent's resources need none (draft-lentczner-rhttp-00).
    headers.entry(HOST).or_insert(HeaderValue::from_static(""));
    let body = body(members.body.flatten(), members.encoding)?;
    // Some origins require `Content-Length: 0` in a POST without a body.
    if length == Some(0) && body.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let mut request = Request::new(Body::full(body));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| InvalidMessage::Target)?;
    *request.uri_mut() = target;
    *request.headers_mut() = headers;
    Ok(request)
}

fn version(members: &Members) -> Result<&'static str, InvalidMessage> {
    let Some(announced) = &members.version else { return Ok(VERSION) };
    VERSIONS
        .into_iter()
        .find(|version| version.eq_ignore_ascii_case(announced))
        .ok_or(InvalidMessage::Version)
}

fn body(text: Option<String>, encoding: Option<String>) -> Result<Bytes, InvalidMessage> {
    let text = text.unwrap_or_default();
    let bytes: Bytes = match encoding {
        None => text.into(),
        Some(name) if name.eq_ignore_ascii_case(BASE64) => {
            BASE64_ENGINE.decode(text).map_err(|_| InvalidMessage::Body)?.into()
        }
        Some(_) => return Err(InvalidMessage::Body),
    };
    if bytes.len() > defaults::COMET_MESSAGE { Err(InvalidMessage::TooLarge) } else { Ok(bytes) }
}

fn fields(fields: Option<FieldList>) -> Result<HeaderMap, InvalidMessage> {
    let mut headers = HeaderMap::new();
    let mut size = 0;
    for (name, value) in fields.map_or(Vec::new(), |fields| fields.0) {
        size += name.len() + value.len();
        if size > defaults::FIELDS as usize {
            return Err(InvalidMessage::Fields);
        }
        let name = HeaderName::try_from(name).map_err(|_| InvalidMessage::Field)?;
        let value: Result<Vec<u8>, _> = value.trim_matches([' ', '\t']).chars().map(u8::try_from).collect();
        let value = value.map_err(|_| InvalidMessage::Field)?;
        let value = HeaderValue::try_from(value).map_err(|_| InvalidMessage::Field)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The `Content-Length`, if every value is the same number.
fn unambiguous_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(|value| {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse().ok()
    });
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

/// The members of a message, as they were read.
#[derive(Default)]
struct Members {
    /// How many members there are, of any name.
    count: usize,
    id: Option<Box<str>>,
    method: Option<String>,
    uri: Option<String>,
    version: Option<String>,
    status: Option<u16>,
    reason: Option<String>,
    headers: Option<FieldList>,
    body: Option<Option<String>>,
    encoding: Option<String>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "kebab-case")]
enum Member {
    MessageId,
    Method,
    RequestUri,
    HttpVersion,
    Status,
    Reason,
    Headers,
    Body,
    BodyEncoding,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for &mut Members {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(member) = map.next_key()? {
            self.count += 1;
            match member {
                Member::MessageId => read_once(&mut self.id, &mut map)?,
                Member::Method => read_once(&mut self.method, &mut map)?,
                Member::RequestUri => read_once(&mut self.uri, &mut map)?,
                Member::HttpVersion => read_once(&mut self.version, &mut map)?,
                Member::Status => read_once(&mut self.status, &mut map)?,
                Member::Reason => read_once(&mut self.reason, &mut map)?,
                Member::Headers => read_once(&mut self.headers, &mut map)?,
                Member::Body => read_once(&mut self.body, &mut map)?,
                Member::BodyEncoding => read_once(&mut self.encoding, &mut map)?,
                Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

fn read_once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    member: &mut Option<T>,
    map: &mut A,
) -> Result<(), A::Error> {
    if member.is_some() {
        return Err(A::Error::custom("a member appears twice"));
    }
    *member = Some(map.next_value()?);
    Ok(())
}

/// Names and values of at most `FIELDS` fields.
struct FieldList(Vec<(String, String)>);

impl<'de> Deserialize<'de> for FieldList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = FieldList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of fields, each a list of a name and a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FieldList, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = list.next_element()? {
                    if fields.len() == FIELDS {
                        return Err(A::Error::custom("there are too many fields"));
                    }
                    fields.push(field);
                }
                Ok(FieldList(fields))
            }
        }
        deserializer.deserialize_seq(List)
    }
}
