//! The sessions that stand. A session begins with its first POST and lasts while polls arrive. A session with a name
//! can be ended for good.

use std::sync::Arc;

use form_urlencoded::Serializer;
use http::{HeaderMap, Uri};

use crate::defaults;
use crate::domain::{AgentId, Facts, Offer, Refusal, RefusalKind};
use crate::message::store::SpoolBudget;
use crate::net::Core;
use crate::session::Kind;
use crate::session::envelope::{AnswerRouter, Queue, UrlId};
use crate::transport::polled::{Registration, Registrations};
use crate::transport::{Admissions, query};

/// The name of this transport.
const TRANSPORT: &str = "comet";
/// The longest name of a session, in characters.
const SESSION: usize = 64;

/// A request of an authenticated agent: its offer, and the names of its session and its poll.
pub(super) struct CometRequest {
    pub(super) agent: AgentId,
    pub(super) offer: Offer,
    /// The agent's name for this poll.
    pub(super) poll: Option<u128>,
    /// Whether the session has a name of the agent's choice.
    named: bool,
    /// Requests with the same identity belong to one session.
    identity: Box<str>,
}

impl CometRequest {
    /// Reads the request of an authenticated agent.
    pub(super) fn read(agent: AgentId, uri: &Uri, headers: &HeaderMap) -> Result<Self, Refusal> {
        let malformed = |message: String| Refusal::new(RefusalKind::Malformed, message);
        let parameters = uri.query().unwrap_or_default();
        let wanted = query::wanted(parameters).map_err(|e| malformed(e.to_string()))?;
        let offer = query::offer(wanted, headers, TRANSPORT)?;
        let mut session = form_urlencoded::parse(parameters.as_bytes()).filter(|(key, _)| key == "session");
        let session = session.next().map(|(_, value)| value);
        let is_valid = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if session.as_ref().is_some_and(|name| name.is_empty() || name.len() > SESSION || !is_valid(name)) {
            let message = format!("the name of a session has at most {SESSION} letters, digits, - and _");
            return Err(malformed(message));
        }
        let poll = form_urlencoded::parse(parameters.as_bytes()).find(|(key, _)| key == "poll");
        let poll = poll.map(|(_, name)| {
            let malformed = || malformed("the name of a poll has 32 hexadecimal digits".into());
            number(&name).ok_or_else(malformed)
        });
        let poll = poll.transpose()?;
        let mut form = Serializer::new(String::new());
        form.append_pair("agent", &agent.0);
        if let Some(name) = &session {
            form.append_pair("session", name);
        }
        if let Some(instance) = &offer.instance {
            form.append_pair("instance", &instance.to_string());
        }
        if offer.exclusive {
            form.append_pair("exclusive", "1");
        }
        if let Some(rules) = &offer.visitors {
            form.append_pair("visitors", rules);
        }
        if let Some(limit) = offer.answer_timeout {
            form.append_pair("answer-timeout", &limit.seconds().to_string());
        }
        // The identity has the requested names, not the granted names, so an agent that requests no name keeps its
        // identity.
        let identity = query::target(&form.finish(), &offer).into();
        Ok(Self { agent, offer, poll, named: session.is_some(), identity })
    }
}

/// The number of a `message-id`.
pub(super) fn number(id: &str) -> Option<u128> {
    let digits = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    u128::from_str_radix(id, 16).ok().filter(|_| digits)
}

/// Every session of a relay.
pub(super) struct Sessions {
    all: Arc<Registrations>,
}

impl Sessions {
    /// No sessions yet; their bodies and answers stay within `store`.
    pub(super) fn new(store: Arc<SpoolBudget>) -> Self {
        Self { all: Arc::new(Registrations::new(store)) }
    }

    /// The router that finds the visitor of an answer.
    pub(super) fn router(&self) -> &AnswerRouter {
        &self.all.router
    }

    /// Whether the session of `comet_request` has delivered the request of this exchange.
    pub(super) fn has_delivered(&self, comet_request: &CometRequest, exchange: UrlId) -> bool {
        self.standing(comet_request).is_some_and(|session| session.queue.lock().is_used(exchange))
    }

    fn standing(&self, comet_request: &CometRequest) -> Option<Arc<Registration>> {
        self.all.get(&comet_request.identity)
    }

    /// The session of `comet_request`, or a new session if none stands.
    pub(super) async fn begin(
        &self,
        admissions: &Arc<dyn Admissions>,
        comet_request: &CometRequest,
        facts: &Facts,
    ) -> Result<Arc<Registration>, Refusal> {
        let ended = || Refusal::new(RefusalKind::Gone, "this session was ended");
        if comet_request.named && self.all.is_deleted(&comet_request.identity, 0) {
            return Err(ended());
        }
        if let Some(standing) = self.standing(comet_request) {
            return Ok(standing);
        }
        let admission = admissions.check(comet_request.offer.clone(), facts).await?;
        let born = comet_request.named.then_some(0);
        let begun = self.all.enter(&comet_request.identity, born, admissions.scope(), || {
            let (polling, room) = (admissions.polling(), admission.memory().min(defaults::COMET_MESSAGES));
            let queue =
                Queue::new(self.all.router.clone(), polling.absence, (defaults::COMET_MESSAGE, room), false);
            let granted =
                (admission.agent().clone(), admission.granted().to_vec(), admission.urls().to_vec());
            let attached = admission.attach(Box::new(queue.clone()), Kind::Envelope, Core::current());
            let born = self.all.birth(&comet_request.identity);
            let times = (defaults::POLL_LEASE, polling.hold);
            let (identity, instance) =
                (comet_request.identity.clone(), comet_request.offer.instance.is_some());
            (Registration::new(identity, granted, born, queue, times, instance), attached)
        });
        // The session may have been ended meanwhile.
        let (session, _) = begun.ok_or_else(ended)?;
        Ok(session)
    }

    /// Ends a session and its polls. The agent may still answer its requests in flight. `false` if no session stands.
    pub(super) fn end(&self, comet_request: &CometRequest) -> bool {
        let session = self.standing(comet_request);
        session.is_some_and(|session| self.all.delete(&comet_request.identity, session.born))
    }
}
