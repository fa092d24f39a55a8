//! Records which relays refuse the agent. The agent ends when all relays refuse it; until then it retries the relays
//! that refused.

use parking_lot::Mutex;

use super::Fatal;

/// The last refusal of each relay that has not admitted the agent since, in the order of the configuration.
pub(super) struct Refusals(Mutex<Vec<Option<Fatal>>>);

impl Refusals {
    /// No relay has refused yet.
    pub(super) fn new(relays: usize) -> Self {
        Self(Mutex::new(vec![None; relays]))
    }

    /// Records a refusal by this relay.
    ///
    /// # Errors
    /// [`Fatal`], with the text of each refusal, when all relays have refused.
    pub(super) fn refused(&self, relay: usize, why: Fatal) -> Result<(), Fatal> {
        let mut all = self.0.lock();
        if let Some(last) = all.get_mut(relay) {
            *last = Some(why);
        }
        let refusals: Vec<_> = all.iter().flatten().cloned().collect();
        if refusals.len() < all.len() { Ok(()) } else { Err(merge(&refusals)) }
    }

    /// Records that this relay admitted the agent.
    pub(super) fn admitted(&self, relay: usize) {
        if let Some(last) = self.0.lock().get_mut(relay) {
            *last = None;
        }
    }
}

/// Merges the refusals of all relays. Refusals of different kinds become [`Fatal::Refused`].
fn merge(refusals: &[Fatal]) -> Fatal {
    let text = refusals.iter().map(Fatal::to_string).collect::<Vec<_>>().join("; ");
    let all = |is: fn(&Fatal) -> bool| refusals.iter().all(is);
    match () {
        () if all(|why| matches!(why, Fatal::Usage(_))) => Fatal::Usage(text),
        () if all(|why| matches!(why, Fatal::Fenced(_))) => Fatal::Fenced(text),
        () if all(|why| matches!(why, Fatal::Unusable(_))) => Fatal::Unusable(text),
        () => Fatal::Refused(text),
    }
}
