//! Which session gets a request.

use std::sync::Arc;

use crate::domain::SessionId;
use crate::session::Session;

/// The less busy of two random sessions. A session that is late with its PING is taken only if there is no other.
pub(super) fn pick(sessions: &[Arc<Session>], tried: &[SessionId]) -> Option<Arc<Session>> {
    let usable = |s: &&Arc<Session>| s.is_usable() && !tried.contains(&s.id);
    if let [only] = sessions {
        return Some(only).filter(usable).cloned();
    }
    let mut candidates: Vec<_> = sessions.iter().filter(usable).collect();
    if candidates.iter().any(|s| !s.is_late()) {
        candidates.retain(|s| !s.is_late());
    }
    if candidates.len() > 2 {
        for index in 0..2 {
            let other = rand::random_range(index..candidates.len());
            candidates.swap(index, other);
        }
        candidates.truncate(2);
    } else if candidates.len() == 2 && rand::random() {
        candidates.swap(0, 1);
    }
    candidates.into_iter().min_by_key(|s| s.load()).cloned()
}
