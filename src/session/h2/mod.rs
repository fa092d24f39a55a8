//! HTTP/2 on a flipped connection: many requests at once.

mod goaway;
pub mod send;
pub mod serve;

use crate::net::Scope;

/// Gives hyper's own tasks an owner.
#[derive(Clone)]
struct Executor(Scope);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn_light(future);
    }
}
