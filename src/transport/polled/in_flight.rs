//! The requests in flight at this agent, each of which can be dropped when its visitor leaves.

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
pub(in crate::transport) struct InFlightRequests(Mutex<InFlightState>);

#[derive(Default)]
struct InFlightState {
    in_flight: HashMap<Id, oneshot::Sender<()>>,
    /// Ids of requests whose visitors left before the requests arrived.
    early: VecDeque<Id>,
}

/// A request in flight.
pub(in crate::transport) struct InFlightRequest {
    all: Arc<InFlightRequests>,
    id: Option<Id>,
    /// Resolves when the sender is dropped, because the visitor has left.
    cancelled: oneshot::Receiver<()>,
    /// The sender, if the request has no id: nothing can report that its visitor has left.
    retained: Option<oneshot::Sender<()>>,
}

impl InFlightRequests {
    /// Enters the request that the head of a poll's answer names.
    pub(in crate::transport) fn enter(self: &Arc<Self>, headers: &HeaderMap) -> InFlightRequest {
        let (sender, cancelled) = oneshot::channel();
        let id = headers.get(fields::PTTH_REQUEST).and_then(|value| parse(value.to_str().ok()?));
        let mut request = InFlightRequest { all: self.clone(), id, cancelled, retained: None };
        let mut state = self.0.lock();
        match id {
            Some(id) if state.early.contains(&id) => state.early.retain(|early| *early != id),
            Some(id) => {
                state.in_flight.insert(id, sender);
            }
            None => request.retained = Some(sender),
        }
        drop(state);
        request
    }

    /// Drops the requests whose visitors have left, as named in the head of a poll's answer.
    pub(in crate::transport) fn cancel(&self, headers: &HeaderMap) {
        let field = match headers.contains_key(fields::PTTH_CANCELLED) {
            true => fields::PTTH_CANCELLED,
            false => fields::PTTH_GONE,
        };
        for id in headers.get_all(field).iter().flat_map(hop::list).filter_map(parse) {
            let mut state = self.0.lock();
            if state.in_flight.remove(&id).is_none() {
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

impl InFlightRequest {
    /// Resolves when the visitor no longer waits for the answer. Cancel safe.
    pub(super) async fn visitor_left(&mut self) {
        // No value is ever sent: the sender is dropped.
        let _ = (&mut self.cancelled).await;
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.all.0.lock().in_flight.remove(&id);
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
        let requests = Arc::<InFlightRequests>::default();
        let mut first = requests.enter(&head(fields::PTTH_REQUEST, "a1"));
        let mut other = requests.enter(&head(fields::PTTH_REQUEST, "a2"));
        let mut nameless = requests.enter(&HeaderMap::new());
        requests.cancel(&head(fields::PTTH_GONE, "a1, a3, no id"));
        assert!(first.visitor_left().now_or_never().is_some());
        assert!(other.visitor_left().now_or_never().is_none());
        assert!(nameless.visitor_left().now_or_never().is_none());
        let mut late = requests.enter(&head(fields::PTTH_REQUEST, "a3"));
        assert!(late.visitor_left().now_or_never().is_some());
        // A relay sends both names to an agent that may know only the earlier one.
        let mut both = head(fields::PTTH_CANCELLED, "a2");
        both.extend(head(fields::PTTH_GONE, "a2"));
        requests.cancel(&both);
        assert!(other.visitor_left().now_or_never().is_some());
        drop((first, other, late));
        assert!(requests.0.lock().in_flight.is_empty() && requests.0.lock().early.is_empty());
    }
}
