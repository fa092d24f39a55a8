//! Registration, and the revival of a registration by one of its earlier URLs.

use std::sync::Arc;

use form_urlencoded::Serializer;
use http::header::{LINK, LOCATION};
use http::{HeaderValue, StatusCode};

use super::{Relay, form, now};
use crate::defaults;
use crate::domain::{AgentId, Facts, Instance, Offer, Refusal, RefusalKind, Wanted};
use crate::message::{Request, Response, fields, link};
use crate::net::Core;
use crate::session::Kind;
use crate::session::envelope::{Queue, UrlId};
use crate::transport::polled::Registration;
use crate::transport::polled::pages::plain;
use crate::transport::reversehttp::form::{read, write};
use crate::transport::reversehttp::seal::{Claims, Use};
use crate::transport::{Admission, query, warnings};

/// The name of this transport.
const TRANSPORT: &str = "reversehttp";

/// The key of the rules for visitors in an identity. A revived registration has the same rules.
const VISITORS: &str = "visitors";
/// The key of the requested limit of answers in an identity, in seconds.
const ANSWER_TIMEOUT: &str = "answer-timeout";

impl Relay {
    /// POST to the gateway.
    pub(super) async fn register(&self, request: Request, mut facts: Facts) -> Result<Response, Refusal> {
        let malformed = |message: String| Refusal::new(RefusalKind::Malformed, message);
        let (parts, body) = request.into_parts();
        let body = form(body).await?;
        let fields =
            read(parts.uri.query().unwrap_or_default(), &body).map_err(|e| malformed(e.to_string()))?;
        facts.credential = fields.token.or(facts.credential);
        let offer = query::offer(fields.wanted, &parts.headers, TRANSPORT)?;
        let admission = self.admissions.check(offer.clone(), &facts).await?;
        let identity = identity(&*admission, &offer);
        if offer.probe {
            return Ok(self.grant_response(StatusCode::OK, None, admission.urls(), &identity, &facts));
        }
        let (registration, new) = self
            .enter(identity, None, admission, fields.lease.unwrap_or(defaults::POLL_LEASE))
            .ok_or_else(|| Refusal::new(RefusalKind::Gone, "this registration was deleted"))?;
        let url = rand::random();
        if new {
            return Ok(self.registration_response(StatusCode::CREATED, &registration, url, &facts));
        }
        if offer.instance.is_none() {
            // With an instance, this is the same process: a new process has a registration of its own.
            registration.queue.lock().registered(url);
        }
        if let Some(lease) = fields.lease {
            registration.set_lease(lease);
        }
        Ok(self.registration_response(StatusCode::NO_CONTENT, &registration, url, &facts))
    }

    fn registration_response(
        &self,
        status: StatusCode,
        registration: &Registration,
        url: UrlId,
        facts: &Facts,
    ) -> Response {
        let first = self.request_url(facts, registration, url);
        let mut response =
            self.grant_response(status, Some(&first), &registration.urls, &registration.identity, facts);
        let headers = response.headers_mut();
        let private = Claims {
            born: registration.born,
            expires: u64::MAX,
            url: rand::random(),
            identity: registration.identity.clone(),
        };
        if let Ok(location) = HeaderValue::try_from(self.url(facts, Use::Private, &private)) {
            headers.insert(LOCATION, location);
        }
        headers.insert(fields::PTTH_CONNECTIONS, HeaderValue::from(defaults::POLLS_BUSY));
        response
    }

    /// The response with the granted public URLs, and with the agent's own URLs.
    fn grant_response(
        &self,
        status: StatusCode,
        first: Option<&str>,
        urls: &[String],
        identity: &str,
        facts: &Facts,
    ) -> Response {
        let mut response = plain(status);
        let headers = response.headers_mut();
        let probe = Claims {
            born: 0,
            expires: now() + defaults::PROBE_URL_AGE,
            url: rand::random(),
            identity: identity.into(),
        };
        let (agent, offer) = read_identity(identity).unwrap_or((AgentId(Arc::from("")), Offer::default()));
        if offer.visitors.is_some() {
            headers.insert(fields::PTTH_VISITORS, HeaderValue::from_static("?1"));
        }
        // The clients of 2009, which send no instance, do not get a relation that they do not know.
        let probe = offer.instance.is_some().then(|| self.url(facts, Use::Probe, &probe));
        // Old clients split at ", " and "; ", so there is one field, with this spelling and this order of relations.
        let links = [
            link::value(first, "first"),
            link::value(urls.iter().map(String::as_str), "related"),
            link::value(probe.as_deref(), "probe"),
        ];
        let links: Vec<_> = links.iter().flatten().map(HeaderValue::as_bytes).collect();
        if let Ok(links) = HeaderValue::from_bytes(&links.join(&b", "[..])) {
            headers.insert(LINK, links);
        }
        warnings::write_terms(headers, &*self.admissions, (&agent, &offer), urls);
        headers.insert(fields::PTTH_STREAM, HeaderValue::from_static("?1"));
        response
    }

