//! How many connections each agent has, counted from its admission on: one that is on its way counts like one that stands.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::AgentId;

/// See the module.
#[derive(Default)]
pub(super) struct Links(Mutex<HashMap<AgentId, usize>>);

impl Links {
    /// Counts one connection more of an agent, until the permit is dropped.
    ///
    /// # Errors
    /// How many the agent has, when these are `most`.
    pub(super) fn enter(self: &Arc<Self>, agent: &AgentId, most: usize) -> Result<LinkPermit, usize> {
        let mut counts = self.0.lock();
        let count = counts.entry(agent.clone()).or_default();
        if *count >= most {
            return Err(*count);
        }
        *count += 1;
        Ok(LinkPermit { links: self.clone(), agent: agent.clone() })
    }
}

/// One connection of an agent.
pub(super) struct LinkPermit {
    links: Arc<Links>,
    agent: AgentId,
}

impl Drop for LinkPermit {
    fn drop(&mut self) {
        let mut counts = self.links.0.lock();
        if let Some(count) = counts.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_agent_has_its_own_count_and_leaves_none_behind() {
        let links = Arc::<Links>::default();
        let enter = |agent: &str| links.enter(&AgentId(agent.into()), 2);
        let held = [enter("a"), enter("a"), enter("b")];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(enter("a").err(), Some(2));
        drop(held);
        assert!(enter("a").is_ok());
        assert!(links.0.lock().is_empty());
    }
}
