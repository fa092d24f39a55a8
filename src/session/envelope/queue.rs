//! One registration's queue: requests on one side, polls on the other, first come first served on both.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::answer::Flight;
use super::job::{Done, Job};
use super::lost::{InHand, Newcomer};
use super::spool::Room;
use super::used::Used;
use super::{Flights, Given, Handed, Manner, Several, UrlId, deliver, pipeline};
use crate::defaults;
use crate::message::Request;
use crate::net::flag::{Flag, Listener};
use crate::session::carrier::SendErrorKind;

/// Why a poll brings no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PollEnd {
    /// There was none for as long as a poll is held, another poll of the same URL came, or visitors left
    /// ([`Queue::abandoned`]).
    #[error("there was no request")]
    Nothing,
    /// The URL has delivered its request.
    #[error("this URL has delivered its request")]
    Used,
    /// Too many polls wait already.
    #[error("too many polls wait already")]
    TooMany,
    /// The registration has ended.
    #[error("the registration has ended")]
    Ended,
}

/// See the module.
pub struct Queue {
    pub(super) flights: Arc<Flights>,
    pub(super) room: Room,
    /// For answers of several requests at once, as long as they are being read.
    pub(super) answers: Arc<Semaphore>,
    pub(super) state: Mutex<State>,
    absence: Duration,
    /// Raised by the first poll.
    met: Arc<Flag>,
    /// Raised when what streams is to break off.
    cut: Arc<Flag>,
}

pub(super) struct State {
    pub(super) polls: VecDeque<Waiter>,
    waiting: VecDeque<Job>,
    /// Requests in the agent's hand, by number.
    pub(super) handed: HashMap<u64, InHand>,
    /// URLs whose visitors left before their answers came.
    late: VecDeque<UrlId>,
    /// URLs whose visitors left before their answers came, and of which the agent is still to be told.
    abandoned: VecDeque<UrlId>,
    used: Used,
    next: u64,
    /// When the last poll ended.
    pub(super) left: Instant,
    pub(super) newcomer: Option<Newcomer>,
    ended: bool,
    /// The last poll wanted whole messages; `None` before the first.
    whole: Option<bool>,
}

pub(super) struct Waiter {
    number: u64,
    pub(super) url: UrlId,
    streams: bool,
    tell: oneshot::Sender<Job>,
}

/// What a look at the queue says of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// Polls that wait.
    pub polls: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests in its hand.
    pub handed: usize,
    /// For how long it has not been heard of; zero while it polls or has requests in hand.
    pub silent: Duration,
    /// The same, whether or not it has requests in hand.
    pub unpolled: Duration,
}

impl Queue {
    /// An empty queue; requests wait for `absence` after the last poll, and their bodies take at most `most` bytes each
    /// and `room` bytes together.
    pub fn new(flights: Arc<Flights>, absence: Duration, most: usize, room: usize) -> Arc<Self> {
        let state = State {
            polls: VecDeque::new(),
            waiting: VecDeque::new(),
            handed: HashMap::new(),
            late: VecDeque::new(),
            abandoned: VecDeque::new(),
            used: Used::default(),
            next: 0,
            left: Instant::now(),
            newcomer: None,
            ended: false,
            whole: None,
        };
        let answers = defaults::PIPELINES_ANSWERS.min(room).max(defaults::PIPELINE_ANSWERS);
        Arc::new(Self {
            // A quarter: one visitor does not take it all.
            room: Room::new(most.min(room / 4), room).within(flights.store.clone()),
            flights,
            answers: Arc::new(Semaphore::new(answers)),
            state: Mutex::new(state),
            absence,
            met: Arc::default(),
            cut: Arc::default(),
        })
    }

    /// Waits for a request for at most `hold`. Polls are served in turn. Dropping the future gives the turn up, and a
    /// request that had just come to it goes to the next.
    ///
    /// # Errors
    /// [`PollEnd`]
    pub async fn poll(
        self: &Arc<Self>,
        url: UrlId,
        manner: Manner,
        hold: Duration,
    ) -> Result<Handed, PollEnd> {
        let until = Instant::now() + hold;
        self.recall(url);
        loop {
            let job = self.next(url, manner.streams, until).await?;
            if let Some(handed) = deliver::embed(self, url, job, manner).await {
                return Ok(handed);
            }
        }
    }

    /// As [`Queue::poll`], for a request that the caller writes down itself; whole, and without an Upgrade. What has left
    /// this process comes again only if `url` can be polled `again`.
    ///
    /// # Errors
    /// [`PollEnd`]
    pub async fn poll_given(
        self: &Arc<Self>,
        url: UrlId,
        again: bool,
        hold: Duration,
    ) -> Result<Given, PollEnd> {
        let until = Instant::now() + hold;
        if again {
            self.recall(url);
        }
        loop {
            let job = self.next(url, false, until).await?;
            if let Some(given) = Given::take(self, url, job, again).await {
                return Ok(given);
            }
        }
    }