    fn enter(
        &self,
        identity: Box<str>,
        born: Option<u64>,
        admission: Box<dyn Admission>,
        lease: std::time::Duration,
    ) -> Option<(Arc<Registration>, bool)> {
        let all = &self.registrations;
        let polling = self.admissions.polling();
        all.enter(&identity.clone(), born, self.admissions.scope(), || {
            let room = (defaults::MESSAGE, admission.memory());
            let queue = Queue::new(all.router.clone(), polling.absence, room, true);
            let granted =
                (admission.agent().clone(), admission.granted().to_vec(), admission.urls().to_vec());
            let attached = admission.attach(Box::new(queue.clone()), Kind::Envelope, Core::current());
            let born = all.birth(&identity);
            let times = (lease, polling.hold);
            let instance = read_identity(&identity).is_some_and(|(_, offer)| offer.instance.is_some());
            (Registration::new(identity, granted, born, queue, times, instance), attached)
        })
    }

    /// The registration of a URL. A registration that ended with a restart or with its lease is revived, if its agent
    /// may still have its names and hosts. A deleted registration is not revived.
    pub(super) fn revive(&self, claims: &Claims, facts: &Facts) -> Result<Arc<Registration>, Refusal> {
        let gone = || Refusal::new(RefusalKind::Gone, "this registration was deleted");
        if self.registrations.is_deleted(&claims.identity, claims.born) {
            return Err(gone());
        }
        if let Some(registration) = self.registrations.get(&claims.identity) {
            return Ok(registration);
        }
        let (agent, offer) = read_identity(&claims.identity).ok_or_else(gone)?;
        let admission = self.admissions.check_again(&agent, offer, facts)?;
        // The registration may have been deleted meanwhile.
        let (registration, _) = self
            .enter(claims.identity.clone(), Some(claims.born), admission, defaults::POLL_LEASE)
            .ok_or_else(gone)?;
        Ok(registration)
    }
}

/// The agent and its grant, as a form. Offers with the same text share one registration.
fn identity(admission: &dyn Admission, offer: &Offer) -> Box<str> {
    let mut form = Serializer::new(String::new());
    form.append_pair("agent", &admission.agent().0);
    if let Some(instance) = &offer.instance {
        form.append_pair("instance", &instance.to_string());
    }
    if offer.exclusive {
        form.append_pair("exclusive", "1");
    }
    if let Some(rules) = &offer.visitors {
        form.append_pair(VISITORS, rules);
    }
    if let Some(limit) = offer.answer_timeout {
        form.append_pair(ANSWER_TIMEOUT, &limit.seconds().to_string());
    }
    write(&mut form, admission.granted());
    form.finish().into()
}

