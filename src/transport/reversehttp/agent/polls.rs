//! The polls of one registration: a few while nothing happens, more under load, and the requests that they bring.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::ACCEPT;
use http::{HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::answers::bring;
use super::client::Client;
use super::hands::{Hands, Held};
use super::{Registered, copy, registered};
use crate::defaults;
use crate::message::embedded::{MESSAGE_HTTP, ReadError};
use crate::message::{Body, BoxError, Request, fields, link};
use crate::net::Scope;
use crate::net::flag::Flag;
use crate::session::envelope::{Room, serve_held};
use crate::session::{Ended, Handler, Load};
use crate::transport::reversehttp::hold::Hold;
use crate::transport::{Flow, ServeLink};

/// Polls that may fail one after the other before the session counts as broken.
const FAILURES: u32 = 3;
/// How boxes answer a request that has waited too long for them.
const CUT: [StatusCode; 4] = [
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
    StatusCode::REQUEST_TIMEOUT,
];

/// A registration, ready to be polled.
pub(super) struct Polled {
    pub(super) client: Arc<Client>,
    /// The form, to ask for another URL to poll.
    pub(super) again: (http::request::Parts, bytes::Bytes),
    pub(super) registered: Registered,
    pub(super) flow: Flow,
    pub(super) hold: Arc<Hold>,
}

/// What the polls of one registration share.
struct Polls {
    link: Polled,
    handler: Arc<dyn Handler>,
    load: Arc<Load>,
    scope: Scope,
    /// Raised when no poll is to begin any more.
    halt: Arc<Flag>,
    failed: Mutex<Option<String>>,
    all: AtomicUsize,
    waiting: AtomicUsize,
    places: Arc<Semaphore>,
    hands: Arc<Hands>,
    /// For answers that must be complete before they are sent.
    room: Room,
    /// Held by whatever must finish before the session has ended.
    alive: mpsc::Sender<()>,
}

/// What a poll brought.
enum Brought {
    Request(Body, Held, Option<String>),
    Nothing(Option<String>),
    /// This poll was one too many.
    TooMany,
    /// Something on the way does not bear to wait so long, or the way broke. The URL is as good as before: should it
    /// have delivered a request meanwhile, it does so again.
    Cut(BoxError),
    /// The registration does not stand any more.
    Ended(StatusCode),
}

impl ServeLink for Polled {
    fn flow(&self) -> Flow {
        self.flow
    }

    fn serve(
        self: Box<Self>,
        handler: Arc<dyn Handler>,
        load: Arc<Load>,
        scope: Scope,
    ) -> BoxFuture<'static, Ended> {
        Box::pin(run(*self, handler, load, scope))
    }
}

async fn run(link: Polled, handler: Arc<dyn Handler>, load: Arc<Load>, scope: Scope) -> Ended {
    let (alive, mut finished) = mpsc::channel(1);
    let (first, retired) = (link.registered.first.clone(), load.retired());
    let halt = Arc::new(Flag::default());
    let polls = Arc::new(Polls {
        link,
        handler,
        load,
        scope: scope.clone(),
        halt: halt.clone(),
        failed: Mutex::default(),
        all: AtomicUsize::new(0),
        waiting: AtomicUsize::new(0),
        places: Arc::new(Semaphore::new(defaults::ENVELOPES)),
        hands: Arc::default(),
        room: Room::default(),
        alive,
    });
    let _halt = HaltOnDrop(halt.clone());
    polls.begin(Some(first));
    for _ in 1..defaults::POLLS {
        polls.begin(None);
    }
    tokio::select! {
        biased;
        () = scope.stopping() => {}
        () = retired => {}
        () = halt.listen() => {
            let why = polls.failed.lock().take();
            return Ended::Failed(why.unwrap_or_else(|| "the polls have ended".into()));
        }
    }
    // The relay ends the polls itself, so that none of them takes a request with it.
    polls.unregister().await;
    drop(polls);
    while finished.recv().await.is_some() {}
    Ended::Closed
}

struct HaltOnDrop(Arc<Flag>);

impl Drop for HaltOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

impl Polls {
    /// Begins one more poll; without a URL it asks for one first.
    fn begin(self: &Arc<Self>, url: Option<String>) {
        self.all.fetch_add(1, Ordering::AcqRel);
        let polls = self.clone();
        self.scope.spawn(async move {
            let halted = polls.halt.listen();
            tokio::select! {
                biased;
                () = halted => {}
                () = polls.go_on(url) => {}
            }
            polls.all.fetch_sub(1, Ordering::AcqRel);
        });
    }

    async fn go_on(self: &Arc<Self>, mut url: Option<String>) {
        let mut failures = 0;
        while !self.is_over() {
            let Ok(place) = self.places.clone().acquire_owned().await else { return };
            match self.once(&mut url).await {
                Ok(Brought::Request(envelope, held, next)) => {
                    failures = 0;
                    let from = std::mem::replace(&mut url, next);
                    if self.waiting.load(Ordering::Acquire) == 0
                        && self.all.load(Ordering::Acquire) < defaults::POLLS_BUSY
                    {
                        self.begin(None);
                    }
                    self.serve(from.unwrap_or_default(), envelope, held, place);
                }
                Ok(Brought::Nothing(next)) => {
                    failures = 0;
                    url = next.or(url);
                    if self.all.load(Ordering::Acquire) > defaults::POLLS {
                        return;
                    }
                }
                Ok(Brought::TooMany) => return,
                Ok(Brought::Cut(error)) => {
                    failures = 0;
                    tracing::debug!(%error, "a poll was cut");
                }
                Ok(Brought::Ended(_)) if self.is_over() => return,
                Ok(Brought::Ended(status)) => {
                    return self.fail(format!("the relay ended the registration ({status})"));
                }
                Err(error) => {
                    failures += 1;
                    if failures == FAILURES {
                        return self.fail(error.to_string());
                    }
                    tracing::debug!(%error, "a poll broke");
                    tokio::time::sleep(defaults::BACKOFF_FIRST * failures).await;
                }
            }
        }
    }