    /// As [`Queue::poll`], for a poll that takes several whole requests: the first, and those that wait behind it.
    ///
    /// # Errors
    /// [`PollEnd`]
    pub async fn poll_several(self: &Arc<Self>, url: UrlId, hold: Duration) -> Result<Several, PollEnd> {
        let until = Instant::now() + hold;
        self.recall(url);
        loop {
            let first = self.next(url, false, until).await?;
            if let Some(several) = pipeline::embed(self, url, first).await {
                return Ok(several);
            }
        }
    }

    /// Whoever polls a URL again that has delivered did not get its requests: nobody who did would poll but the next.
    /// They go to the front of the queue; what cannot be had again, its visitor is told.
    fn recall(&self, url: UrlId) {
        for back in self.flights.recall(url).into_iter().rev() {
            match back {
                Ok(job) => self.put_back(job, Some(url)),
                Err(flight) => flight.close(),
            }
        }
    }

    async fn next(self: &Arc<Self>, url: UrlId, streams: bool, until: Instant) -> Result<Job, PollEnd> {
        let mut turn = self.join(url, streams)?;
        tokio::select! {
            biased;
            job = &mut turn.told => {
                job.map_err(|_| if self.is_ended() { PollEnd::Ended } else { PollEnd::Nothing })
            }
            () = tokio::time::sleep_until(until) => Err(PollEnd::Nothing),
        }
    }

    fn join(self: &Arc<Self>, url: UrlId, streams: bool) -> Result<Turn, PollEnd> {
        let (tell, told) = oneshot::channel();
        let mut state = self.state.lock();
        if state.ended {
            return Err(PollEnd::Ended);
        }
        if state.used.contains(url) {
            return Err(PollEnd::Used);
        }
        // Whoever polls the same URL again has given up on the first poll, even if its connection stands.
        state.polls.retain(|waiter| waiter.url != url);
        if state.polls.len() >= defaults::POLLS_MOST {
            return Err(PollEnd::TooMany);
        }
        let number = state.number();
        state.whole = Some(!streams);
        self.met.raise();
        if streams && !state.abandoned.is_empty() {
            return Err(PollEnd::Nothing);
        }
        state.polls.push_back(Waiter { number, url, streams, tell });
        state.match_up();
        Ok(Turn { queue: self.clone(), number, told })
    }

    /// Queues a request, or hands it to the poll that has waited longest.
    pub(super) fn push(&self, mut job: Job) -> Result<u64, Box<Request>> {
        let mut state = self.state.lock();
        if state.ended {
            // Nothing of a body is read before a poll has taken it.
            return job.unsent().0.map_or(Ok(0), |request| Err(Box::new(request)));
        }
        job.number = state.number();
        let number = job.number;
        state.waiting.push_back(job);
        state.match_up();
        Ok(number)
    }

    /// Takes a request back that could not be delivered: it goes first.
    pub(super) fn put_back(&self, job: Job, url: Option<UrlId>) {
        let mut state = self.state.lock();
        state.handed.remove(&job.number);
        if let Some(url) = url {
            state.used.forget(url);
            // It may bring another request, which is not to be forgotten with this one.
            state.late.retain(|late| *late != url);
        }
        if job.done.is_closed() {
            return;
        }
        if state.ended {
            drop(state);
            return job.give_back(SendErrorKind::Closed);
        }
        state.waiting.push_front(job);
        state.match_up();
    }

    /// Notes that `url` is to deliver a request. Its visitor's place comes back when the URL has done so before, or the
    /// visitor has left meanwhile.
    pub(super) fn hand(&self, url: UrlId, flight: Flight) -> Result<(), Done> {
        // With one lock, because a visitor that leaves in between would be missed. A cut that comes later takes the lock
        // after its flag is raised, and finds this request; one that came before has looked already.
        let mut state = self.state.lock();
        if self.cut.is_raised() || state.used.contains(url) || flight.done.is_closed() {
            return Err(flight.done);
        }
        state.used.insert(url);
        state.handed.insert(flight.number, InHand::of(url));
        self.flights.insert(url, flight);
        Ok(())
    }

    /// As [`Queue::hand`], for several.
    pub(super) fn hand_several(&self, url: UrlId, flights: Vec<Flight>) -> Result<(), Vec<Flight>> {
        let mut state = self.state.lock();
        if self.cut.is_raised()
            || state.used.contains(url)
            || flights.iter().any(|flight| flight.done.is_closed())
        {
            return Err(flights);
        }
        state.used.insert(url);
        state.handed.extend(flights.iter().map(|flight| (flight.number, InHand::of(url))));
        self.flights.insert_several(url, flights);
        Ok(())
    }

    /// The next waiting request, if it can go at once with another: without a body, or with one in memory.
    pub(super) fn take_ready(&self) -> Option<Job> {
        let mut state = self.state.lock();
        let first = state.waiting.front().is_some_and(Job::is_ready);
        if first { state.waiting.pop_front() } else { None }
    }

