//! The agent's half: several polls wait for requests. Each answer is sent in a POST of its own that does not wait, so
//! that a slow answer delays no request.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::wire::{JSON, MessageHeader, NOTHING, read_request, write_answer};
use crate::defaults;
use crate::domain::ErrorCode;
use crate::http1::embedded::{ReadError, whole};
use crate::message::framing::is_incremental_answer;
use crate::message::problem::Problem;
use crate::message::{Body, BoxError, Request, Response, fields, hop, interim, link};
use crate::net::Scope;
use crate::session::envelope::agent::{INCOMPLETE, INCREMENTAL_REFUSED};
use crate::session::{Ended, Handler, Load};
use crate::transport::polled::{
    Client, Dialect, Hold, InFlightRequest, InFlightRequests, PollOutcome, SentPoll, deliver_answer, run,
    send_poll,
};
use crate::transport::{
    AgentLink, AgentSide, Call, OpenError, Opened, ServeLink, check_rules_in_force, flip, query, warnings,
};

/// The name of this hop in `Proxy-Status`.
const HOP: &str = "ptth-agent";
const HELD: &str = "The answer must be forwarded while it arrives (Incremental), and the agent's transport, comet, carries \
                    only complete answers. Connect the agent with another transport, such as ptth10.";
/// How long the relay may take to acknowledge the end of a session.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A message of at most this many bytes takes no share of the memory, so that a slow body delays no other.
const SHORT: usize = 64 << 10;

/// See the module.
pub(super) struct Agent {
    /// Outlives sessions, because the same box cuts the polls of the next session too.
    hold: Arc<Hold>,
}

impl Default for Agent {
    fn default() -> Self {
        Self { hold: Arc::new(Hold::new(defaults::POLL_HOLD)) }
    }
}

impl AgentSide for Agent {
    fn open<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Opened, OpenError>> {
        Box::pin(async move {
            let client = Arc::new(Client::new(call));
            let endpoint = Endpoint::new(call)?;
            let answer = client.send_alone(endpoint.request(Method::POST, false, Bytes::new())).await?;
            let absent = |reason: &str| OpenError::Broken(format!("there is no comet endpoint: {reason}"));
            if answer.status() != StatusCode::OK {
                return Err(match flip::refused(answer).await {
                    OpenError::Absent { status } => absent(&format!("the answer was {status}")),
                    refused => refused,
                });
            }
            check_rules_in_force(&call.offer, answer.headers()).map_err(OpenError::Broken)?;
            let (head, body) = answer.into_parts();
            // The body is in memory already.
            let text = whole(body, defaults::FORM).await.unwrap_or_default();
            if !text.starts_with(b"{") || !matches!(read_request(&text), Ok(None)) {
                return Err(absent("the answer is not a comet message"));
            }
            let urls = link::targets(&head.headers, "related").map(str::to_owned).collect();
            let warnings = warnings::read(&head.headers, &call.offer);
            let room = || Arc::new(Semaphore::new(defaults::COMET_MESSAGES));
            let (requests, answers, hold) = (room(), room(), self.hold.clone());
            let in_flight = Arc::default();
            let link = PolledSession { client, endpoint, hold, requests, answers, in_flight };
            Ok(Opened { urls, warnings, connections: 1, link: AgentLink::Polled(Box::new(link)) })
        })
    }
}

/// The name of a poll, and of the request that the poll brings. A second poll of that name means that the request
/// did not arrive.
#[derive(Clone, Copy)]
struct PollName(u128);

impl Default for PollName {
    fn default() -> Self {
        Self(rand::random())
    }
}

/// The target and the fields of every request of a session.
struct Endpoint {
    target: Uri,
    headers: HeaderMap,
}

