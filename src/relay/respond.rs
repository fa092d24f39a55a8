//! Turns each error and each refusal into one response, and decides which details a visitor gets.

use std::time::{Duration, SystemTime};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderName, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::describe::describe;
use super::trusted_proxy::Contradiction;
use crate::defaults;
use crate::domain::{AnswerTimeout, ERROR_PAGES, ErrorCode, Refusal, RefusalKind};
use crate::http1::BadHead;
use crate::message::authority::Unclear;
use crate::message::body::RefusedBody;
use crate::message::page::{HTML, escape, page, protect};
use crate::message::problem::{Problem, add_details};
use crate::message::{Body, Request, Response};
use crate::observe::Recording;
use crate::policy::Denied;
use crate::session::SendErrorKind;

/// The path of the demo page.
pub(super) const DEMO: &str = "/demo";

/// The name of the relay in `Proxy-Status`.
const HOP: &str = "ptth-relay";

/// Why a visitor gets no answer of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VisitorFailure {
    /// The host of the request is missing or ambiguous.
    Unclear(Unclear),
    /// The head of the request is too large.
    Head,
    /// The request has more trailers than a message may have.
    Trailers,
    /// The head of an HTTP/1 request is not valid.
    BadHead(BadHead),
    /// The sender of a request from a trusted proxy is ambiguous.
    Sender(Contradiction),
    /// The body of the request is not valid.
    BadBody(RefusedBody),
    /// The request has passed through relays too often.
    Loop,
    /// The method is not allowed.
    Method,
    /// No agent claims the route, and no token names it.
    NoRoute,
    /// The route is known, and no agent serves it.
    NoAgent,
    /// The request could not be sent to the agent, or its answer failed.
    Send(SendErrorKind),
    /// The agent did not answer within this limit.
    Timeout(AnswerTimeout),
    /// The visitor's Upgrade could not be carried out.
    Upgrade,
    /// The service ignored the protocol that an extended CONNECT names.
    Protocol,
    /// The rules of the name do not let the visitor in.
    Denied(Denied),
    /// All connections that visitors may have are taken.
    Full,
    /// The large request heads in flight have used up their memory.
    Heads,
    /// A destination of RelayHttp cannot be reached, or did not answer with HTTP.
    Unreachable,
    /// A destination of RelayHttp did not answer in time.
    Late,
}

impl From<RefusedBody> for VisitorFailure {
    fn from(refused: RefusedBody) -> Self {
        match refused {
            RefusedBody::TooLong => Self::Denied(Denied::TooLarge),
            RefusedBody::Trailers => Self::Trailers,
            RefusedBody::Malformed | RefusedBody::Chunk => Self::BadBody(refused),
        }
    }
}

impl VisitorFailure {
    /// Where the request failed.
    fn hop(self) -> &'static str {
        use SendErrorKind::{Closed, Invalid};
        match self {
            Self::Send(Closed | Invalid(_)) | Self::Timeout(_) | Self::Upgrade | Self::Protocol => "agent",
            _ => "relay",
        }
    }
}

