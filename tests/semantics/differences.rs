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
        let printed = Outcome::of(Command::new(program("nginx")).arg("-v")).err;
        printed.trim().rsplit('/').next().unwrap().to_owned()
    })
}

/// Whether what nginx says can be compared word by word.
pub(crate) fn is_as_written() -> bool {
    version().starts_with(&format!("{WRITTEN_WITH}."))
}

const METHODS: &str = "TRACE is refused with 405, and a method with bytes other than A-Z, - and _ with 400";
const FINAL: &str =
    "it treats an interim response as the final answer; versions from 1.29 can pass 103 (`early_hints`)";
const ITSELF: &str = "it sends 100 itself, before the request reaches the origin";
const TRAILERS: &str = "it drops trailer fields and TE; versions from 1.27 can pass the trailer fields of an answer \
                        (`proxy_pass_trailers`)";
const ODD: &str = "a path above the root, a byte 0 or a broken percent sign is refused with 400";
const NEVER: &str = "it adds only configured fields, and removes a visitor's forwarding field only if the \
                     configuration overwrites it by name";
const SCHEME: &str = "it does not compare the scheme with the connection";
const CONNECT: &str = "it does not support WebSocket over HTTP/2";
const REALIP: &str =
    "the realip module reads only an address: no scheme and no host, and it does not keep the list";
const EVERYBODY: &str = "a port expects the header on every connection or on none";

const EARLY: &str = "when the origin closes without reading the upload, the failed write becomes a 502";
const ENDS: &str = "when one direction ends, it closes both";

