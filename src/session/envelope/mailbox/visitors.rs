//! The events of visitors, and how long visitors wait.

use std::time::Duration;

use tokio::time::Instant;

use super::{ExchangeId, Mailbox, QueuedExchange, Stage};
use crate::defaults;
use crate::session::carrier::SendErrorKind;
use crate::session::envelope::UrlId;

impl<R, V, P> Mailbox<R, V, P> {
    /// A visitor's request arrives. The request is given back if the registration has ended.
    pub(in crate::session::envelope) fn request(
        &mut self,
        request: R,
        visitor: V,
        idempotent: bool,
    ) -> ExchangeId {
        let exchange = QueuedExchange {
            number: self.number(),
            stage: Stage::Queued(request),
            visitor: Some(visitor),
            since: self.now,
            idempotent,
            repeats: defaults::REPEATS,
            streams: false,
        };
        let id = ExchangeId(self.exchanges.insert(exchange));
        if self.ended {
            self.fail(id, SendErrorKind::Closed);
        } else {
            self.queue.push_back(id);
            self.match_up();
        }
        id
    }

    /// A visitor has left, or has its answer. The id of its exchange is not valid any more.
    pub(in crate::session::envelope) fn visitor_left(&mut self, id: ExchangeId) {
        let url = match self.set(id, Stage::VisitorLeft) {
            Some(Stage::Queued(request)) => {
                self.queue.retain(|queued| *queued != id);
                return self.remove(id, Some(request));
            }
            None | Some(Stage::Answering | Stage::VisitorLeft) => return self.remove(id, None),
            Some(Stage::Delivering(None)) => return,
            Some(Stage::Delivering(Some(url))) => url,
            Some(Stage::InHand { url, kept }) => {
                self.discard(kept, None);
                url
            }
        };
        if self.ended {
            return self.forget(url);
        }
        self.late_answers.push_back(url);
        self.abandon(url);
        if self.late_answers.len() > defaults::ANSWERS_LATE
            && let Some(oldest) = self.late_answers.pop_front()
        {
            self.forget(oldest);
        }
    }

    /// Until when a request waits in the queue; `None` while it is not queued.
    pub(in crate::session::envelope) fn deadline(&self, id: ExchangeId) -> Option<Instant> {
        let exchange = self.exchanges.get(id.0)?;
        let busy = exchange.since + defaults::POLL_BUSY;
        matches!(exchange.stage, Stage::Queued(_)).then(|| busy.min(self.now + self.patience()))
    }

    /// How much longer requests wait for an agent that is silent.
    fn patience(&self) -> Duration {
        self.absence.saturating_sub(self.silent())
    }

    /// Time has passed: requests that have waited for too long get an error.
    pub(in crate::session::envelope) fn tick(&mut self) {
        let absent = self.patience().is_zero();
        let is_due = |e: &QueuedExchange<R, V>| absent || self.now >= e.since + defaults::POLL_BUSY;
        let is_overdue = |id: &ExchangeId| self.exchanges.get(id.0).is_none_or(is_due);
        let overdue: Vec<_> = self.queue.iter().copied().filter(is_overdue).collect();
        self.queue.retain(|id| !overdue.contains(id));
        let kind = if absent { SendErrorKind::Absent } else { SendErrorKind::Busy };
        overdue.into_iter().for_each(|id| self.fail(id, kind));
    }

    /// Announces to an agent that streams that a visitor of `url` has left: by ending a poll that waits, or else by the
    /// agent's next poll.
    fn abandon(&mut self, url: UrlId) {
        if self.whole != Some(false) {
            return;
        }
        self.abandoned.push_back(url);
        if self.abandoned.len() > defaults::ANSWERS_LATE {
            self.abandoned.pop_front();
        }
        if let Some(place) = self.polls.iter().position(|poll| poll.streams) {
            self.end_poll(place);
        }
    }
}
