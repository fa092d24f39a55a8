//! HTTP itself: what a visitor sends is what the origin gets, and back, over every carrier. Each case is a row of one
//! table, which is also what `docs/conformance.md` says: `PTTH_DOCS=1` writes that file from a run.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a report")]

#[path = "../conformance/answers.rs"]
mod answers;
mod behind;
mod causes;
mod connections;
mod content;
mod differences;
mod document;
mod early;
mod exchange;
mod fields;
#[expect(dead_code, reason = "each suite uses a part of it")]
#[path = "../hostile/frames.rs"]
mod frames;
mod framing;
mod grpc;
mod held;
mod http2;
mod interim;
#[path = "../conformance/logins.rs"]
mod logins;
mod methods;
mod nginx;
#[expect(dead_code, reason = "each suite uses a part of it")]
#[path = "../proxy/process.rs"]
mod process;
mod senders;
#[expect(dead_code, reason = "each suite uses a part of it")]
#[path = "../proxy/site.rs"]
mod site;
#[expect(dead_code, reason = "each suite uses a part of it")]
#[path = "../conformance/messages.rs"]
mod streams;
#[expect(dead_code, unused_imports, reason = "each suite uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod targets;
mod trailers;
#[path = "../conformance/upgrade.rs"]
mod upgrades;
mod visitor;
mod world;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;

use differences::{DIFFERENCES, Difference, RELAYS_ONLY, is_as_written};
use support::run;
use world::On;

