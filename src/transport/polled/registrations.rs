//! The registrations that stand, and those that were deleted for good.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Hold;
use crate::defaults;
use crate::domain::{AgentId, Wanted};
use crate::message::store::SpoolBudget;
use crate::net::Scope;
use crate::session::Recent;
use crate::session::envelope::{AnswerRouter, Queue, UrlId};
use crate::transport::Attached;

/// One registration.
pub(in crate::transport) struct Registration {
    /// The agent and its offer, as a form. Offers with the same identity share one registration.
    pub(in crate::transport) identity: Box<str>,
    pub(in crate::transport) agent: AgentId,
    pub(in crate::transport) granted: Vec<Wanted>,
    pub(in crate::transport) born: u64,
    pub(in crate::transport) urls: Vec<String>,
    pub(in crate::transport) queue: Arc<Queue>,
    pub(in crate::transport) lease: Mutex<Duration>,
    /// The hold of polls that do not set one.
    pub(in crate::transport) hold: Hold,
    /// The agent has announced its process, and so knows our own fields.
    pub(in crate::transport) instance: bool,
    changed: Notify,
}

impl Registration {
    pub(in crate::transport) fn new(
        identity: Box<str>,
        (agent, granted, urls): (AgentId, Vec<Wanted>, Vec<String>),
        born: u64,
        queue: Arc<Queue>,
        (lease, hold): (Duration, Duration),
        instance: bool,
    ) -> Arc<Self> {
        let (lease, hold, changed) = (Mutex::new(lease), Hold::new(hold), Notify::new());
        Arc::new(Self { identity, agent, granted, born, urls, queue, lease, hold, instance, changed })
    }

    /// Records a poll of `url`. With its first poll, a new poller may take over the requests of an earlier poller that
    /// has left.
    pub(in crate::transport) fn record_poll(&self, url: UrlId) {
        if self.queue.lock().is_newcomer(url) {
            self.changed.notify_one();
        }
    }

    pub(in crate::transport) fn set_lease(&self, lease: Duration) {
        *self.lease.lock() = lease;
        self.changed.notify_one();
    }
}

/// Every registration of a relay.
pub(in crate::transport) struct Registrations {
    table: Mutex<HashMap<Box<str>, Arc<Registration>>>,
    /// Until which time of birth the registrations of an identity are deleted.
    deleted: Mutex<Recent<Box<str>, u64>>,
    pub(in crate::transport) router: Arc<AnswerRouter>,
}

impl Registrations {
    /// No registrations yet; their bodies and answers stay within `store`.
    pub(in crate::transport) fn new(store: Arc<SpoolBudget>) -> Self {
        let deleted = Mutex::new(Recent::new(defaults::DELETED));
        Self { table: Mutex::default(), deleted, router: Arc::new(AnswerRouter::new(store)) }
    }

    /// The registration of an identity, if it stands.
    pub(in crate::transport) fn get(&self, identity: &str) -> Option<Arc<Registration>> {
        self.table.lock().get(identity).filter(|r| !r.queue.lock().is_ended()).cloned()
    }

    /// The registrations of an agent, the oldest first.
    pub(in crate::transport) fn of(&self, agent: &AgentId) -> Vec<Arc<Registration>> {
        let table = self.table.lock();
        let mut all: Vec<_> = table.values().filter(|r| r.agent == *agent).cloned().collect();
        all.sort_by_key(|r| r.born);
        all
    }

