//! One registration's queue: requests on one side, polls on the other, first come first served on both.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::used::Used;
use super::{Flights, Given, Handed, UrlId, deliver};
use crate::defaults;
use crate::message::{Request, Response};
use crate::session::carrier::{SendError, SendErrorKind};

/// Where the answer to one request goes.
pub(super) type Done = oneshot::Sender<Result<Response, SendError>>;

/// A request on its way to a poll.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) request: Request,
    pub(super) done: Done,
    /// The share of the registration's memory that its body has.
    pub(super) share: Option<OwnedSemaphorePermit>,
}

/// Why a poll brings no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PollEnd {
    /// There was none for as long as a poll is held, or another poll of the same URL came.
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
    pub(super) memory: Arc<Semaphore>,
    state: Mutex<State>,
    absence: Duration,
}

struct State {
    polls: VecDeque<Waiter>,
    waiting: VecDeque<Job>,
    /// Requests in the agent's hand, by number, with the URL of each.
    handed: HashMap<u64, UrlId>,
    /// URLs whose visitors left before their answers came.
    late: VecDeque<UrlId>,
    used: Used,
    next: u64,
    /// When the last poll ended.
    left: Instant,
    ended: bool,
    /// The last poll wanted whole messages; `None` before the first.
    whole: Option<bool>,
}

struct Waiter {
    number: u64,
    url: UrlId,
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
}

impl Queue {
    /// An empty queue; requests wait for `absence` after the last poll.
    pub fn new(flights: Arc<Flights>, absence: Duration) -> Arc<Self> {
        let state = State {
            polls: VecDeque::new(),
            waiting: VecDeque::new(),
            handed: HashMap::new(),
            late: VecDeque::new(),
            used: Used::default(),
            next: 0,
            left: Instant::now(),
            ended: false,
            whole: None,
        };
        let memory = Arc::new(Semaphore::new(defaults::MESSAGES));
        Arc::new(Self { flights, memory, state: Mutex::new(state), absence })
    }

    /// Waits for a request for at most `hold`. Polls are served in turn. Dropping the future gives the turn up, and a
    /// request that had just come to it goes to the next.
    ///
    /// # Errors
    /// [`PollEnd`]
    pub async fn poll(
        self: &Arc<Self>,
        url: UrlId,
        streams: bool,
        hold: Duration,
    ) -> Result<Handed, PollEnd> {
        let until = Instant::now() + hold;
        loop {
            let job = self.wait(url, streams, until).await?;
            if let Some(handed) = deliver::embed(self, url, job, streams).await {
                return Ok(handed);
            }
        }
    }

    /// As [`Queue::poll`], for a request that the caller writes down itself; whole, and without an Upgrade.
    ///
    /// # Errors
    /// [`PollEnd`]
    pub async fn poll_given(self: &Arc<Self>, url: UrlId, hold: Duration) -> Result<Given, PollEnd> {
        let until = Instant::now() + hold;
        loop {
            let job = self.wait(url, false, until).await?;
            if let Some(given) = Given::take(self, url, job).await {
                return Ok(given);
            }
        }
    }

    /// Waits for a request in the place of `url`.
    async fn wait(self: &Arc<Self>, url: UrlId, streams: bool, until: Instant) -> Result<Job, PollEnd> {
        let mut turn = self.join(url, streams)?;
        let job = tokio::select! {
            biased;
            job = &mut turn.told => job,
            () = tokio::time::sleep_until(until) => return Err(PollEnd::Nothing),
        };
        let ended = || if self.is_ended() { PollEnd::Ended } else { PollEnd::Nothing };
        job.map_err(|_| ended())
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
        state.polls.push_back(Waiter { number, url, tell });
        state.match_up();
        Ok(Turn { queue: self.clone(), number, told })
    }

    /// Queues a request, or hands it to the poll that has waited longest.
    pub(super) fn push(&self, mut job: Job) -> Result<u64, Box<Request>> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(Box::new(job.request));
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
        }
        if state.ended {
            drop(state);
            let _ = job.done.send(Err(SendErrorKind::Closed.unsent(job.request)));
            return;
        }
        state.waiting.push_front(job);
        state.match_up();
    }

    /// Notes that `url` is to deliver a request. `false` when it has done so before.
    pub(super) fn hand(&self, number: u64, url: UrlId) -> bool {
        let mut state = self.state.lock();
        if state.used.contains(url) {
            return false;
        }
        state.used.insert(url);
        state.handed.insert(number, url);
        true
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
        if let Some(url) = state.handed.remove(&number) {
            state.late.push_back(url);
            if state.late.len() > defaults::ANSWERS_LATE
                && let Some(oldest) = state.late.pop_front()
            {
                self.flights.forget(oldest);
            }
        }
    }

    /// Takes a waiting request out again, if it still waits.
    pub(super) fn take_back(&self, number: u64) -> Option<Request> {
        let mut state = self.state.lock();
        let place = state.waiting.iter().position(|job| job.number == number)?;
        state.waiting.remove(place).map(|job| job.request)
    }

    /// Ends the registration: polls end, what waits goes elsewhere; what is in hand may still be answered.
    pub fn end(&self) {
        let (polls, waiting) = {
            let mut state = self.state.lock();
            state.ended = true;
            (std::mem::take(&mut state.polls), std::mem::take(&mut state.waiting))
        };
        drop(polls);
        for job in waiting {
            let _ = job.done.send(Err(SendErrorKind::Closed.unsent(job.request)));
        }
    }

    /// Ends the registration and what is in hand.
    pub fn cut(&self) {
        self.end();
        let handed: Vec<_> = self.state.lock().handed.drain().collect();
        for (_, url) in handed {
            self.flights.fail(url);
        }
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Whether a URL has delivered.
    pub fn is_used(&self, url: UrlId) -> bool {
        self.state.lock().used.contains(url)
    }

    /// Whether bodies are to be in memory before their requests are queued.
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
        }
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
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
