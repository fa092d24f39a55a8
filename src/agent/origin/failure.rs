//! The responses to visitors when the origin gives no answer.

use std::io;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use rustls::CertificateError;

use super::OriginTarget;
use super::connect::ConnectError;
use crate::domain::ErrorCode;
use crate::http1::{self, BadHead};
use crate::message::Response;
use crate::message::authority::Unclear;
use crate::message::problem::Problem;
use crate::net::dial::DialError;
use crate::session::{AnswerFault, SendErrorKind};
use crate::tls::pin::refused_pin;

/// The name of this hop in `Proxy-Status`.
pub(super) const HOP: &str = "ptth-agent";

/// The fields of the visitor's request that a [`Problem`] needs. By then, the request itself has been sent to the
/// origin.
pub(super) fn accept_headers(html: bool) -> HeaderMap {
    let accept = html.then_some((http::header::ACCEPT, HeaderValue::from_static("text/html")));
    accept.into_iter().collect()
}

/// Marks a response that the agent makes because the origin gave no answer.
#[derive(Clone)]
pub(super) struct AgentFailure;

/// Why the origin gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum OriginFailure {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no valid answer: {0}")]
    Exchange(#[from] http1::Error),
    #[error("no valid answer over HTTP/2: {0}")]
    Http2(SendErrorKind),
    #[error("HTTP/2 failed to start: {0}")]
    Preface(h2::Error),
    #[error(transparent)]
    Opening(Arc<OriginFailure>),
    #[error("a 101 that was not requested")]
    Unrequested,
    #[error("CONNECT is not forwarded to origins")]
    Tunnel,
    #[error(transparent)]
    Host(#[from] Unclear),
}

/// Code, error of `Proxy-Status` (RFC 9209 §2.3), and the explanation for the visitor.
type FailureReport = (ErrorCode, &'static str, String);

impl OriginFailure {
    /// The response that replaces the missing answer. `html`: the visitor prefers HTML.
    pub(super) fn response(&self, target: &OriginTarget, html: bool) -> Response {
        let (code, error, explanation) = self.report();
        // The address of the service goes to the log of its owner, not to visitors.
        tracing::info!(%target, error = %self, %code, "the origin gave no answer");
        let detail = format!("The service behind the agent gave no answer: {explanation}");
        let mut response = Problem {
            code,
            detail: &detail,
            hop: HOP,
            error: Some(error),
            retry_after: None,
            request: None,
            pages: None,
        }
        .response(&accept_headers(html));
        response.extensions_mut().insert(AgentFailure);
        response
    }

    fn report(&self) -> FailureReport {
        match self {
            Self::Connect(error) if error.is_exhausted() => bad(ErrorCode::AgentDescriptors,
                "connection_limit_reached",
                format!(
                    "the agent has no file descriptor left ({error}). Raise the agent's limit of open files with \
                     ulimit -n or LimitNOFILE=, or limit the requests in flight."
                ),
            ),
            Self::Connect(ConnectError::Dial(error)) => dialling(error),
            Self::Connect(ConnectError::Unix(error)) => connecting(error),
            Self::Connect(ConnectError::UnixTimeout) => timeout(),
            Self::Connect(ConnectError::NotPrivate(_)) => bad(
                ErrorCode::OriginCertificate,
                "tls_certificate_error",
                "its certificate is not verified, which the agent accepts on private addresses only. Use --origin-ca or \
                 --origin-pin.",
            ),
            Self::Exchange(error) => exchange(error),
            Self::Http2(SendErrorKind::NoUpgrade) => (
                ErrorCode::NoUpgrade,
                "http_upgrade_failed",
                "it does not support Upgrades over HTTP/2 (RFC 8441). Send the request without the Upgrade, or give the \
                 agent an http:// target instead of h2c://."
                    .to_owned(),
            ),
            Self::Http2(SendErrorKind::Invalid(AnswerFault::Http2)) | Self::Preface(_) => bad(ErrorCode::OriginInvalid,
                "http_protocol_error",
                "its answer is not valid HTTP/2. Check the port, or use http:// instead of h2c://. Other causes are a \
                 missing or unknown pseudo-field, a Connection field, and a body unlike its content-length.",
            ),
            Self::Http2(SendErrorKind::Invalid(fault)) => bad(
                ErrorCode::OriginInvalid,
                "http_protocol_error",
                format!("its answer is not valid HTTP: {fault}."),
            ),
            Self::Http2(_) => bad(ErrorCode::OriginIncomplete,
                "http_response_incomplete",
                "it ended the connection or the stream without an answer. Its log may have the reason.",
            ),
            Self::Opening(failure) => failure.report(),
            Self::Unrequested => bad(ErrorCode::OriginUnaskedUpgrade,
                "http_upgrade_failed",
                "it switched protocols without a request for an Upgrade.",
            ),
            Self::Tunnel => (
                ErrorCode::NoTunnel,
                "http_request_denied",
                "the agent does not forward CONNECT requests.".to_owned(),
            ),
            Self::Host(unclear) => (
                ErrorCode::UnclearHost,
                "http_request_error",
                format!("{unclear}, so the agent did not forward it."),
            ),
        }
    }
}

fn bad(code: ErrorCode, error: &'static str, explanation: impl Into<String>) -> FailureReport {
    (code, error, explanation.into())
}

fn timeout() -> FailureReport {
    (
        ErrorCode::OriginConnectTimeout,
        "connection_timeout",
        "it did not accept the connection in time. Check that the service is up and that no firewall drops the \
         agent's packets."
            .to_owned(),
    )
}

fn dialling(error: &DialError) -> FailureReport {
    match error {
        DialError::Resolve { source, .. } => bad(
            ErrorCode::OriginName,
            "dns_error",
            format!("its name does not resolve ({source}). Check the name."),
        ),
        DialError::Connect { source, .. } => connecting(source),
        // Origins are dialled without a proxy. The code covers the case nevertheless.
        DialError::Proxy(error) => {
            bad(ErrorCode::OriginUnreachable, "destination_unavailable", error.failure())
        }
        DialError::Tls { source, .. } => handshaking(source),
        DialError::Timeout { .. } => timeout(),
    }
}

fn connecting(error: &io::Error) -> FailureReport {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => bad(
            ErrorCode::OriginRefused,
            "connection_refused",
            format!("nothing listens there ({error}). Start the service, or give the agent another target."),
        ),
        io::ErrorKind::TimedOut => timeout(),
        _ => bad(
            ErrorCode::OriginUnreachable,
            "destination_unavailable",
            format!("{error}. Check the network between the agent and the service."),
        ),
    }
}

fn handshaking(error: &io::Error) -> FailureReport {
    if refused_pin(error).is_some() {
        // The pin itself goes to the log of the agent's owner, not to visitors.
        return bad(
            ErrorCode::OriginPin,
            "tls_certificate_error",
            "the key of its certificate is not the pinned one, so the agent sent it nothing. If the key was replaced, \
             give the agent its new pin with --origin-pin.",
        );
    }
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => {
            // The issuer goes to the log of the agent's owner, not to visitors.
            let why = match why {
                CertificateError::Other(_) => "its issuer is unknown".to_owned(),
                why => why.to_string(),
            };
            bad(
                ErrorCode::OriginCertificate,
                "tls_certificate_error",
                format!(
                    "its certificate is not trusted ({why}). Give the agent its CA with --origin-ca, or \
                     its pin with --origin-pin."
                ),
            )
        }
        _ => bad(
            ErrorCode::OriginTls,
            "tls_protocol_error",
            format!("TLS failed ({error}). Check that this port serves HTTPS; for plain HTTP use http://."),
        ),
    }
}

