//! The only module that spawns tasks.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::level_filters::LevelFilter;
use tracing::{Instrument as _, Span};

use super::flag::{Flag, Listener};

/// The owner of tasks. Every task belongs to one scope, and a scope can be stopped and awaited. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct Scope(Arc<ScopeInner>);

#[derive(Debug, Default)]
struct ScopeInner {
    stopping: Arc<Flag>,
    abort: Arc<Flag>,
    tasks: TaskTracker,
}

impl Scope {
    /// A scope without a parent.
    pub fn new() -> Self {
        Self::default()
    }

    /// A scope that stops with this one, and can be stopped and awaited alone. Its tasks do not belong to this scope.
    pub fn child(&self) -> Self {
        let ScopeInner { stopping, abort, .. } = &*self.0;
        Self(Arc::new(ScopeInner {
            stopping: stopping.child(),
            abort: abort.child(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Spawns on the current runtime. The task is dropped at its next await when the scope's grace has ended.
    #[expect(clippy::disallowed_methods, reason = "this scope is the owner that the lint requires")]
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.owned(task));
    }

    /// As [`Scope::spawn`], on another runtime.
    pub fn spawn_on(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        runtime.spawn(self.owned(task));
    }

    /// As [`Scope::spawn`], for a task that ends with its connection: the scope waits for the task and does not abort
    /// it, which spares the hot path a registration with the abort flag.
    #[expect(clippy::disallowed_methods, reason = "this scope is the owner that the lint requires")]
    pub fn spawn_light<F: Future<Output: Send> + Send + 'static>(&self, task: F) {
        tokio::spawn(self.0.tasks.track_future(task.instrument(task_span())));
    }

    fn owned(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let abort = self.0.abort.listen();
        let task = async move {
            tokio::select! {
                biased;
                () = abort => {}
                () = task => {}
            }
        };
        self.0.tasks.track_future(task.instrument(task_span()))
    }

    /// Resolves when a stop of the scope is requested. Cancel safe.
    pub fn stopping(&self) -> Listener {
        self.0.stopping.listen()
    }

    /// Whether a stop of the scope was requested.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.is_raised()
    }

    /// Requests every task to stop, without waiting.
    pub fn request_stop(&self) {
        self.0.stopping.raise();
    }

    /// Requests every task to stop, waits at most `grace`, then aborts the tasks that are left and returns their
    /// number. Dropping the future leaves the scope stopping.
    pub async fn stop(&self, grace: Duration) -> usize {
        self.stop_with(grace, || {}).await
    }

    /// As [`Scope::stop`]. When the grace has ended, `before_abort` runs, and after it the tasks that are left are
    /// aborted.
    pub async fn stop_with(&self, grace: Duration, before_abort: impl FnOnce()) -> usize {
        self.request_stop();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_ok() {
            return 0;
        }
        let left = self.0.tasks.len();
        before_abort();
        self.0.abort.raise();
        // Aborted tasks end at their next await. A task that never awaits must not hold up the stop.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.0.tasks.wait()).await;
        left
    }

    /// Aborts every task now. For owners that are dropped without having been stopped.
    pub fn abort(&self) {
        self.request_stop();
        self.0.abort.raise();
    }
}

/// The span of the task that spawns, for the spawned task. When spans are not enabled, the subscriber is not consulted.
fn task_span() -> Span {
    if LevelFilter::current() < LevelFilter::DEBUG { Span::none() } else { Span::current() }
}

/// Spawns hyper's own tasks in a scope.
#[derive(Debug, Clone)]
pub struct ScopeExecutor(pub Scope);

impl<F> hyper::rt::Executor<F> for ScopeExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn_light(future);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stop_waits_for_ending_tasks_and_counts_the_rest() {
        let scope = Scope::new();
        let same_scope = scope.clone();
        scope.spawn(async move { same_scope.stopping().await });
        scope.spawn(std::future::pending());
        assert_eq!(scope.stop(Duration::from_secs(5)).await, 1);
    }

    #[tokio::test]
    async fn a_child_stops_with_its_parent_and_not_the_other_way() {
        let parent = Scope::new();
        let child = parent.child();
        child.request_stop();
        assert!(!parent.is_stopping());
        let child = parent.child();
        parent.request_stop();
        assert!(child.is_stopping());
    }
}
