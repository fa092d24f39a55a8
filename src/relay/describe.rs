//! The code and the text of each failure. A text names the cause, and repeats no byte of a request or an answer.

use std::borrow::Cow;

use super::respond::VisitorFailure;
use crate::defaults;
use crate::domain::{AnswerTimeout, ErrorCode, LimitSource};
use crate::http1::BadHead;
use crate::message::authority::Unclear;
use crate::policy::Denied;
use crate::session::{Kind, SendErrorKind};

/// Code, detail and the `error` of `Proxy-Status`.
pub(super) type FailureDescription = (ErrorCode, Cow<'static, str>, Option<&'static str>);

/// The description of a failure.
pub(super) fn describe(failure: VisitorFailure) -> FailureDescription {
    use VisitorFailure as F;
    match failure {
        F::Unclear(_) | F::Sender(_) | F::BadBody(_) => describe_unclear(failure),
        F::Head => (
            ErrorCode::HeadTooLarge,
            "The address and the header fields of the request, including cookies, are larger than 72 KiB.".into(),
            Some("http_request_error"),
        ),
        F::BadHead(bad) => describe_head(bad),
        F::Heads | F::Trailers | F::Protocol => describe_unsupported(failure),
        F::Method => (
            ErrorCode::MethodNotAllowed,
            "The relay does not accept this method here.".into(),
            Some("http_request_denied"),
        ),
        F::NoRoute => (
            ErrorCode::NoRoute,
            "No agent serves this address. Check the name, and check that its agent has connected.".into(),
            Some("destination_not_found"),
        ),
        F::NoAgent => (
            ErrorCode::NoAgent,
            "The agent for this address is not connected at the moment.".into(),
            Some("destination_unavailable"),
        ),
        F::Send(kind) => describe_send(kind),
        F::Timeout(timeout) => {
            (ErrorCode::NoAnswer, describe_timeout(timeout).into(), Some("http_response_timeout"))
        }
        F::Upgrade => (ErrorCode::UpgradeFailed, "The protocol upgrade failed.".into(), Some("http_upgrade_failed")),
        F::Loop => (
            ErrorCode::Loop,
            "The request has passed through this relay or others too often (Via): the service forwards it back to a relay."
                .into(),
            Some("proxy_loop_detected"),
        ),
        F::Full => (
            ErrorCode::RelayFull,
            "The relay has reached its limit of connections. Try again later.".into(),
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
             and cookies, or try again later.".into(),
            Some("connection_limit_reached"),
        ),
        VisitorFailure::Trailers => (
            ErrorCode::TrailersTooLarge,
            "The request has more than 100 trailer fields, or more than 16 KiB of them.".into(),
            Some("http_request_error"),
        ),
        _ => (
            ErrorCode::UnsupportedProtocol,
            "The service does not support the protocol that the request asks for (:protocol, RFC 8441).".into(),
            Some("http_upgrade_failed"),
        ),
    }
}

/// A failure of a destination to which the relay itself sent a request.
fn describe_destination(late: bool) -> FailureDescription {
    match late {
        true => {
            (ErrorCode::Late, "The destination did not answer in time.".into(), Some("http_response_timeout"))
        }
        false => (
            ErrorCode::Unreachable,
            "The destination cannot be reached, or does not answer with HTTP.".into(),
            Some("destination_unavailable"),
        ),
    }
}

/// Heads that are not a valid request, or that exceed a limit.
fn describe_head(bad: BadHead) -> FailureDescription {
    let (code, detail) = match bad {
        BadHead::Bytes(_) => return describe(VisitorFailure::Head),
        BadHead::Fields => {
            (ErrorCode::HeadTooLarge, format!("The request has more than {} header fields.", defaults::H1_FIELDS).into())
        }
        BadHead::Target => (ErrorCode::TargetTooLong, "The address of the request is longer than 65,534 bytes.".into()),
        BadHead::TargetByte => (
            ErrorCode::BadHead,
            "The address of the request has a byte that must be percent-encoded, such as < > ` or # (RFC 3986 section 2)."
                .into(),
        ),
        BadHead::Version => {
            (ErrorCode::BadHead, "The version of the request is neither HTTP/1.0 nor HTTP/1.1.".into())
        }
        BadHead::Field(fault) => (ErrorCode::BadHead, format!("The head of the request is malformed: {fault}.").into()),
        BadHead::Framing(fault) => (
            ErrorCode::UnclearLength,
            format!(
                "The length of the request is ambiguous: {fault}. Send one Content-Length, or Transfer-Encoding: chunked."
            )
            .into(),
        ),
        BadHead::StartLine | BadHead::Status => (
            ErrorCode::BadHead,
            "The first line of the request is malformed: it must be a method, an address and HTTP/1.1, with one space \
             between them."
                .into(),
        ),
    };
    (code, detail, Some("http_request_error"))
}

