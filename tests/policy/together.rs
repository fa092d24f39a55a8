//! Several agents of one name: all of them let in the same visitors, or they are not let in themselves.

use ptth::internals::agent::Fatal;
use ptth::internals::domain::Instance;

use crate::support::{AgentPlan, TestRelay, serve, within};
use crate::ways::{NAME, Way, each, echo, status};

#[test]
fn an_agent_with_other_rules_is_refused() {
    each(async |way: Way| {
        for (first, second) in [
            (Some("rate=1000"), Some("rate=1001")),
            (Some("net=(\"192.0.2.0/24\")"), None),
            (None, Some("net=(\"192.0.2.0/24\")")),
        ] {
            let relay = TestRelay::start();
            let secret = relay.token(&[NAME]);
            let plan = |rules: Option<&str>| {
                let mut plan = way.agent(&relay, secret.clone());
                plan.config.visitors = rules.map(Into::into);
                plan
            };
            let agent = serve(&plan(first), echo()).await;
            let before = status(&relay, "").await;
            let field = second.map(|rules| format!("PTTH-Visitors: {rules}\r\n")).unwrap_or_default();
            // An agent is connected a moment before its session counts.
            let refused = async {
                loop {
                    let (head, body) = relay.fetch(&way.offer(&secret, &field)).await;
                    match head.status() {
                        409 => break (head, body),
                        status => assert_eq!(status, 101, "{head:?} {body}"),
                    }
                }
            };
            let (head, body) = within("a refusal", refused).await;
            assert_eq!(head.get("retry-after"), Some("1"), "{body}");
            assert!(body.contains("other rules"), "{body}");
            assert_eq!(status(&relay, "").await, before, "the rules of the first agent no longer apply");
            // One that polls and is stopped at once may leave its registration behind, for as long as its lease.
            if way.transport != "reversehttp" {
                let same = serve(&plan(first), echo()).await;
                within("the agent stopping", same.stop(crate::support::STEP)).await;
            }
            // One that is told so tries again, and comes in once the first has gone.
            let mut waiting = plan(second).start(echo());
            assert!(tokio::time::timeout(crate::support::QUIET, waiting.connected()).await.is_err());
            within("the agent stopping", agent.stop(crate::support::STEP)).await;
            within("the agent connecting", waiting.connected()).await.unwrap();
            let expected = if second.is_some_and(|rules| rules.starts_with("net")) { 403 } else { 200 };
            assert_eq!(status(&relay, "").await, expected, "{first:?} then {second:?}");
        }
    });
}

#[test]
fn a_higher_boot_brings_its_own_rules() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let secret = relay.token(&[NAME]);
        let booted = |boot, rules: &str| {
            let mut plan: AgentPlan = way.with_rules(&relay, secret.clone(), rules);
            plan.config.instance = Instance { id: "one".into(), boot };
            plan
        };
        let mut lower = serve(&booted(1, "rate=1000"), echo()).await;
        assert_eq!(status(&relay, "").await, 200);
        let _higher = serve(&booted(2, "net=(\"192.0.2.0/24\")"), echo()).await;
        // From the moment on at which the higher one serves; who waits meanwhile is told to come again.
        let ruled = async {
            loop {
                match status(&relay, "").await {
                    403 => break,
                    status => assert!([200, 503].contains(&status), "{status}"),
                }
            }
        };
        within("the new rules", ruled).await;
        let fenced = within("being fenced", lower.ended()).await;
        assert!(matches!(fenced, Err(Fatal::Fenced(_))), "{fenced:?}");
        assert_eq!(status(&relay, "").await, 403);
    });
}
