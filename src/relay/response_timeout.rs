//! The timeout of an answer. It begins with the last byte of the upload, not with the first: most origins answer only
//! after the upload, and a large upload takes time.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http_body::Body as _;
use tokio::time::Instant;

use crate::domain::AnswerLimit;
use crate::message::Request;
use crate::message::body::BodyEvent;
use crate::net::io::LastRead;

/// Measures how long one request waits for its answer.
#[derive(Default)]
pub(super) struct AnswerClock {
    /// The last progress of the upload; `None` when the request has no body.
    upload: Option<LastRead>,
    /// When the request was sent for the first time.
    began: Option<Instant>,
}

impl AnswerClock {
    /// Watches the upload of a request.
    pub(super) fn watch(request: &mut Request) -> Self {
        if request.body().is_end_stream() {
            return Self::default();
        }
        let progress = LastRead::now();
        let observed = progress.clone();
        request.body_mut().observe(Box::new(move |event| {
            if event != BodyEvent::Pending {
                observed.touch();
            }
        }));
        Self { upload: Some(progress), began: None }
    }

    /// Waits for an answer until the request has waited for `limit`. The time counts from the first call with a limit,
    /// and from the last progress of the upload. `None` when no answer arrived in time.
    pub(super) async fn wait<T>(&mut self, answer: impl Future<Output = T>, limit: AnswerLimit) -> Option<T> {
        if limit == AnswerLimit::NONE {
            return Some(answer.await);
        }
        let (began, upload) = (*self.began.get_or_insert_with(Instant::now), self.upload.as_ref());
        let waited = || upload.map_or(Duration::MAX, LastRead::elapsed).min(began.elapsed());
        let limit = limit.duration();
        let mut answer = pin!(answer);
        loop {
            if let Ok(answer) = tokio::time::timeout(limit.saturating_sub(waited()), &mut answer).await {
                return Some(answer);
            }
            if waited() >= limit {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::BodyExt;

    use super::*;
    use crate::message::{Body, BoxError};

    #[tokio::test]
    async fn an_upload_with_progress_does_not_time_out() {
        let limit = Duration::from_millis(200);
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
            let bytes = receiver.recv().await?;
            Some((Ok::<_, BoxError>(Frame::data(bytes)), receiver))
        });
        let mut request = Request::new(Body::wrap(http_body_util::StreamBody::new(frames)));
        let mut clock = AnswerClock::watch(&mut request);
        let upload = async {
            let mut tick = tokio::time::interval(limit / 4);
            for _ in 0..10 {
                tick.tick().await;
                sender.send(Bytes::from_static(b"x")).await.unwrap();
            }
            drop(sender);
        };
        let answer = clock.wait(request.into_body().collect(), limit.into());
        let (_, answer) = tokio::join!(upload, answer);
        assert_eq!(answer.unwrap().unwrap().to_bytes().len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_answer_times_out() {
        let mut clock = AnswerClock::default();
        let limit = AnswerLimit::from_seconds(5);
        let began = Instant::now();
        assert!(clock.wait(std::future::pending::<()>(), limit).await.is_none());
        assert_eq!(began.elapsed(), limit.duration());
        // A second session gets no time of its own.
        assert!(clock.wait(std::future::pending::<()>(), limit).await.is_none());
        assert_eq!(began.elapsed(), limit.duration());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_a_late_answer_arrives() {
        let day = Duration::from_secs(24 * 3_600);
        let answer = AnswerClock::default().wait(tokio::time::sleep(day), AnswerLimit::NONE).await;
        assert!(answer.is_some());
    }
}
