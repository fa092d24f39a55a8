//! An upload that continues after the head of its answer. It runs as a task, because it must continue whether or not
//! the answer is read.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::{ClientExchange, Home, frame_of, left_of};
use crate::message::Body;
use crate::message::body::{FrameSource, PolledFrame};

/// The body of an answer that arrived before the end of the upload.
pub(super) fn body<H: Home>(exchange: ClientExchange<H>) -> Body {
    let scope = exchange.home.as_ref().map(|home| home.scope().clone());
    let answered = exchange.decoder.is_done();
    let both = Both { exchange: Some(exchange), answered, uploaded: false, writer: None, reader: None };
    let both = Arc::new(Mutex::new(both));
    if let Some(scope) = scope {
        scope.spawn_light(continue_upload(both.clone()));
    }
    match answered {
        true => Body::empty(),
        false => Body::from_source(AnswerDuringUpload(both)),
    }
}

/// An upload and its answer, which run concurrently.
struct Both<H> {
    /// `None` when both are over or the answer is no longer wanted.
    exchange: Option<ClientExchange<H>>,
    answered: bool,
    uploaded: bool,
    writer: Option<Waker>,
    reader: Option<Waker>,
}

impl<H: Home> Both<H> {
    fn finish(&mut self) {
        if let Some(exchange) = self.exchange.take_if(|_| self.answered && self.uploaded) {
            exchange.finish();
        }
    }

    /// Ends the exchange in both directions.
    fn end(&mut self) {
        self.exchange = None;
        self.writer.take().into_iter().chain(self.reader.take()).for_each(Waker::wake);
    }
}

/// Writes the rest of an upload.
async fn continue_upload<H: Home>(both: Arc<Mutex<Both<H>>>) {
    poll_fn(|cx| {
        let mut both = both.lock();
        let Some(exchange) = &mut both.exchange else { return Poll::Ready(()) };
        if exchange.poll_unwanted(cx).is_ready() {
            both.end();
            return Poll::Ready(());
        }
        match exchange.poll_upload(cx) {
            Poll::Pending => {
                both.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "an upload broke off after its answer");
                (exchange.upload, exchange.upload_failed) = (None, Some(error));
                // The error may be the end of the connection, which the reader must detect too.
                both.reader.take().into_iter().for_each(Waker::wake);
            }
        }
        both.uploaded = true;
        both.finish();
        Poll::Ready(())
    })
    .await;
}

/// The body of an answer whose upload continues.
struct AnswerDuringUpload<H: Home>(Arc<Mutex<Both<H>>>);

impl<H: Home> FrameSource for AnswerDuringUpload<H> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let mut both = self.0.lock();
        if both.answered {
            return Poll::Ready(None);
        }
        let Some(exchange) = &mut both.exchange else { return Poll::Ready(None) };
        let Poll::Ready(piece) = exchange.poll_piece(cx) else {
            both.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        both.answered = piece.is_err() || exchange.decoder.is_done();
        if both.answered {
            // From now on the upload watches for the end of the connection.
            both.writer.take().into_iter().for_each(Waker::wake);
        }
        match piece.is_ok() {
            true => both.finish(),
            false => both.end(),
        }
        Poll::Ready(frame_of(piece))
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().answered
    }

    fn length(&self) -> Option<u64> {
        left_of(self.0.lock().exchange.as_ref())
    }
}

impl<H: Home> Drop for AnswerDuringUpload<H> {
    fn drop(&mut self) {
        let mut both = self.0.lock();
        if !both.answered {
            // Dropping the body of the answer cancels the request.
            both.end();
        }
    }
}
