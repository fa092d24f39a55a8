//! What nginx does otherwise, configured as `docs/conformance.md` says.

use std::process::Command;
use std::sync::OnceLock;

use crate::process::Outcome;
use crate::site::program;

/// A case that does not pass nginx.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Difference {
    pub(crate) case: &'static str,
    /// What the case says when it fails, with this version.
    pub(crate) shows: &'static str,
    pub(crate) why: &'static str,
    /// Other versions may pass it.
    pub(crate) changes: bool,
}

const fn always(case: &'static str, shows: &'static str, why: &'static str) -> Difference {
    Difference { case, shows, why, changes: false }
}

const fn changes(case: &'static str, shows: &'static str, why: &'static str) -> Difference {
    Difference { case, shows, why, changes: true }
}

/// What a step says that was waited for until the end.
pub(crate) const TOO_LATE: &str = "not within";

/// The version that the table was written with, and that its words are compared with.
pub(crate) const WRITTEN_WITH: &str = "1.22";

/// The version here.
pub(crate) fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let said = Outcome::of(Command::new(program("nginx")).arg("-v")).err;
        said.trim().rsplit('/').next().unwrap().to_owned()
    })
}

/// Whether what nginx says can be compared word by word.
pub(crate) fn is_as_written() -> bool {
    version().starts_with(&format!("{WRITTEN_WITH}."))
}

const METHODS: &str = "TRACE is refused with 405, and a name of other bytes than A-Z, - and _ with 400";
const FINAL: &str =
    "it takes an interim response for the answer; versions from 1.29 can be told to pass 103 (`early_hints`)";
const ITSELF: &str = "it says 100 itself, and asks for the body before the origin was asked";
const TRAILERS: &str = "it drops trailers, and TE; versions from 1.27 can be told to pass those of an answer (`proxy_pass_trailers`)";
const ODD: &str = "a path above the root, a byte 0 or a broken percent sign is refused with 400";
const NEVER: &str = "it adds nothing that it is not told to add, and of what a visitor says of itself it takes away what is overwritten by name";
const CONNECT: &str = "it knows no WebSocket over HTTP/2";
const REALIP: &str = "realip takes an address and nothing else: no scheme, no host, and no list that is kept";
const EVERYBODY: &str = "a port wants the header of everybody or of nobody";

/// See the module.
pub(crate) const DIFFERENCES: &[Difference] = &[
    always("every_method", "HTTP/1.1 405", METHODS),
    always("an_unknown_method", "HTTP/1.1 400", METHODS),
    changes("early_hints", "103 Early Hints", FINAL),
    changes("several_in_order", TOO_LATE, FINAL),
    changes("hints_and_answer_at_once", "103 Early Hints", FINAL),
    changes("hints_while_an_upload_runs", "103 Early Hints", FINAL),
    changes("hints_for_an_http2_visitor", TOO_LATE, FINAL),
    changes("hints_behind_a_pipelined_answer", "103 Early Hints", FINAL),
    changes("none_for_http10", "103 Early Hints", FINAL),
    changes("an_unasked_100", "left: (100, \"\")", FINAL),
    changes("an_unasked_101", "left: 101", "it passes a 101 on that nobody asked for"),
    changes("a_flood_is_cut", "every one of them came through", FINAL),
    always("continue_is_the_origins", "right: Some(\"100-continue\")", ITSELF),
    always("continue_for_an_http2_visitor", "right: Some(\"100-continue\")", ITSELF),
    always("refused_before_the_body", "left: (100, \"\")", ITSELF),
    always("of_a_request", "right: Some(\"chunked\")", TRAILERS),
    always("of_a_request_unannounced", "right: Some(\"chunked\")", TRAILERS),
    always("of_an_answer", "right: Some(\"trailers\")", TRAILERS),
    always("of_grpc", "on a `None` value", TRAILERS),
    always("of_an_answer_unannounced", "on a `None` value", TRAILERS),
    always("of_an_answer_for_an_http1_visitor", "left: []", TRAILERS),
    always(
        "hop_by_hop",
        "(\"x-secret\", \"s\")",
        "what Connection names passes, as all that is not taken away by name",
    ),
    always(
        "odd_names",
        "left: [(\"1\", \"kept\")]",
        "a name with other bytes than letters, digits and - is dropped, unless `ignore_invalid_headers` and `underscores_in_headers` say otherwise",
    ),
    always(
        "instructions_to_others",
        "the origin was asked again",
        "X-Accel-Redirect has it ask for something else, and X-Accel-* and X-Pad are dropped",
    ),
    always("odd_ones", "HTTP/1.1 400", ODD),
    always("odd_ones_of_an_http2_visitor", "status: 400", ODD),
    always(
        "absolute_form",
        "Some(\"other.test\")",
        "Host stays what the field said, the target's is `$host` (which has no port, and no capitals)",
    ),
    always("asterisk_form", "HTTP/1.1 400", "it is refused with 400"),
    always("broken_hosts", "the origin was asked", "a user before the host passes: `user@host`"),
    changes(
        "host_against_authority",
        "status: 400",
        "any Host beside :authority is refused, one that agrees too; 1.28 looks whether they agree",
    ),
    always("forged", "(\"x-real-ip\", \"1.2.3.4\")", NEVER),
    always("forged_with_underscores", "left: Some(\"for=1.2.3.4;proto=https\")", NEVER),
    always("via", "left: \"1.1 front\"", NEVER),
    always("by_a_trusted_proxy", "left: Some(\"192.0.2.7\")", REALIP),
    always("by_two_stories", "the origin was asked", "it believes the one field that it was told to believe"),
    always("by_proxy_protocol_1", "the connection ended", EVERYBODY),
    always(
        "by_proxy_protocol_2",
        "Some(\"http\")",
        "it does not learn from it that the visitor came over TLS",
    ),
    always("without_its_header", "the connection ended", EVERYBODY),
    always("a_header_from_a_stranger", "the origin was asked", EVERYBODY),
    always("websocket_of_an_http2_visitor", TOO_LATE, CONNECT),
    always("an_ignored_upgrade_of_an_http2_visitor", TOO_LATE, CONNECT),
    changes("head_before_messages", TOO_LATE, "the head waits for the first message; in 1.28 it does not"),
    always("half_close_is_kept", "right: \"answer\"", "where one end ends, both do"),
];

/// The cases that are about something that only a relay has.
pub(crate) const RELAYS_ONLY: &[(&str, &str)] =
    &[("a_domain_that_reaches_others", "one nginx has one origin here, and no other tenants")];
