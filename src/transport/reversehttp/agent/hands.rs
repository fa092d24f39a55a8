//! Requests that this agent has in hand, so that each can be dropped when its visitor leaves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::defaults;
use crate::message::{fields, hop};

/// The id of a request, set by the relay.
type Id = u128;

/// See the module.
#[derive(Default)]
pub(super) struct Hands(Mutex<HandsState>);

#[derive(Default)]
struct HandsState {
    held: HashMap<Id, oneshot::Sender<()>>,
    /// Ids of requests whose visitors left before the requests arrived.
    early: VecDeque<Id>,
}

/// A request in hand.
pub(super) struct RequestInHand {
    hands: Arc<Hands>,
    id: Option<Id>,
    gone: oneshot::Receiver<()>,
    keep: Option<oneshot::Sender<()>>,
}

impl Hands {
    /// Takes the request that the head of a poll's answer names.
    pub(super) fn take(self: &Arc<Self>, answer: &HeaderMap) -> RequestInHand {
        let (tell, gone) = oneshot::channel();
        let id = answer.get(fields::PTTH_REQUEST).and_then(|value| parse(value.to_str().ok()?));
        let mut held = RequestInHand { hands: self.clone(), id, gone, keep: None };
        let mut state = self.0.lock();
        match id {
            Some(id) if state.early.contains(&id) => state.early.retain(|early| *early != id),
            Some(id) => {
                state.held.insert(id, tell);
            }
            None => held.keep = Some(tell),
        }
        drop(state);
        held
    }

    /// Drops the requests whose visitors have left, as named in the head of a poll's answer.
    pub(super) fn let_go(&self, answer: &HeaderMap) {
        let gone = answer.get_all(fields::PTTH_GONE);
        for id in gone.iter().flat_map(hop::list).filter_map(parse) {
            let mut state = self.0.lock();
            if state.held.remove(&id).is_none() {
                state.early.push_back(id);
                if state.early.len() > defaults::GONE_EARLY {
                    state.early.pop_front();
                }
            }
        }
    }
}

fn parse(id: &str) -> Option<Id> {
    Id::from_str_radix(id, 16).ok()
}

impl RequestInHand {
    /// Resolves when nobody waits for the answer any more. Cancel safe.
    pub(super) async fn gone(&mut self) {
        // Nothing is ever sent: the other end is dropped.
        let _ = (&mut self.gone).await;
    }
}

impl Drop for RequestInHand {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.hands.0.lock().held.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn head(field: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(field, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_visitor_may_leave_before_or_after_its_request_arrives() {
        let hands = Arc::<Hands>::default();
        let mut first = hands.take(&head(fields::PTTH_REQUEST, "a1"));
        let mut other = hands.take(&head(fields::PTTH_REQUEST, "a2"));
        let mut nameless = hands.take(&HeaderMap::new());
        hands.let_go(&head(fields::PTTH_GONE, "a1, a3, no id"));
        assert!(first.gone().now_or_never().is_some());
        assert!(other.gone().now_or_never().is_none() && nameless.gone().now_or_never().is_none());
        let mut late = hands.take(&head(fields::PTTH_REQUEST, "a3"));
        assert!(late.gone().now_or_never().is_some());
        drop((first, other, late));
        assert!(hands.0.lock().held.is_empty() && hands.0.lock().early.is_empty());
    }
}
