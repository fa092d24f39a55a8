//! Peers that mean harm: visitors, agents and relays. Each case names the weakness it is about and where that is known
//! from (a CVE, a section of an RFC); its number is the one of the threat model below.
//!
//! A case on *all* runs over every row of `transport::ALL` with each of its carriers; on *flipped* over those whose
//! connections are flipped; on *h1* or *h2* over the flipped ones with that carrier; on *public* it is about what comes
//! before any transport; on *program* it runs against the binary, whose memory is measured. `PTTH_LONG` makes the
//! crowds larger and waits for the long deadlines.
//!
//! | case | test | on |
//! |---|---|---|
//! | A1 a name taken in a race, or in its owner's absence | `a_contested_name_has_one_owner` | all |
//! | – an incomplete registration | `a_registration_cut_at_any_byte_leaves_no_claim` | all |
//! | – endless reconnects | `thousands_of_reconnects_leak_nothing` | all, program |
//! | – a token used for another name | `a_token_claims_no_other_name` | all |
//! | – a registration ended by another agent | `only_the_owner_ends_a_registration` | all |
//! | A2 an oracle for tokens | `wrong_tokens_get_the_same_answer`, `tokens_are_compared_by_their_digests` | public |
//! | | `wrong_tokens_take_the_same_time` | – |
//! | | tries on each transport: tests/policy/guesses.rs | all |
//! | A3 guessed URLs | `the_urls_of_agents_cannot_be_guessed` | reversehttp |
//! | A4 another's request answered | `a_url_of_one_agent_does_not_answer_for_another`, `an_id_accepts_one_answer_from_its_own_agent` in tests/reversehttp | reversehttp, comet |
//! | A5 split answers | `a_split_answer_reaches_only_its_visitor` | h1 |
//! | | `h2_violations_of_an_agent_affect_only_its_visitor` | h2 |
//! | | `a_malformed_or_ambiguous_answer_is_refused`, `an_invalid_answer_is_refused` in tests/reversehttp | reversehttp, comet |
//! | A6 unsolicited answers | with A5, and `an_unsolicited_answer_reaches_no_visitor` in tests/wire.rs | h1, h2 |
//! | A7, A9 messages with two readings, early bytes, h2c | `relay_and_origin_agree_where_a_message_ends` | all |
//! | | `bytes_behind_a_refused_upgrade_are_not_forwarded` | all |
//! | A8 HTTP/2 fields that inject HTTP/1 lines | `an_http2_field_cannot_inject_an_http1_line` | all |
//! | A10 fields that Connection names | `connection_removes_no_protected_field` | all |
//! | A11 requests routed to the wrong tenant | `no_request_reaches_the_wrong_tenant` | all |
//! | | one connection, several names: tests/policy/confusion.rs; among 16,384 names: with A17 | h2 |
//! | | TLS sessions: `a_tls_session_is_resumed_only_under_its_name` in tests/policy | public |
//! | A12 cookies for all names | `a_cookie_reaches_no_other_name` | all |
//! | A13, A22, A24 input repeated in the relay's pages | `relay_pages_repeat_no_input` | public |
//! | A22 redirects | `a_redirect_passes_unchanged` | all |
//! | A24 scripts in pages | `no_script_runs_in_an_error_page` | program, Chromium |
//! | A14 slow heads, bodies, handshakes | `incomplete_heads_delay_no_visitor` | all |
//! | | `incomplete_bodies_delay_no_visitor` | all |
//! | | `incomplete_handshakes_end_in_time`, `handshakes_stopped_at_any_flight_end_in_time` | public |
//! | | slow readers, unread uploads: tests/e2e/memory.rs; that hold a connection up: tests/policy/limits.rs | program, h1 |
//! | A15 an agent that is silent, drips, reads nothing | `a_stalling_agent_delays_only_its_visitors` | all |
//! | A16 unread bodies | `a_slow_origin_slows_the_visitor` in tests/conformance | all but comet, whose messages have 8 MiB |
//! | A17 one agent that uses all resources | `one_agent_does_not_take_all_connections` | all |
//! | | `one_agent_does_not_take_all_polls` | reversehttp, comet |
//! | | `one_agent_does_not_take_all_names` | ptth10 |
//! | A18 a crowd at one tenant | `a_crowd_at_one_tenant_starves_no_other` | all |
//! | | a full agent: `a_full_agent_does_not_slow_another` in tests/e2e | program |
//! | A19 floods of frames, by a visitor | `frame_floods_use_little_memory_and_end` | program |
//! | | `mass_cancellations_block_no_visitor` | all |
//! | A19 by an agent | with A5, and `an_agent_cannot_fill_the_memory_of_a_relay` | h1, h2, program |
//! | | `a_polling_agent_cannot_fill_the_memory_of_a_relay` | reversehttp, comet, program |
//! | A19, A21 by a relay | `an_agent_survives_the_floods_of_its_relay` | h2 |
//! | | `a_relay_cannot_fill_the_memory_of_an_agent` | flipped, program |
//! | | `a_relay_cannot_fill_the_memory_of_a_polling_agent` | reversehttp, comet, program |
//! | A20, A21 a relay that names another destination | `an_agent_dials_only_its_origin` | flipped |
//! | | `a_polling_agent_survives_a_hostile_relay` | reversehttp, comet |
//! | A20 RelayHttp | tests/reversehttp/relayhttp.rs | reversehttp |
//! | A23 forged log lines, secrets in logs | `a_log_event_is_one_line_without_secrets` | program |
//! | A25 pages of other sites | `foreign_pages_cannot_read_the_admin_listener`, `a_cookie_is_no_credential` | public |
//! | A26 admin paths on the public port | `every_path_of_a_tenant_reaches_the_tenant` | all |
//! | A27 answers other than 101 | `only_a_101_opens_a_session` | flipped |
//! | A27 a peer without TLS, or without the relay's certificate | `an_agent_sends_nothing_without_tls` | all |
//! | | `an_agent_sends_nothing_to_an_untrusted_relay` | all |
//! | A27 how the agent reports it; stripped Upgrades | tests/e2e/trust.rs, tests/proxy | program |
//! | A28 replayed connections | `a_replayed_connection_has_no_effect` | all |
//! | | `early_data_is_off`; used URLs in tests/reversehttp | public |
//! | A29 oversized heads, decompression bombs | `oversized_heads_are_refused` | all |
//! | | `compressed_bodies_are_not_decompressed` | all |
//! | | from a service: `oversized_answers_affect_only_their_visitor` | all |
//! | | `unfinished_heads_use_little_memory` | program |
//! | A14, A17, A29 crowds: windows of zero, crumbs, fields, slow readers, uploads, large heads | tests/hostile/memory.rs | program |
//! | A30 paths | `a_path_is_routed_as_it_is_forwarded`, `every_path_of_a_tenant_reaches_the_tenant` | all |
//! | | directories: `no_spelling_of_a_path_leads_outside_the_root` in src/agent/origin | – |
//! | – authentication that is silently off | `a_relay_that_cannot_read_its_tokens_does_not_start`, `every_token_source_is_checked` | program |
//! | | each flag, variable and file: tests/policy/files.rs | program |
//! | – no descriptors left | `a_relay_without_descriptors_recovers` | program |

