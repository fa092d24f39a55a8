//! The part of the buffer memory that each agent may use.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::defaults;
use crate::domain::AgentId;
use crate::session::ReceiveBudget;

/// The share of each connected agent; all its connections use the same share.
pub(super) struct Shares {
    total: Arc<ReceiveBudget>,
    by_agent: Mutex<HashMap<AgentId, Weak<ReceiveBudget>>>,
}

impl Shares {
    pub(super) fn new(total: Arc<ReceiveBudget>) -> Self {
        Self { total, by_agent: Mutex::default() }
    }

    pub(super) fn of(&self, agent: &AgentId) -> Arc<ReceiveBudget> {
        let mut by_agent = self.by_agent.lock();
        if let Some(share) = by_agent.get(agent).and_then(Weak::upgrade) {
            return share;
        }
        // Before the table grows, the shares of disconnected agents are dropped.
        if by_agent.len() == by_agent.capacity() {
            by_agent.retain(|_, share| share.strong_count() > 0);
        }
        let share = self.total.share(defaults::BUFFERS_PER_AGENT);
        by_agent.insert(agent.clone(), Arc::downgrade(&share));
        share
    }
}
