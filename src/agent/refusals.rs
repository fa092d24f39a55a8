//! Which relays refuse the agent. It gives up when all of them do; until then a relay that refuses is tried again.

use parking_lot::Mutex;

use super::Fatal;

/// The last refusal of each relay that has not admitted the agent since, in the order of the configuration.
pub(super) struct Refusals(Mutex<Vec<Option<Fatal>>>);

impl Refusals {
    /// No relay has refused yet.
    pub(super) fn new(relays: usize) -> Self {
        Self(Mutex::new(vec![None; relays]))
    }

    /// This relay has refused the agent.
    ///
    /// # Errors
    /// [`Fatal`] when all relays have, with the text of each refusal.
    pub(super) fn refused(&self, relay: usize, why: Fatal) -> Result<(), Fatal> {
        let mut all = self.0.lock();
        if let Some(last) = all.get_mut(relay) {
            *last = Some(why);
        }
        let refusals: Vec<_> = all.iter().flatten().cloned().collect();
        if refusals.len() < all.len() { Ok(()) } else { Err(together(&refusals)) }
    }

    /// This relay has admitted the agent.
    pub(super) fn admitted(&self, relay: usize) {
        if let Some(last) = self.0.lock().get_mut(relay) {
            *last = None;
        }
    }
}

/// One end of all refusals. Refusals of several kinds are [`Fatal::Refused`].
fn together(refusals: &[Fatal]) -> Fatal {
    let text = refusals.iter().map(Fatal::to_string).collect::<Vec<_>>().join("; ");
    let all = |is: fn(&Fatal) -> bool| refusals.iter().all(is);
    match () {
        () if all(|why| matches!(why, Fatal::Usage(_))) => Fatal::Usage(text),
        () if all(|why| matches!(why, Fatal::Fenced(_))) => Fatal::Fenced(text),
        () => Fatal::Refused(text),
    }
}
