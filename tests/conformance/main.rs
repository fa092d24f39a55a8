//! What passes through, each scenario over every transport and all of its carriers; what cannot hold somewhere stands in
//! `exceptions`. A failure is reported on a thread that is named `SCENARIO on TRANSPORT/CARRIER`.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a report")]

mod answers;
mod bulk;
mod crowded;
mod exceptions;
mod expect;
mod fields;
mod gone;
mod held;
#[path = "../support/holder.rs"]
mod holder;
mod logins;
mod loss;
mod messages;
mod offers;
mod records;
mod routing;
mod sharing;
mod stopping;
#[expect(dead_code, reason = "each suite uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod translated;
mod upgrade;
mod uploads;
mod world;

use world::On;

/// Every scenario is a row, and becomes a test of its name.
macro_rules! scenarios {
    ($($group:ident: $($name:ident),+;)+) => {
        const SCENARIOS: &[&str] = &[$($(stringify!($name)),+),+];

        $($(
            #[test]
            fn $name() {
                On::each(stringify!($name), $group::$name);
            }
        )+)+
    };
}

scenarios! {
    messages: get, post_with_length, post_with_length_zero, chunked_upload_streams, response_streams,
        request_trailers, response_trailers, forbidden_trailers_are_dropped, head_keeps_its_length, no_content,
        not_modified,
        repeated_fields_keep_their_order, server_sent_events, early_answer_while_the_upload_runs,
        several_requests_on_one_connection, pipelined_requests_keep_their_order, a_visitor_with_http2;
    bulk: large_download, large_upload, a_slow_visitor_slows_the_origin, a_slow_origin_slows_the_visitor,
        a_visitor_that_pauses_loses_nothing, an_origin_that_pauses_loses_nothing;
    crowded: a_request_beside_300_event_streams_is_answered_in_time;
    uploads: an_upload_with_a_separate_end_frame_is_answered, a_refused_upload_does_not_cross_the_link;
    logins: a_connection_login_serves_only_its_visitor, a_connection_login_fails_behind_a_trusted_proxy, a_login_per_request_keeps_the_connection;
    expect: an_expectation_is_answered_with_100, expectation_failed_without_the_body;
    fields: forwarding_fields_are_set_by_the_relay, an_encrypted_visitor, hop_by_hop_fields_are_not_forwarded,
        host_is_unchanged;
    upgrade: websocket, websocket_of_an_http2_visitor, fragments_and_pings, close_codes, compression,
        another_protocol_with_early_bytes, a_refused_upgrade, an_ignored_upgrade,
        an_ignored_upgrade_of_an_http2_visitor, half_close_is_kept, half_close_of_the_origin_is_kept;
    gone: visitor_leaves_before_the_head, visitor_leaves_during_the_body, visitor_leaves_during_the_upload,
        origin_leaves_during_the_body, origin_leaves_during_a_body_without_length, origin_leaves_without_an_answer,
        a_revoked_token_cuts_running_bodies, a_revoked_token_ends_open_streams;
    records: each_request_is_recorded_once, a_request_id_reaches_the_origin_and_error_pages;
    routing: unknown_name, known_name_without_agent, problem_documents_have_one_form;
    sharing: two_agents_share_load, connections_grow_with_load;
    stopping: relay_drains_while_an_answer_runs, agent_moves_to_the_next_relay, agent_stop_finishes_answers,
        agent_logs_each_cut_connection, a_stopping_relay_does_not_wait_for_an_agent;
    loss: a_cut_request_is_answered_and_the_agent_reconnects, a_safe_request_is_repeated_after_a_cut,
        a_half_open_connection_is_detected;
    offers: refused_offers, a_held_name_is_refused_to_another_token, stripped_upgrade, higher_boot_replaces_the_lower;
}
