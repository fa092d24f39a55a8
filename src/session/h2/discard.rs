//! Discards the rest of uploads that were answered before their end. Some visitors treat a reset of the stream as a
//! failure even if the answer precedes it, so the stream stays open while they send (RFC 9113 §8.1). The bytes count
//! against no window while they are discarded, so other streams of the connection do not wait.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use h2::RecvStream;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::defaults;
use crate::net::Scope;
use crate::net::linger::{Linger, LingerLimits, LingerPlace};

/// Makes the place of a connection that lingers.
pub(crate) type LingerPlaces = Arc<dyn Fn() -> LingerPlace + Send + Sync>;

/// The uploads of one connection that are discarded.
pub(super) struct DiscardedUploads {
    places: LingerPlaces,
    scope: Scope,
    current: Mutex<Weak<LingeringConnection>>,
}

/// A connection on which at least one upload is being discarded.
struct LingeringConnection {
    place: LingerPlace,
    /// The bytes that may still be discarded.
    left: AtomicU64,
}

impl LingeringConnection {
    fn take(&self, bytes: usize) -> bool {
        let less = |left: u64| left.checked_sub(bytes as u64);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl DiscardedUploads {
    pub(super) fn new(places: LingerPlaces, scope: &Scope) -> Arc<Self> {
        Arc::new(Self { places, scope: scope.clone(), current: Mutex::default() })
    }

    fn connection(&self) -> Arc<LingeringConnection> {
        let mut current = self.current.lock();
        current.upgrade().unwrap_or_else(|| {
            let left = AtomicU64::new(LingerLimits::DEFAULT.bytes);
            let connection = Arc::new(LingeringConnection { place: (self.places)(), left });
            *current = Arc::downgrade(&connection);
            connection
        })
    }

    /// Waits until the body of an upload is dropped, and discards the rest within the limits of lingering. Then the
    /// stream is reset, if it has not ended. Dropping the future resets it at once.
    pub(super) async fn discard(self: Arc<Self>, unread: oneshot::Receiver<RecvStream>) {
        let Ok(mut receiver) = unread.await else { return };
        let connection = self.connection();
        let mut linger = Linger::begin(&LingerLimits::DEFAULT);
        let mut evicted = connection.place.evicted();
        let mut stopped = pin!(async {
            self.scope.stopping().await;
            tokio::time::sleep(defaults::LINGER_STOP).await;
        });
        loop {
            let data = tokio::select! {
                biased;
                () = &mut evicted => return,
                () = &mut stopped => return,
                data = receiver.data() => data,
                () = tokio::time::sleep_until(linger.deadline()) => return,
            };
            let Some(Ok(data)) = data else { return };
            let released = receiver.flow_control().release_capacity(data.len());
            if released.is_err() || !linger.discard(data.len()) || !connection.take(data.len()) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, pending, poll_fn};
    use std::time::Duration;

    use bytes::Bytes;
    use h2::client::SendRequest;
    use h2::{Reason, SendStream};
    use http_body_util::BodyExt as _;
    use tokio::time::Instant;

    use super::*;
    use crate::message::{Body, Response};
    use crate::net::Io;
    use crate::net::flag::Flag;
    use crate::session::h2::ReceiveBudget;
    use crate::session::h2::server::{Http2Terms, serve};
    use crate::session::h2::uploads::UploadPolicy;

    const SECOND: Duration = Duration::from_secs(1);

    /// Serves `client`: uploads to `/echo` are answered with their length, all others are refused unread.
    async fn served(
        (scope, evicted): (&Scope, Arc<Flag>),
        leave: impl Future<Output = ()>,
        client: impl AsyncFnOnce(SendRequest<Bytes>),
    ) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let places = move || LingerPlace { evicted: Some(evicted.clone()), guard: None };
        let (budget, first) = (ReceiveBudget::new(1 << 20), 1 << 17);
        let terms = Http2Terms {
            uploads: UploadPolicy::Connection { budget, first, most: first },
            streams: 8,
            fields: 1 << 14,
            resets: 3,
            faults: Some(3),
            ping_every: 1000 * SECOND,
            ping_dead: 1000 * SECOND,
            idle: None,
            linger: Some(Arc::new(places)),
        };
        let answer = |request: crate::message::Request, _| {
            Box::pin(async {
                if request.uri().path() != "/echo" {
                    drop(request);
                    return http::Response::builder().status(413).body(Body::full("no")).unwrap();
                }
                let length = request.into_body().collect().await.unwrap().to_bytes().len();
                Response::new(Body::full(length.to_string()))
            })
        };
        let mut io = Io::other(far);
        let last_read = io.last_read();
        let serving = serve(io, last_read, terms, scope, leave, |_| {}, answer);
        let exchange = async {
            let (handle, connection) = h2::client::handshake(near).await.unwrap();
            let driven = async {
                let _ = connection.await;
            };
            tokio::join!(driven, client(handle));
        };
        let _ = tokio::join!(serving, exchange);
    }

    /// Begins an upload, and reads the whole answer.
    async fn refused(handle: &SendRequest<Bytes>) -> SendStream<Bytes> {
        let mut handle = handle.clone().ready().await.unwrap();
        let request = http::Request::post("http://a.test/").body(()).unwrap();
        let (answer, upload) = handle.send_request(request, false).unwrap();
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.status(), 413);
        assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "no");
        assert!(answer.body().is_end_stream(), "the answer ends before the stream is reset");
        upload
    }

