//! Polls: each waits for its turn, takes requests, and makes a message of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::delivery::Delivery;
use super::mailbox::{PollEnd, PollId};
use super::queue::Queue;
use super::{PollMode, UrlId};

impl Queue {
    /// Waits for a request for at most `hold`. Polls are served in turn. Dropping the future gives the turn up, and a
    /// request that was just assigned to this poll is assigned to the next poll.
    ///
    /// # Errors
    /// [`PollEnd`]
    pub async fn poll(
        self: &Arc<Self>,
        url: UrlId,
        mode: PollMode,
        hold: Duration,
    ) -> Result<Delivery, PollEnd> {
        let until = Instant::now() + hold;
        let mut again = mode.again;
        loop {
            let (place, served) = oneshot::channel();
            let polled = self.lock().poll(url, PollMode { again, ..mode }, place);
            if matches!(polled, Ok(_) | Err(PollEnd::Nothing)) {
                self.first_poll.raise();
            }
            let mut turn = Turn { queue: self, id: polled?, served };
            let mut delivery = tokio::select! {
                biased;
                served = &mut turn.served => {
                    served.map_err(|_| if self.lock().is_ended() { PollEnd::Ended } else { PollEnd::Nothing })?
                }
                () = tokio::time::sleep_until(until) => return Err(PollEnd::Nothing),
            };
            drop(turn);
            // A request that this poll itself has queued again was not delivered before.
            again = false;
            delivery.fill(mode).await;
            if delivery.begin(url) {
                return Ok(delivery);
            }
            drop(delivery);
            // The agent has given up this poll for a newer poll of the same URL, which must keep its turn.
            if self.lock().is_polled(url) {
                return Err(PollEnd::Nothing);
            }
        }
    }
}

/// One poll's place in the queue. Requests that were served to a place that is dropped are queued again.
struct Turn<'a> {
    queue: &'a Arc<Queue>,
    id: PollId,
    served: oneshot::Receiver<Delivery>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Closed first, so that a request that is served from now on is assigned to another poll.
        self.served.close();
        self.queue.lock().poll_left(self.id);
    }
}
