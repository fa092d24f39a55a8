//! A session: the links of one agent process to this relay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::carrier::{Kind, Link, SendError, SendErrorKind, Slot};
use crate::defaults;
use crate::domain::{AgentId, AnswerTimeout, Instance, Route, SessionId};
use crate::message::{Request, Response, interim};
use crate::net::Core;
use crate::observe::exchange::Via;

/// See the module.
pub struct Session {
    /// The number of the session.
    pub id: SessionId,
    /// The agent of the session.
    pub agent: AgentId,
    /// The process of the agent, if the agent has named it.
    pub instance: Option<Instance>,
    /// The session shares its routes with no other session.
    pub exclusive: bool,
    /// The routes that lead to the session.
    pub routes: Box<[Route]>,
    /// How long a request on the session waits for the head of its answer.
    pub answer_timeout: AnswerTimeout,
    links: ArcSwap<Vec<Arc<Link>>>,
    freed: Arc<Notify>,
    waiting: AtomicUsize,
}

impl Session {
    /// A session without links.
    pub fn new(
        id: SessionId,
        agent: AgentId,
        instance: Option<Instance>,
        exclusive: bool,
        routes: Box<[Route]>,
        answer_timeout: AnswerTimeout,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            agent,
            instance,
            exclusive,
            routes,
            answer_timeout,
            links: ArcSwap::default(),
            freed: Arc::new(Notify::new()),
            waiting: AtomicUsize::new(0),
        })
    }

    /// The `Notify` that links of this session notify when a slot becomes free.
    pub fn freed(&self) -> Arc<Notify> {
        self.freed.clone()
    }

    /// Adds a link.
    pub fn add(&self, link: Arc<Link>) {
        link.set_session(self.id);
        self.links.rcu(|links| links.iter().chain([&link]).cloned().collect::<Vec<_>>());
        // The link may have room for every request that waits.
        self.freed.notify_waiters();
    }

    /// Removes a link; returns how many are left.
    pub fn remove(&self, link: &Arc<Link>) -> usize {
        self.links.rcu(|links| links.iter().filter(|l| !Arc::ptr_eq(l, link)).cloned().collect::<Vec<_>>());
        self.links.load().len()
    }

    /// The links of the session now.
    pub fn links(&self) -> Arc<Vec<Arc<Link>>> {
        self.links.load_full()
    }

    /// Requests in flight on the session, and requests that wait for a slot.
    pub fn load(&self) -> usize {
        self.links.load().iter().map(|l| l.in_flight()).sum::<usize>() + self.waiting.load(Ordering::Relaxed)
    }

    /// Whether the session has a link that is in use.
    pub fn is_usable(&self) -> bool {
        self.links.load().iter().any(|l| !l.is_out())
    }

    /// Whether every usable link of the session is late.
    pub fn is_late(&self) -> bool {
        self.links.load().iter().filter(|l| !l.is_out()).all(|l| l.is_late())
    }

    /// Announces to the agent that no more requests come on any link. Requests that wait for a slot are sent elsewhere.
    pub fn drain(&self) {
        self.links.load().iter().for_each(|l| l.drain());
        self.freed.notify_waiters();
    }

    /// Cuts every link at once, with the requests on it.
    pub fn cut(&self) {
        self.links.load().iter().for_each(|l| l.cut());
    }

    /// Sends one request on a free link. Links that are not late are preferred, then the link with the fewest requests
    /// in flight; a link of another core counts as 8 requests more. A link that turns out to be dead gives the request
    /// back, and the next link gets the request. The slot is held until the answer's body has ended. `via` is set to
    /// the link that was tried last; `interim` gets the interim responses. Dropping the future cancels the request.
    ///
    /// # Errors
    /// [`SendError`]; with `unsent` when no link of this session takes the request.
    pub async fn send(
        &self,
        mut request: Request,
        via: &mut Option<Via>,
        interim: &interim::Sender,
    ) -> Result<Response, SendError> {
        let mut refusals = 0;
        loop {
            let slot = match self.acquire().await {
                Ok(slot) => slot,
                Err(kind) => return Err(kind.unsent(request)),
            };
            let link = slot.link().clone();
            *via = Some(link.via());
            match link.send(request, slot, interim.clone()).await {
                Ok(response) => return Ok(response),
                // A link that gave a request back has closed, so this loop runs at most once for each link.
                Err(SendError { kind: SendErrorKind::Closed, unsent: Some(unsent), .. }) if link.is_out() => {
                    request = *unsent;
                }
                // The agent refused the stream. It may have room for another stream now.
                Err(SendError { kind: SendErrorKind::Busy, unsent: Some(unsent), .. })
                    if link.kind() == Kind::H2 && refusals < defaults::REPEATS =>
                {
                    refusals += 1;
                    request = *unsent;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn pick(&self) -> Option<Slot> {
        let links = self.links.load();
        let here = Core::current();
        let key = |l: &&Arc<Link>| (l.is_late(), l.in_flight() + if l.core() == here { 0 } else { 8 });
        let best = links.iter().filter(|l| !l.is_out()).min_by_key(key)?;
        best.reserve().or_else(|| links.iter().find_map(Link::reserve))
    }

    /// The kind of the links in use, if the agent can open no more of them.
    fn exhausted(&self) -> Option<Kind> {
        let links = self.links.load();
        let mut in_use = links.iter().filter(|l| !l.is_out());
        let kind = in_use.next()?.kind();
        let most = match kind {
            Kind::H1 => defaults::H1_MOST,
            Kind::Envelope => 1,
            // The agent opens another connection, or allows more streams.
            Kind::H2 => return None,
        };
        (in_use.count() + 1 >= most).then_some(kind)
    }

    async fn acquire(&self) -> Result<Slot, SendErrorKind> {
        if let Some(slot) = self.pick() {
            return Ok(slot);
        }
        let failure = || match self.exhausted() {
            _ if !self.is_usable() => (SendErrorKind::Closed, Duration::ZERO),
            Some(kind) => (SendErrorKind::Full(kind), defaults::WAIT_FULL),
            None => (SendErrorKind::Busy, defaults::WAIT_FREE),
        };
        let _waiting = WaitingPlace::enter(&self.waiting).ok_or_else(|| failure().0)?;
        let since = Instant::now();
        loop {
            // Registered before the search for a slot: otherwise two slots that become free in between would wake
            // only one waiter.
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(slot) = self.pick() {
                return Ok(slot);
            }
            let (kind, patience) = failure();
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(kind);
            }
            if since.elapsed() >= defaults::PACE_PATIENCE {
                // At most one link is cut: this request needs one slot.
                self.links.load().iter().any(|link| link.cut_if_held_up());
            }
            // A link may close without a notification, so the loop looks again from time to time.
            let _ = tokio::time::timeout(left.min(Duration::from_millis(250)), freed).await;
        }
    }
}

/// A place in a bounded queue.
pub struct WaitingPlace<'a>(&'a AtomicUsize);

impl<'a> WaitingPlace<'a> {
    /// Takes a place, unless [`defaults::WAITING`] places are taken: a longer queue would only hide the outage.
    pub fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let guard = Self(count);
        (count.fetch_add(1, Ordering::AcqRel) < defaults::WAITING).then_some(guard)
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Body;
    use crate::session::Kind;
    use crate::session::carrier::Fake;

    fn link(session: &Session, capacity: usize) -> Arc<Link> {
        link_of(session, capacity, Kind::H2)
    }

    fn link_of(session: &Session, capacity: usize, kind: Kind) -> Arc<Link> {
        let answer = |_, slot: Slot| {
            let mut response = Response::new(Body::full("held"));
            slot.attach_to(&mut response);
            Ok(response)
        };
        Link::new(Fake::carrier(capacity, answer), kind, Core::default(), session.freed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_link_wakes_every_request_that_waits() {
        let timeout = AnswerTimeout::default();
        let session = Session::new(SessionId(1), AgentId("a".into()), None, false, Box::default(), timeout);
        session.add(link(&session, 1));
        let _first = session.send(Request::default(), &mut None, &interim::Sender::default()).await.unwrap();
        let waiting = [0; 3].map(|_| {
            Box::pin(async { session.send(Request::default(), &mut None, &interim::Sender::default()).await })
        });
        let mut waiting = futures_util::future::join_all(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let began = Instant::now();
        session.add(link(&session, 3));
        assert!(waiting.await.iter().all(Result::is_ok));
        assert_eq!(began.elapsed(), Duration::ZERO, "a request slept beside a free link");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_second_if_the_agent_can_open_no_more_links() {
        let full = defaults::H1_MOST;
        for (kind, links, failure) in [
            (Kind::Envelope, 1, SendErrorKind::Full(Kind::Envelope)),
            (Kind::H1, full, SendErrorKind::Full(Kind::H1)),
            (Kind::H1, full - 1, SendErrorKind::Busy),
        ] {
            let (agent, timeout) = (AgentId("a".into()), AnswerTimeout::default());
            let session = Session::new(SessionId(1), agent, None, false, Box::default(), timeout);
            (0..links).for_each(|_| session.add(link_of(&session, 1, kind)));
            let send = async || {
                let began = Instant::now();
                let sent = session.send(Request::default(), &mut None, &interim::Sender::default()).await;
                (sent, began.elapsed())
            };
            let mut held = Vec::new();
            for _ in 0..links {
                held.push(send().await.0.unwrap().into_body());
            }
            let (refused, waited) = send().await;
            let refused = refused.unwrap_err();
            assert_eq!((refused.kind, refused.unsent.is_some()), (failure, true));
            let most = if links == full - 1 { defaults::WAIT_FREE } else { defaults::WAIT_FULL };
            assert_eq!(waited, most, "{kind}");
            let freed = async {
                tokio::time::sleep(most * 9 / 10).await;
                held.pop();
            };
            let ((sent, waited), ()) = tokio::join!(send(), freed);
            assert!(sent.is_ok() && waited == most * 9 / 10, "{kind}: {waited:?}");
        }
    }
}
