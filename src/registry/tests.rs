//! Claims, leases and limits, on the clock of the runtime.

use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::domain::{AnswerLimit, AnswerTimeout, Instance, Name};
use crate::policy::Rules;
use crate::session::carrier::Fake;
use crate::session::{Core, Kind};

const LEASE: Duration = Duration::from_secs(60);

fn routes(names: &[&str]) -> Box<[Route]> {
    names.iter().map(|name| Route::Path(Name::parse(name).unwrap())).collect()
}

fn terms(names: &[&str]) -> Terms {
    Terms { routes: routes(names), ..Terms::default() }
}

fn process(id: &str, boot: u64) -> Option<Instance> {
    Some(Instance { id: id.into(), boot })
}

fn agent(id: &str) -> AgentId {
    AgentId(id.into())
}

/// A connection that joins and stays open.
fn join(claim: Claim) -> (Arc<crate::session::Link>, impl Sized + use<>) {
    let carrier = Fake::carrier(1, |_, _| unreachable!("no request is sent"));
    claim.join(carrier, (Kind::H2, Core::default()))
}

impl Registry {
    fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.agents.is_empty() && self.hosts.is_empty() && self.paths.is_empty()
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_follows_the_clock_of_the_runtime() {
    let registry = Registry::new(LEASE);
    let claim = |id: &str| registry.claim(&agent(id), terms(&["a", "b"]));
    drop(join(claim("first").unwrap()));
    tokio::time::advance(LEASE - Duration::from_secs(1)).await;
    assert_eq!(claim("second").err(), Some(Unavailable::Taken(routes(&["a"])[0].clone())));
    drop(join(claim("first").unwrap()));
    tokio::time::advance(LEASE - Duration::from_secs(1)).await;
    assert!(claim("second").is_err(), "each closed connection renews the lease");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(claim("second").is_ok(), "the lease of the first has ended");
    assert!(registry.is_empty(), "a claim that was never used leaves no lease");
}

#[tokio::test(start_paused = true)]
async fn tidying_ends_every_lease_and_leaves_no_trace() {
    let registry = Registry::new(LEASE);
    for n in 0..3 * LEASES_AT_ONCE {
        drop(join(registry.claim(&agent("a"), terms(&[&format!("n{n}")])).unwrap()));
    }
    tokio::time::advance(LEASE).await;
    registry.tidy(|_, _| true);
    assert!(registry.is_empty() && registry.state.lock().leases.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_reconnects_often_queues_one_lease() {
    let registry = Registry::new(LEASE);
    for _ in 0..100 {
        drop(join(registry.claim(&agent("a"), terms(&["a"])).unwrap()));
        tokio::time::advance(LEASE / 50).await;
    }
    assert_eq!(registry.state.lock().leases.len(), 1);
    assert!(registry.claim(&agent("b"), terms(&["a"])).is_err(), "its last lease has not ended");
    tokio::time::advance(LEASE).await;
    registry.tidy(|_, _| true);
    assert!(registry.is_empty() && registry.state.lock().leases.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_owner_without_a_right_loses_its_sessions_and_its_lease() {
    let registry = Registry::new(LEASE);
    let (link, joined) = join(registry.claim(&agent("a"), terms(&["a"])).unwrap());
    registry.tidy(|owner, _| owner.0 != "a".into());
    assert!(link.is_out() && registry.find_path("a").is_some());
    drop(joined);
    registry.tidy(|_, _| false);
    assert!(registry.is_empty());
}

#[tokio::test]
async fn a_route_is_taken_from_an_owner_that_may_not_keep_it() {
    let registry = Registry::new(LEASE);
    let (link, _joined) = join(registry.claim(&agent("old"), terms(&["a"])).unwrap());
    let route = &routes(&["a"])[0];
    assert!(!registry.evict(route, |_, _| true) && !link.is_out());
    assert!(registry.evict(route, |owner, _| owner.0 != "old".into()) && link.is_out());
    assert!(registry.claim(&agent("new"), terms(&["a"])).is_ok());
}

#[tokio::test]
async fn a_claim_counts_as_a_connection_before_it_has_joined() {
    let registry = Registry::new(LEASE);
    let claim = || registry.claim(&agent("a"), Terms { connections: Some(2), ..terms(&["a"]) });
    let claims = [claim().unwrap(), claim().unwrap()];
    assert_eq!(claim().err(), Some(Unavailable::TooManyConnections(2)));
    drop(claims);
    assert!(claim().is_ok());
}

#[tokio::test]
async fn each_process_has_one_session_for_all_its_connections() {
    let registry = Registry::new(LEASE);
    let claim = |id: &str, sessions| {
        let sessions = NonZeroU32::new(sessions);
        registry.claim(&agent("a"), Terms { instance: process(id, 1), sessions, ..terms(&["a"]) })
    };
    let _first = join(claim("x", 2).unwrap());
    let _again = join(claim("x", 2).unwrap());
    let _second = join(claim("y", 2).unwrap());
    assert_eq!(registry.sessions().len(), 2);
    assert_eq!(claim("z", 2).err(), Some(Unavailable::TooMany(2)));
    // Two processes that were admitted at once: the last one to join is cut.
    let late = [claim("z", 3).unwrap(), claim("w", 3).unwrap()].map(join);
    assert_eq!(late.iter().map(|(link, _)| link.is_out()).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn connections_with_different_answer_timeouts_share_no_session() {
    let registry = Registry::new(LEASE);
    let claim = |seconds| {
        let answer_timeout = AnswerTimeout::in_force(AnswerLimit::from_seconds(seconds), None, None);
        registry.claim(&agent("a"), Terms { sessions: NonZeroU32::new(2), answer_timeout, ..terms(&["a"]) })
    };
    let _joined = [1, 2, 1].map(|seconds| join(claim(seconds).unwrap()));
    assert_eq!(registry.sessions().len(), 2);
    assert_eq!(claim(3).err(), Some(Unavailable::TooMany(2)));
}

#[tokio::test]
async fn a_newer_boot_fences_an_older_boot_permanently() {
    let registry = Registry::new(LEASE);
    let claim = |boot| registry.claim(&agent("a"), Terms { instance: process("x", boot), ..terms(&["a"]) });
    let early = claim(1).unwrap();
    let (old, _joined) = join(claim(1).unwrap());
    let (new, _new_joined) = join(claim(2).unwrap());
    assert!(old.is_out() && !new.is_out());
    assert_eq!(claim(1).err(), Some(Unavailable::Fenced));
    assert!(join(early).0.is_out(), "its claim is from before the newer boot");
}

#[tokio::test(start_paused = true)]
async fn a_visitor_admitted_by_earlier_rules_gets_no_session() {
    let registry = Registry::new(LEASE);
    let claim = |rules: Option<&str>| {
        let rules = rules.map(|rules| Arc::new(rules.parse::<Rules>().unwrap()));
        registry.claim(&agent("a"), Terms { rules, ..terms(&["a"]) })
    };
    let first = join(claim(None).unwrap());
    let target = registry.find_path("a").unwrap();
    let before = target.served().epoch;
    assert!(target.session(&[], before).await.is_some());
    assert!(matches!(claim(Some("rate=1")), Err(Unavailable::OtherRules(_))));
    drop(first);
    let _second = join(claim(Some("rate=1")).unwrap());
    assert_ne!(target.served().epoch, before);
    assert!(target.session(&[], before).await.is_none());
    assert!(target.session(&[], target.served().epoch).await.is_some());
}

#[tokio::test]
async fn requests_that_wait_for_an_agent_end_when_the_registry_closes() {
    let registry = Registry::new(LEASE);
    let _claim = registry.claim(&agent("a"), terms(&["a"])).unwrap();
    let target = registry.find_path("a").unwrap();
    let epoch = target.served().epoch;
    let (found, ()) = tokio::join!(target.session(&[], epoch), async { registry.close() });
    assert!(found.is_none());
}
