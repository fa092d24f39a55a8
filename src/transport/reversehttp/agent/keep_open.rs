//! Keeps the body of a request open after its origin has stopped reading. The request and its answer have different
//! connections. If the connection of the request closes first, the relay treats the exchange as broken.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::Body as _;
use parking_lot::Mutex;

use crate::message::Body;
use crate::message::body::{FrameSource, PolledFrame};

/// Keeps the rest of a body after its reader has dropped it.
pub(super) struct KeepOpen {
    _body: Arc<Mutex<Body>>,
}

/// The body for its reader, and the value that keeps the body open until it has ended.
pub(super) fn keep_open(body: Body) -> (Body, KeepOpen) {
    let shared = Arc::new(Mutex::new(body));
    (Body::from_source(SharedBody(shared.clone())), KeepOpen { _body: shared })
}

struct SharedBody(Arc<Mutex<Body>>);

impl FrameSource for SharedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let mut body = self.0.lock();
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        if body.is_end_stream() {
            *body = Body::empty();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().is_end_stream()
    }

    fn length(&self) -> Option<u64> {
        self.0.lock().size_hint().exact()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn only_a_body_dropped_before_its_end_is_kept() {
        let connection = Arc::new(());
        let request = || {
            let mut body = Body::full("abc");
            body.hold(connection.clone());
            keep_open(body)
        };
        let (body, guard) = request();
        drop(body);
        assert_eq!(Arc::strong_count(&connection), 2);
        drop(guard);
        assert_eq!(Arc::strong_count(&connection), 1);
        let (mut body, _guard) = request();
        assert_eq!(body.size_hint().exact(), Some(3));
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(Arc::strong_count(&connection), 1);
    }
}
