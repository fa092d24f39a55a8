//! The relay's end: an HTTP/1.1 client on a connection that it did not open.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use http::header::{HOST, UPGRADE};
use http_body::Body as _;
use parking_lot::Mutex;

use crate::http1::client::{self, Closer, Connection, Home, NotAnswered};
use crate::http1::stall::StallDetector;
use crate::message::{Request, Response, authority, interim, upgrade};
use crate::net::flag::Flag;
use crate::net::keepalive::UserTimeoutSwitch;
use crate::net::{Io, Scope};
use crate::observe::{Limit, LimitObserver};
use crate::session::AnswerFault;
use crate::session::Driver;
use crate::session::carrier::{Carrier, SendError, SendErrorKind, Slot};

struct H1 {
    place: Arc<ConnectionPlace>,
    user_timeout: UserTimeoutSwitch,
    scope: Scope,
}

/// The place of the connection while no request is on it.
struct ConnectionPlace {
    /// `None` while a request is on the connection. Stays `None` once such a request was dropped.
    connection: Mutex<Option<Box<Connection>>>,
    closed: AtomicBool,
    /// A request is on the connection.
    busy: AtomicBool,
    /// Raised when the connection is cut, for the exchange that waits on it.
    cut: Arc<Flag>,
    closer: Closer,
    /// Wakes the driver, which waits for the end of the connection.
    changed: AtomicWaker,
    stall: Arc<StallDetector>,
    /// The visitor was too slow while other requests waited.
    held_up: AtomicBool,
    observer: Option<Arc<dyn LimitObserver>>,
}

impl ConnectionPlace {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.wake();
    }

    fn take(&self) -> Option<Box<Connection>> {
        let connection = self.connection.lock().take()?;
        self.busy.store(true, Ordering::Release);
        Some(connection)
    }

    fn put(&self, connection: Box<Connection>) {
        self.busy.store(false, Ordering::Release);
        // Checked under the lock: otherwise a connection could be returned after a drain has emptied the place.
        let mut place = self.connection.lock();
        if !self.closed.load(Ordering::Acquire) {
            *place = Some(connection);
        }
        drop(place);
        self.changed.wake();
    }

    /// Resolves when the connection has ended: the agent has closed it, an exchange on it failed, or it is not used any
    /// more and the last exchange is over.
    async fn ended(&self) {
        poll_fn(|cx| {
            self.changed.register(cx.waker());
            // An exchange on the connection detects the end of the connection itself.
            if self.busy.load(Ordering::Acquire) {
                return Poll::Pending;
            }
            if self.closed.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            let mut place = self.connection.lock();
            let ended = place.as_mut().map_or(Poll::Pending, |connection| connection.poll_closed(cx));
            if ended.is_ready() {
                *place = None;
                self.closed.store(true, Ordering::Release);
            }
            ended
        })
        .await;
    }
}

/// Returns the connection to its place after an exchange. The slot becomes free at the same time. If the guard is
/// dropped before the connection is returned, the exchange was cut short, and the connection is closed.
struct PlaceGuard {
    place: Arc<ConnectionPlace>,
    scope: Scope,
    slot: Option<Slot>,
    returned: bool,
}

impl Home for PlaceGuard {
    fn put_back(mut self, connection: Box<Connection>) {
        self.returned = true;
        self.place.put(connection);
    }

    fn scope(&self) -> &Scope {
        &self.scope
    }
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        if !self.returned {
            self.place.busy.store(false, Ordering::Release);
            self.place.close();
        }
    }
}

/// Cuts the connection, with the request on it, when its driver ends or is dropped.
struct DriverGuard(Arc<ConnectionPlace>);

impl Drop for DriverGuard {
    fn drop(&mut self) {
        self.0.close();
        self.0.closer.close();
        self.0.cut.raise();
    }
}

/// Opens the relay's end. The handshake of HTTP/1.1 is empty, so this neither waits nor fails.
pub fn open(
    mut io: Io,
    scope: &Scope,
    observer: Option<Arc<dyn LimitObserver>>,
) -> (Box<dyn Carrier>, Driver) {
    io.keep_alive();
    let user_timeout = io.user_timeout();
    let stall = StallDetector::new();
    let cut = Arc::<Flag>::default();
    let connection = Connection::link(io, stall.clone(), cut.listen());
    let closer = connection.closer();
    let connection = Mutex::new(Some(connection));
    let [closed, busy, held_up] = [false; 3].map(AtomicBool::new);
    let changed = AtomicWaker::new();
    let place = Arc::new(ConnectionPlace {
        connection,
        closed,
        busy,
        cut,
        closer,
        changed,
        stall,
        held_up,
        observer,
    });
    let carrier = H1 { place: place.clone(), user_timeout, scope: scope.clone() };
    let guard = DriverGuard(place);
    let driver = async move { guard.0.ended().await };
    (Box::new(carrier), Box::pin(driver))
}

impl Carrier for H1 {
    fn send(
        &self,
        request: Request,
        slot: Slot,
        interim: interim::Sender,
    ) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(self.exchange(request, slot, interim))
    }

    fn capacity(&self) -> usize {
        1
    }

    fn drain(&self) {
        // An idle connection closes now. A busy connection closes when the request on it has finished.
        self.place.close();
        drop(self.place.connection.lock().take());
    }

    fn is_late(&self) -> bool {
        // HTTP/1.1 has no PING; the kernel's keep-alive closes a dead connection.
        false
    }

    fn is_closed(&self) -> bool {
        self.place.closed.load(Ordering::Acquire)
    }

    fn is_held_up(&self) -> bool {
        let held_up = self.place.stall.is_held_up();
        if held_up
            && !self.place.held_up.swap(true, Ordering::AcqRel)
            && let Some(observer) = &self.place.observer
        {
            observer.reached(Limit::Pace, &"a visitor");
        }
        held_up
    }
}

impl H1 {
    async fn exchange(
        &self,
        mut request: Request,
        slot: Slot,
        interim: interim::Sender,
    ) -> Result<Response, SendError> {
        let Some(connection) = self.place.take() else {
            self.place.close();
            return Err(SendErrorKind::Closed.unsent(request));
        };
        let target = request.uri().clone();
        authority::to_origin_form(&mut request);
        upgrade::join_cookies(request.headers_mut());
        // An agent reads every head at once. It reads a body as slowly as its origin does.
        self.user_timeout.set(request.body().is_end_stream() && !request.headers().contains_key(UPGRADE));
        self.place.stall.begin();
        let (place, scope) = (self.place.clone(), self.scope.clone());
        let guard = PlaceGuard { place, scope, slot: Some(slot), returned: false };
        match client::send(connection, request, guard, &interim).await {
            Ok((mut response, guard)) => {
                if let Some(slot) = guard.and_then(|mut guard| guard.slot.take()) {
                    slot.attach_to(&mut response);
                }
                Ok(response)
            }
            Err(NotAnswered { error, unsent, repeatable }) => {
                let kind = match AnswerFault::of(&error) {
                    _ if self.place.held_up.load(Ordering::Acquire) => SendErrorKind::Slow,
                    Some(fault) => SendErrorKind::Invalid(fault),
                    None => SendErrorKind::Closed,
                };
                tracing::debug!(%error, "a request failed on a flipped connection");
                let absolute = |mut request: Box<Request>| {
                    *request.uri_mut() = target.clone();
                    request.headers_mut().remove(HOST);
                    request
                };
                Err(SendError { kind, unsent: unsent.map(absolute), repeatable: repeatable.map(absolute) })
            }
        }
    }
}