/// Reads the text of [`identity`].
pub(super) fn read_identity(identity: &str) -> Option<(AgentId, Offer)> {
    let mut agent = None;
    let mut offer = Offer { transport: TRANSPORT, ..Offer::default() };
    for (key, value) in form_urlencoded::parse(identity.as_bytes()) {
        match &*key {
            "agent" => agent = Some(AgentId((&*value).into())),
            "instance" => offer.instance = Some(Instance::parse(&value)?),
            "exclusive" => offer.exclusive = true,
            VISITORS => offer.visitors = Some(value.into()),
            ANSWER_TIMEOUT => offer.answer_timeout = Some(query::read_limit(&value)?),
            key => offer.wanted.push(Wanted::read(key, &value)?.ok()?),
        }
    }
    Some((agent?, offer))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::BoxFuture;
    use parking_lot::Mutex;

    use super::*;
    use crate::net::flag::Flag;
    use crate::net::{Cores, Scope};
    use crate::session::ReceiveBudget;
    use crate::session::carrier::Carrier;
    use crate::transport::{Admissions, Attached, Polling};

    /// Admits every agent, and runs `before_check` before an agent is checked again.
    struct AdmitAll {
        polling: Polling,
        scope: Scope,
        cores: Cores,
        before_check: Arc<Mutex<Option<BeforeCheck>>>,
    }

    type BeforeCheck = Box<dyn FnOnce() + Send>;

    struct Admitted(AgentId, Arc<ReceiveBudget>);

    impl Admissions for AdmitAll {
        fn check<'a>(&'a self, _: Offer, _: &'a Facts) -> BoxFuture<'a, Result<Box<dyn Admission>, Refusal>> {
            Box::pin(std::future::ready(Ok(admitted())))
        }
        fn check_again(&self, _: &AgentId, _: Offer, _: &Facts) -> Result<Box<dyn Admission>, Refusal> {
            if let Some(before_check) = self.before_check.lock().take() {
                before_check();
            }
            Ok(admitted())
        }
        fn who(&self, _: &Facts) -> Result<AgentId, Refusal> {
            Ok(AgentId("a".into()))
        }
        fn who_comes<'a>(
            &'a self,
            facts: &'a Facts,
            _: Option<&'a Instance>,
        ) -> BoxFuture<'a, Result<AgentId, Refusal>> {
            Box::pin(std::future::ready(self.who(facts)))
        }
        fn may_go_on(&self, _: &AgentId, _: &Facts) -> bool {
            true
        }
        fn guessed(&self, _: &Facts, refusal: Refusal) -> Refusal {
            refusal
        }
        fn polling(&self) -> &Polling {
            &self.polling
        }
        fn scope(&self) -> &Scope {
            &self.scope
        }
        fn cores(&self) -> &Cores {
            &self.cores
        }
    }

    fn admitted() -> Box<dyn Admission> {
        Box::new(Admitted(AgentId("a".into()), ReceiveBudget::new(0)))
    }

    impl Admission for Admitted {
        fn agent(&self) -> &AgentId {
            &self.0
        }
        fn granted(&self) -> &[Wanted] {
            &[]
        }
        fn urls(&self) -> &[String] {
            &[]
        }
        fn is_ruled(&self) -> bool {
            false
        }
        fn connections(&self, _: Kind) -> usize {
            1
        }
        fn memory(&self) -> usize {
            defaults::MESSAGES
        }
        fn budget(&self) -> &Arc<ReceiveBudget> {
            &self.1
        }
        fn attach(self: Box<Self>, _: Box<dyn Carrier>, _: Kind, _: Core) -> Attached {
            Attached::new(Arc::<Flag>::default().listen(), ())
        }
    }

    fn facts() -> Facts {
        let remote = ([127, 0, 0, 1], 1).into();
        Facts {
            remote,
            tls: false,
            authority: "relay.test".into(),
            credential: None,
            certificate: None,
            closed: None,
            server_name: None,
        }
    }

    /// A registration that is revived after a restart of the relay has the same options.
    #[test]
    fn an_identity_has_the_options_of_its_offer() {
        let offer = Offer {
            instance: Some(Instance { id: "x".into(), boot: 3 }),
            exclusive: true,
            visitors: Some("rate=1".into()),
            answer_timeout: Some(crate::domain::AnswerLimit::NONE),
            transport: TRANSPORT,
            ..Offer::default()
        };
        let (agent, read) = read_identity(&identity(&*admitted(), &offer)).unwrap();
        assert_eq!((&*agent.0, format!("{read:?}")), ("a", format!("{offer:?}")));
    }

    #[tokio::test]
    async fn a_poll_during_a_deletion_does_not_revive_the_registration() {
        let before_check = Arc::new(Mutex::new(None::<BeforeCheck>));
        let (polling, scope) = (Polling::default(), Scope::new());
        let cores = Cores::start(1).unwrap();
        let admissions = AdmitAll { polling, scope, cores, before_check: before_check.clone() };
        let relay = Relay::new(Arc::new(admissions));
        let lease = Duration::from_secs(30);
        let (registration, _) = relay.enter("agent=a".into(), None, admitted(), lease).unwrap();
        let (identity, url, expires) = (registration.identity.clone(), 7, u64::MAX);
        let claims = Claims { born: registration.born, expires, url, identity };
        // The lease has ended, so a poll would revive the registration. At that moment, the registration is deleted.
        registration.queue.lock().end();
        let (all, born) = (relay.registrations.clone(), registration.born);
        *before_check.lock() = Some(Box::new(move || assert!(all.delete("agent=a", born))));
        let revived = relay.revive(&claims, &facts());
        assert_eq!(revived.err().expect("it was deleted").kind, RefusalKind::Gone);
        assert!(relay.registrations.get("agent=a").is_none());
    }
}
