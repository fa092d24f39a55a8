//! A session: the links of one agent process to this relay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::carrier::{Kind, Link, SendError, SendErrorKind, Slot};
use crate::defaults;
use crate::domain::{AgentId, Instance, Route, SessionId};
use crate::message::{Request, Response, interim};
use crate::net::Core;
use crate::observe::exchange::Via;

/// See the module.
pub struct Session {
    /// Its number.
    pub id: SessionId,
    /// Whose it is.
    pub agent: AgentId,
    /// The process, if it said.
    pub instance: Option<Instance>,
    /// It has its routes for itself alone.
    pub exclusive: bool,
    /// What it speaks for.
    pub routes: Box<[Route]>,
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
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            agent,
            instance,
            exclusive,
            routes,
            links: ArcSwap::default(),
            freed: Arc::new(Notify::new()),
            waiting: AtomicUsize::new(0),
        })
    }

    /// What links of this session notify when a slot gets free.
    pub fn freed(&self) -> Arc<Notify> {
        self.freed.clone()
    }

    /// Adds a link.
    pub fn add(&self, link: Arc<Link>) {
        link.joins(self.id);
        self.links.rcu(|links| links.iter().chain([&link]).cloned().collect::<Vec<_>>());
        // It may have room for all that wait.
        self.freed.notify_waiters();
    }

    /// Removes a link; returns how many are left.
    pub fn remove(&self, link: &Arc<Link>) -> usize {
        self.links.rcu(|links| links.iter().filter(|l| !Arc::ptr_eq(l, link)).cloned().collect::<Vec<_>>());
        self.links.load().len()
    }

    /// Its links now.
    pub fn links(&self) -> Arc<Vec<Arc<Link>>> {
        self.links.load_full()
    }

    /// Requests on it, and waiting for it.
    pub fn load(&self) -> usize {
        self.links.load().iter().map(|l| l.in_flight()).sum::<usize>() + self.waiting.load(Ordering::Relaxed)
    }

    /// Whether a request could go on it.
    pub fn is_usable(&self) -> bool {
        self.links.load().iter().any(|l| !l.is_out())
    }

    /// Whether every usable link of it is overdue with its PING.
    pub fn is_late(&self) -> bool {
        self.links.load().iter().filter(|l| !l.is_out()).all(|l| l.is_late())
    }

    /// Tells the agent that no more requests come on any link. What waits for a slot of them looks elsewhere.
    pub fn drain(&self) {
        self.links.load().iter().for_each(|l| l.drain());
        self.freed.notify_waiters();
    }

    /// Ends every link at once, with what is on it.
    pub fn cut(&self) {
        self.links.load().iter().for_each(|l| l.cut());
    }

    /// Sends one request on a free link: one of this core if there is one, else the least busy. A link that turns
    /// out to be dead gives the request back, and the next one gets it. The slot is held until the answer's body
    /// has ended. `via` gets the connection that it went on last, `interim` the interim responses. Dropping the future
    /// cancels the request.
    ///
    /// # Errors
    /// [`SendError`]; with `unsent` when this session has no link left that would take the request.
    pub async fn send(
        &self,
        mut request: Request,
        via: &mut Option<Via>,
        interim: &interim::Sender,
    ) -> Result<Response, SendError> {
        let mut refusals = 0;
        loop {
            let Some(slot) = self.acquire().await else {
                let kind = if self.is_usable() { SendErrorKind::Busy } else { SendErrorKind::Closed };
                return Err(kind.unsent(request));
            };
            let link = slot.link().clone();
            *via = Some(link.via());
            match link.send(request, slot, interim.clone()).await {
                Ok(response) => return Ok(response),
                // A link that gave a request back has closed, so this loop runs at most once for each.
                Err(SendError { kind: SendErrorKind::Closed, unsent: Some(unsent) }) if link.is_out() => {
                    request = *unsent;
                }
                // A stream that was refused: its agent may have a place now.
                Err(SendError { kind: SendErrorKind::Busy, unsent: Some(unsent) })
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

    async fn acquire(&self) -> Option<Slot> {
        if let Some(slot) = self.pick() {
            return Some(slot);
        }
        let _waiting = WaitingPlace::enter(&self.waiting)?;
        let since = Instant::now();
        let wait = async {
            loop {
                // Registered before the look, or two slots that get free in between would wake one waiter.
                let mut freed = std::pin::pin!(self.freed.notified());
                freed.as_mut().enable();
                if let Some(slot) = self.pick() {
                    return Some(slot);
                }
                if !self.is_usable() {
                    return None;
                }
                if since.elapsed() >= defaults::PACE_PATIENCE {
                    // One for each that waits.
                    self.links.load().iter().any(|link| link.give_up());
                }
                // A link may close without a word; look again from time to time.
                let _ = tokio::time::timeout(Duration::from_millis(500), freed).await;
            }
        };
        tokio::time::timeout(defaults::WAIT_FREE, wait).await.ok().flatten()
    }
}

/// A place in a bounded queue.
pub struct WaitingPlace<'a>(&'a AtomicUsize);

impl<'a> WaitingPlace<'a> {
    /// Takes a place, unless [`defaults::WAITING`] are taken: past that a queue only hides the outage.
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
        let answer = |_, slot: Slot| {
            let mut response = Response::new(Body::empty());
            slot.keep_with(&mut response);
            Ok(response)
        };
        Link::new(Fake::carrier(capacity, answer), Kind::H2, Core::default(), session.freed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_link_wakes_every_request_that_waits() {
        let session = Session::new(SessionId(1), AgentId("a".into()), None, false, Box::default());
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
}
