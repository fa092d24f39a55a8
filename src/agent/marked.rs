//! Takes the relay's mark of the visitor connection out of each request.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::message::login::VisitorMark;
use crate::message::{Request, Response, interim};
use crate::session::Handler;

/// Moves the mark from the fields of a request to its extensions, so that no service and no origin receives the field.
pub(super) struct Marked(pub(super) Arc<dyn Handler>);

impl Handler for Marked {
    fn call(&self, mut request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        if let Some(mark) = VisitorMark::take(request.headers_mut()) {
            request.extensions_mut().insert(mark);
        }
        self.0.call(request, interim)
    }
}