/// The response for a visitor. It never contains the agent's address, and only details on which the visitor can act.
pub(super) fn failure(
    failure: VisitorFailure,
    request_headers: &HeaderMap,
    recording: &mut Recording,
) -> Response {
    let (code, detail, error) = describe(failure);
    recording.record_failure(failure.hop(), code.as_str());
    let retry_after = match failure {
        VisitorFailure::Denied(Denied::TooMany(wait)) => Some(round_up(wait)),
        _ => (code.status() == 503).then_some(defaults::RETRY_AFTER),
    };
    let (request, pages) = (Some(recording.id().value()), recording.error_pages());
    let problem = Problem { code, detail: &detail, hop: HOP, error, retry_after, request, pages };
    let mut response = problem.response(request_headers);
    if let VisitorFailure::Timeout(AnswerTimeout { limit, source }) = failure {
        add_details(response.headers_mut(), &format!("limit of the {source}: {limit}"));
    }
    if failure == VisitorFailure::Method {
        // RFC 9110 §15.5.6: a 405 has this field. The target of a CONNECT has no methods.
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(""));
    }
    if failure == VisitorFailure::Denied(Denied::Password) {
        let challenge = HeaderValue::from_static("Basic realm=\"ptth\", charset=\"UTF-8\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The answer to a request that may not be forwarded any further (RFC 9110 §7.6.2). A TRACE is refused: its answer would
/// show fields that a page of a browser must not read.
pub(super) fn instead_of_forwarding(request: &Request, recording: &mut Recording) -> Response {
    if request.method() == Method::TRACE {
        return not_allowed("OPTIONS", request.headers(), recording);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The answer to a method that a page of the relay does not have.
pub(super) fn only_readable(request_headers: &HeaderMap, recording: &mut Recording) -> Response {
    not_allowed("GET, HEAD", request_headers, recording)
}

fn not_allowed(allowed: &'static str, request_headers: &HeaderMap, recording: &mut Recording) -> Response {
    let mut response = failure(VisitorFailure::Method, request_headers, recording);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Rounds up to whole seconds, so that no client retries too early.
fn round_up(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// The response for an agent whose offer was refused.
pub(super) fn refusal(refusal: &Refusal, request_headers: &HeaderMap, recording: &mut Recording) -> Response {
    let code = refusal.kind.code();
    recording.record_failure("relay", code.as_str());
    let problem = Problem {
        code,
        detail: &refusal.message,
        hop: HOP,
        error: None,
        retry_after: refusal.retry_after.map(round_up),
        request: Some(recording.id().value()),
        pages: recording.error_pages(),
    };
    let mut response = problem.response(request_headers);
    let headers = response.headers_mut();
    match refusal.kind {
        RefusalKind::Unauthenticated => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ptth\""));
        }
        RefusalKind::UpgradeRequired => {
            // RFC 9110 §15.5.22: a 426 names the required protocols.
            headers.insert(UPGRADE, HeaderValue::from_static("PTTH/1.0, ptth"));
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        _ => {}
    }
    response
}

/// Adds `Date` to an answer over HTTP/2 that has none (RFC 9110 §6.6.1).
pub(super) fn date(headers: &mut HeaderMap) {
    if !headers.contains_key(DATE)
        && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
    {
        headers.insert(DATE, now);
    }
}

/// The pages of the relay's own authority: `/`, and one for each error code. 404 for all other paths. `demo`: whether
/// the first page links to the demo page.
pub(super) fn own_page(request: &Request, demo: bool, recording: &mut Recording) -> Response {
    let (method, path, request_headers) = (request.method(), request.uri().path(), request.headers());
    let page = match path.strip_prefix(ERROR_PAGES) {
        Some("") => Some(all_errors()),
        Some(code) => ErrorCode::parse(code).map(about_error),
        None => (path == "/").then(|| front_page(demo)),
    };
    let Some(page) = page else {
        return failure(VisitorFailure::NoRoute, request_headers, recording);
    };
    if method != Method::GET && method != Method::HEAD {
        return only_readable(request_headers, recording);
    }
    let mut response = Response::new(Body::full(page));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(HTML));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    protect(headers);
    response
}

fn front_page(demo: bool) -> String {
    let link = match demo {
        true => format!("\n<p><a href=\"{DEMO}\">Answer requests from a browser tab</a></p>"),
        false => String::new(),
    };
    let body = format!(
        "<p>This is a ptth relay. It forwards requests to services behind firewalls, over connections that the \
         services' agents have opened. Each service has its own address below this one.</p>{link}"
    );
    page("ptth relay", &body)
}

fn about_error(code: ErrorCode) -> String {
    let status = match code.status() {
        0 => "Only in the access log".to_owned(),
        status => format!("HTTP status {status}"),
    };
    let (happened, remedy) = (escape(code.happened()), escape(code.remedy()));
    page(
        code.as_str(),
        &format!(
            "<p>{happened}</p>\n<p>{remedy}</p>\n<footer>{status} &middot; <a href=\"{ERROR_PAGES}\">all errors</a></footer>"
        ),
    )
}

fn all_errors() -> String {
    let row = |code: &ErrorCode| {
        format!("<dt><a href=\"{code}\">{code}</a></dt>\n<dd>{}</dd>\n", escape(code.happened()))
    };
    let rows: String = ErrorCode::ALL.iter().map(row).collect();
    page("Errors of ptth", &format!("<dl>\n{rows}</dl>"))
}