    /// A time of birth that is later than every deletion of this identity.
    pub(in crate::transport) fn birth(&self, identity: &str) -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let after = self.deleted.lock().get(identity).map_or(0, |until| until + 1);
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(after)
    }

    /// Whether the registration that was born at this time has been deleted.
    pub(in crate::transport) fn is_deleted(&self, identity: &str, born: u64) -> bool {
        self.deleted.lock().get(identity).is_some_and(|until| born <= *until)
    }

    /// Deletes a registration for good: its URLs are invalid from now on. `false` if it was deleted before.
    pub(in crate::transport) fn delete(&self, identity: &str, born: u64) -> bool {
        if self.is_deleted(identity, born) {
            return false;
        }
        let until = self.birth(identity);
        self.deleted.lock().insert(identity.into(), until);
        if let Some(registration) = self.table.lock().remove(identity) {
            registration.queue.lock().end();
            registration.changed.notify_one();
        }
        true
    }

    /// The registration of an identity, and whether it is new. If none stands, `make` makes a registration, which
    /// stands until it is deleted or cut, or gets no poll for longer than its lease. With `born`, an earlier
    /// registration is to be restored: `None` if that registration has been deleted.
    pub(in crate::transport) fn enter(
        self: &Arc<Self>,
        identity: &str,
        born: Option<u64>,
        scope: &Scope,
        make: impl FnOnce() -> (Arc<Registration>, Attached),
    ) -> Option<(Arc<Registration>, bool)> {
        // `make` runs under the lock: after a restart, the polls of one agent return at once, on several cores.
        let mut table = self.table.lock();
        // `delete` records the deletion before it takes this lock. So this check sees the deletion, or `delete` sees
        // the new registration.
        if born.is_some_and(|born| self.is_deleted(identity, born)) {
            return None;
        }
        if let Some(existing) = table.get(identity).filter(|existing| !existing.queue.lock().is_ended()) {
            return Some((existing.clone(), false));
        }
        let (registration, attached) = make();
        table.insert(registration.identity.clone(), registration.clone());
        drop(table);
        let (all, owner, supervised) = (self.clone(), scope.clone(), registration.clone());
        scope.spawn(async move {
            supervise(&supervised, attached, &owner).await;
            let mut table = all.table.lock();
            if table.get(&supervised.identity).is_some_and(|r| Arc::ptr_eq(r, &supervised)) {
                table.remove(&supervised.identity);
            }
        });
        Some((registration, true))
    }
}

