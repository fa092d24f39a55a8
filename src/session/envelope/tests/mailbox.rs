//! The mailbox with visitors that leave, polls that break, batches, restarts and two pollers, in any order. No request
//! is lost, answered twice, or held past its deadline, and no request that may have been executed is repeated.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::session::envelope::mailbox::{Effect, ExchangeId, Mailbox, PollId};

/// The request of a visitor, with the visitor's number.
#[derive(Debug)]
struct VisitorRequest(usize);

/// The place of a visitor.
#[derive(Debug)]
struct Seat(usize);

#[derive(Debug, Clone)]
enum Step {
    /// A visitor sends a request.
    Request {
        idempotent: bool,
    },
    /// A visitor leaves.
    Leave(usize),
    Poll {
        url: UrlId,
        streams: bool,
        again: bool,
    },
    PollLeaves(usize),
    /// A poll makes a message of its request and of `more` further requests, or breaks meanwhile.
    Make {
        more: usize,
        breaks: bool,
    },
    /// The message of a delivery leaves this process, and its requests are kept or not; or the delivery breaks.
    Finish {
        kept: bool,
        breaks: bool,
    },
    Answer(usize),
    Wait(u64),
    /// Another process of the agent registers, and later polls; the connection of the first is closed.
    Restart(UrlId),
    End,
    Cut,
    AgentLeaves,
}

fn url() -> impl Strategy<Value = UrlId> {
    (0..2_u128, 0..6_u128).prop_map(|(poller, url)| poller << u64::BITS | url)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<bool>().prop_map(|idempotent| Step::Request { idempotent }),
        2 => (0..8_usize).prop_map(Step::Leave),
        6 => (url(), any::<bool>(), any::<bool>())
            .prop_map(|(url, streams, again)| Step::Poll { url, streams, again }),
        1 => (0..8_usize).prop_map(Step::PollLeaves),
        5 => (0..3_usize, prop::bool::weighted(0.2)).prop_map(|(more, breaks)| Step::Make { more, breaks }),
        5 => (any::<bool>(), prop::bool::weighted(0.3)).prop_map(|(kept, breaks)| Step::Finish { kept, breaks }),
        4 => (0..8_usize).prop_map(Step::Answer),
        3 => (0..20_000_u64).prop_map(Step::Wait),
        1 => url().prop_map(Step::Restart),
        1 => prop_oneof![Just(Step::End), Just(Step::Cut), Just(Step::AgentLeaves)],
    ]
}

#[derive(Debug, Default)]
struct Visitor {
    /// None once it has left.
    id: Option<ExchangeId>,
    results: usize,
    idempotent: bool,
    /// The URL to which all of its request was delivered. `None` again if that URL was polled again: the request did
    /// not arrive.
    executed: Option<UrlId>,
}

