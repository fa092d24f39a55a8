//! The part of the buffer memory that each agent may use.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::defaults;
use crate::domain::AgentId;
use crate::session::ReceiveBudget;

/// The share of each connected agent; all its connections use the same share.
pub(super) struct Shares {
    whole: Arc<ReceiveBudget>,
    of: Mutex<HashMap<AgentId, Weak<ReceiveBudget>>>,
}

impl Shares {
    pub(super) fn new(whole: Arc<ReceiveBudget>) -> Self {
        Self { whole, of: Mutex::default() }
    }

    pub(super) fn of(&self, agent: &AgentId) -> Arc<ReceiveBudget> {
        let mut of = self.of.lock();
        if let Some(share) = of.get(agent).and_then(Weak::upgrade) {
            return share;
        }
        // Drops the shares of agents that have gone before the table grows.
        if of.len() == of.capacity() {
            of.retain(|_, share| share.strong_count() > 0);
        }
        let share = self.whole.share(defaults::BUFFERS_PER_AGENT);
        of.insert(agent.clone(), Arc::downgrade(&share));
        share
    }
}
