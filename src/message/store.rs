//! What the bodies and answers of all registrations of one relay may take together. Each registration has its share
//! besides; but where anybody may register, shares add up to more than there is.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::defaults;

/// See the module.
pub struct SpoolBudget {
    /// In bytes.
    pub(super) memory: Arc<Semaphore>,
    /// In bytes.
    pub(super) disk: Arc<Semaphore>,
    /// Where long bodies go; else the directory for temporary files.
    pub(super) folder: Option<PathBuf>,
}

impl Default for SpoolBudget {
    fn default() -> Self {
        Self::new(defaults::ENVELOPES_MEMORY, defaults::ENVELOPES_DISK, None)
    }
}

impl SpoolBudget {
    /// Room for `memory` bytes, and for `disk` bytes in files of `folder`, which must exist.
    pub fn new(memory: u64, disk: u64, folder: Option<PathBuf>) -> Self {
        // Where addresses are short, a semaphore counts less.
        let count = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let semaphore = |bytes| Arc::new(Semaphore::new(count(bytes)));
        Self { memory: semaphore(memory), disk: semaphore(disk), folder }
    }

    /// Memory for an answer, if there is some.
    pub fn remember(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        self.memory.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}
