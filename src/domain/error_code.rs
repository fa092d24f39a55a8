//! Every error that a person can meet: a stable code, and two sentences that do not depend on the request. They are
//! shown on the error pages, on the pages below `/_ptth/errors/` of a relay, and in `docs/errors.md`.

use std::fmt;

/// The path on a relay's own authority below which each code has a page.
pub const ERROR_PAGES: &str = "/_ptth/errors/";

/// What an error means.
#[derive(Debug)]
struct ErrorMeaning {
    code: &'static str,
    status: u16,
    happened: &'static str,
    remedy: &'static str,
}

/// Each row is a code, its status (0: the code is in the access log only), what happened, and what to try.
macro_rules! error_codes {
    ($($(#[$cfg:meta])? $variant:ident = $code:literal $status:literal $happened:literal $remedy:literal;)+) => {
        /// A stable identifier of an error, for programs and for people.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(
                #[doc = concat!("`", $code, "`: ", $happened)]
                $variant,
            )+
        }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            const fn meaning(self) -> &'static ErrorMeaning {
                match self {
                    $(Self::$variant => &ErrorMeaning {
                        code: $code,
                        status: $status,
                        happened: $happened,
                        remedy: $remedy,
                    },)+
                }
            }
        }
    };
}

impl ErrorCode {
    /// The code, such as `no-agent`.
    pub const fn as_str(self) -> &'static str {
        self.meaning().code
    }

    /// The HTTP status of an answer with this code (RFC 9110 §15). 0 for a code that is in the access log only.
    pub const fn status(self) -> u16 {
        self.meaning().status
    }

    /// One sentence: what happened.
    pub const fn happened(self) -> &'static str {
        self.meaning().happened
    }

    /// One sentence or two: what to try.
    pub const fn remedy(self) -> &'static str {
        self.meaning().remedy
    }

    /// The code of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

