//! Opens the record of a visitor's request, and records the heads that the relay refuses.

use http::header::HOST;
use http::{HeaderMap, StatusCode};

use super::forward::Downstream;
use super::respond::{self, VisitorFailure};
use crate::domain::ErrorCode;
use crate::http1::BadHead;
use crate::message::{Request, Response, fields};
use crate::observe::Recording;
use crate::observe::exchange::{RequestId, id_of};

/// Opens the record of a request.
pub(super) fn open(sender: &Downstream, request: &mut Request) -> Box<Recording> {
    let id = id_of(request.headers(), sender.is_trusted_proxy());
    let given = matches!(id, RequestId::Given(_));
    let mut recording = Recording::open(sender.observers(), id);
    if let Some(line) = recording.line() {
        line.visitor = Some(sender.visitor().remote);
        line.method = Some(request.method().clone());
        line.host = host(request).into();
        line.target = request.uri().path_and_query().map(|target| target.as_str().into());
        line.own_id = request.headers().get(fields::X_REQUEST_ID).filter(|_| !given).cloned();
    }
    recording.upload(request.body_mut());
    recording
}

fn host(request: &Request) -> &str {
    let field = || request.headers().get(HOST)?.to_str().ok();
    let authority = request.uri().authority().map(|authority| authority.as_str());
    authority.or_else(field).unwrap_or_default()
}

/// Answers an HTTP/1 head that is not a valid request, and records it.
pub(super) fn refused_head(sender: &Downstream, bad: BadHead) -> Response {
    let mut recording = open_without_head(sender);
    let response = respond::failure(VisitorFailure::BadHead(bad), &HeaderMap::new(), &mut recording);
    recording.record_status(response.status());
    recording.mark_complete();
    response
}

/// Records a head that the HTTP/2 server has refused for its size before there was a request.
pub(super) fn head_too_large(sender: &Downstream) {
    let mut recording = open_without_head(sender);
    recording.record_failure("relay", ErrorCode::HeadTooLarge.as_str());
    recording.record_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

/// The record of a request of which only the sender is known.
fn open_without_head(sender: &Downstream) -> Box<Recording> {
    let mut recording = Recording::open(sender.observers(), RequestId::draw());
    if let Some(line) = recording.line() {
        line.visitor = Some(sender.visitor().remote);
    }
    recording
}
