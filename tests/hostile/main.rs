//! Hostile peers.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a report")]

mod agents;
#[expect(dead_code, reason = "the tests of tabs need more of it")]
#[path = "../clients/devtools.rs"]
mod devtools;
mod downgrade;
mod floods;
mod frames;
mod logs;
mod messages;
mod names;
mod pages;
#[expect(dead_code, reason = "the tests of the whole program need more of it")]
#[path = "../e2e/process.rs"]
mod process;
mod program;
mod recorder;
mod relays;
mod secrets;
#[expect(dead_code, reason = "the tests of the whole program need more of it")]
#[path = "../e2e/site.rs"]
mod site;
mod slow;
mod smuggling;
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
    slow: half_heads_hold_nobody_up, half_bodies_hold_nobody_up,
        a_silent_agent_keeps_its_own_visitors_waiting_alone, one_agent_does_not_take_all_connections,
        a_crowd_at_one_tenant_starves_no_other;
    pages: every_path_of_a_tenant_is_the_tenants, a_path_is_routed_as_it_is_forwarded,
        a_cookie_reaches_no_other_name, heads_beyond_all_measure_are_refused;
    visitors: what_is_cancelled_in_masses_stops_nobody;
}

cases! {
    flipped:
    agents: a_split_answer_reaches_its_own_visitor_alone, what_an_agent_does_on_h2_ends_with_its_own_visitor;
    relays: an_agent_outlives_the_floods_of_its_relay, an_agent_dials_nobody_but_its_origin,
        a_relay_cannot_fill_the_memory_of_an_agent, what_is_no_101_is_no_session;
}