/// One thing that HTTP says.
pub(crate) struct Case {
    group: &'static str,
    name: &'static str,
    title: &'static str,
    source: &'static str,
    run: fn(On) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// Each case is a row, and becomes a test of its name.
macro_rules! cases {
    ($($group:ident { $($name:ident: $title:literal, $source:literal;)+ })+) => {
        /// Every case.
        pub(crate) const CASES: &[Case] = &[$($(Case {
            group: stringify!($group),
            name: stringify!($name),
            title: $title,
            source: $source,
            run: |on| Box::pin($group::$name(on)),
        }),+),+];

        $($(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )+)+
    };
}

cases! {
    methods {
        every_method: "Every registered method passes unchanged", "RFC 9110 §9, IANA";
        an_unregistered_method: "An unregistered method passes unchanged, in its own case", "RFC 9110 §9.1";
        max_forwards: "Max-Forwards limits the hops of TRACE and OPTIONS", "RFC 9110 §7.6.2";
        a_405_lists_the_methods: "A 405 of the relay has Allow", "RFC 9110 §15.5.6";
        connect_is_refused: "CONNECT is refused and reaches no origin", "RFC 9110 §9.3.6, CVE-2026-71324";
        connect_over_http2_is_refused: "CONNECT over HTTP/2 is refused and reaches no origin", "RFC 9113 §8.5, CVE-2026-73547";
    }
    interim {
        early_hints: "103 with its links arrives before the answer", "RFC 8297";
        several_in_order: "Several 102 and 103 arrive in order", "RFC 9110 §15.2";
        hints_and_answer_at_once: "103 and the answer, sent in one segment, both arrive", "RFC 8297";
        hints_while_an_upload_runs: "103 arrives while the upload is still running", "RFC 9110 §15.2";
        hints_for_an_http2_visitor: "103 arrives at an HTTP/2 visitor", "RFC 9113 §8.1";
        hints_behind_a_pipelined_answer: "103 for a pipelined request follows the first answer", "RFC 9112 §9.3.2";
        http10_gets_no_interim_response: "An HTTP/1.0 visitor gets no interim response", "RFC 9110 §15.2";
        an_unsolicited_100_is_dropped: "An unsolicited 100 is dropped", "RFC 9110 §15.2.1";
        an_unsolicited_101_becomes_502: "An unsolicited 101 becomes a 502", "RFC 9110 §15.2.2";
        endless_interim_responses_become_502: "Endless interim responses become a 502", "our own bound";
        continue_comes_from_the_origin: "100 arrives only after the origin has sent it", "RFC 9110 §10.1.1";
        continue_for_an_http2_visitor: "100 arrives at an HTTP/2 visitor only after the origin has sent it", "RFC 9110 §10.1.1";
        an_unknown_expectation: "An expectation other than 100-continue passes unchanged", "RFC 9110 §10.1.1";
        a_body_without_continue: "A body that a visitor sends without a 100 arrives at once", "RFC 9110 §10.1.1";
        a_body_of_an_http2_visitor_without_continue: "A body that an HTTP/2 visitor sends without a 100 arrives at once", "RFC 9110 §10.1.1";
        refused_before_the_body: "A final answer without 100 arrives before any byte of the body is sent", "RFC 9110 §10.1.1";
    }
    trailers {
        announced_trailers_of_a_request: "Announced trailer fields of a request", "RFC 9110 §6.5";
        unannounced_trailers_of_a_request: "Unannounced trailer fields of a request", "RFC 9110 §6.6.2";
        announced_trailers_of_an_answer: "Announced trailer fields of an answer", "RFC 9110 §6.5";
        grpc_status_in_trailers: "The status of a gRPC call, in unannounced trailer fields", "gRPC over HTTP/2";
        unannounced_trailers_for_an_http2_visitor: "Unannounced trailer fields of an answer to an HTTP/2 visitor", "RFC 9113 §8.1";
        unannounced_trailers_for_an_http1_visitor: "Unannounced trailer fields of an answer to an HTTP/1.1 visitor with TE: trailers", "RFC 9110 §6.5.1";
        no_trailers_without_te: "An HTTP/1.1 visitor without TE: trailers gets the answer without trailer fields", "RFC 9110 §10.1.4";
    }
    framing {
        chunks: "Chunks of any size pass, without chunk extensions", "RFC 9112 §7.1";
        chunks_for_an_http2_visitor: "A chunked answer to an HTTP/2 visitor", "RFC 9113 §8.1";
        content_length: "Content-Length, both ways", "RFC 9110 §8.6";
        length_zero: "Content-Length: 0, both ways", "RFC 9110 §8.6";
        posts_without_a_body: "A POST, PUT or PATCH without a body has Content-Length: 0", "RFC 9110 §8.6";
        no_body: "A request without a body gets no length", "RFC 9112 §6.3";
        body_of_a_get: "A GET with a body", "RFC 9110 §9.3.1";
        head_has_the_length_of_get: "The answer to HEAD has a length and no body", "RFC 9110 §9.3.2";
        status_204: "204 has no body and no length", "RFC 9110 §15.3.5";
        status_205: "205 has no content", "RFC 9110 §15.3.6";
        status_304: "304 has no body and keeps its fields", "RFC 9110 §15.4.5";
        an_unregistered_status: "An unregistered status", "RFC 9110 §15";
        an_answer_ends_with_its_connection: "An answer that ends when its connection closes", "RFC 9112 §6.3";
        a_truncated_answer_is_not_complete: "A truncated answer does not look complete", "RFC 9112 §8";
        length_and_chunked: "A length beside chunks is refused or removed", "RFC 9112 §6.1, CVE-2026-2835";
        contradictory_lengths: "Contradictory or malformed lengths are refused", "RFC 9112 §6.3, RUSTSEC-2021-0078";
        equal_lengths: "Equal lengths, in one field or several, are one length", "RFC 9110 §8.6";
        reason_phrases: "A reason phrase passes unchanged to an HTTP/1 visitor", "RFC 9112 §4";
        incremental: "An incremental body is forwarded as it arrives, or refused with 503", "RFC 10036";
        incremental_answer: "An incremental answer is forwarded as it arrives, or replaced by a 503", "RFC 10036";
        codings_other_than_chunked: "A transfer coding other than chunked is refused", "RFC 9112 §6.1, CVE-2026-2835";
    }
    fields {
        repeated_fields_keep_their_order: "Repeated fields keep their order within a name", "RFC 9110 §5.3";
        set_cookies: "Each Set-Cookie stays a field of its own", "RFC 6265 §3";
        cookie_crumbs: "Cookie crumbs of HTTP/2 become one field", "RFC 9113 §8.2.3";
        large_fields: "64 KiB of fields", "RFC 9110 §5.4";
        many_fields: "300 fields, both ways", "RFC 9110 §5.4";
        space_before_a_colon: "Space before the colon is removed from an answer, and refused in a request", "RFC 9112 §5.1";
        bytes_beyond_ascii: "Bytes beyond ASCII in values", "RFC 9110 §5.5";
        unusual_field_values: "Empty values, inner spaces, quotes, commas", "RFC 9110 §5.5";
        unusual_field_names: "Every byte that is allowed in a field name, underscores and dots included", "RFC 9110 §5.6.2";
        server_and_date_are_the_origins: "Server and Date of the origin pass unchanged", "RFC 9110 §10.2.4, §6.6.1";
        fields_that_instruct_other_proxies: "Fields that instruct other proxies (X-Accel-Redirect, X-Sendfile) pass unchanged", "RFC 9110 §5.1";
        hop_by_hop: "Hop-by-hop fields are not forwarded", "RFC 9110 §7.6.1";
        protected_fields_named_by_connection: "Connection cannot remove Host, Authorization, Cookie or forwarding fields", "CVE-2024-45410";
        cookie_domains_of_other_names: "A cookie Domain that covers other names is removed", "RFC 6265 §4.1.2.3, our own";
    }
    targets {
        targets_pass_unchanged: "//, %2f, ; and dot segments pass byte for byte", "RFC 9110 §4.2.3, CVE-2026-73511";
        unusual_targets_pass_unchanged: "Dot segments above the root, %00 and broken percent signs pass byte for byte", "RFC 3986 §2.1, §5.2.4";
        unencoded_bytes: "UTF-8 beyond ASCII and [ ] { } | \\ ^ in a target pass byte for byte, as do \" in a path and ` in a query", "RFC 3986 §2";
        bytes_that_must_be_encoded: "< > #, a space, and bytes that are not UTF-8 in a target are refused, as are ` in a path and \" in a query", "RFC 3986 §2";
        a_long_target: "A target of 8,000 bytes", "RFC 9112 §3";
        absolute_form: "The host of an absolute target replaces Host", "RFC 9112 §3.2.2";
        absolute_form_without_path: "The empty path of an absolute target becomes /", "RFC 9110 §4.2.3";
        asterisk_form: "OPTIONS *", "RFC 9112 §3.2.4";
        options_of_a_server: "OPTIONS with an absolute target without a path becomes OPTIONS *", "RFC 9112 §3.2.4";
        targets_of_an_http2_visitor: "//, %2f, ; and dot segments over HTTP/2 pass byte for byte", "RFC 9113 §8.3.1";
        unusual_targets_of_an_http2_visitor: "Dot segments above the root, %00 and broken percent signs over HTTP/2 pass byte for byte", "RFC 9113 §8.3.1";
        host_passes_unchanged: "Host keeps its case and port", "RFC 9110 §7.2";
        two_hosts_or_none: "Two Host fields, or none, are refused", "RFC 9112 §3.2";
        malformed_hosts: "A malformed Host is refused", "RFC 9110 §7.2, RFC 3986 §3.2";
        hosts_beside_an_absolute_target: "A missing, malformed or second Host beside an absolute target is refused", "RFC 9112 §3.2";
        host_contradicts_authority: "A Host that contradicts :authority is refused", "RFC 9113 §8.3.1, CVE-2026-40910";
    }
    http2 {
        blanks_around_field_values: "A field value with a blank at either end resets the stream", "RFC 9113 §8.2.1";
        blanks_around_values_of_an_http2_origin: "A field value with a blank at either end, in an answer of an HTTP/2 origin, becomes a 502", "RFC 9113 §8.2.1";
        pseudo_fields_in_trailers: "A pseudo-field in trailers resets the stream", "RFC 9113 §8.1";
        pseudo_fields_in_trailers_of_an_http2_origin: "A pseudo-field in trailers of an HTTP/2 origin breaks the answer off", "RFC 9113 §8.1";
        a_body_unlike_its_length: "A body shorter or longer than its content-length resets the stream", "RFC 9113 §8.1.1";
        a_body_of_an_http2_origin_unlike_its_length: "An answer of an HTTP/2 origin shorter or longer than its content-length is not forwarded as complete", "RFC 9113 §8.1.1";
        a_reset_does_not_complete_a_request: "NO_ERROR in the middle of an upload does not complete the request", "RFC 9113 §8.1";
        a_reset_does_not_complete_an_answer: "NO_ERROR in the middle of an answer does not complete it", "RFC 9113 §8.1";
        too_many_trailers_of_a_request: "A request with more than 100 trailer fields, or 16 KiB of them, is refused with 431", "RFC 6585 §5, our own bound";
        too_many_trailers_of_an_answer: "An answer with more trailer fields than that keeps its body and loses them", "RFC 9110 §6.5.1";
        too_many_trailers_of_an_http2_origin: "An answer of an HTTP/2 origin with more trailer fields than that keeps its body and loses them", "RFC 9110 §6.5.1";
        an_unknown_protocol: "An extended CONNECT whose protocol the origin ignores gets a 501", "RFC 9220 §3";
        the_scheme_of_an_http2_visitor: "A :scheme that does not fit the connection is refused", "RFC 9113 §8.3.1";
        the_scheme_behind_a_proxy: "A trusted proxy may send either scheme", "RFC 9113 §8.3.1";
        the_scheme_of_an_absolute_target: "The scheme of an absolute target must fit the connection", "RFC 9112 §3.3";
        goaway_codes: "Connection errors have the codes PROTOCOL_ERROR, FRAME_SIZE_ERROR and FLOW_CONTROL_ERROR", "RFC 9113 §5.4.1, §7";
        goaway_for_a_frame_of_a_wrong_size: "A SETTINGS, PING or WINDOW_UPDATE frame of a wrong size is a FRAME_SIZE_ERROR", "RFC 9113 §6.5, §6.7, §6.9";
        goaway_for_a_window_setting: "A SETTINGS_INITIAL_WINDOW_SIZE beyond 2^31-1 is a FLOW_CONTROL_ERROR", "RFC 9113 §6.5.2";
        goaway_for_a_broken_header_block: "A header block that cannot be decoded is a COMPRESSION_ERROR", "RFC 9113 §4.3";
    }
    connections {
        http10: "An HTTP/1.0 visitor is served", "RFC 9110 §2.5";
        pipelined: "Pipelined requests are answered in order", "RFC 9112 §9.3.2";
        connection_close_is_obeyed: "Connection: close closes after the answer", "RFC 9112 §9.6";
        a_connection_is_kept_alive: "A visitor's connection is kept alive", "RFC 9112 §9.3";
    }
    early {
        refused_by_the_origin: "413 of the origin reaches a visitor that sends 30 MB before it reads", "RFC 9112 §9.6";
        refused_over_http2: "413 of the origin reaches an HTTP/2 visitor that sends 30 MB before it reads", "RFC 9113 §8.1";
        refused_by_the_relay: "413 of the relay reaches a visitor that sends 30 MB before it reads", "RFC 9112 §9.6";
        half_closed_visitor: "A visitor that closes its sending direction after its request gets the answer", "RFC 9112 §9.6";
        a_visitor_that_leaves: "The origin is notified within a second that a visitor has left", "RFC 9110 §7.6";
    }
    streams {
        chunked_upload_streams: "An upload is forwarded as it arrives", "RFC 9112 §7.1";
        response_streams: "An answer is forwarded as it arrives", "RFC 9112 §7.1";
        early_answer_while_the_upload_runs: "An answer arrives before the end of the upload", "RFC 9112 §9.5";
        server_sent_events: "Server-sent events arrive one by one", "HTML §9.2";
    }
    upgrades {
        websocket: "WebSocket: text, binary, 1 MiB, and both ends close", "RFC 6455";
        websocket_of_an_http2_visitor: "WebSocket from an HTTP/2 visitor", "RFC 8441";
        fragments_and_pings: "WebSocket fragments, pings and pongs", "RFC 6455 §5.4, §5.5";
        close_codes: "WebSocket close codes and reasons of either end", "RFC 6455 §7.4";
        compression: "WebSocket compression is negotiated end to end", "RFC 7692";
        another_protocol_with_early_bytes: "Another protocol, with bytes right behind the heads", "RFC 9110 §7.8";
        half_close_is_kept: "One direction ends, the other stays open", "RFC 9110 §7.8";
        half_close_of_the_origin_is_kept: "The direction of the origin ends, the other stays open", "RFC 9110 §7.8";
        a_refused_upgrade: "The answer to a refused Upgrade passes", "RFC 9110 §7.8";
        an_ignored_upgrade: "The answer to an ignored Upgrade passes", "RFC 9110 §7.8";
        an_ignored_upgrade_of_an_http2_visitor: "An ignored Upgrade of an HTTP/2 visitor becomes a 501", "RFC 9220 §3";
    }
    grpc {
        unary: "A unary call with its deadline, metadata and status", "gRPC over HTTP/2";
        trailing_metadata: "Trailing metadata beside the status", "gRPC over HTTP/2";
        head_before_messages: "The head of an answer arrives before the first message", "gRPC over HTTP/2";
        a_status_without_messages: "An answer with a status and no message", "gRPC over HTTP/2";
        server_streaming: "Server streaming, each message as it arrives", "gRPC over HTTP/2";
        client_streaming: "Client streaming, each message as it arrives", "gRPC over HTTP/2";
        bidirectional_streaming: "Bidirectional streaming, message by message", "gRPC over HTTP/2";
        cancel: "A cancelled call is reset at the server", "gRPC over HTTP/2";
        grpc_web: "A gRPC-Web call, whose trailers are in its body", "gRPC-Web";
    }
    logins {
        a_connection_login_serves_only_its_visitor: "A login of NTLM or Negotiate serves only the visitor's connection", "RFC 4559 §6";
        a_connection_login_fails_behind_a_trusted_proxy: "Such a login on a connection of a trusted proxy outlives no request", "RFC 4559 §6";
        a_login_per_request_keeps_the_connection: "A login that each request repeats leaves the origin's connection to all visitors", "RFC 7617";
    }
    behind {
        a_connection_login_fails_behind_a_proxy: "Behind a trusted proxy that shares its connections among visitors, such a login fails and serves nobody", "RFC 4559 §6";
    }
    causes {
        malformed_requests: "A refused request gets a text that names the cause", "RFC 9457, our own";
        unclear_senders: "A refused sender gets a text that names the cause", "RFC 9457, our own";
        malformed_answers: "A malformed answer is replaced by a text that names the cause", "RFC 9457, our own";
    }
    content {
        content_codings: "Content codings pass unchanged", "RFC 9110 §8.4";
        ranges: "Range requests and their answers", "RFC 9110 §14";
        several_ranges: "Several ranges in one answer", "RFC 9110 §14.6";
        preconditions: "Preconditions and validators", "RFC 9110 §13";
        every_byte: "Every byte value, both ways", "RFC 9110 §8";
    }
    senders {
        forged_forwarding_fields: "Forwarding fields of an untrusted visitor are dropped", "RFC 7239 §8.1, CVE-2026-30851";
        forged_fields_with_underscores: "Forwarding fields spelled with underscores are dropped", "RFC 3875 §4.1.18";
        a_loop_ends: "A request that its service forwards back to the relay is answered 502", "RFC 9110 §7.6";
        via: "Via names the relay and the HTTP version that it received", "RFC 9110 §7.6.3";
        fields_of_a_trusted_proxy_are_extended: "Forwarding fields of a trusted proxy are kept and extended", "RFC 7239 §5";
        contradictory_forwarding_fields: "Contradictory forwarding fields are refused", "RFC 7239 §8.1";
        proxy_protocol_1: "The PROXY protocol, version 1", "HAProxy PROXY protocol §2.1";
        proxy_protocol_2: "The PROXY protocol, version 2", "HAProxy PROXY protocol §2.2";
        a_missing_proxy_header: "A connection without the expected PROXY header is closed", "HAProxy PROXY protocol §2";
        an_untrusted_proxy_header: "A PROXY header from an untrusted address is refused", "HAProxy PROXY protocol §2";
    }
}

/// What does not pass a relay, on which column, and why.
pub(crate) const EXCEPTIONS: &[(&str, On, &str)] = &[
    ("early_hints", On::Comet, ONE_MESSAGE),
    ("several_in_order", On::Comet, ONE_MESSAGE),
    ("hints_and_answer_at_once", On::Comet, ONE_MESSAGE),
    ("hints_while_an_upload_runs", On::Comet, ONE_MESSAGE),
    ("hints_for_an_http2_visitor", On::Comet, ONE_MESSAGE),
    ("hints_behind_a_pipelined_answer", On::Comet, ONE_MESSAGE),
    ("continue_comes_from_the_origin", On::Comet, WHOLE),
    ("continue_for_an_http2_visitor", On::Comet, WHOLE),
    ("refused_before_the_body", On::Comet, WHOLE),
    ("announced_trailers_of_a_request", On::Comet, NO_TRAILERS),
    ("unannounced_trailers_of_a_request", On::Comet, NO_TRAILERS),
    ("announced_trailers_of_an_answer", On::Comet, NO_TRAILERS),
    ("grpc_status_in_trailers", On::Comet, NO_TRAILERS),
    ("unannounced_trailers_for_an_http2_visitor", On::Comet, NO_TRAILERS),
    ("unannounced_trailers_for_an_http1_visitor", On::Comet, NO_TRAILERS),
    ("no_trailers_without_te", On::Comet, STREAM),
    ("unary", On::Comet, GRPC),
    ("trailing_metadata", On::Comet, GRPC),
    ("a_status_without_messages", On::Comet, GRPC),
    ("head_before_messages", On::Comet, STREAM),
    ("server_streaming", On::Comet, STREAM),
    ("client_streaming", On::Comet, STREAM),
    ("bidirectional_streaming", On::Comet, STREAM),
    ("cancel", On::Comet, STREAM),
    ("chunked_upload_streams", On::Comet, STREAM),
    ("response_streams", On::Comet, STREAM),
    ("early_answer_while_the_upload_runs", On::Comet, STREAM),
    ("server_sent_events", On::Comet, STREAM),
    ("pseudo_fields_in_trailers", On::H2, PSEUDO),
    ("pseudo_fields_in_trailers", On::H1, PSEUDO),
    ("pseudo_fields_in_trailers", On::Envelope, PSEUDO),
    ("pseudo_fields_in_trailers", On::Comet, PSEUDO),
    ("pseudo_fields_in_trailers_of_an_http2_origin", On::H2, PSEUDO),
    ("pseudo_fields_in_trailers_of_an_http2_origin", On::H1, PSEUDO),
    ("pseudo_fields_in_trailers_of_an_http2_origin", On::Envelope, PSEUDO),
    ("pseudo_fields_in_trailers_of_an_http2_origin", On::Comet, PSEUDO),
    ("goaway_for_a_frame_of_a_wrong_size", On::H2, CODE),
    ("goaway_for_a_frame_of_a_wrong_size", On::H1, CODE),
    ("goaway_for_a_frame_of_a_wrong_size", On::Envelope, CODE),
    ("goaway_for_a_frame_of_a_wrong_size", On::Comet, CODE),
    ("goaway_for_a_window_setting", On::H2, CODE),
    ("goaway_for_a_window_setting", On::H1, CODE),
    ("goaway_for_a_window_setting", On::Envelope, CODE),
    ("goaway_for_a_window_setting", On::Comet, CODE),
    ("goaway_for_a_broken_header_block", On::H2, CODE),
    ("goaway_for_a_broken_header_block", On::H1, CODE),
    ("goaway_for_a_broken_header_block", On::Envelope, CODE),
    ("goaway_for_a_broken_header_block", On::Comet, CODE),
    ("websocket", On::Comet, UPGRADE),
    ("websocket_of_an_http2_visitor", On::Comet, UPGRADE),
    ("fragments_and_pings", On::Comet, UPGRADE),
    ("close_codes", On::Comet, UPGRADE),
    ("compression", On::Comet, UPGRADE),
    ("another_protocol_with_early_bytes", On::Comet, UPGRADE),
    ("half_close_is_kept", On::Comet, UPGRADE),
    ("half_close_of_the_origin_is_kept", On::Comet, UPGRADE),
    ("an_ignored_upgrade_of_an_http2_visitor", On::Comet, UPGRADE),
];

const ONE_MESSAGE: &str = "an answer is a single JSON message";
const STREAM: &str = "a message is forwarded only once it is complete";
const UPGRADE: &str =
    "an upgraded stream has no end, so the relay refuses a WebSocket and ignores another Upgrade";
const NO_TRAILERS: &str = "its JSON has no trailer fields";
const GRPC: &str =
    "its JSON has no trailer fields, so the relay refuses a gRPC call with 501 and does not forward it";
const PSEUDO: &str = "the h2 crate drops pseudo-fields in trailers, and the message passes without them";
const CODE: &str = "the h2 crate ends the connection with PROTOCOL_ERROR for every frame and header block that it cannot decode";
const WHOLE: &str = "the relay sends 100 itself, because an agent that polls may accept whole messages only";

/// What is known of a case on a column.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Known {
    Passes,
    /// It does not, for this reason.
    Fails(&'static str),
    /// Nor does it pass nginx.
    Differs(&'static Difference),
    /// It means nothing there.
    Nothing,
}

impl Known {
    pub(crate) fn of(case: &str, on: On) -> Self {
        let on_nginx = on == On::Nginx;
        if on_nginx && RELAYS_ONLY.iter().any(|(name, _)| *name == case) {
            return Self::Nothing;
        }
        if let Some(difference) = DIFFERENCES.iter().find(|differs| on_nginx && differs.case == case) {
            return Self::Differs(difference);
        }
        let why = EXCEPTIONS.iter().find(|(name, column, _)| *name == case && *column == on.base());
        why.map_or(Self::Passes, |(.., why)| Self::Fails(why))
    }

    /// Whether it takes until a deadline to see it.
    fn is_slow(self) -> bool {
        match self {
            Self::Passes | Self::Nothing => false,
            Self::Fails(_) => true,
            Self::Differs(difference) => difference.shows == differences::TOO_LATE || !is_as_written(),
        }
    }

    /// That a run was what is known.
    fn check(self, case: &str, ran: Result<(), String>) {
        match (self, ran) {
            (Self::Nothing, _) | (Self::Passes, Ok(())) | (Self::Fails(_), Err(_)) => {}
            (Self::Differs(differs), Ok(())) if differs.changes && !is_as_written() => {}
            (Self::Differs(differs), Err(error)) => {
                let known = error.contains(differs.shows) || !is_as_written();
                assert!(known, "{case} fails, but not as {differs:?} describes: {error}");
            }
            (Self::Passes, Err(error)) => panic!("{case} fails: {error}"),
            (Self::Fails(why) | Self::Differs(&Difference { why, .. }), Ok(())) => {
                panic!("{case} passes: remove its exception ({why})")
            }
        }
    }
}

/// Runs a case on each of these columns at once, each on a thread of its own; the panic message of each failure.
pub(crate) fn attempt(case: &'static Case, on: &[On]) -> Vec<Result<(), String>> {
    let threads = on.iter().map(|on| {
        let (on, thread) = (*on, std::thread::Builder::new().name(format!("{} on {on}", case.name)));
        thread.spawn(move || run((case.run)(on))).unwrap()
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().map(|thread| thread.join().map_err(|panic| panic_text(&*panic))).collect()
}

/// The message of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn check(name: &str) {
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    // What fails by a deadline is tried where there is time to wait for nothing.
    let all = support::is_long();
    let here = |on: &On| match Known::of(name, *on) {
        Known::Nothing => false,
        known => all || !known.is_slow(),
    };
    let long = On::LONG.into_iter().filter(|_| all);
    let on: Vec<_> = On::ALL.into_iter().chain(long).filter(here).collect();
    for (on, ran) in on.iter().zip(attempt(case, &on)) {
        Known::of(name, *on).check(&format!("{name} on {on}"), ran);
    }
}