impl Endpoint {
    fn new(call: &Call) -> Result<Self, OpenError> {
        let path = match call.relay.path() {
            "" | "/" => format!("{}{}", defaults::GATEWAY, defaults::COMET),
            path if path.ends_with(defaults::COMET) => path.to_owned(),
            path => format!("{}{}", path.trim_end_matches('/'), defaults::COMET),
        };
        let target = query::target(&path, &call.offer);
        let separator = if target.contains('?') { '&' } else { '?' };
        // A session with a name stays ended after its DELETE, even if polls of it arrive later.
        let target = format!("{target}{separator}session={:032x}", rand::random::<u128>());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        query::write_fields(&mut headers, call);
        Ok(Self { target: super::super::target(&target)?, headers })
    }

    /// A poll of this name.
    fn poll(&self, name: PollName) -> Result<Request, BoxError> {
        let mut request = self.request(Method::POST, true, Body::empty());
        *request.uri_mut() = format!("{}&poll={:032x}", self.target, name.0).parse()?;
        Ok(request)
    }

    /// A request. A request that does not wait for the next message has `Prefer: wait=0`.
    fn request<T>(&self, method: Method, waits: bool, body: T) -> http::Request<T> {
        let mut request = http::Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        if !waits {
            request.headers_mut().insert(fields::PREFER, HeaderValue::from_static("wait=0"));
        }
        request
    }
}

/// A session, ready to be polled.
struct PolledSession {
    client: Arc<Client>,
    endpoint: Endpoint,
    hold: Arc<Hold>,
    /// Memory for requests, in bytes. Answers have as much of their own, so that requests and answers cannot
    /// block each other.
    requests: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    in_flight: Arc<InFlightRequests>,
}

impl ServeLink for PolledSession {
    fn serve(
        self: Box<Self>,
        handler: Arc<dyn Handler>,
        load: Arc<Load>,
        scope: Scope,
    ) -> BoxFuture<'static, Ended> {
        Box::pin(run(*self, PollName::default(), handler, load, scope))
    }
}

impl Dialect for PolledSession {
    type Turn = PollName;
    type Message = (MessageHeader, Request);

    async fn poll(&self, name: &mut PollName, scope: &Scope) -> Result<PollOutcome<Self::Message>, BoxError> {
        let (answer, since) =
            match send_poll(&self.client, &self.hold, self.endpoint.poll(*name)?, scope).await? {
                SentPoll::Answered(answer, since) => (*answer, since),
                // The name stays valid: if the poll has brought a request meanwhile, the next poll of that name
                // brings it again.
                SentPoll::Cut(error) => return Ok(PollOutcome::Cut(error)),
            };
        match answer.status() {
            StatusCode::OK => {
                self.in_flight.cancel(answer.headers());
                let in_flight = self.in_flight.enter(answer.headers());
                let outcome = self.read_message(answer.into_body(), in_flight).await?;
                *name = PollName::default();
                if matches!(outcome, PollOutcome::Nothing) {
                    self.hold.record_lasted(since.elapsed());
                }
                Ok(outcome)
            }
            StatusCode::TOO_MANY_REQUESTS => Ok(PollOutcome::TooMany),
            status => Ok(PollOutcome::Ended(status)),
        }
    }

    async fn serve(
        &self,
        (message_header, request): Self::Message,
        handler: Arc<dyn Handler>,
        scope: &Scope,
    ) -> Option<Self::Turn> {
        let mut answer = handler.call(request, interim::Sender::default()).await;
        let _ = hop::strip(answer.headers_mut());
        let (head, body, _share) = self.gather_answer(answer).await;
        let text = write_answer(&message_header, &head, &body);
        drop(body);
        // The relay may take this long to read the answer.
        let limit = defaults::ANSWER + defaults::UPGRADE;
        let post = |text: Bytes| self.endpoint.request(Method::POST, false, Body::full(text));
        let delivery = deliver_answer(&self.client, || Some(post(text.clone())), scope);
        let detail = match tokio::time::timeout(limit, delivery).await {
            Ok(Ok(())) => return None,
            Ok(Err(detail)) => detail,
            Err(_) => "The connection from the agent to the relay was too slow for the answer.".into(),
        };
        let (head, body) = problem(ErrorCode::AnswerLost, INCOMPLETE, &detail).await;
        let apology = self.client.send(post(write_answer(&message_header, &head, &body)), scope);
        if !matches!(tokio::time::timeout(defaults::UPGRADE, apology).await, Ok(Ok(_))) {
            tracing::debug!("could not deliver the 502 that replaces a lost answer");
        }
        None
    }

