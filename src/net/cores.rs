//! One current-thread runtime per core. Everything that belongs to one request stays on one core. That is the largest
//! single performance gain, because a small request costs mostly wake-ups between threads.

use std::convert::Infallible;
use std::fmt;
use std::hash::{Hash as _, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{self, Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::defaults;

/// Identifies a core by its runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Core(Option<runtime::Id>);

impl Core {
    /// The core of the caller; the default where no runtime runs.
    pub fn current() -> Self {
        Handle::try_current().map_or_else(|_| Self::default(), |handle| Self::of(&handle))
    }

    /// The core of a runtime.
    pub fn of(runtime: &Handle) -> Self {
        Self(Some(runtime.id()))
    }

    /// The place of this core among `count` places, from 0. Cores that were started together have different places, if
    /// there are enough.
    pub fn place(self, count: usize) -> usize {
        let mut number = Number::default();
        if let Some(id) = self.0 {
            id.hash(&mut number);
        }
        usize::try_from(number.finish() % count as u64).unwrap_or_default()
    }
}

/// Yields the number of a runtime. Each new runtime has a higher number, and this hash keeps their order.
#[derive(Default)]
struct Number(u64);

impl Hasher for Number {
    fn write(&mut self, bytes: &[u8]) {
        self.0 =
            bytes.iter().fold(self.0, |number, byte| number.wrapping_mul(31).wrapping_add((*byte).into()));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => id.fmt(f),
            None => f.write_str("0"),
        }
    }
}

/// The runtimes of the data plane.
#[derive(Debug, Clone)]
pub struct Cores(Arc<CoresInner>);

#[derive(Debug)]
struct CoresInner {
    handles: Vec<Handle>,
    next: AtomicUsize,
    stop: CancellationToken,
    threads: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

impl Cores {
    /// Starts `count` threads (at least one), each with a current-thread runtime of its own.
    ///
    /// # Errors
    /// When the system gives no thread or no event queue.
    pub fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let mut handles = Vec::new();
        let mut threads = Vec::new();
        for index in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let stop = stop.clone();
            threads.push(std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        never = return_memory() => match never {},
                    }
                });
            })?);
        }
        Ok(Self(Arc::new(CoresInner { handles, next: AtomicUsize::new(0), stop, threads: threads.into() })))
    }

    /// The runtime of the caller, as the only core. For programs that embed this library.
    pub fn ambient() -> Self {
        let inner = CoresInner {
            handles: vec![Handle::current()],
            next: AtomicUsize::new(0),
            stop: CancellationToken::new(),
            threads: parking_lot::Mutex::default(),
        };
        Self(Arc::new(inner))
    }

    /// The number of cores.
    pub fn count(&self) -> usize {
        self.0.handles.len()
    }

    /// The runtime of core `index`, modulo their count.
    pub fn handle(&self, index: usize) -> &Handle {
        &self.0.handles[index % self.0.handles.len()]
    }

    /// The runtime of the next core, in turn.
    pub fn next(&self) -> &Handle {
        self.handle(self.0.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Returns the free memory of this thread to the system from time to time. mimalloc, the allocator of the program,
/// returns freed memory only when the thread allocates beside it again, which an idle thread never does. An allocation
/// that fails makes mimalloc return all of it. With another allocator the attempt has no effect.
async fn return_memory() -> Infallible {
    let mut tick = tokio::time::interval(defaults::MEMORY_RETURN);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let mut block = Vec::<u8>::new();
        // No address space has so much room, and mimalloc refuses larger blocks without an attempt.
        let _ = block.try_reserve_exact((1 << 48) - (1 << 20));
        std::hint::black_box(block);
    }
}

impl Drop for CoresInner {
    fn drop(&mut self) {
        self.stop.cancel();
        let current = std::thread::current().id();
        for thread in self.threads.get_mut().drain(..) {
            // The last clone may be dropped on a core itself; the thread of that core ends by its token alone.
            if thread.thread().id() != current {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_on_the_core_it_was_given_to() {
        let cores = Cores::start(2).unwrap();
        let (tx, rx) = std::sync::mpsc::channel();
        for index in [0, 1] {
            let (tx, core) = (tx.clone(), Core::of(cores.handle(index)));
            cores.handle(index).spawn(async move { tx.send((core, Core::current())).unwrap() });
        }
        for _ in 0..2 {
            let (wanted, got) = rx.recv().unwrap();
            assert_eq!(wanted, got);
        }
        let (first, second) = (Core::of(cores.next()), Core::of(cores.next()));
        assert_ne!(first, second);
        assert_ne!(first.place(64), second.place(64), "two cores share one place");
        assert_eq!((Core::current(), Core::current().place(64)), (Core::default(), 0));
    }
}
