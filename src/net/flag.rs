//! A flag that is raised once and has thousands of connections as listeners. Every poll of a connection reads the flag,
//! so a read takes no lock: each listener has a waker of its own, and only joining and leaving touch the shared list.
//! (A cancellation token locks one list of waiters at each poll, and all cores contend for that lock.)

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// See the module.
#[derive(Debug, Default)]
pub struct Flag {
    raised: AtomicBool,
    shared: Mutex<Listeners>,
}

#[derive(Debug, Default)]
struct Listeners {
    next: u64,
    listeners: HashMap<u64, Arc<AtomicWaker>>,
    children: Vec<Weak<Flag>>,
}

impl Flag {
    /// A child of this flag: it is raised with this flag, and can be raised alone.
    pub fn child(self: &Arc<Self>) -> Arc<Self> {
        let child = Arc::new(Self::default());
        let mut shared = self.shared.lock();
        shared.children.retain(|weak| weak.strong_count() > 0);
        shared.children.push(Arc::downgrade(&child));
        drop(shared);
        if self.is_raised() {
            child.raise();
        }
        child
    }

    /// Whether the flag was raised.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Raises the flag, and every flag below it. Idempotent.
    pub fn raise(&self) {
        if self.raised.swap(true, Ordering::AcqRel) {
            return;
        }
        let Listeners { listeners, children, .. } = std::mem::take(&mut *self.shared.lock());
        listeners.values().for_each(|waker| waker.wake());
        children.iter().filter_map(Weak::upgrade).for_each(|child| child.raise());
    }

    /// A future that resolves when the flag is raised.
    pub fn listen(self: &Arc<Self>) -> Listener {
        Listener { flag: self.clone(), waker: Arc::default(), id: None }
    }
}

/// Resolves when a flag is raised. Cancel safe.
#[derive(Debug)]
pub struct Listener {
    flag: Arc<Flag>,
    waker: Arc<AtomicWaker>,
    id: Option<u64>,
}

impl Future for Listener {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.flag.is_raised() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.id.is_none() {
            let mut shared = self.flag.shared.lock();
            let id = shared.next;
            shared.next += 1;
            shared.listeners.insert(id, self.waker.clone());
            drop(shared);
            self.id = Some(id);
        }
        // If the flag was raised in between, the wake may have missed a waker that was not registered yet.
        if self.flag.is_raised() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.flag.shared.lock().listeners.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_raised_flag_wakes_every_listener_and_stays_raised() {
        let flag = Arc::new(Flag::default());
        let child = flag.child();
        let mut early = flag.listen();
        let mut below = child.listen();
        assert!(futures_util::poll!(&mut early).is_pending());
        assert!(futures_util::poll!(&mut below).is_pending());
        flag.raise();
        early.await;
        below.await;
        flag.listen().await;
        flag.child().listen().await;
    }

    #[tokio::test]
    async fn a_dropped_listener_is_removed() {
        let flag = Arc::new(Flag::default());
        let mut listener = flag.listen();
        assert!(futures_util::poll!(&mut listener).is_pending());
        assert_eq!(flag.shared.lock().listeners.len(), 1);
        drop(listener);
        assert!(flag.shared.lock().listeners.is_empty());
    }

    #[tokio::test]
    async fn a_sleeping_listener_is_woken() {
        let flag = Arc::new(Flag::default());
        let listener = flag.listen();
        let (_, woken) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                flag.raise();
            },
            tokio::time::timeout(std::time::Duration::from_secs(5), listener),
        );
        woken.unwrap();
    }
}