error_codes! {
    // Requests that the relay cannot understand.
    BadHead = "bad-head" 400
        "The request is not valid HTTP."
        "Correct the program that sent it. Problem details (application/problem+json) name the exact cause.";
    NoHost = "no-host" 400
        "The request names no host."
        "Send a Host field, or :authority over HTTP/2.";
    UnclearHost = "unclear-host" 400
        "The host of the request is malformed or ambiguous."
        "Send one Host field with a name and at most a port, the same as in the target.";
    WrongScheme = "wrong-scheme" 400
        "The scheme of the request does not fit its connection."
        "Send https over TLS, and http without TLS. If a proxy in front of the relay terminates TLS, its operator must start the relay with --trusted-proxy.";
    UnclearLength = "unclear-length" 400
        "The length of the request is ambiguous."
        "Send one Content-Length, or Transfer-Encoding: chunked.";
    UnclearSender = "unclear-sender" 400
        "The sender of the request is ambiguous: its forwarding fields are malformed or differ."
        "The operator of the proxy in front of the relay must let it send one of X-Forwarded-For and Forwarded.";
    MethodNotAllowed = "method-not-allowed" 405
        "This address does not accept the method of the request."
        "Use a method that the Allow field of the answer lists.";
    BodyLate = "body-late" 408
        "The body of the request did not arrive in time."
        "Send the request again, over a faster connection if possible.";
    TooLarge = "too-large" 413
        "The body of the request is larger than this address accepts."
        "Send less. The rules of the address, or the transport of its agent, set the limit.";
    TargetTooLong = "target-too-long" 414
        "The address of the request is too long."
        "Send long values in the body of the request.";
    HeadTooLarge = "head-too-large" 431
        "The address and the header fields of the request, including cookies, are too large."
        "Delete the cookies of this site, or send fewer fields.";
    TrailersTooLarge = "trailers-too-large" 431
        "The trailers of the request are too large."
        "Send fewer trailer fields.";
    UnsupportedProtocol = "unsupported-protocol" 501
        "The service does not support the protocol that the request asks for (RFC 8441)."
        "Use the service without this protocol.";
    HeadsFull = "heads-full" 503
        "The relay has reached its limit of memory for large request heads."
        "Send fewer or shorter fields and cookies, or try again later.";
    RelayFull = "relay-full" 503
        "The relay has reached its limit of connections."
        "Try again later.";

    Loop = "loop" 502
        "The request has passed through relays too often."
        "If you own the service, do not let it forward requests back to the relay.";

    // Requests for an address whose agent is absent, busy, or cannot carry them.
    NoRoute = "no-route" 404
        "No agent serves this address."
        "Check the name, and check that its agent has connected.";
    NoAgent = "no-agent" 503
        "The agent for this address is not connected at the moment."
        "Try again in a few seconds. If you own the service, check that its agent is running.";
    AgentBusy = "agent-busy" 503
        "The agent for this address has reached its limit of requests in flight."
        "Try again later.";
    AgentGone = "agent-gone" 502
        "The connection to the agent closed after the request was sent and before the answer arrived."
        "The service may have carried the request out. Check before you send it again.";
    NoAnswer = "no-answer" 504
        "The agent did not answer in time."
        "Try again later. If you own the service, see whether it hangs, or set a longer --answer-timeout-seconds.";
    InvalidAnswer = "invalid-answer" 502
        "The answer of the agent is not valid HTTP."
        "If you own the service, correct its answer. Problem details (application/problem+json) name the exact cause.";
    NotIncremental = "not-incremental" 503
        "The message must be forwarded while it arrives, and the agent's connection carries only complete bodies."
        "If you own the service, connect its agent with another transport, such as ptth10.";
    NoTrailers = "no-trailers" 501
        "The agent's connection cannot carry the trailers that a gRPC call needs, and the call was not forwarded."
        "If you own the service, connect its agent with another transport, such as ptth10.";
    NoUpgrade = "no-upgrade" 501
        "The connection cannot carry this protocol upgrade, such as a WebSocket."
        "Use the service without the upgrade. If you own the service, connect its agent with a transport that carries upgrades, such as ptth10.";
    UpgradeFailed = "upgrade-failed" 502
        "The protocol upgrade failed."
        "Try again. If you own the service, its log may have the reason.";

    // Requests that the rules for visitors of an address do not admit.
    Password = "password" 401
        "This address requires a user name and a password."
        "Enter them, or get them from the owner of the address.";
    NotForYou = "not-for-you" 403
        "The rules for this address do not admit this request."
        "Get access from the owner of the address.";
    TooMany = "too-many" 429
        "There were too many requests, or too many wrong passwords."
        "Try again after the time in the Retry-After field.";

    // Requests that the agent forwarded, and whose service gave no valid answer.
    OriginRefused = "origin-refused" 502
        "Nothing listens at the address of the service behind the agent."
        "If you own the service, start it, or give the agent another target.";
    OriginName = "origin-name" 502
        "The name of the service behind the agent does not resolve."
        "If you own the service, check the target of its agent.";
    OriginUnreachable = "origin-unreachable" 502
        "The service behind the agent cannot be reached."
        "If you own the service, check the network between it and its agent.";
    OriginConnectTimeout = "origin-connect-timeout" 504
        "The service behind the agent did not accept the connection in time."
        "If you own the service, check that it runs and that no firewall drops the packets of its agent.";
    OriginCertificate = "origin-certificate" 502
        "The agent does not trust the certificate of the service behind it."
        "If you own the service, give its agent the CA with --origin-ca, or the pin with --origin-pin.";
    OriginPin = "origin-pin" 502
        "The key of the service behind the agent is not the pinned one, so the agent sent it nothing."
        "If you own the service and its key was replaced, give its agent the new pin with --origin-pin.";
    OriginTls = "origin-tls" 502
        "TLS between the agent and the service behind it failed."
        "If you own the service, check that its port serves HTTPS. For plain HTTP use http://.";
    DotSegments = "dot-segments" 400
        "The path of the request has a dot segment, which could lead to the path of another service of the agent."
        "Send the path without . and .. segments.";
    NoTarget = "no-target" 404
        "No service behind the agent has this path."
        "Check the path. If you own the service, add its prefix with --path.";
    OriginInvalid = "origin-invalid" 502
        "The answer of the service behind the agent is not valid HTTP."
        "If you own the service, check its port and its scheme. Problem details (application/problem+json) name the exact cause.";
    OriginTooLarge = "origin-too-large" 502
        "The head of the service's answer is too large."
        "If you own the service, let it send fewer or shorter fields and cookies.";
    OriginIncomplete = "origin-incomplete" 502
        "The service behind the agent ended the connection without a complete answer."
        "If you own the service, its log may have the reason.";
    OriginUnaskedUpgrade = "origin-unasked-upgrade" 502
        "The service behind the agent switched protocols without a request for an Upgrade."
        "If you own the service, correct it.";
    RequestIncomplete = "request-incomplete" 400
        "The body of the request broke off before it was complete."
        "Send the request again.";
    NoTunnel = "no-tunnel" 501
        "Agents do not forward CONNECT requests."
        "Use another method.";
    AgentDescriptors = "agent-descriptors" 502
        "The agent has no file descriptor left for a connection to its service."
        "If you own the agent, raise its limit of open files (ulimit -n, LimitNOFILE=), or limit the requests in flight.";
    AnswerHeld = "answer-held" 502
        "Something between the agent and the relay holds bodies back until they are complete, and this answer cannot be complete in time or in size."
        "If you own the service, remove what holds the bodies back, or let the service send a shorter answer.";
    UnfinishedAnswer = "unfinished-answer" 502
        "The agent could not deliver the answer of its service as a whole."
        "If you own the service, see whether it completes its answers, or connect the agent with another transport, such as ptth10.";
    AnswerLost = "answer-lost" 502
        "The agent could not deliver the answer to the relay."
        "The service may have carried the request out. Check before you send it again.";
    AgentDisk = "agent-disk" 503
        "The agent cannot write the body of the request to its disk."
        "If you own the agent, its log has the reason.";
    ServiceFailed = "service-failed" 500
        "The service behind the agent failed to answer."
        "If you own the service, the log of its agent has the reason.";

    // Requests to another host that the relay sends for a page (RelayHttp).
    Unreachable = "unreachable" 502
        "The destination cannot be reached, or does not answer with HTTP."
        "Check the address of the destination.";
    Late = "late" 504
        "The destination did not answer in time."
        "Try again later.";

    // Offers, polls and answers of agents that the relay refuses.
    MalformedOffer = "malformed-offer" 400
        "The relay does not understand the request of the agent."
        "Update the agent or the relay, or correct the program that sent the request.";
    BadCredential = "bad-credential" 401
        "The token of the agent is missing or not valid here."
        "Check the token and the address of the relay. The operator of the relay issues tokens (ptth token new).";
    NotYours = "not-yours" 403
        "The token of the agent does not allow this."
        "Use a name that the token allows, or get another token from the operator of the relay.";
    NotFound = "not-found" 404
        "The relay has no such registration, URL or endpoint."
        "Register again.";
    NothingInCommon = "nothing-in-common" 406
        "Agent and relay have no protocol in common."
        "Update the older of the two, or let the agent use another transport.";
    Answered = "answered" 409
        "The request was answered before."
        "Send one answer for each request.";
    Fenced = "fenced" 409
        "Another process of the same agent has taken the place of this process."
        "Stop one of the two processes.";
    OtherRules = "other-rules" 409
        "Another agent serves this address with other rules for visitors."
        "Start both agents with the same rules, or stop one of them.";
    Gone = "gone" 410
        "The registration or the request has ended."
        "Register again.";
    MediaType = "media-type" 415
        "The relay does not accept the media type of this request."
        "Send the media type that the message of the answer names.";
    UpgradeRequired = "upgrade-required" 426
        "This endpoint requires a protocol upgrade."
        "Send Upgrade: PTTH/1.0 over HTTP/1.1.";
    Full = "full" 503
        "The relay has no capacity left for this agent."
        "Try again later.";
    Draining = "draining" 503
        "The relay is stopping."
        "Connect again: another process of the relay may have taken its place.";

    // Reasons in the access log of a relay, without an answer.
    VisitorGone = "visitor-gone" 0
        "The visitor left before the answer had ended."
        "Nothing: visitors may leave at any time. If all visitors of a service leave, it may be too slow.";
    AnswerBroken = "answer-broken" 0
        "The body of the answer broke off."
        "The log of the service or of its agent may have the reason.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fmt::Write as _;

    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");

    fn page() -> String {
        let mut page = "# Errors\n\n\
            Each error of ptth has a stable code. The code is in the `type` of problem details (RFC 9457), in small \
            print on error pages, in the logs, and in the metrics. A relay serves each entry of this page at \
            `/_ptth/errors/CODE` on its own authority. A code without a status is in the access log only.\n\n\
            | Code | Status | What happened | What to try |\n|---|---|---|---|\n"
            .to_owned();
        for code in ErrorCode::ALL {
            let status = if code.status() == 0 { "none".to_owned() } else { code.status().to_string() };
            let _ = writeln!(page, "| `{code}` | {status} | {} | {} |", code.happened(), code.remedy());
        }
        page
    }

    /// `PTTH_DOCS=1 cargo test --lib error_code` writes the page.
    #[test]
    fn the_page_about_errors_has_an_entry_for_each_code() {
        if std::env::var_os("PTTH_DOCS").is_some() {
            std::fs::write(PAGE, page()).unwrap();
        }
        let written = std::fs::read_to_string(PAGE).unwrap();
        assert!(
            written == page(),
            "docs/errors.md is not current: run PTTH_DOCS=1 cargo test --lib error_code"
        );
    }

    #[test]
    fn each_code_is_unique_and_has_two_plain_sentences() {
        let codes: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(*code));
            for text in [code.happened(), code.remedy()] {
                assert!(text.ends_with('.') && !text.contains(['|', '<', '&']), "{code}: {text}");
            }
            assert!(code.status() == 0 || (400..600).contains(&code.status()), "{code}");
        }
    }
}
