//! The handler that answers requests at the agent's end of a session.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::message::{Request, Response, interim};

/// Answers requests. Infallible: a failure is an answer too.
///
/// On every carrier, a request for an Upgrade has `Connection: upgrade`, `Upgrade: TOKEN`, and a
/// [`Tunnel`](crate::message::upgrade::Tunnel) in its extensions. An answer 101 means that the handler has taken the
/// tunnel and uses the stream behind it. Any other answer leaves the stream unused.
///
/// The returned future is dropped when the visitor has left; the handler then releases its origin.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Interim responses go to `interim`, before the future resolves.
    fn call(&self, request: Request, interim: interim::Sender) -> BoxFuture<'static, Response>;
}

impl<H: Handler + ?Sized> Handler for Arc<H> {
    fn call(&self, request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        (**self).call(request, interim)
    }
}

struct Function<F>(F);

impl<F, T> Handler for Function<F>
where
    F: Fn(Request) -> T + Send + Sync + 'static,
    T: Future<Output = Response> + Send + 'static,
{
    fn call(&self, request: Request, _: interim::Sender) -> BoxFuture<'static, Response> {
        Box::pin((self.0)(request))
    }
}

/// A handler from an async function, which sends no interim responses.
pub fn handler_fn<F, T>(function: F) -> impl Handler
where
    F: Fn(Request) -> T + Send + Sync + 'static,
    T: Future<Output = Response> + Send + 'static,
{
    Function(function)
}