struct World {
    mailbox: Mailbox<VisitorRequest, Seat, usize>,
    now: Instant,
    visitors: Vec<Visitor>,
    polls: HashMap<usize, (PollId, UrlId)>,
    making: Vec<(UrlId, Vec<(ExchangeId, VisitorRequest)>)>,
    leases: Vec<(UrlId, Vec<(ExchangeId, VisitorRequest)>)>,
    /// URLs that were polled again while their message was written.
    recalled: HashSet<UrlId>,
    /// The poll that was served last.
    served: Option<usize>,
    urls: HashMap<usize, UrlId>,
    /// The mailbox takes back requests because their agent is gone, not because their delivery failed.
    losing: bool,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            mailbox: Mailbox::new(defaults::POLL_ABSENCE, now),
            now,
            visitors: Vec::new(),
            polls: HashMap::new(),
            making: Vec::new(),
            leases: Vec::new(),
            recalled: HashSet::new(),
            served: None,
            urls: HashMap::new(),
            losing: false,
        }
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Mailbox<VisitorRequest, Seat, usize>) -> T) -> T {
        self.mailbox.advance(self.now);
        let result = change(&mut self.mailbox);
        for effect in self.mailbox.effects() {
            match effect {
                Effect::Serve(poll, id, request) => {
                    self.check_repeat(&request);
                    self.polls.remove(&poll);
                    self.served = Some(poll);
                    self.making.push((self.urls[&poll], vec![(id, request)]));
                }
                Effect::EndPoll(poll) => drop(self.polls.remove(&poll)),
                Effect::Fail(Seat(visitor), _, request) => {
                    if let Some(request) = request {
                        assert_eq!(request.0, visitor, "a visitor gets the request of another");
                        self.check_repeat(&request);
                    }
                    self.visitors[visitor].results += 1;
                }
                Effect::Drop(_, Some(Seat(visitor))) => {
                    let visitor = &self.visitors[visitor];
                    assert!(visitor.id.is_none() || visitor.results > 0, "a visitor that waits is dropped");
                }
                Effect::Drop(..) | Effect::Forget(_) | Effect::Lost(_) => {}
            }
        }
        assert!(self.visitors.iter().all(|visitor| visitor.results <= 1), "a visitor has two results");
        result
    }

    fn check_repeat(&self, VisitorRequest(visitor): &VisitorRequest) {
        let visitor = &self.visitors[*visitor];
        assert!(
            !self.losing || visitor.executed.is_none() || visitor.idempotent,
            "a request is executed twice"
        );
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Request { idempotent } => self.request(idempotent),
            Step::Leave(n) => {
                let waiting: Vec<_> =
                    (0..self.visitors.len()).filter(|v| self.visitors[*v].id.is_some()).collect();
                if let Some(visitor) = waiting.get(n)
                    && let Some(id) = self.visitors[*visitor].id.take()
                {
                    self.change(|mailbox| mailbox.visitor_left(id));
                }
            }
            Step::Poll { url, streams, again } => self.poll(url, streams, again),
            Step::PollLeaves(n) => {
                if let Some(poll) = self.polls.keys().copied().nth(n)
                    && let Some((id, _)) = self.polls.remove(&poll)
                {
                    self.change(|mailbox| mailbox.poll_left(id));
                }
            }
            Step::Make { more, breaks } => self.make(more, breaks),
            Step::Finish { kept, breaks } => self.finish(kept, breaks),
            Step::Answer(n) => {
                let url = self.mailbox.urls().nth(n);
                if let Some(url) = url {
                    self.answer(url);
                }
            }
            Step::Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                self.losing = true;
                self.change(|mailbox| mailbox.take_over());
                self.losing = false;
                self.change(|mailbox| mailbox.tick());
                self.check_deadlines();
            }
            Step::Restart(url) => {
                let closed = Arc::new(true.into());
                let others: Vec<_> = self.mailbox.urls().collect();
                for other in others {
                    self.change(|mailbox| mailbox.delivers_on(other, &closed));
                }
                self.change(|mailbox| mailbox.registered(url));
            }
            Step::End => self.change(|mailbox| mailbox.end()),
            Step::Cut | Step::AgentLeaves => {
                self.losing = true;
                self.change(|mailbox| match step {
                    Step::Cut => mailbox.cut(),
                    _ => mailbox.agent_left(),
                });
                self.losing = false;
            }
        }
    }

    fn request(&mut self, idempotent: bool) {
        let number = self.visitors.len();
        self.visitors.push(Visitor { idempotent, ..Visitor::default() });
        let id = self.change(|mailbox| mailbox.request(VisitorRequest(number), Seat(number), idempotent));
        self.visitors[number].id = Some(id);
    }

    fn poll(&mut self, url: UrlId, streams: bool, again: bool) {
        if again {
            let recalled = self.visitors.iter_mut().filter(|visitor| visitor.executed == Some(url));
            recalled.for_each(|visitor| visitor.executed = None);
            self.recalled
                .extend(self.leases.iter().map(|(leased, _)| *leased).filter(|leased| *leased == url));
        }
        let poll = self.urls.len();
        self.urls.insert(poll, url);
        self.change(|mailbox| mailbox.is_newcomer(url));
        // Every third poll is one of an agent that cancels whole messages.
        let mode = PollMode { streams, again, instance: poll.is_multiple_of(3), ..PollMode::WHOLE };
        let polled = self.change(|mailbox| mailbox.poll(url, mode, poll));
        if let (Ok(id), false) = (polled, self.served == Some(poll)) {
            self.polls.insert(poll, (id, url));
        }
    }

    fn make(&mut self, more: usize, breaks: bool) {
        let Some((url, mut requests)) = self.making.pop() else { return };
        for _ in 0..more {
            requests.extend(self.change(|mailbox| mailbox.take_next(|_| true)));
        }
        let ids: Vec<_> = requests.iter().map(|(id, _)| *id).collect();
        if !breaks && self.change(|mailbox| mailbox.deliver(url, &ids, |_| ())) {
            self.leases.push((url, requests));
            return;
        }
        let requests = requests.into_iter().map(|(id, request)| (id, Some(request))).collect();
        self.change(|mailbox| mailbox.returned(None, requests));
    }

    fn finish(&mut self, kept: bool, breaks: bool) {
        if self.leases.is_empty() {
            return;
        }
        let (url, requests) = self.leases.remove(0);
        let recalled = self.recalled.remove(&url);
        if !breaks && !recalled {
            requests.iter().for_each(|(_, request)| self.visitors[request.0].executed = Some(url));
        }
        let requests: Vec<_> =
            requests.into_iter().map(|(id, request)| (id, Some(request).filter(|_| kept))).collect();
        self.change(|mailbox| match breaks {
            true => mailbox.returned(Some(url), requests),
            false => mailbox.delivered(url, requests),
        });
    }

    fn answer(&mut self, url: UrlId) {
        let seats = self.change(|mailbox| mailbox.answer(url));
        for Seat(visitor) in seats.into_iter().flatten() {
            self.visitors[visitor].results += 1;
        }
    }

    fn check_deadlines(&self) {
        for id in self.visitors.iter().filter_map(|visitor| visitor.id) {
            let deadline = self.mailbox.deadline(id);
            assert!(
                deadline.is_none_or(|deadline| deadline > self.now),
                "a request is held past its deadline"
            );
        }
    }

    /// Completes everything that is in flight.
    fn settle(&mut self) {
        while !self.making.is_empty() {
            self.make(0, false);
        }
        while !self.leases.is_empty() {
            self.finish(false, false);
        }
        while let Some(url) = { self.mailbox.urls().next() } {
            self.answer(url);
        }
        let polls: Vec<_> = self.polls.drain().map(|(_, (id, _))| id).collect();
        for id in polls {
            self.change(|mailbox| mailbox.poll_left(id));
        }
        self.step(Step::Wait(2 * defaults::POLL_BUSY.as_millis() as u64));
        for visitor in &self.visitors {
            assert!(visitor.id.is_none() || visitor.results == 1, "a request is lost: {visitor:?}");
        }
        for visitor in 0..self.visitors.len() {
            if let Some(id) = self.visitors[visitor].id.take() {
                self.change(|mailbox| mailbox.visitor_left(id));
            }
        }
        assert_eq!(self.mailbox.exchanges(), 0, "an exchange is retained without a visitor");
        let status = self.mailbox.status();
        assert_eq!((status.polls, status.waiting, status.in_hand), (0, 0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_request_is_lost_answered_twice_or_held_past_its_deadline(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
    }
}
