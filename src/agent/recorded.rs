//! Records each request at the agent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::HOST;
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;

use crate::message::{Request, Response, fields, interim};
use crate::observe::exchange::{Bytes, RequestId};
use crate::observe::{Observers, Recording, Sink};
use crate::session::Handler;

/// Wraps `handler` so that each request is recorded. Without a sink, returns `handler` unchanged.
pub fn recorded(handler: Arc<dyn Handler>, sink: Option<Arc<dyn Sink>>) -> Arc<dyn Handler> {
    match sink {
        None => handler,
        Some(sink) => {
            let observers = Arc::new(Observers { sink: Some(sink), ..Observers::default() });
            Arc::new(Recorded { handler, observers })
        }
    }
}

struct Recorded {
    handler: Arc<dyn Handler>,
    observers: Arc<Observers>,
}

/// The record of a request for an Upgrade. The task that joins the streams behind the 101 keeps the record until the
/// streams end.
#[derive(Clone)]
pub(super) struct UpgradeRecord(Arc<RecordedAnswer>);

struct RecordedAnswer {
    /// Passed to the sink when the last reference is dropped.
    recording: Mutex<Option<Box<Recording>>>,
    bytes: Arc<Bytes>,
}

impl UpgradeRecord {
    /// The byte counts of the stream behind the 101.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }
}

impl Handler for Recorded {
    fn call(&self, mut request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        let mut recording = open(&self.observers, &mut request);
        let is_head = request.method() == Method::HEAD;
        let bytes = recording.shared_bytes();
        let record = Arc::new(RecordedAnswer { recording: Mutex::new(None), bytes });
        request.extensions_mut().insert(UpgradeRecord(record.clone()));
        let answer = self.handler.call(request, interim);
        Box::pin(async move {
            let mut response = answer.await;
            recording.record_origin_failure(&response);
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                recording.record_status(response.status());
                recording.mark_complete();
                *record.recording.lock() = Some(recording);
            } else {
                recording.follow(is_head, &mut response);
            }
            response
        })
    }
}

fn open(observers: &Arc<Observers>, request: &mut Request) -> Box<Recording> {
    let headers = request.headers();
    // The relay sends its own request id, or the visitor's id, which the relay has logged beside its own.
    let id = headers.get(fields::X_REQUEST_ID).and_then(RequestId::given).unwrap_or_else(RequestId::draw);
    let mut recording = Recording::open(observers, id);
    if let Some(line) = recording.line() {
        line.visitor = visitor(headers);
        line.method = Some(request.method().clone());
        let host = || headers.get(HOST)?.to_str().ok();
        let authority = request.uri().authority().map(|authority| authority.as_str());
        line.host = authority.or_else(host).unwrap_or_default().into();
        line.target = request.uri().path_and_query().map(|target| target.as_str().into());
    }
    recording.upload(request.body_mut());
    recording
}

/// The visitor's address from the `X-Forwarded-For` of the relay; the port is not known.
fn visitor(headers: &HeaderMap) -> Option<SocketAddr> {
    let first = headers.get(fields::X_FORWARDED_FOR)?.to_str().ok()?.split(',').next()?;
    Some(SocketAddr::new(first.trim().parse::<IpAddr>().ok()?, 0))
}
