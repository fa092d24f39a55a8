//! The polls of one registration: a few while nothing happens, more under load, and the requests that they bring.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use super::{Registered, copy, registered};
use crate::defaults;
use crate::message::embedded::MESSAGE_HTTP;
use crate::message::{Body, BoxError, Request, link};
use crate::net::Scope;
use crate::net::flag::Flag;
use crate::session::envelope::serve;
use crate::session::{Ended, Handler, Load};
use crate::transport::ServeLink;
use crate::transport::polled::Client;

/// Polls that may fail one after the other before the session counts as broken.
const FAILURES: u32 = 3;

/// A registration, ready to be polled.
pub(super) struct Polled {
    pub(super) client: Arc<Client>,
    /// The form, to ask for another URL to poll.
    pub(super) again: (http::request::Parts, bytes::Bytes),
    pub(super) registered: Registered,
    pub(super) streams: bool,
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
    /// Held by whatever must finish before the session has ended.
    alive: mpsc::Sender<()>,
}

/// What a poll brought.
enum Brought {
    Request(Body, Option<String>),
    Nothing(Option<String>),
    /// This poll was one too many.
    TooMany,
    /// The registration does not stand any more.
    Ended(StatusCode),
}

impl ServeLink for Polled {
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
                Ok(Brought::Request(envelope, next)) => {
                    failures = 0;
                    let from = std::mem::replace(&mut url, next);
                    if self.waiting.load(Ordering::Acquire) == 0
                        && self.all.load(Ordering::Acquire) < defaults::POLLS_BUSY
                    {
                        self.begin(None);
                    }
                    self.serve(from.unwrap_or_default(), envelope, place);
                }
                Ok(Brought::Nothing(next)) => {
                    failures = 0;
                    url = next.or(url);
                    if self.all.load(Ordering::Acquire) > defaults::POLLS {
                        return;
                    }
                }
                Ok(Brought::TooMany) => return,
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
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = target.parse()?;
        let accept = if self.link.streams { "message/http;stream=1" } else { MESSAGE_HTTP };
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        let waiting = Waiting::enter(&self.waiting);
        let held = defaults::POLL_HOLD + defaults::UPGRADE;
        let answer = tokio::time::timeout(held, client.send(request, &self.scope)).await??;
        drop(waiting);
        let next = link::targets(answer.headers(), "next").next().map(|url| client.base().rebase(url));
        let next = next.transpose()?;
        match answer.status() {
            StatusCode::OK => Ok(Brought::Request(answer.into_body(), next)),
            StatusCode::NO_CONTENT => Ok(Brought::Nothing(next)),
            StatusCode::TOO_MANY_REQUESTS => Ok(Brought::TooMany),
            // Something on the way does not bear to wait so long; the URL is as good as before.
            status
            @ (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT) => {
                Err(format!("a poll was answered {status}").into())
            }
            // The URL is spent: its last answer got lost on the way. The registration gives another.
            StatusCode::NOT_FOUND | StatusCode::GONE if !self.is_over() => {
                *url = None;
                Err("a URL to poll was spent".into())
            }
            status => Ok(Brought::Ended(status)),
        }
    }

    fn is_over(&self) -> bool {
        self.scope.is_stopping() || self.load.is_leaving()
    }

    fn serve(self: &Arc<Self>, url: String, envelope: Body, place: tokio::sync::OwnedSemaphorePermit) {
        let (handler, load) = (self.handler.clone(), self.load.clone());
        let (client, scope, alive) = (self.link.client.clone(), self.scope.clone(), self.alive.clone());
        self.scope.spawn(async move {
            let _busy = (place, load.enter(), alive);
            let answer = match serve(envelope, handler, &scope).await {
                Ok(answer) => post(&url, answer),
                Err(error) => return tracing::warn!(%error, "a poll brought no request"),
            };
            match client.send(answer, &scope).await {
                Ok(heard) if heard.status().is_success() => {}
                Ok(heard) => tracing::debug!(status = %heard.status(), "the relay did not take an answer"),
                Err(error) => tracing::debug!(%error, "an answer did not reach the relay"),
            }
        });
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

fn post(url: &str, answer: Body) -> Request {
    let mut request = Request::new(answer);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse().unwrap_or_default();
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE_HTTP));
    request
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