/// Requests with an ambiguous or missing host or sender, or with a malformed body.
fn describe_unclear(failure: VisitorFailure) -> FailureDescription {
    let (code, detail) = match failure {
        VisitorFailure::Unclear(Unclear::Asterisk) => {
            (ErrorCode::BadHead, "The target * is for OPTIONS requests only (RFC 9112 section 3.2.4).".into())
        }
        VisitorFailure::Unclear(Unclear::Missing) => (ErrorCode::NoHost, "The request names no host.".into()),
        VisitorFailure::Unclear(Unclear::Scheme) => (
            ErrorCode::WrongScheme,
            "The scheme of the request does not fit its connection: https is for connections with TLS, and http for \
             those without. If a proxy in front of the relay terminates TLS, start the relay with --trusted-proxy and \
             the address of the proxy."
                .into(),
        ),
        VisitorFailure::Sender(fault) => {
            (ErrorCode::UnclearSender, format!("The sender of the request is ambiguous: {fault}.").into())
        }
        VisitorFailure::BadBody(fault) => (ErrorCode::BadHead, format!("The request is malformed: {fault}.").into()),
        VisitorFailure::Unclear(Unclear::Several) => (
            ErrorCode::UnclearHost,
            "The request names more than one host: it must have one Host field, equal to :authority if there is one."
                .into(),
        ),
        _ => {
            (ErrorCode::UnclearHost, "The host of the request is malformed: it must be a name or an address, and a port.".into())
        }
    };
    (code, detail, Some("http_request_error"))
}

fn describe_denied(denied: Denied) -> FailureDescription {
    match denied {
        Denied::Forbidden => (
            ErrorCode::NotForYou,
            "The rules for this address do not admit this request.".into(),
            Some("http_request_denied"),
        ),
        Denied::Password => (
            ErrorCode::Password,
            "This address requires a user name and a password.".into(),
            Some("http_request_denied"),
        ),
        Denied::TooMany(_) => (
            ErrorCode::TooMany,
            "There were too many requests for this address, or too many wrong passwords. Try again later."
                .into(),
            Some("http_request_denied"),
        ),
        Denied::TooLarge => (
            ErrorCode::TooLarge,
            "The rules for this address do not allow a body of this size.".into(),
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
            Cow::Borrowed(match kind {
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
            }),
            Some("connection_limit_reached"),
        ),
        Closed => (
            ErrorCode::AgentGone,
            "The connection to the agent closed after the request was sent and before the answer arrived."
                .into(),
            Some("connection_terminated"),
        ),
        Slow => (
            ErrorCode::BodyLate,
            "The body of the request did not arrive in time.".into(),
            Some("http_request_error"),
        ),
        Invalid(fault) => (
            ErrorCode::InvalidAnswer,
            format!("The agent's answer is not valid HTTP: {fault}.").into(),
            Some("http_protocol_error"),
        ),
        TooLarge | NoTrailers | NotIncremental | NoUpgrade => describe_uncarried(kind),
    }
}

/// What the agent's connection cannot carry.
fn describe_uncarried(kind: SendErrorKind) -> FailureDescription {
    match kind {
        SendErrorKind::TooLarge => (
            ErrorCode::TooLarge,
            "The agent's connection cannot carry a body of this size.".into(),
            Some("http_request_error"),
        ),
        SendErrorKind::NoTrailers => (
            ErrorCode::NoTrailers,
            "The agent's transport, comet, cannot carry the trailers that a gRPC call needs. The call was not \
             forwarded. Use another transport.".into(),
            None,
        ),
        SendErrorKind::NotIncremental => (
            ErrorCode::NotIncremental,
            "The request must be forwarded while it arrives (Incremental), and the agent's connection carries only \
             complete bodies. Connect the agent with another transport, such as ptth10.".into(),
            Some("incremental_refused"),
        ),
        _ => (
            ErrorCode::NoUpgrade,
            "The agent's connection cannot carry this protocol upgrade, such as a WebSocket. Use the service without \
             the upgrade, or connect its agent with a transport that carries upgrades, such as ptth10.".into(),
            Some("http_upgrade_failed"),
        ),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts repeat limits that are constants elsewhere.
    #[test]
    fn refusal_texts_match_the_limits() {
        let text = |failure| describe(failure).1.replace(',', "");
        let fields = text(VisitorFailure::BadHead(BadHead::Fields));
        assert!(fields.contains(&format!(" {} ", defaults::H1_FIELDS)), "{fields}");
        let head = text(VisitorFailure::Head);
        assert!(head.contains(&format!(" {} KiB", defaults::VISITOR_HEAD >> 10)), "{head}");
        for (kind, most) in [(Kind::H1, defaults::H1_MOST), (Kind::Envelope, defaults::ENVELOPES)] {
            let full = text(VisitorFailure::Send(SendErrorKind::Full(kind)));
            assert!(full.contains(&format!(" {most} requests in flight")), "{full}");
        }
        let trailers = text(VisitorFailure::Trailers);
        let limits =
            [format!(" {} ", defaults::TRAILER_FIELDS), format!(" {} KiB", defaults::TRAILERS >> 10)];
        assert!(limits.iter().all(|limit| trailers.contains(limit)), "{trailers}");
        let target = text(VisitorFailure::BadHead(BadHead::Target));
        let error = BadHead::Target.to_string();
        let most = error.split(' ').find(|part| part.bytes().all(|b| b.is_ascii_digit())).unwrap();
        assert!(target.contains(&format!(" {most} ")), "{target}");
    }
}
