//! A body that breaks off with its registration.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::message::{Body, BoxError};
use crate::net::flag::Listener;

/// See the module. Whoever reads it must not take what there is for all there was.
pub(super) struct Severed {
    cut: Listener,
    body: Body,
}

impl Severed {
    /// A body that ends with an error once `cut` resolves.
    pub(super) fn by(cut: Listener, body: Body) -> Self {
        Self { cut, body }
    }
}

/// Whether `cut` has resolved; if not, the task is woken when it does.
pub(super) fn poll_cut(cut: &mut Listener, cx: &mut Context<'_>) -> Result<(), BoxError> {
    match Pin::new(cut).poll(cx) {
        Poll::Ready(()) => Err("the registration was cut".into()),
        Poll::Pending => Ok(()),
    }
}

impl HttpBody for Severed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Err(cut) = poll_cut(&mut self.cut, cx) {
            return Poll::Ready(Some(Err(cut)));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