    async fn once(&self, url: &mut Option<String>) -> Result<Brought, BoxError> {
        let client = &self.link.client;
        let target = match url {
            Some(url) => url.clone(),
            None => {
                let answer = client.send(copy(&self.link.again), &self.scope).await?;
                if !answer.status().is_success() {
                    return Ok(Brought::Ended(answer.status()));
                }
                url.insert(registered(answer.headers(), client.base())?.first).clone()
            }
        };
        let hold = self.link.hold.now();
        let waiting = Waiting::enter(&self.waiting);
        let since = Instant::now();
        let sent = client.send(self.poll(&target, hold)?, &self.scope);
        let answer = tokio::time::timeout(hold + defaults::UPGRADE, sent).await;
        drop(waiting);
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return self.cut(since.elapsed(), defaults::POLL_BREAKS, error),
            // Something has forgotten the connection: nobody knows when.
            Err(late) => return self.cut(hold, 1, late.into()),
        };
        let next = link::targets(answer.headers(), "next").next().map(|url| client.base().rebase(url));
        let next = next.transpose()?;
        // What is our relay's own answer says so.
        let between = !answer.headers().contains_key(fields::PROXY_STATUS);
        match answer.status() {
            StatusCode::OK => {
                let held = self.hands.take(answer.headers());
                Ok(Brought::Request(answer.into_body(), held, next))
            }
            StatusCode::NO_CONTENT => {
                self.hands.let_go(answer.headers());
                self.link.hold.lasted(since.elapsed());
                Ok(Brought::Nothing(next))
            }
            StatusCode::TOO_MANY_REQUESTS => Ok(Brought::TooMany),
            status if between && CUT.contains(&status) => {
                self.cut(since.elapsed(), 1, format!("a poll was answered {status}").into())
            }
            // The URL is spent: its last answer got lost on the way. The registration gives another.
            StatusCode::NOT_FOUND | StatusCode::GONE if !self.is_over() => {
                *url = None;
                Err("a URL to poll was spent".into())
            }
            status => Ok(Brought::Ended(status)),
        }
    }

    fn poll(&self, target: &str, hold: Duration) -> Result<Request, BoxError> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = target.parse()?;
        let headers = request.headers_mut();
        let accept = if self.link.flow.down { "message/http;stream=1" } else { MESSAGE_HTTP };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(fields::PREFER, HeaderValue::try_from(format!("wait={}", hold.as_secs()))?);
        Ok(request)
    }

    /// A poll that had waited for a while got no answer of the relay. After `sure` of them the next ones wait less; the
    /// session stands.
    fn cut(&self, age: Duration, sure: u32, error: BoxError) -> Result<Brought, BoxError> {
        if age < defaults::POLL_CUT {
            return Err(error);
        }
        let hold = &self.link.hold;
        if hold.broke(age, sure) {
            tracing::info!(?age, hold = ?hold.now(), %error, "polls are cut on the way: they are held shorter");
        }
        Ok(Brought::Cut(error))
    }

    fn is_over(&self) -> bool {
        self.scope.is_stopping() || self.load.is_leaving()
    }

    fn serve(self: &Arc<Self>, url: String, envelope: Body, mut held: Held, place: OwnedSemaphorePermit) {
        let polls = self.clone();
        self.scope.spawn(async move {
            let _busy = (place, polls.load.enter(), polls.alive.clone());
            let arrived = tokio::select! {
                biased;
                () = held.gone() => {
                    tracing::debug!("a visitor left before its answer");
                    true
                }
                arrived = polls.exchange(&url, envelope) => arrived,
            };
            // The same request may be in hand again as soon as its URL is polled.
            drop(held);
            if !arrived {
                polls.begin(Some(url));
            }
        });
    }

    /// Has a request answered, and brings the answer. `false` if the request did not arrive as a whole: it comes again
    /// to whoever polls its URL again.
    async fn exchange(&self, url: &str, envelope: Body) -> bool {
        let Self { handler, scope, room, link, .. } = self;
        match serve_held(envelope, handler.clone(), scope, room, !link.flow.up).await {
            Ok(answer) => bring(&link.client, url, answer, scope).await,
            Err(ReadError::Broken(error)) => {
                tracing::debug!(%error, "a request broke off");
                return false;
            }
            Err(error) => tracing::warn!(%error, "a poll brought no request"),
        }
        true
    }

    fn fail(&self, why: String) {
        self.failed.lock().get_or_insert(why);
        self.halt.raise();
    }

    async fn unregister(&self) {
        let Some(private) = &self.link.registered.private else { return };
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::DELETE;
        *request.uri_mut() = private.parse().unwrap_or_default();
        let told = tokio::time::timeout(Duration::from_secs(5), self.link.client.send(request, &self.scope));
        if !matches!(told.await, Ok(Ok(answer)) if answer.status().is_success()) {
            tracing::debug!("the relay was not told that this agent goes");
            self.halt.raise();
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
