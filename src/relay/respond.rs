//! Turns each error and each refusal into one response, and decides which details a visitor gets.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderName, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::defaults;
use crate::domain::{AnswerTimeout, ERROR_PAGES, ErrorCode, LimitSource, Refusal, RefusalKind};
use crate::http1::BadHead;
use crate::message::authority::Unclear;
use crate::message::body::RefusedBody;
use crate::message::page::{HTML, escape, page, protect};
use crate::message::problem::{Problem, add_details};
use crate::message::{Body, Request, Response};
use crate::observe::Recording;
use crate::policy::Denied;
use crate::session::{Kind, SendErrorKind};

/// The path of the demo page.
pub(super) const DEMO: &str = "/demo";

const TOO_MANY_FIELDS: &str = "The request has more than 512 header fields.";

/// The name of the relay in `Proxy-Status`.
const HOP: &str = "ptth-relay";

/// Why a visitor gets no answer of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VisitorFailure {
    /// The host of the request is missing or ambiguous.
    Unclear(Unclear),
    /// The length of the request is ambiguous.
    Framing,
    /// The head of the request is too large.
    Head,
    /// The request has more trailers than a message may have.
    Trailers,
    /// The head of an HTTP/1 request is not valid.
    BadHead(BadHead),
    /// The sender of a request from a trusted proxy is ambiguous.
    Sender,
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
            RefusedBody::Malformed => Self::BadHead(BadHead::Field),
        }
    }
}