/// See the module.
pub(crate) const DIFFERENCES: &[Difference] = &[
    always("every_method", "HTTP/1.1 405", METHODS),
    always("an_unregistered_method", "HTTP/1.1 400", METHODS),
    always("max_forwards", "left: Some(\"5\")", "it does not count hops"),
    changes("early_hints", "103 Early Hints", FINAL),
    changes("several_in_order", TOO_LATE, FINAL),
    changes("hints_and_answer_at_once", "103 Early Hints", FINAL),
    changes("hints_while_an_upload_runs", "103 Early Hints", FINAL),
    changes("hints_for_an_http2_visitor", TOO_LATE, FINAL),
    changes("hints_behind_a_pipelined_answer", "103 Early Hints", FINAL),
    changes("http10_gets_no_interim_response", "103 Early Hints", FINAL),
    changes("an_unsolicited_100_is_dropped", "left: (100, \"\")", FINAL),
    changes("an_unsolicited_101_becomes_502", "left: 101", "it forwards an unsolicited 101"),
    changes("endless_interim_responses_become_502", "every interim response was forwarded", FINAL),
    always("continue_comes_from_the_origin", "right: Some(\"100-continue\")", ITSELF),
    always("continue_for_an_http2_visitor", "right: Some(\"100-continue\")", ITSELF),
    always("an_unknown_expectation", "left: (None,", "it drops Expect, whatever its value"),
    always("refused_before_the_body", "left: (100, \"\")", ITSELF),
    always("announced_trailers_of_a_request", "right: Some(\"chunked\")", TRAILERS),
    always("unannounced_trailers_of_a_request", "right: Some(\"chunked\")", TRAILERS),
    always("announced_trailers_of_an_answer", "right: Some(\"trailers\")", TRAILERS),
    always("grpc_status_in_trailers", "on a `None` value", TRAILERS),
    always("unannounced_trailers_for_an_http2_visitor", "on a `None` value", TRAILERS),
    always("unannounced_trailers_for_an_http1_visitor", "left: []", TRAILERS),
    always(
        "hop_by_hop",
        "(\"x-secret\", \"s\")",
        "a field that Connection names passes, unless the configuration removes it by name",
    ),
    always(
        "unusual_field_names",
        "left: [(\"1\", \"kept\")]",
        "a field with bytes other than letters, digits and - in its name is dropped, unless \
         `ignore_invalid_headers` and `underscores_in_headers` allow it",
    ),
    always(
        "fields_that_instruct_other_proxies",
        "the origin got another request",
        "it requests the location in X-Accel-Redirect, and drops X-Accel-* and X-Pad",
    ),
    always("unusual_targets_pass_unchanged", "HTTP/1.1 400", ODD),
    always("unusual_targets_of_an_http2_visitor", "status: 400", ODD),
    always(
        "absolute_form",
        "Some(\"other.test\")",
        "Host keeps the field's value; the target's host is only in `$host`, in lower case and without port",
    ),
    always("options_of_a_server", "left: \"OPTIONS / HTTP/1.1\"", "the empty path becomes /"),
    always("asterisk_form", "HTTP/1.1 400", "it is refused with 400"),
    always("malformed_hosts", "the origin got a request", "a user name before the host passes: `user@host`"),
    always(
        "hosts_beside_an_absolute_target",
        "the origin got a request",
        "beside an absolute target it accepts a request without Host",
    ),
    changes(
        "host_contradicts_authority",
        "status: 400",
        "any Host beside :authority is refused, even an equal one; 1.28 compares them",
    ),
    always("equal_lengths", "HTTP/1.1 400", "a repeated length is refused, even an equal one"),
    always("space_before_a_colon", "left: None", "a field with such space is dropped from an answer"),
    always("bytes_that_must_be_encoded", "the origin got a request", "all of them but a space pass"),
    always("forged_forwarding_fields", "(\"x-real-ip\", \"1.2.3.4\")", NEVER),
    always("forged_fields_with_underscores", "(\"proxy\", \"http://e\")", NEVER),
    always("posts_without_a_body", "left: (None, None)", "it forwards such a request without a length"),
    always("via", "left: \"1.1 front\"", NEVER),
    always("fields_of_a_trusted_proxy_are_extended", "left: Some(\"192.0.2.7\")", REALIP),
    always(
        "contradictory_forwarding_fields",
        "the origin got a request",
        "it trusts the one configured field and ignores the other",
    ),
    always("proxy_protocol_1", "the connection ended", EVERYBODY),
    always(
        "proxy_protocol_2",
        "Some(\"http\")",
        "it does not read from the header that the visitor used TLS",
    ),
    always("a_missing_proxy_header", "the connection ended", EVERYBODY),
    always("an_untrusted_proxy_header", "the origin got a request", EVERYBODY),
    always(
        "a_connection_login_serves_only_its_visitor",
        "assertion `left == right` failed",
        "all visitors share the connections to the origin: a login is broken off, or serves other visitors",
    ),
    always("blanks_around_field_values", TOO_LATE, "such a value passes"),
    always("blanks_around_values_of_an_http2_origin", "\"x-a\": \" a\"", "such a value passes"),
    always("pseudo_fields_in_trailers", "left: (7, 0)", "it ends the connection"),
    always("a_body_unlike_its_length", "left: (1, 1)", "such a request is answered with 400"),
    always(
        "a_body_of_an_http2_origin_unlike_its_length",
        "\"content-length\": \"0\"",
        "an answer without the body that its length announces passes as an empty answer",
    ),
    always("too_many_trailers_of_a_request", TOO_LATE, TRAILERS),
    always(
        "too_many_trailers_of_an_http2_origin",
        "\"x-0\": \"1\"",
        "it passes any number of trailer fields of gRPC",
    ),
    always("an_unknown_protocol", "status: 400", CONNECT),
    always("the_scheme_of_an_http2_visitor", "the origin got a request", SCHEME),
    always("the_scheme_behind_a_proxy", "FRAME_SIZE_ERROR", "a port without TLS expects HTTP/1 here"),
    always("the_scheme_of_an_absolute_target", "https, TLS: false", SCHEME),
    always("goaway_codes", "DATA on an idle stream: no GOAWAY", "DATA on an idle stream is ignored"),
    always("websocket_of_an_http2_visitor", TOO_LATE, CONNECT),
    always("an_ignored_upgrade_of_an_http2_visitor", TOO_LATE, CONNECT),
    changes("head_before_messages", TOO_LATE, "the head waits for the first message; in 1.28 it does not"),
    always("refused_by_the_origin", "right: 413", EARLY),
    always(
        "refused_over_http2",
        "the stream was reset before the end of the upload",
        "it resets the stream right behind the answer; a visitor that sends first gets the reset",
    ),
    always(
        "half_closed_visitor",
        "the connection ended",
        "it takes the end of the visitor's direction for its leave",
    ),
    always("half_close_is_kept", "right: \"answer\"", ENDS),
    always("half_close_of_the_origin_is_kept", "right: \"question\"", ENDS),
];

/// The cases that are about something that only a relay has.
pub(crate) const RELAYS_ONLY: &[(&str, &str)] = &[
    ("cookie_domains_of_other_names", "nginx has one origin here and no other tenants"),
    ("a_connection_login_fails_behind_a_trusted_proxy", "nginx makes no difference for a trusted proxy"),
    ("a_connection_login_fails_behind_a_proxy", "the case is about a relay behind nginx"),
    ("a_loop_ends", "the case is about a relay"),
    ("a_405_lists_the_methods", "the case is about the relay's own answers"),
    ("malformed_requests", "its error pages name no cause"),
    ("unclear_senders", "its error pages name no cause"),
    ("malformed_answers", "its error pages name no cause; the log has the cause"),
    ("refused_by_the_relay", "nginx has no rule for it here: `client_max_body_size` is 0"),
];