    /// Sends pieces until the stream is reset. Returns the number of bytes and the reason.
    async fn send_all(mut upload: SendStream<Bytes>, piece: usize, pause: Duration) -> (u64, Reason) {
        let mut sent = 0;
        loop {
            upload.reserve_capacity(piece);
            match poll_fn(|cx| upload.poll_capacity(cx)).await {
                Some(Ok(window)) => {
                    let window = window.min(piece);
                    if upload.send_data(vec![b'x'; window].into(), false).is_ok() {
                        sent += window as u64;
                    }
                }
                _ => return (sent, poll_fn(|cx| upload.poll_reset(cx)).await.unwrap()),
            }
            if !pause.is_zero() {
                let reset = tokio::time::timeout(pause, poll_fn(|cx| upload.poll_reset(cx))).await;
                if let Ok(reason) = reset {
                    return (sent, reason.unwrap());
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_upload_is_discarded_within_limits_and_then_reset() {
        let scope = Scope::new();
        served((&scope, Arc::default()), pending(), async |handle| {
            let began = Instant::now();
            let (_, reason) = send_all(refused(&handle).await, 1, SECOND).await;
            assert_eq!((reason, began.elapsed()), (Reason::NO_ERROR, defaults::LINGER));
            let began = Instant::now();
            let (sent, reason) = send_all(refused(&handle).await, 1, 10 * SECOND).await;
            assert_eq!((sent, reason, began.elapsed()), (1, Reason::NO_ERROR, defaults::LINGER_SILENCE));
            let (sent, reason) = send_all(refused(&handle).await, 1 << 14, Duration::ZERO).await;
            assert_eq!(reason, Reason::NO_ERROR);
            let limit = defaults::LINGER_BYTES;
            assert!((limit..limit + (1 << 20)).contains(&sent), "{sent}");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_that_are_discarded_do_not_hold_up_others() {
        let scope = Scope::new();
        served((&scope, Arc::default()), pending(), async |handle| {
            let discarded = refused(&handle).await;
            let wanted = async {
                let mut handle = handle.clone().ready().await.unwrap();
                let request = http::Request::post("http://a.test/echo").body(()).unwrap();
                let (answer, mut upload) = handle.send_request(request, false).unwrap();
                let mut left = 1 << 20;
                while left > 0 {
                    upload.reserve_capacity(left);
                    let window = poll_fn(|cx| upload.poll_capacity(cx)).await.unwrap().unwrap();
                    left -= window;
                    upload.send_data(vec![b'x'; window].into(), left == 0).unwrap();
                }
                answer.await.unwrap().body_mut().data().await.unwrap().unwrap()
            };
            tokio::select! {
                length = wanted => assert_eq!(length, (1 << 20).to_string()),
                ended = send_all(discarded, 1 << 14, Duration::from_millis(1)) => panic!("{ended:?}"),
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_loses_its_place_resets_its_discarded_uploads() {
        let (scope, evicted) = (Scope::new(), Arc::<Flag>::default());
        served((&scope, evicted.clone()), pending(), async |handle| {
            let uploads = [refused(&handle).await, refused(&handle).await];
            let began = Instant::now();
            let evict = async {
                tokio::time::sleep(3 * SECOND).await;
                evicted.raise();
            };
            let [first, second] = uploads.map(|upload| send_all(upload, 1, SECOND));
            let (first, second, ()) = tokio::join!(first, second, evict);
            assert_eq!((first.1, second.1), (Reason::NO_ERROR, Reason::NO_ERROR));
            assert_eq!(began.elapsed(), 3 * SECOND);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_an_upload_that_is_discarded() {
        let scope = Scope::new();
        let began = Instant::now();
        served((&scope, Arc::default()), scope.stopping(), async |handle| {
            let upload = refused(&handle).await;
            scope.request_stop();
            send_all(upload, 1, SECOND / 10).await;
        })
        .await;
        assert!(began.elapsed() <= defaults::LINGER_STOP + SECOND / 10, "{:?}", began.elapsed());
    }
}