impl VisitorFailure {
    /// Where the request failed.
    fn hop(self) -> &'static str {
        use SendErrorKind::{Closed, Invalid};
        match self {
            Self::Send(Closed | Invalid) | Self::Timeout(_) | Self::Upgrade | Self::Protocol => "agent",
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
    let detail = match failure {
        VisitorFailure::Timeout(timeout) => Cow::Owned(describe_timeout(timeout)),
        _ => Cow::Borrowed(detail),
    };
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

/// The text for a visitor whose request was not answered in time.
fn describe_timeout(AnswerTimeout { limit, source }: AnswerTimeout) -> String {
    let remedy = match source {
        LimitSource::Agent => {
            "Try again later; the owner of the agent can set a longer --answer-timeout-seconds."
        }
        LimitSource::Token => {
            "Try again later; the operator of the relay can issue a token with a longer limit."
        }
        LimitSource::Relay => {
            "Try again later; the operator of the relay can set a longer --answer-timeout-seconds."
        }
    };
    format!("The agent did not answer within {limit}, the limit of the {source}. {remedy}")
}

/// Rounds up to whole seconds, so that no client retries too early.
fn round_up(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// Code, detail and the `error` of `Proxy-Status`.
type FailureDescription = (ErrorCode, &'static str, Option<&'static str>);

fn describe(failure: VisitorFailure) -> FailureDescription {
    use VisitorFailure as F;
    match failure {
        F::Unclear(_) | F::Framing | F::Sender => describe_unclear(failure),
        F::Head => (
            ErrorCode::HeadTooLarge,
            "The address and the header fields of the request, including cookies, are larger than 72 KiB.",
            Some("http_request_error"),
        ),
        F::BadHead(bad) => describe_head(bad),
        F::Heads | F::Trailers | F::Protocol => describe_unsupported(failure),
        F::Method => (
            ErrorCode::MethodNotAllowed,
            "The relay does not accept this method here.",
            Some("http_request_denied"),
        ),
        F::NoRoute => (
            ErrorCode::NoRoute,
            "No agent serves this address. Check the name, and check that its agent has connected.",
            Some("destination_not_found"),
        ),
        F::NoAgent => (
            ErrorCode::NoAgent,
            "The agent for this address is not connected at the moment.",
            Some("destination_unavailable"),
        ),
        F::Send(kind) => describe_send(kind),
        F::Timeout(_) => {
            (ErrorCode::NoAnswer, "The agent did not answer in time.", Some("http_response_timeout"))
        }
        F::Upgrade => (ErrorCode::UpgradeFailed, "The protocol upgrade failed.", Some("http_upgrade_failed")),
        F::Full => (
            ErrorCode::RelayFull,
            "The relay has reached its limit of connections. Try again later.",
            Some("connection_limit_reached"),
        ),
        F::Unreachable => describe_destination(false),
        F::Late => describe_destination(true),
        F::Denied(denied) => describe_denied(denied),
    }
}

/// Requests that the relay cannot forward, or that the service did not understand.
fn describe_unsupported(failure: VisitorFailure) -> FailureDescription {
    match failure {
        VisitorFailure::Heads => (
            ErrorCode::HeadsFull,
            "The relay has reached its limit of memory for large request heads. Send fewer or shorter header fields \
             and cookies, or try again later.",
            Some("connection_limit_reached"),
        ),
        VisitorFailure::Trailers => (
            ErrorCode::TrailersTooLarge,
            "The request has more than 100 trailer fields, or more than 16 KiB of them.",
            Some("http_request_error"),
        ),
        _ => (
            ErrorCode::UnsupportedProtocol,
            "The service does not support the protocol that the request asks for (:protocol, RFC 8441).",
            Some("http_upgrade_failed"),
        ),
    }
}

/// A failure of a destination to which the relay itself sent a request.
fn describe_destination(late: bool) -> FailureDescription {
    match late {
        true => (ErrorCode::Late, "The destination did not answer in time.", Some("http_response_timeout")),
        false => (
            ErrorCode::Unreachable,
            "The destination cannot be reached, or does not answer with HTTP.",
            Some("destination_unavailable"),
        ),
    }
}

/// Heads that are not a valid request, or that exceed a limit.
fn describe_head(bad: BadHead) -> FailureDescription {
    let (code, detail) = match bad {
        BadHead::Framing => return describe(VisitorFailure::Framing),
        BadHead::Bytes(_) => return describe(VisitorFailure::Head),
        BadHead::Fields => (ErrorCode::HeadTooLarge, TOO_MANY_FIELDS),
        BadHead::Target => {
            (ErrorCode::TargetTooLong, "The address of the request is longer than 65,534 bytes.")
        }
        BadHead::TargetByte => (
            ErrorCode::BadHead,
            "The address of the request has a byte that must be percent-encoded, such as < > ` or # (RFC 3986 section 2).",
        ),
        BadHead::Version => {
            (ErrorCode::BadHead, "The version of the request is neither HTTP/1.0 nor HTTP/1.1.")
        }
        BadHead::Field => (ErrorCode::BadHead, "A header field of the request is malformed."),
        BadHead::StartLine | BadHead::Status => {
            (ErrorCode::BadHead, "The first line of the request is malformed.")
        }
    };
    (code, detail, Some("http_request_error"))
}

/// Requests with an ambiguous or missing host, length or sender.
fn describe_unclear(failure: VisitorFailure) -> FailureDescription {
    let (code, detail) = match failure {
        VisitorFailure::Unclear(Unclear::Asterisk) => {
            (ErrorCode::BadHead, "The target * is for OPTIONS requests only (RFC 9112 section 3.2.4).")
        }
        VisitorFailure::Unclear(Unclear::Missing) => (ErrorCode::NoHost, "The request names no host."),
        VisitorFailure::Unclear(Unclear::Scheme) => (
            ErrorCode::WrongScheme,
            "The scheme of the request does not fit its connection: https is for connections with TLS, and http for \
             those without. If a proxy in front of the relay terminates TLS, start the relay with --trusted-proxy and \
             the address of the proxy.",
        ),
        VisitorFailure::Framing => (
            ErrorCode::UnclearLength,
            "The length of the request is ambiguous: send one Content-Length, or Transfer-Encoding: chunked.",
        ),
        VisitorFailure::Sender => (
            ErrorCode::UnclearSender,
            "The sender of the request is ambiguous: its forwarding fields are malformed or differ.",
        ),
        _ => (ErrorCode::UnclearHost, "The host of the request is malformed or ambiguous."),
    };
    (code, detail, Some("http_request_error"))
}

fn describe_denied(denied: Denied) -> FailureDescription {
    match denied {
        Denied::Forbidden => (
            ErrorCode::NotForYou,
            "The rules for this address do not admit this request.",
            Some("http_request_denied"),
        ),
        Denied::Password => (
            ErrorCode::Password,
            "This address requires a user name and a password.",
            Some("http_request_denied"),
        ),
        Denied::TooMany(_) => (
            ErrorCode::TooMany,
            "There were too many requests for this address, or too many wrong passwords. Try again later.",
            Some("http_request_denied"),
        ),
        Denied::TooLarge => (
            ErrorCode::TooLarge,
            "The rules for this address do not allow a body of this size.",
            Some("http_request_denied"),
        ),
    }
}

fn describe_send(kind: SendErrorKind) -> FailureDescription {
    use SendErrorKind::{
        Absent, Busy, Closed, Full, Invalid, NoTrailers, NoUpgrade, NotIncremental, Slow, TooLarge,
    };
    match kind {
        Absent => describe(VisitorFailure::NoAgent),
        Busy | Full(_) => (
            ErrorCode::AgentBusy,
            match kind {
                Full(Kind::H1) => {
                    "The agent for this address has 64 requests in flight over HTTP/1.1, its limit. Try again \
                     later."
                }
                Full(Kind::Envelope) => {
                    "The agent for this address polls, and has 256 requests in flight, its limit. Try again later."
                }
                _ => {
                    "The agent for this address has reached its limit of requests in flight. Try again later."
                }
            },
            Some("connection_limit_reached"),
        ),
        Closed => (
            ErrorCode::AgentGone,
            "The connection to the agent closed after the request was sent and before the answer arrived.",
            Some("connection_terminated"),
        ),
        Slow => (
            ErrorCode::BodyLate,
            "The body of the request did not arrive in time.",
            Some("http_request_error"),
        ),
        Invalid => {
            (ErrorCode::InvalidAnswer, "The agent's answer was not valid HTTP.", Some("http_protocol_error"))
        }
        TooLarge | NoTrailers | NotIncremental | NoUpgrade => describe_uncarried(kind),
    }
}

/// What the agent's connection cannot carry.
fn describe_uncarried(kind: SendErrorKind) -> FailureDescription {
    match kind {
        SendErrorKind::TooLarge => (
            ErrorCode::TooLarge,
            "The agent's connection cannot carry a body of this size.",
            Some("http_request_error"),
        ),
        SendErrorKind::NoTrailers => (
            ErrorCode::NoTrailers,
            "The agent's transport, comet, cannot carry the trailers that a gRPC call needs. The call was not \
             forwarded. Use another transport.",
            None,
        ),
        SendErrorKind::NotIncremental => (
            ErrorCode::NotIncremental,
            "The request must be forwarded while it arrives (Incremental), and the agent's connection carries only \
             complete bodies. Connect the agent with another transport, such as ptth10.",
            Some("incremental_refused"),
        ),
        _ => (
            ErrorCode::NoUpgrade,
            "The agent's connection cannot carry this protocol upgrade, such as a WebSocket. Use the service without \
             the upgrade, or connect its agent with a transport that carries upgrades, such as ptth10.",
            Some("http_upgrade_failed"),
        ),
    }
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