#![expect(clippy::unwrap_used, reason = "in a test a panic is a report")]

mod again;
mod agents;
mod causes;
#[expect(dead_code, reason = "the tests of tabs need more of it")]
#[path = "../clients/devtools.rs"]
mod devtools;
mod downgrade;
mod floods;
mod foreign;
mod frames;
mod handshakes;
mod heads;
mod lifecycle;
mod logs;
mod memory;
mod messages;
mod names;
mod pages;
mod polled;
#[expect(dead_code, reason = "the tests of the whole program need more of it")]
#[path = "../e2e/process.rs"]
mod process;
mod program;
mod recorder;
mod refused;
mod relays;
mod secrets;
mod shares;
#[expect(dead_code, reason = "the tests of the whole program need more of it")]
#[path = "../e2e/site.rs"]
mod site;
mod slow;
mod smuggling;
mod stalls;
mod strict;
#[expect(dead_code, unused_imports, reason = "each suite uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod visitors;
mod world;

use world::On;

/// Every case is a row, and becomes a test of its name.
macro_rules! cases {
    ($on:ident: $($group:ident: $($name:ident),+;)+) => {
        $($(
            #[test]
            fn $name() {
                On::each(On::$on(), stringify!($name), $group::$name);
            }
        )+)+
    };
}

cases! {
    all:
    smuggling: relay_and_origin_agree_where_a_message_ends, bytes_behind_a_refused_upgrade_are_not_forwarded,
        connection_removes_no_protected_field;
    downgrade: an_http2_field_cannot_inject_an_http1_line;
    names: a_contested_name_has_one_owner, a_registration_cut_at_any_byte_leaves_no_claim,
        a_token_claims_no_other_name, no_request_reaches_the_wrong_tenant;
    slow: incomplete_heads_delay_no_visitor, incomplete_bodies_delay_no_visitor;
    shares: one_agent_does_not_take_all_connections, one_agent_does_not_take_all_polls,
        a_crowd_at_one_tenant_starves_no_other;
    stalls: a_stalling_agent_delays_only_its_visitors;
    pages: every_path_of_a_tenant_reaches_the_tenant, a_path_is_routed_as_it_is_forwarded,
        a_cookie_reaches_no_other_name, a_redirect_passes_unchanged;
    heads: oversized_heads_are_refused, oversized_answers_affect_only_their_visitor,
        compressed_bodies_are_not_decompressed;
    lifecycle: thousands_of_reconnects_leak_nothing;
    handshakes: an_agent_sends_nothing_without_tls, an_agent_sends_nothing_to_an_untrusted_relay;
    polled: a_polling_agent_survives_a_hostile_relay, a_relay_cannot_fill_the_memory_of_a_polling_agent,
        a_polling_agent_cannot_fill_the_memory_of_a_relay;
    causes: invalid_answers_name_their_cause;
    again: a_replayed_connection_has_no_effect, only_the_owner_ends_a_registration;
    visitors: mass_cancellations_block_no_visitor;
}

cases! {
    flipped:
    refused: a_refused_stream_is_retried, a_partly_sent_body_is_not_retried,
        requests_beyond_a_goaway_move_to_the_next_connection;
    agents: a_split_answer_reaches_only_its_visitor, h2_violations_of_an_agent_affect_only_its_visitor;
    relays: an_agent_survives_the_floods_of_its_relay, an_agent_dials_only_its_origin,
        a_relay_cannot_fill_the_memory_of_an_agent, only_a_101_opens_a_session;
}