    async fn end(&self, scope: &Scope) -> bool {
        let request = self.endpoint.request(Method::DELETE, false, Body::empty());
        let sent = tokio::time::timeout(END_TIMEOUT, self.client.send(request, scope)).await;
        matches!(sent, Ok(Ok(answer)) if answer.status().is_success())
    }
}

impl PolledSession {
    async fn read_message(
        &self,
        body: Body,
        in_flight: InFlightRequest,
    ) -> Result<PollOutcome<(MessageHeader, Request)>, BoxError> {
        let reading = gather(&self.requests, body, defaults::JSON);
        let (text, share) = tokio::time::timeout(defaults::ANSWER, reading).await??;
        if text.trim_ascii() == NOTHING.as_bytes() {
            return Ok(PollOutcome::Nothing);
        }
        let message = read_request(&text).map_err(|malformed| malformed.reason)?;
        let (message_header, mut request) = message.ok_or("the answer to a poll has no message")?;
        drop(text);
        let body_share =
            share.zip(length(request.body())).and_then(|(mut share, length)| share.split(length));
        request.body_mut().hold(body_share);
        Ok(PollOutcome::Request((message_header, request), in_flight))
    }

    /// Reads an answer into memory. If it is too large or incomplete, the visitor gets a 502 instead.
    async fn gather_answer(
        &self,
        answer: Response,
    ) -> (http::response::Parts, Bytes, Option<OwnedSemaphorePermit>) {
        if is_incremental_answer(&answer) {
            let (head, body) = problem(ErrorCode::NotIncremental, INCREMENTAL_REFUSED, HELD).await;
            return (head, body, None);
        }
        let (head, body) = answer.into_parts();
        let reading = gather(&self.answers, body, defaults::COMET_MESSAGE);
        let error = match tokio::time::timeout(defaults::ANSWER, reading).await {
            Ok(Ok((body, share))) => return (head, body, share),
            Ok(Err(error)) => error,
            Err(elapsed) => ReadError::Broken(elapsed.into()),
        };
        tracing::info!(%error, "an answer could not be read to its end");
        let detail = match error {
            ReadError::TooLarge(_) => "The answer is larger than the agent's connection can carry.",
            _ => "The service behind the agent did not finish its answer.",
        };
        let (head, body) = problem(ErrorCode::UnfinishedAnswer, INCOMPLETE, detail).await;
        (head, body, None)
    }
}

/// An error in the place of an answer that could not be read or delivered.
async fn problem(code: ErrorCode, error: &str, detail: &str) -> (http::response::Parts, Bytes) {
    let error = Some(error);
    let problem = Problem { code, detail, hop: HOP, error, retry_after: None, request: None, pages: None };
    let (head, body) = problem.response(&HeaderMap::new()).into_parts();
    (head, whole(body, defaults::FORM).await.unwrap_or_default())
}

fn length(body: &Body) -> Option<usize> {
    body.size_hint().exact().and_then(|length| usize::try_from(length).ok())
}

/// A body in one piece, of at most `most` bytes. A body longer than `SHORT` waits for its share of the memory.
async fn gather(
    room: &Arc<Semaphore>,
    mut body: Body,
    most: usize,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ReadError> {
    let need = u32::try_from(length(&body).map_or(most, |length| length.min(most))).unwrap_or(u32::MAX);
    let mut all = BytesMut::new();
    let mut share = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() else { continue };
        if all.len() + data.len() > most {
            return Err(ReadError::TooLarge(most));
        }
        if share.is_none() && all.len() + data.len() > SHORT {
            share = room.clone().acquire_many_owned(need).await.ok();
        }
        all.extend_from_slice(&data);
    }
    Ok((all.freeze(), share))
}