    /// The answer has come, or never will.
    pub(super) fn answered(&self, number: u64) {
        let mut state = self.state.lock();
        state.handed.remove(&number);
        state.left = Instant::now();
    }

    /// The visitor of a request has gone, or has its answer.
    pub(super) fn leave(&self, number: u64) {
        let mut state = self.state.lock();
        state.waiting.retain(|job| job.number != number);
        let Some(InHand { url, .. }) = state.handed.remove(&number) else { return };
        if state.ended {
            drop(state);
            return self.flights.forget(url);
        }
        state.late.push_back(url);
        state.abandon(url);
        let oldest = if state.late.len() > defaults::ANSWERS_LATE { state.late.pop_front() } else { None };
        drop(state);
        self.flights.let_go(url);
        if let Some(oldest) = oldest {
            self.flights.forget(oldest);
        }
    }

    /// URLs whose requests nobody waits for any more, each told once: what a poll that streams brings when it brings
    /// nothing else.
    pub fn abandoned(&self) -> Vec<UrlId> {
        let mut state = self.state.lock();
        let some = state.abandoned.len().min(defaults::GONE_AT_ONCE);
        state.abandoned.drain(..some).collect()
    }

    /// Takes a waiting request out again, if it still waits.
    pub(super) fn take_back(&self, number: u64) -> Option<Request> {
        let mut state = self.state.lock();
        let place = state.waiting.iter().position(|job| job.number == number)?;
        state.waiting.remove(place)?.unsent().0
    }

    /// Ends the registration: polls end, what waits goes elsewhere; what is in hand may still be answered.
    pub fn end(&self) {
        let (polls, waiting, late) = {
            let mut state = self.state.lock();
            state.ended = true;
            let State { polls, waiting, late, .. } = &mut *state;
            (std::mem::take(polls), std::mem::take(waiting), std::mem::take(late))
        };
        drop(polls);
        late.into_iter().for_each(|url| self.flights.forget(url));
        for job in waiting {
            job.give_back(SendErrorKind::Closed);
        }
    }

    /// Ends the registration, what is in hand, and what streams.
    pub fn cut(&self) {
        self.end();
        self.cut.raise();
        self.lose(|_, _| true);
    }

    /// Resolves when what streams is to break off. Cancel safe.
    pub(super) fn is_cut(&self) -> Listener {
        self.cut.listen()
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Whether a URL has delivered.
    pub fn is_used(&self, url: UrlId) -> bool {
        self.state.lock().used.contains(url)
    }

    /// Resolves when the agent has polled once, so that it is known what it takes. Cancel safe.
    pub(super) fn met(&self) -> Listener {
        self.met.listen()
    }

    /// Whether bodies are to be complete before their requests are queued.
    pub(super) fn wants_whole(&self) -> bool {
        self.state.lock().whole.unwrap_or(true)
    }

    /// Whether the agent is known to want whole messages, so that it cannot be upgraded.
    pub(super) fn refuses_streams(&self) -> bool {
        self.state.lock().whole == Some(true)
    }

    /// How long requests wait for an agent that does not poll.
    pub(super) fn absence(&self) -> Duration {
        self.absence
    }

    /// How it stands.
    pub fn glance(&self) -> Glance {
        let state = self.state.lock();
        let busy = !state.polls.is_empty() || !state.handed.is_empty();
        Glance {
            polls: state.polls.len(),
            waiting: state.waiting.len(),
            handed: state.handed.len(),
            silent: if busy { Duration::ZERO } else { state.left.elapsed() },
            unpolled: state.unpolled(),
        }
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Has an agent that streams told that nobody waits for an answer: by a poll that waits, or else by its next.
    fn abandon(&mut self, url: UrlId) {
        if self.whole != Some(false) {
            return;
        }
        self.abandoned.push_back(url);
        if self.abandoned.len() > defaults::ANSWERS_LATE {
            self.abandoned.pop_front();
        }
        if let Some(place) = self.polls.iter().position(|waiter| waiter.streams) {
            // What waits without an end of its own brings nothing.
            self.polls.remove(place);
        }
    }

    fn match_up(&mut self) {
        while !self.waiting.is_empty() {
            let Some(waiter) = self.polls.pop_front() else { return };
            let Some(job) = self.waiting.pop_front() else { return };
            self.left = Instant::now();
            if let Err(job) = waiter.tell.send(job) {
                self.waiting.push_front(job);
            }
        }
    }
}

/// One poll's place in the queue.
struct Turn {
    queue: Arc<Queue>,
    number: u64,
    told: oneshot::Receiver<Job>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.polls.retain(|waiter| waiter.number != self.number);
        state.left = Instant::now();
        drop(state);
        if let Ok(job) = self.told.try_recv() {
            self.queue.put_back(job, None);
        }
    }
}
