//! Keeps a request open that its origin stops reading. The request and its answer have different connections, and a
//! relay whose request connection closes first treats the whole exchange as broken.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::message::{Body, BoxError};

/// The body, and the receiver to which it goes if it is dropped before its end.
pub(super) fn keep(body: Body) -> (Body, oneshot::Receiver<Body>) {
    let (back, kept) = oneshot::channel();
    (Body::wrap(KeepOpen { body, back: Some(back) }), kept)
}

struct KeepOpen {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl Drop for KeepOpen {
    fn drop(&mut self) {
        if let Some(back) = self.back.take()
            && !self.body.is_end_stream()
        {
            // Without a receiver, the body ends here.
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}

impl HttpBody for KeepOpen {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn only_a_body_dropped_before_its_end_is_kept() {
        let connection = Arc::new(());
        let request = || {
            let mut body = Body::full("abc");
            body.hold(connection.clone());
            keep(body)
        };
        let (body, kept) = request();
        drop(body);
        assert_eq!(Arc::strong_count(&connection), 2);
        drop(kept);
        assert_eq!(Arc::strong_count(&connection), 1);
        let (mut body, mut kept) = request();
        assert_eq!(body.size_hint().exact(), Some(3));
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert!(kept.try_recv().is_err() && Arc::strong_count(&connection) == 1);
    }
}
