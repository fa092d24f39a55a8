//! Hostile peers.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a report")]

mod agents;
mod downgrade;
mod floods;
mod frames;
mod messages;
#[path = "../e2e/process.rs"]
mod process;
mod program;
mod recorder;
#[expect(dead_code, reason = "the tests of the whole program need more of it")]
#[path = "../e2e/site.rs"]
mod site;
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
    visitors: what_is_cancelled_in_masses_stops_nobody;
}

cases! {
    flipped:
    agents: a_split_answer_reaches_its_own_visitor_alone, what_an_agent_does_on_h2_ends_with_its_own_visitor;
}
