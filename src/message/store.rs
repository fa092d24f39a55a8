//! The budget of memory and disk for the bodies and answers of all registrations of one relay. Each registration has a
//! limit of its own as well, but where anybody may register, these limits add up to more than the relay has.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::defaults;

/// See the module.
pub struct SpoolBudget {
    /// The memory, in bytes.
    pub(super) memory: Arc<Semaphore>,
    /// The space on disk, in bytes.
    pub(super) disk: Arc<Semaphore>,
    /// The directory for long bodies. `None`: the directory for temporary files.
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
        // On 32-bit targets a semaphore has fewer permits.
        let count = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let semaphore = |bytes| Arc::new(Semaphore::new(count(bytes)));
        Self { memory: semaphore(memory), disk: semaphore(disk), folder }
    }

    /// Reserves memory for an answer. `None` when too little is free.
    pub fn reserve_memory(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        self.memory.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}
