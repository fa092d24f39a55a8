//! One current-thread runtime per core. Everything that belongs to one request stays on one of them: the largest
//! single gain there is here, because a small request costs mostly wake-ups between threads.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The number of the core that the caller runs on; 0 outside of [`Cores`].
pub fn current() -> usize {
    CURRENT.get()
}

/// The runtimes of the data plane.
#[derive(Debug, Clone)]
pub struct Cores(Arc<Inner>);

#[derive(Debug)]
struct Inner {
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
                CURRENT.set(index);
                runtime.block_on(stop.cancelled());
            })?);
        }
        Ok(Self(Arc::new(Inner { handles, next: AtomicUsize::new(0), stop, threads: threads.into() })))
    }

    /// The runtime of the caller, as the only core. For programs that embed us.
    pub fn ambient() -> Self {
        let inner = Inner {
            handles: vec![Handle::current()],
            next: AtomicUsize::new(0),
            stop: CancellationToken::new(),
            threads: parking_lot::Mutex::default(),
        };
        Self(Arc::new(inner))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.handles.len()
    }

    /// The runtime of core `index`, modulo their count.
    pub fn handle(&self, index: usize) -> &Handle {
        &self.0.handles[index % self.0.handles.len()]
    }

    /// Deals the cores out in turn.
    pub fn next(&self) -> usize {
        self.0.next.fetch_add(1, Ordering::Relaxed) % self.0.handles.len()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        let here = std::thread::current().id();
        for thread in self.threads.get_mut().drain(..) {
            // The last clone may go on a core itself; that thread ends by its token alone.
            if thread.thread().id() != here {
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
            let tx = tx.clone();
            cores.handle(index).spawn(async move { tx.send((index, current())).unwrap() });
        }
        for _ in 0..2 {
            let (wanted, got) = rx.recv().unwrap();
            assert_eq!(wanted, got);
        }
        assert_ne!(cores.next(), cores.next());
    }
}
