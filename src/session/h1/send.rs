//! The relay's end: an HTTP/1.1 client on a connection that it did not open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::UPGRADE;
use http_body::Body as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::pace::{self, Pace};
use super::trailers::Trailing;
use crate::defaults;
use crate::message::interim::Heads;
use crate::message::{Body, Request, Response, authority, expect, hop, upgrade};
use crate::net::inserts::Inserts;
use crate::net::silence::Impatience;
use crate::net::{Io, Scope, Watched};
use crate::observe::{Limit, Metrics};
use crate::session::Driver;
use crate::session::carrier::{Carrier, SendError, SendErrorKind, Slot};

struct H1 {
    place: Arc<Place>,
    impatience: Impatience,
    scope: Scope,
}

/// Where the handle of the connection is while nobody uses it.
struct Place {
    /// Away while a request is on its way; gone for good when that request was dropped.
    handle: Mutex<Option<SendRequest<Trailing>>>,
    closed: AtomicBool,
    heads: Arc<Heads>,
    inserts: Inserts,
    pace: Arc<Pace>,
    /// Its visitor was too slow while others waited.
    given_up: AtomicBool,
    metrics: Option<Arc<Metrics>>,
}

impl Place {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn put(&self, handle: SendRequest<Trailing>) {
        // Under the lock, so that a handle does not come back behind a drain that has just looked for it.
        let mut place = self.handle.lock();
        if !self.closed.load(Ordering::Acquire) {
            *place = Some(handle);
        }
    }
}

/// A handle on its way back. It goes with the answer's body, and the slot with it: an answer may end before the
/// upload that it answers, and until both have ended the connection is not free.
struct Back {
    handle: Option<SendRequest<Trailing>>,
    slot: Option<Slot>,
    place: Arc<Place>,
    scope: Scope,
}

impl Drop for Back {
    fn drop(&mut self) {
        let Some(mut handle) = self.handle.take() else { return };
        if handle.is_ready() {
            return self.place.put(handle);
        }
        if handle.is_closed() {
            return self.place.close();
        }
        let (place, slot) = (self.place.clone(), self.slot.take());
        let wait = async move {
            match handle.ready().await {
                Ok(()) => place.put(handle),
                Err(_) => place.close(),
            }
            drop(slot);
        };
        match Handle::try_current() {
            Ok(_) => self.scope.spawn(wait),
            Err(_) => self.place.close(),
        }
    }
}

/// Opens the relay's end. The handshake of HTTP/1.1 is empty, so this cannot wait.
///
/// # Errors
/// When the connection is broken already.
pub async fn open(
    mut io: Io,
    scope: &Scope,
    metrics: Option<Arc<Metrics>>,
) -> Result<(Box<dyn Carrier>, Driver), hyper::Error> {
    io.keep_alive();
    let impatience = io.impatience();
    let inserts = io.inserts();
    let heads = Arc::new(Heads::default());
    let pace = Pace::new();
    let (reads, writes, mut watch) = (pace.clone(), pace.clone(), heads.clone().watch());
    let look = move |read: Poll<&[u8]>| {
        reads.read(read);
        watch(read)
    };
    let io = TokioIo::new(Watched::new(io, look, move |wrote| writes.moved(wrote)));
    let mut builder = http1::Builder::new();
    // An agent adds fields of its own to the largest head that it takes.
    let (handle, connection) = builder.max_buf_size(2 * defaults::H1_BUFFER).handshake(io).await?;
    let handle = Mutex::new(Some(handle));
    let [closed, given_up] = [false; 2].map(AtomicBool::new);
    let place = Arc::new(Place { handle, closed, heads, inserts, pace, given_up, metrics });
    let carrier = H1 { place: place.clone(), impatience, scope: scope.clone() };
    let driver = async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a flipped connection ended");
        }
        place.close();
    };
    Ok((Box::new(carrier), Box::pin(driver)))
}

impl Carrier for H1 {
    fn send(&self, request: Request, slot: Slot) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(self.exchange(request, slot))
    }

    fn capacity(&self) -> usize {
        1
    }

    fn drain(&self) {
        // Without its handle the connection closes: now if idle, else when the request on it is through.
        self.place.close();
        drop(self.place.handle.lock().take());
    }

    fn is_late(&self) -> bool {
        // No PING here; the kernel's keep-alive closes what is dead.
        false
    }

    fn is_closed(&self) -> bool {
        self.place.closed.load(Ordering::Acquire)
    }

    fn gives_up(&self) -> bool {
        let held_up = self.place.pace.is_held_up();
        if held_up
            && !self.place.given_up.swap(true, Ordering::AcqRel)
            && let Some(metrics) = &self.place.metrics
        {
            metrics.reached(Limit::Pace, &"a visitor");
        }
        held_up
    }
}

impl H1 {
    async fn exchange(&self, mut request: Request, slot: Slot) -> Result<Response, SendError> {
        let Some(mut handle) = self.place.handle.lock().take() else {
            self.place.close();
            return Err(SendErrorKind::Closed.unsent(request));
        };
        if handle.ready().await.is_err() {
            self.place.close();
            return Err(SendErrorKind::Closed.unsent(request));
        }
        authority::to_origin_form(&mut request);
        upgrade::join_cookies(request.headers_mut());
        hop::announce_chunks(&mut request);
        // An agent takes every head at once. A body goes as slowly as the service behind it reads.
        self.impatience.set(request.body().is_end_stream() && !request.headers().contains_key(UPGRADE));
        self.place.pace.begin();
        if !request.body().is_end_stream() {
            // Before the gate: behind one that is shut nobody waits for the visitor.
            request = request.map(|body| pace::upload(body, &self.place.pace));
        }
        let gate = expect::hold_back_h1(&mut request);
        let request = request.map(|body| Trailing::new(body, Some(&self.place.inserts)));
        match self.place.heads.exchange(|| handle.try_send_request(request)).await {
            Ok(response) => {
                let mut response = response.map(Body::from);
                if let Some(gate) = gate {
                    response.body_mut().hold(gate);
                }
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    slot.keep_with(&mut response);
                } else {
                    let (place, scope) = (self.place.clone(), self.scope.clone());
                    response.body_mut().hold(Back { handle: Some(handle), slot: Some(slot), place, scope });
                }
                Ok(response)
            }
            Err(mut error) => {
                self.place.close();
                let kind = match () {
                    () if self.place.given_up.load(Ordering::Acquire) => SendErrorKind::Slow,
                    () if error.error().is_parse() || self.place.heads.is_flooded() => SendErrorKind::Invalid,
                    () => SendErrorKind::Closed,
                };
                tracing::debug!(error = %error.error(), "a request failed on a flipped connection");
                Err(match error.take_message() {
                    Some(request) => kind.unsent(request.map(Trailing::into_inner)),
                    None => kind.error(),
                })
            }
        }
    }
}