fn exchange(error: &http1::Error) -> FailureReport {
    if matches!(error, http1::Error::Request(_)) {
        return (
            ErrorCode::RequestIncomplete,
            "http_request_error",
            "the body of the request broke off before it was complete.".to_owned(),
        );
    }
    if error.is_over_a_limit() {
        return bad(
            ErrorCode::OriginTooLarge,
            "http_response_header_section_size",
            format!("its answer exceeds a limit: {error}."),
        );
    }
    if let http1::Error::Head(BadHead::Framing(fault)) = error {
        let explanation = format!(
            "its answer has no clear end: {fault}. It must have one Content-Length, or chunked as its only coding."
        );
        return bad(ErrorCode::OriginInvalid, "http_protocol_error", explanation);
    }
    if matches!(error, http1::Error::Head(BadHead::Field(_) | BadHead::Status)) {
        let explanation = format!("its answer is not valid HTTP: {error}.");
        return bad(ErrorCode::OriginInvalid, "http_protocol_error", explanation);
    }
    if error.is_invalid() {
        let explanation =
            format!("its answer is not HTTP/1.1 ({error}). Check the port, or use https:// for TLS.");
        return bad(ErrorCode::OriginInvalid, "http_protocol_error", explanation);
    }
    bad(
        ErrorCode::OriginIncomplete,
        "http_response_incomplete",
        format!("it closed the connection without an answer ({error}). Its log may have the reason."),
    )
}
