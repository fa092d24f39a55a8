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
//! | A1 a name taken in a race, or in its owner's absence | `of_many_at_once_one_gets_a_name` | all |
//! | – an agent that goes half way in | `a_registration_cut_at_any_byte_leaves_no_ghost` | all |
//! | – an agent that comes back without end | `a_name_that_comes_back_thousands_of_times_leaves_nothing` | all, program |
//! | – let in once, acting for others | `one_name_opens_no_other` | all |
//! | – what is another's to end | `a_registration_is_ended_by_its_owner_alone` | all |
//! | A2 an oracle for tokens | `a_wrong_token_tells_nothing`, `tokens_are_compared_by_their_digests` | public |
//! | | `the_time_that_a_wrong_token_takes_tells_nothing` | – |
//! | | tries on each transport: tests/policy/guesses.rs | all |
//! | A3 guessed URLs | `the_urls_of_agents_cannot_be_guessed` | reversehttp |
//! | A4 another's request answered | `a_url_of_one_agent_does_not_answer_for_another`, `an_id_is_good_for_one_answer_of_its_own_agent` in tests/reversehttp | reversehttp, comet |
//! | A5 split answers | `a_split_answer_reaches_its_own_visitor_alone` | h1 |
//! | | `what_an_agent_does_on_h2_ends_with_its_own_visitor` | h2 |
//! | | `what_two_readers_would_read_differently_is_502_and_400`, `what_is_no_answer_is_502_and_400` in tests/reversehttp | reversehttp, comet |
//! | A6 answers that nobody asked for | with A5, and `an_answer_that_nobody_asked_for_reaches_nobody` in tests/wire.rs | h1, h2 |
//! | A7, A9 messages cut in two ways, early bytes, h2c | `no_message_is_cut_in_two_ways` | all |
//! | | `bytes_behind_a_refused_upgrade_reach_nobody` | all |
//! | A8 HTTP/2 that becomes lines | `no_field_of_http2_becomes_a_line_of_http1` | all |
//! | A10 fields that Connection names | `connection_takes_no_field_away_that_matters` | all |
//! | A11 for whom a request is | `no_request_reaches_the_wrong_tenant` | all |
//! | | one connection, several names: tests/policy/confusion.rs; among 16,384 names: with A17 | h2 |
//! | | TLS sessions: `a_session_is_resumed_under_its_own_name_alone` in tests/policy | public |
//! | A12 cookies for all names | `a_cookie_reaches_no_other_name` | all |
//! | A13, A22, A24 words that are repeated | `the_relays_own_words_repeat_nothing` | public |
//! | A22 redirects | `a_redirect_passes_as_it_is` | all |
//! | A24 scripts in pages | `no_script_runs_in_an_error_page` | program, Chromium |
//! | A14 slow heads, bodies, handshakes | `half_heads_hold_nobody_up`, `half_bodies_hold_nobody_up` | all |
//! | | `half_handshakes_end_in_time`, `handshakes_that_stop_at_any_flight_end_in_time` | public |
//! | | slow readers, unread uploads: tests/e2e/memory.rs; that hold a connection up: tests/policy/limits.rs | program, h1 |
//! | A15 an agent that is silent, drips, takes nothing | `an_agent_that_stalls_keeps_its_own_visitors_waiting_alone` | all |
//! | A16 bodies that nobody reads | `a_slow_origin_bounds_what_the_visitor_can_send` in tests/conformance | all but comet, whose messages have 8 MiB |
//! | A17 one agent that takes all | `one_agent_does_not_take_all_connections` | all |
//! | | `one_agent_does_not_take_all_polls` | reversehttp, comet |
//! | | `one_agent_does_not_take_all_names` | ptth10 |
//! | A18 a crowd at one tenant | `a_crowd_at_one_tenant_starves_no_other` | all |
//! | | a full agent: `a_full_agent_does_not_slow_another` in tests/e2e | program |
//! | A19 floods of frames, by a visitor | `floods_of_frames_cost_little_and_end` | program |
//! | | `what_is_cancelled_in_masses_stops_nobody` | all |
//! | A19 by an agent | with A5, and `an_agent_cannot_fill_the_memory_of_a_relay` | h1, h2, program |
//! | | `a_polling_agent_cannot_fill_the_memory_of_a_relay` | reversehttp, comet, program |
//! | A19, A21 by a relay | `an_agent_outlives_the_floods_of_its_relay` | h2 |
//! | | `a_relay_cannot_fill_the_memory_of_an_agent` | flipped, program |
//! | | `a_relay_cannot_fill_the_memory_of_a_polling_agent` | reversehttp, comet, program |
//! | A20, A21 an agent that is pointed elsewhere | `an_agent_dials_nobody_but_its_origin` | flipped |
//! | | `a_polling_agent_outlives_its_relay` | reversehttp, comet |
//! | A20 RelayHttp | tests/reversehttp/relayhttp.rs | reversehttp |
//! | A23 what is in a log | `a_log_has_one_line_for_one_thing_and_no_secret` | program |
//! | A25 pages of others | `no_page_of_others_reads_the_admin_listener`, `a_cookie_is_no_credential` | public |
//! | A26 what is admin's | `every_path_of_a_tenant_is_the_tenants` | all |
//! | A27 what is no 101 | `what_is_no_101_is_no_session` | flipped |
//! | A27 what is no TLS, or not the relay's | `what_is_no_tls_is_told_nothing`, `what_is_no_relay_is_told_nothing` | all |
//! | A27 how that is said; stripped Upgrades | tests/e2e/trust.rs, tests/proxy | program |
//! | A28 what is sent again | `what_is_recorded_and_sent_again_does_nothing` | all |
//! | | `early_data_is_off`; used URLs in tests/reversehttp | public |
//! | A29 heads beyond measure, bombs | `heads_beyond_all_measure_are_refused`, `what_is_packed_stays_packed` | all |
//! | | from a service: `answers_beyond_all_measure_end_with_their_visitor` | all |
//! | | `heads_that_wait_for_their_end_cost_little` | program |
//! | A30 paths | `a_path_is_routed_as_it_is_forwarded`, `every_path_of_a_tenant_is_the_tenants` | all |
//! | | directories: `no_spelling_leads_out_through_a_link` in src/agent/origin | – |
//! | – authentication that is silently off | `a_relay_that_cannot_read_its_tokens_does_not_start`, `every_way_to_say_a_token_is_in_force` | program |
//! | | each flag, variable and file: tests/policy/files.rs | program |
//! | – no descriptors left | `a_relay_without_descriptors_recovers` | program |

