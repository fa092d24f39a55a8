//! The timeout of an answer. It begins with the last byte of the upload, not with the first: most origins answer only
//! after the upload, and a large upload takes time.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http_body::Body as _;

use crate::message::Request;
use crate::message::body::BodyEvent;
use crate::net::io::LastRead;

/// Watches the upload of a request. `None` when the request has no body.
pub(super) fn watch(request: &mut Request) -> Option<LastRead> {
    if request.body().is_end_stream() {
        return None;
    }
    let moved = LastRead::now();
    let seen = moved.clone();
    request.body_mut().observe(Box::new(move |event| {
        if event != BodyEvent::Pending {
            seen.touch();
        }
    }));
    Some(moved)
}

/// Waits for an answer until the upload has made no progress for `most`. `None` when the answer did not come in time.
pub(super) async fn wait<T>(
    answer: impl Future<Output = T>,
    moved: Option<LastRead>,
    most: Duration,
) -> Option<T> {
    let mut answer = pin!(answer);
    loop {
        let quiet = moved.as_ref().map_or(Duration::ZERO, LastRead::elapsed);
        if let Ok(answer) = tokio::time::timeout(most.saturating_sub(quiet), &mut answer).await {
            return Some(answer);
        }
        if moved.as_ref().is_none_or(|moved| moved.elapsed() >= most) {
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
        let most = Duration::from_millis(200);
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
            let bytes = receiver.recv().await?;
            Some((Ok::<_, BoxError>(Frame::data(bytes)), receiver))
        });
        let mut request = Request::new(Body::wrap(http_body_util::StreamBody::new(frames)));
        let moved = watch(&mut request);
        let upload = async {
            let mut tick = tokio::time::interval(most / 4);
            for _ in 0..10 {
                tick.tick().await;
                sender.send(Bytes::from_static(b"x")).await.unwrap();
            }
            drop(sender);
        };
        let answer = wait(request.into_body().collect(), moved, most);
        let (_, answer) = tokio::join!(upload, answer);
        assert_eq!(answer.unwrap().unwrap().to_bytes().len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_answer_times_out() {
        let answer = wait(std::future::pending::<()>(), None, Duration::from_secs(5)).await;
        assert!(answer.is_none());
    }
}
