//! Limits the length of a visitor's upload, also of one whose length is not announced.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::message::{Body, BoxError, Request};

/// Ends an upload with an error once it is longer than `most` bytes, so that it never looks complete. The returned flag
/// shows whether that happened.
pub(super) fn limit(request: &mut Request, most: u64) -> Exceeded {
    let exceeded = Exceeded::default();
    let body = std::mem::take(request.body_mut());
    if !body.is_end_stream() {
        *request.body_mut() = Body::wrap(Limited { body, left: most, exceeded: exceeded.clone() });
    }
    exceeded
}

/// Whether an upload was too long.
#[derive(Debug, Clone, Default)]
pub(super) struct Exceeded(Arc<AtomicBool>);

impl Exceeded {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

struct Limited {
    body: Body,
    left: u64,
    exceeded: Exceeded,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.exceeded.0.store(true, Ordering::Release);
                    self.body = Body::empty();
                    return Poll::Ready(Some(Err("the upload exceeds its size limit".into())));
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.exceeded.is_so()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn sent(body: &'static str, most: u64) -> (bool, bool) {
        let mut request = Request::new(Body::full(body));
        let exceeded = limit(&mut request, most);
        (request.into_body().collect().await.is_ok(), exceeded.is_so())
    }

    #[tokio::test]
    async fn an_upload_over_the_limit_ends_with_an_error() {
        assert_eq!(sent("12345", 5).await, (true, false));
        assert_eq!(sent("12345", 4).await, (false, true));
        assert_eq!(sent("", 0).await, (true, false));
    }
}