/// Ends a registration when it is cut, or not polled for as long as its lease, or when `scope` stops.
async fn supervise(registration: &Registration, mut attached: Attached, scope: &Scope) {
    let queue = &registration.queue;
    while !queue.lock().is_ended() {
        let lease = *registration.lease.lock();
        let remaining = lease.saturating_sub(queue.lock().status().unpolled);
        let take_over = queue.lock().take_over();
        let next_check = match take_over {
            Some(due) => due.min(remaining),
            None if remaining.is_zero() && attached.is_full() => defaults::POLL_LEASE,
            None => remaining,
        };
        if next_check.is_zero() {
            tracing::info!(agent = %registration.agent, "an agent has not polled for as long as its lease");
            return queue.lock().agent_left();
        }
        tokio::select! {
            biased;
            () = &mut attached.cut => return queue.cut(),
            () = scope.stopping() => break,
            () = registration.changed.notified() => {}
            () = tokio::time::sleep(next_check) => {}
        }
    }
    queue.lock().end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::flag::Flag;
    use crate::session::envelope::{PollEnd, PollMode};

    fn fresh(all: &Registrations) -> Arc<Registration> {
        let queue = Queue::new(
            all.router.clone(),
            defaults::POLL_ABSENCE,
            (defaults::MESSAGE, defaults::MESSAGES),
            true,
        );
        let grant = (AgentId("a".into()), Vec::new(), Vec::new());
        Registration::new("a".into(), grant, 1, queue, (defaults::POLL_LEASE, defaults::POLL_HOLD), false)
    }

    async fn entered() -> (Arc<Registrations>, Arc<Registration>, Arc<Flag>, Scope) {
        let (all, cut, scope) =
            (Arc::new(Registrations::new(Arc::default())), Arc::new(Flag::default()), Scope::new());
        let attached = Attached::new(cut.listen(), ());
        let (registration, _) = all.enter("a", None, &scope, || (fresh(&all), attached)).unwrap();
        tokio::task::yield_now().await;
        (all, registration, cut, scope)
    }

    #[tokio::test(start_paused = true)]
    async fn a_registration_that_is_not_polled_ends_with_its_lease() {
        let (all, registration, _cut, _scope) = entered().await;
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert!(all.get("a").is_some());
        registration.set_lease(Duration::from_secs(60));
        tokio::time::sleep(Duration::from_secs(30)).await;
        // A poll starts the lease anew when it ends.
        let polled = registration.queue.poll(7, PollMode::WHOLE, Duration::from_secs(25)).await;
        assert!(matches!(polled, Err(PollEnd::Nothing)));
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(all.get("a").is_some());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(all.get("a").is_none() && !all.is_deleted("a", 1), "it may come back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_registration_ends_at_once() {
        let (all, registration, cut, _scope) = entered().await;
        let poll = registration.queue.poll(7, PollMode::WHOLE, Duration::from_secs(25));
        tokio::pin!(poll);
        assert!(futures_util::poll!(&mut poll).is_pending());
        cut.raise();
        assert!(matches!(poll.await, Err(PollEnd::Ended)));
        assert!(all.get("a").is_none());
    }

    #[test]
    fn a_deletion_is_final_but_a_new_registration_is_accepted() {
        let all = Registrations::new(Arc::default());
        let born = all.birth("a");
        assert!(!all.is_deleted("a", born));
        assert!(all.delete("a", born));
        assert!(all.is_deleted("a", born) && !all.delete("a", born));
        assert!(!all.is_deleted("a", all.birth("a")) && !all.is_deleted("b", born));
        for n in 0..defaults::DELETED {
            all.delete(&format!("n{n}"), 1);
        }
        assert!(!all.is_deleted("a", born), "the oldest is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn two_simultaneous_registrations_share_one_entry() {
        let (all, registration, cut, scope) = entered().await;
        let fresh = || (fresh(&all), Attached::new(cut.listen(), ()));
        let again = || all.enter("a", None, &scope, fresh).unwrap();
        let (second, new) = again();
        assert!(!new && Arc::ptr_eq(&second, &registration));
        registration.queue.lock().end();
        let (third, new) = again();
        assert!(new && !Arc::ptr_eq(&third, &registration));
        tokio::task::yield_now().await;
        assert!(all.get("a").is_some_and(|found| Arc::ptr_eq(&found, &third)));
    }

    fn visitor(method: http::Method, body: &'static str) -> crate::message::Request {
        let body = crate::message::Body::full(body);
        http::Request::builder().method(method).uri("http://a.test/").body(body).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_end_with_the_lease() {
        use crate::net::Core;
        use crate::session::{Kind, Link, SendErrorKind};
        use http_body_util::BodyExt as _;

        for (method, body, repeatable) in [
            (http::Method::GET, "", true),
            (http::Method::PUT, "abc", true),
            (http::Method::POST, "abc", false),
        ] {
            let (all, registration, _cut, _scope) = entered().await;
            let queue = registration.queue.clone();
            let link = Link::new(Box::new(queue.clone()), Kind::Envelope, Core::default(), Arc::default());
            let sent = link.send_plain(visitor(method, body), link.reserve().unwrap());
            let work = async {
                let message =
                    queue.poll(1, PollMode::WHOLE, defaults::POLL_HOLD).await.ok().unwrap().message();
                message.collect().await.unwrap();
                tokio::time::Instant::now()
            };
            let sent = async {
                let sent = tokio::time::timeout(2 * defaults::ANSWER, sent).await;
                (sent.expect("the lease has ended").unwrap_err(), tokio::time::Instant::now())
            };
            let ((error, ended), delivered) = tokio::join!(sent, work);
            assert_eq!((error.kind, error.unsent.is_some()), (SendErrorKind::Closed, repeatable));
            assert_eq!(ended - delivered, defaults::POLL_LEASE);
            tokio::task::yield_now().await;
            assert!(all.get("a").is_none());
        }
    }
}
