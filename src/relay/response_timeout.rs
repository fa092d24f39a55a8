//! The timeout of an answer. It begins with the last byte of the upload, not with the first: most origins answer only
//! after the upload, and a large upload takes time.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http_body::Body as _;

use crate::message::Request;
use crate::message::body::BodyEvent;
use crate::net::io::LastRead;

/// Watches the upload of a request, and returns the time of its last progress. `None` when the request has no body.
pub(super) fn watch(request: &mut Request) -> Option<LastRead> {
    if request.body().is_end_stream() {
        return None;
    }
    let progress = LastRead::now();
    let observed = progress.clone();
    request.body_mut().observe(Box::new(move |event| {
        if event != BodyEvent::Pending {
            observed.touch();
        }
    }));
    Some(progress)
}

/// Waits for an answer until the upload has made no progress for `timeout`. `None` when no answer arrived in time.
pub(super) async fn wait<T>(
    answer: impl Future<Output = T>,
    progress: Option<LastRead>,
    timeout: Duration,
) -> Option<T> {
    let mut answer = pin!(answer);
    loop {
        let idle = progress.as_ref().map_or(Duration::ZERO, LastRead::elapsed);
        if let Ok(answer) = tokio::time::timeout(timeout.saturating_sub(idle), &mut answer).await {
            return Some(answer);
        }
        if progress.as_ref().is_none_or(|progress| progress.elapsed() >= timeout) {
            return None;
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
        let timeout = Duration::from_millis(200);
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
            let bytes = receiver.recv().await?;
            Some((Ok::<_, BoxError>(Frame::data(bytes)), receiver))
        });
        let mut request = Request::new(Body::wrap(http_body_util::StreamBody::new(frames)));
        let progress = watch(&mut request);
        let upload = async {
            let mut tick = tokio::time::interval(timeout / 4);
            for _ in 0..10 {
                tick.tick().await;
                sender.send(Bytes::from_static(b"x")).await.unwrap();
            }
            drop(sender);
        };
        let answer = wait(request.into_body().collect(), progress, timeout);
        let (_, answer) = tokio::join!(upload, answer);
        assert_eq!(answer.unwrap().unwrap().to_bytes().len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_answer_times_out() {
        let answer = wait(std::future::pending::<()>(), None, Duration::from_secs(5)).await;
        assert!(answer.is_none());
    }
}