#![expect(clippy::unwrap_used, reason = "in a test a panic is a report")]

mod again;
mod agents;
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
    smuggling: no_message_is_cut_in_two_ways, bytes_behind_a_refused_upgrade_reach_nobody,
        connection_takes_no_field_away_that_matters;
    downgrade: no_field_of_http2_becomes_a_line_of_http1;
    names: of_many_at_once_one_gets_a_name, a_registration_cut_at_any_byte_leaves_no_ghost, one_name_opens_no_other,
        no_request_reaches_the_wrong_tenant;
    slow: half_heads_hold_nobody_up, half_bodies_hold_nobody_up;
    shares: one_agent_does_not_take_all_connections, one_agent_does_not_take_all_polls,
        a_crowd_at_one_tenant_starves_no_other;
    stalls: an_agent_that_stalls_keeps_its_own_visitors_waiting_alone;
    pages: every_path_of_a_tenant_is_the_tenants, a_path_is_routed_as_it_is_forwarded,
        a_cookie_reaches_no_other_name, a_redirect_passes_as_it_is;
    heads: heads_beyond_all_measure_are_refused, answers_beyond_all_measure_end_with_their_visitor,
        what_is_packed_stays_packed;
    lifecycle: a_name_that_comes_back_thousands_of_times_leaves_nothing;
    handshakes: what_is_no_tls_is_told_nothing, what_is_no_relay_is_told_nothing;
    polled: a_polling_agent_outlives_its_relay, a_relay_cannot_fill_the_memory_of_a_polling_agent,
        a_polling_agent_cannot_fill_the_memory_of_a_relay;
    again: what_is_recorded_and_sent_again_does_nothing, a_registration_is_ended_by_its_owner_alone;
    visitors: what_is_cancelled_in_masses_stops_nobody;
}

cases! {
    flipped:
    refused: a_refused_stream_is_sent_again, half_a_body_is_not_sent_again,
        a_goaway_leaves_out_what_goes_to_the_next_connection;
    agents: a_split_answer_reaches_its_own_visitor_alone, what_an_agent_does_on_h2_ends_with_its_own_visitor;
    relays: an_agent_outlives_the_floods_of_its_relay, an_agent_dials_nobody_but_its_origin,
        a_relay_cannot_fill_the_memory_of_an_agent, what_is_no_101_is_no_session;
}
