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

/// See the module.
pub(crate) const EXCEPTIONS: &[Exception] = &[
    polled(
        "connections_grow_with_load",
        "polls come and go on connections of any number: nobody counts them",
    ),
    polled("stripped_upgrade", "there is no Upgrade to strip"),
    polled(
        "half_open_is_found",
        "no connection is the session: a poll that hangs is found when its hold is over",
    ),
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
        assert!(!earlier, "{scenario} on {transport} stands twice");
    }
}
