//! The scenarios that mean nothing, or cannot hold, over some transport: all of them, each with its reason.

use ptth::transport;

/// One scenario that is not run over one transport.
pub(crate) struct Exception {
    pub(crate) scenario: &'static str,
    pub(crate) transport: &'static str,
    /// Why it cannot hold there.
    pub(crate) why: &'static str,
}

const fn polled(scenario: &'static str, why: &'static str) -> Exception {
    Exception { scenario, transport: "reversehttp", why }
}

const fn whole(scenario: &'static str, why: &'static str) -> Exception {
    Exception { scenario, transport: "comet", why }
}

const STREAM: &str = "a message is forwarded only once it is complete";
const TRAILERS: &str = "its JSON has no trailer fields";
const LENGTH: &str = "a message has at most 8 MiB, in memory on both sides";
const UPGRADE: &str = "an upgraded stream has no end, so the relay refuses the Upgrade";

/// See the module.
pub(crate) const EXCEPTIONS: &[Exception] = &[
    whole("chunked_upload_streams", STREAM),
    whole("response_streams", STREAM),
    whole("server_sent_events", STREAM),
    whole("early_answer_while_the_upload_runs", STREAM),
    whole("a_revoked_token_cuts_running_bodies", STREAM),
    whole("expectation_failed_without_the_body", "the relay sends 100 before it forwards the request"),
    whole(
        "relay_drains_while_an_answer_runs",
        "answers are sent whole; agent_moves_to_the_next_relay covers a pending answer",
    ),
    whole("request_trailers", TRAILERS),
    whole("response_trailers", TRAILERS),
    whole("forbidden_trailers_are_dropped", TRAILERS),
    whole("large_download", LENGTH),
    whole("large_upload", LENGTH),
    whole("a_refused_upload_does_not_cross_the_link", LENGTH),
    whole("a_slow_visitor_slows_the_origin", LENGTH),
    whole("a_slow_origin_slows_the_visitor", LENGTH),
    whole("a_visitor_that_pauses_loses_nothing", LENGTH),
    whole("an_origin_that_pauses_loses_nothing", LENGTH),
    whole("websocket", UPGRADE),
    whole("websocket_of_an_http2_visitor", UPGRADE),
    whole("fragments_and_pings", UPGRADE),
    whole("close_codes", UPGRADE),
    whole("compression", UPGRADE),
    whole("another_protocol_with_early_bytes", UPGRADE),
    whole("a_refused_upgrade", UPGRADE),
    whole("an_ignored_upgrade", UPGRADE),
    whole("an_ignored_upgrade_of_an_http2_visitor", UPGRADE),
    whole("half_close_is_kept", UPGRADE),
    whole("half_close_of_the_origin_is_kept", UPGRADE),
    whole("a_revoked_token_ends_open_streams", UPGRADE),
    whole("visitor_leaves_during_the_upload", "a partial upload does not reach the origin"),
    whole("connections_grow_with_load", "polls use any number of short connections"),
    whole("stripped_upgrade", "there is no Upgrade to strip"),
    polled("connections_grow_with_load", "polls use any number of short connections"),
    polled("stripped_upgrade", "there is no Upgrade to strip"),
];

/// Whether a scenario is run over a transport.
pub(crate) fn is_excepted(scenario: &str, transport: &str) -> bool {
    EXCEPTIONS.iter().any(|e| e.scenario == scenario && e.transport == transport)
}

#[test]
fn an_exception_names_a_scenario_a_transport_and_a_reason() {
    let transports: Vec<_> = transport::ALL.iter().map(|t| t.name()).collect();
    for (place, Exception { scenario, transport, why }) in EXCEPTIONS.iter().enumerate() {
        assert!(super::SCENARIOS.contains(scenario), "there is no scenario {scenario}");
        assert!(transports.contains(transport), "there is no transport {transport}");
        assert!(!why.is_empty(), "{scenario} on {transport}");
        let earlier =
            EXCEPTIONS[..place].iter().any(|e| (e.scenario, e.transport) == (*scenario, *transport));
        assert!(!earlier, "{scenario} on {transport} is listed twice");
    }
}
