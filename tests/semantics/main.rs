//! HTTP itself: what a visitor sends is what the origin gets, and back, over every carrier. Each case is a row of one
//! table, which is also what `docs/conformance.md` says: `PTTH_DOCS=1` writes that file from a run.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a report")]

#[path = "../conformance/answers.rs"]
mod answers;
mod connections;
mod content;
mod differences;
mod document;
mod exchange;
mod fields;
mod framing;
mod grpc;
mod held;
mod interim;
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
    what: &'static str,
    source: &'static str,
    run: fn(On) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// Each case is a row, and becomes a test of its name.
macro_rules! cases {
    ($($group:ident { $($name:ident: $what:literal, $source:literal;)+ })+) => {
        /// Every case.
        pub(crate) const CASES: &[Case] = &[$($(Case {
            group: stringify!($group),
            name: stringify!($name),
            what: $what,
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
        every_method: "Every registered method passes as it came", "RFC 9110 §9, IANA";
        an_unknown_method: "So does one that nobody registered, and its case", "RFC 9110 §9.1";
        connect_is_refused: "CONNECT is refused, and reaches nobody", "RFC 9110 §9.3.6, CVE-2026-71324";
        connect_over_http2_is_refused: "So is the CONNECT of HTTP/2", "RFC 9113 §8.5, CVE-2026-73547";
    }
    interim {
        early_hints: "103 with its links, before the answer", "RFC 8297";
        several_in_order: "102 and 103, several and in order", "RFC 9110 §15.2";
        hints_and_answer_at_once: "103 and the answer in one segment", "RFC 8297";
        hints_while_an_upload_runs: "103 while the upload still runs", "RFC 9110 §15.2";
        hints_for_an_http2_visitor: "103 for a visitor with HTTP/2", "RFC 9113 §8.1";
        hints_behind_a_pipelined_answer: "103 of a second request stays behind the first answer", "RFC 9112 §9.3.2";
        none_for_http10: "A visitor with HTTP/1.0 gets none", "RFC 9110 §15.2";
        an_unasked_100: "A 100 that nobody asked for does no harm", "RFC 9110 §15.2.1";
        an_unasked_101: "A 101 that nobody asked for is an error", "RFC 9110 §15.2.2";
        a_flood_is_cut: "Interim responses without end are an error", "our own bound";
        continue_is_the_origins: "100 comes when the origin says so, and not before", "RFC 9110 §10.1.1";
        continue_for_an_http2_visitor: "So it does for a visitor with HTTP/2", "RFC 9110 §10.1.1";
        refused_before_the_body: "A final answer without 100: no byte of the body was sent", "RFC 9110 §10.1.1";
    }
    trailers {
        of_a_request: "Trailers of a request, announced", "RFC 9110 §6.5";
        of_a_request_unannounced: "Trailers of a request, not announced", "RFC 9110 §6.6.2";
        of_an_answer: "Trailers of an answer, announced", "RFC 9110 §6.5";
        of_grpc: "The status of a gRPC call, which nobody announces", "gRPC over HTTP/2";
        of_an_answer_unannounced: "Trailers of an answer, not announced, for HTTP/2", "RFC 9113 §8.1";
        of_an_answer_for_an_http1_visitor: "Trailers of an answer, not announced, for an HTTP/1.1 visitor that takes them", "RFC 9110 §6.5.1";
        of_an_answer_for_nobody: "A visitor with HTTP/1.1 that does not say that it takes them gets the answer without", "RFC 9110 §10.1.4";
    }
    framing {
        chunks: "Chunks of any size; their extensions stay on their hop", "RFC 9112 §7.1";
        chunks_for_an_http2_visitor: "An answer in chunks for a visitor with HTTP/2", "RFC 9113 §8.1";
        content_length: "A length, both ways", "RFC 9110 §8.6";
        length_zero: "Content-Length: 0, both ways", "RFC 9110 §8.6";
        no_body: "No length and no body stays so", "RFC 9112 §6.3";
        body_of_a_get: "A GET with a body", "RFC 9110 §9.3.1";
        head_has_the_length_of_get: "HEAD says a length and sends nothing", "RFC 9110 §9.3.2";
        status_204: "204 has no body and no length", "RFC 9110 §15.3.5";
        status_205: "205 has no content", "RFC 9110 §15.3.6";
        status_304: "304 has no body and keeps its fields", "RFC 9110 §15.4.5";
        an_unknown_status: "A status that nobody registered", "RFC 9110 §15";
        until_the_end_of_the_connection: "An answer that ends with its connection", "RFC 9112 §6.3";
        a_broken_answer_is_not_whole: "An answer that breaks off does not look complete", "RFC 9112 §8";
        length_and_chunked: "Length and chunks at once: refused, or the length is gone", "RFC 9112 §6.1, CVE-2026-2835";
        lengths_that_differ: "Two lengths are refused", "RFC 9112 §6.3, RUSTSEC-2021-0078";
        codings_that_are_not_chunked: "A transfer coding that nobody knows is refused", "RFC 9112 §6.1, CVE-2026-2835";
    }
    fields {
        repeated_in_order: "Repeated fields, with the order within a name", "RFC 9110 §5.3";
        set_cookies: "Each Set-Cookie stays one field", "RFC 6265 §3";
        cookie_crumbs: "Cookie crumbs of HTTP/2 become one field", "RFC 9113 §8.2.3";
        many_bytes: "64 KiB of fields", "RFC 9110 §5.4";
        bytes_beyond_ascii: "Bytes beyond ASCII in values", "RFC 9110 §5.5";
        odd_values: "Empty values, inner spaces, quotes, commas", "RFC 9110 §5.5";
        odd_names: "Every byte that a name may have, underscores and dots among them", "RFC 9110 §5.6.2";
        of_the_answers_maker: "Server and Date stay the origin's", "RFC 9110 §10.2.4, §6.6.1";
        instructions_to_others: "What some proxies take for an instruction to them is a field as any other", "RFC 9110 §5.1";
        hop_by_hop: "Fields of one hop stay on it", "RFC 9110 §7.6.1";
        what_may_not_be_nominated: "Connection cannot take away what matters", "CVE-2024-45410";
        a_domain_that_reaches_others: "The Domain of a cookie that would reach other names is taken away", "RFC 6265 §4.1.2.3, our own";
    }
    targets {
        as_they_came: "//, %2f, ;, dot segments: byte for byte", "RFC 9110 §4.2.3, CVE-2026-73511";
        odd_ones: "Dot segments above the root, %00, broken percent signs too", "RFC 3986 §2.1, §5.2.4";
        a_long_one: "A target of 8,000 bytes", "RFC 9112 §3";
        absolute_form: "An absolute target: its host counts", "RFC 9112 §3.2.2";
        absolute_form_without_path: "And an empty path is /", "RFC 9110 §4.2.3";
        asterisk_form: "OPTIONS *", "RFC 9112 §3.2.4";
        of_an_http2_visitor: "//, %2f, ;, dot segments over HTTP/2", "RFC 9113 §8.3.1";
        odd_ones_of_an_http2_visitor: "And the odd ones", "RFC 9113 §8.3.1";
        host_as_it_came: "Host with its case and port", "RFC 9110 §7.2";
        two_hosts: "Two Hosts, or none, are refused", "RFC 9112 §3.2";
        broken_hosts: "A Host that is none is refused", "RFC 9110 §7.2, RFC 3986 §3.2";
        host_against_authority: "A Host that contradicts :authority is refused", "RFC 9113 §8.3.1, CVE-2026-40910";
    }
    connections {
        http10: "A visitor with HTTP/1.0", "RFC 9110 §2.5";
        pipelined: "Pipelined requests are answered in order", "RFC 9112 §9.3.2";
        close_is_kept: "Connection: close closes after the answer", "RFC 9112 §9.6";
        kept_alive: "A connection is used again", "RFC 9112 §9.3";
    }
    streams {
        chunked_upload_streams: "An upload goes on as it comes", "RFC 9112 §7.1";
        response_streams: "So does an answer", "RFC 9112 §7.1";
        early_answer_while_the_upload_runs: "An answer before the end of the upload", "RFC 9112 §9.5";
        server_sent_events: "Server-sent events, each when it happens", "HTML §9.2";
    }
    upgrades {
        websocket: "WebSocket: text, binary, 1 MiB, and both ends close", "RFC 6455";
        websocket_of_an_http2_visitor: "The same from a visitor with HTTP/2", "RFC 8441";
        fragments_and_pings: "Fragments, pings and their pongs", "RFC 6455 §5.4, §5.5";
        close_codes: "Close codes and reasons, of either end", "RFC 6455 §7.4";
        compression: "Compression is agreed on by the ends, and stays theirs", "RFC 7692";
        another_token_with_glued_bytes: "Another protocol, and bytes that hang on the head", "RFC 9110 §7.8";
        half_close_is_kept: "One end ends, the other goes on", "RFC 9110 §7.8";
        a_refused_upgrade: "An Upgrade that is refused is an answer", "RFC 9110 §7.8";
        an_ignored_upgrade: "One that is ignored too", "RFC 9110 §7.8";
        an_ignored_upgrade_of_an_http2_visitor: "Over HTTP/2 that is an error", "RFC 8441 §5";
    }
    grpc {
        unary: "One message each way, with its deadline, metadata and status", "gRPC over HTTP/2";
        trailing_metadata: "Metadata beside the status", "gRPC over HTTP/2";
        head_before_messages: "The head of an answer does not wait for a message", "gRPC over HTTP/2";
        status_alone: "A status and nothing else", "gRPC over HTTP/2";
        server_streaming: "Messages from the server, each as it comes", "gRPC over HTTP/2";
        client_streaming: "Messages from the client", "gRPC over HTTP/2";
        both_streaming: "Both, one for one", "gRPC over HTTP/2";
        cancel: "A call that is given up ends at the server", "gRPC over HTTP/2";
    }
    content {
        codings: "Content codings pass untouched", "RFC 9110 §8.4";
        ranges: "Ranges and their answers", "RFC 9110 §14";
        several_ranges: "Several ranges in one answer", "RFC 9110 §14.6";
        preconditions: "Preconditions and validators", "RFC 9110 §13";
        every_byte: "Every byte, both ways", "RFC 9110 §8";
    }
    senders {
        forged: "What a visitor says of itself is dropped", "RFC 7239 §8.1, CVE-2026-30851";
        forged_with_underscores: "In the spelling of CGI too", "RFC 3875 §4.1.18";
        via: "Via says who passed it on, and in which version it came", "RFC 9110 §7.6.3";
        by_a_trusted_proxy: "A trusted proxy's word is kept and extended", "RFC 7239 §5";
        by_two_stories: "Two contradicting stories are refused", "RFC 7239 §8.1";
        by_proxy_protocol_1: "The PROXY protocol, version 1", "HAProxy PROXY protocol §2.1";
        by_proxy_protocol_2: "The PROXY protocol, version 2", "HAProxy PROXY protocol §2.2";
        without_its_header: "Without its header the connection is closed", "HAProxy PROXY protocol §2";
        a_header_from_a_stranger: "A stranger's PROXY header is no HTTP", "HAProxy PROXY protocol §2";
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
    ("continue_is_the_origins", On::Comet, WHOLE),
    ("continue_for_an_http2_visitor", On::Comet, WHOLE),
    ("refused_before_the_body", On::Comet, WHOLE),
    ("of_a_request", On::Comet, NO_TRAILERS),
    ("of_a_request_unannounced", On::Comet, NO_TRAILERS),
    ("of_an_answer", On::Comet, NO_TRAILERS),
    ("of_grpc", On::Comet, NO_TRAILERS),
    ("of_an_answer_unannounced", On::Comet, NO_TRAILERS),
    ("of_an_answer_for_an_http1_visitor", On::Comet, NO_TRAILERS),
    ("of_an_answer_for_nobody", On::Comet, STREAM),
    ("unary", On::Comet, NO_TRAILERS),
    ("trailing_metadata", On::Comet, NO_TRAILERS),
    ("head_before_messages", On::Comet, STREAM),
    ("server_streaming", On::Comet, STREAM),
    ("client_streaming", On::Comet, STREAM),
    ("both_streaming", On::Comet, STREAM),
    ("cancel", On::Comet, STREAM),
    ("chunked_upload_streams", On::Comet, STREAM),
    ("response_streams", On::Comet, STREAM),
    ("early_answer_while_the_upload_runs", On::Comet, STREAM),
    ("server_sent_events", On::Comet, STREAM),
    ("websocket", On::Comet, UPGRADE),
    ("websocket_of_an_http2_visitor", On::Comet, UPGRADE),
    ("fragments_and_pings", On::Comet, UPGRADE),
    ("close_codes", On::Comet, UPGRADE),
    ("compression", On::Comet, UPGRADE),
    ("another_token_with_glued_bytes", On::Comet, UPGRADE),
    ("half_close_is_kept", On::Comet, UPGRADE),
    ("a_refused_upgrade", On::Comet, UPGRADE),
    ("an_ignored_upgrade", On::Comet, UPGRADE),
    ("an_ignored_upgrade_of_an_http2_visitor", On::Comet, UPGRADE),
];

const ONE_MESSAGE: &str = "an answer is one message of JSON";
const STREAM: &str = "a message crosses when all of it is there";
const UPGRADE: &str = "a stream behind an Upgrade has no end, so the relay refuses it";
const NO_TRAILERS: &str = "its JSON has no place for trailers";
const WHOLE: &str = "an agent that polls may take whole messages only, so the relay asks for the body itself";

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
        let why = EXCEPTIONS.iter().find(|(name, column, _)| *name == case && *column == on);
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
    fn check(self, what: &str, ran: Result<(), String>) {
        match (self, ran) {
            (Self::Nothing, _) | (Self::Passes, Ok(())) | (Self::Fails(_), Err(_)) => {}
            (Self::Differs(differs), Ok(())) if differs.changes && !is_as_written() => {}
            (Self::Differs(differs), Err(said)) => {
                let told = said.contains(differs.shows) || !is_as_written();
                assert!(told, "{what} fails for another reason than is known ({differs:?}): {said}");
            }
            (Self::Passes, Err(said)) => panic!("{what} fails: {said}"),
            (Self::Fails(why) | Self::Differs(&Difference { why, .. }), Ok(())) => {
                panic!("{what} passes: strike it off ({why})")
            }
        }
    }
}

/// Runs a case on each of these columns at once, each on a thread of its own; what it said where it failed.
pub(crate) fn attempt(case: &'static Case, on: &[On]) -> Vec<Result<(), String>> {
    let threads = on.iter().map(|on| {
        let (on, thread) = (*on, std::thread::Builder::new().name(format!("{} on {on}", case.name)));
        thread.spawn(move || run((case.run)(on))).unwrap()
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().map(|thread| thread.join().map_err(|panic| said(&*panic))).collect()
}

/// The words of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
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
    let on: Vec<_> = On::ALL.into_iter().filter(here).collect();
    for (on, ran) in on.iter().zip(attempt(case, &on)) {
        Known::of(name, *on).check(&format!("{name} on {on}"), ran);
    }
}
