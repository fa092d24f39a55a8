//! Registration, and its return by a URL that was given out before.

use std::sync::Arc;

use form_urlencoded::Serializer;
use http::header::{LINK, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::registrations::Registration;
use super::{Relay, form, now, plain};
use crate::defaults;
use crate::domain::{AgentId, Facts, HostName, Instance, Name, Offer, Refusal, RefusalKind, Wanted};
use crate::message::{Request, Response, fields, link};
use crate::net::cores;
use crate::session::Kind;
use crate::session::envelope::{Queue, carrier};
use crate::transport::reversehttp::form::{read, write};
use crate::transport::reversehttp::seal::{Claims, Use};
use crate::transport::{Admission, flip, visitors};

/// The name that this transport has among others.
const TRANSPORT: &str = "reversehttp";

/// The rules for visitors in an identity: they come back with it.
const VISITORS: &str = "visitors";

impl Relay {
    /// POST to the gateway.
    pub(super) async fn register(&self, request: Request, mut facts: Facts) -> Result<Response, Refusal> {
        let malformed = |message: String| Refusal::new(RefusalKind::Malformed, message);
        let (parts, body) = request.into_parts();
        let body = form(body).await?;
        let fields =
            read(parts.uri.query().unwrap_or_default(), &body).map_err(|e| malformed(e.to_string()))?;
        facts.credential = fields.token.or(facts.credential);
        let offer = Offer { wanted: fields.wanted, ..offer(&parts.headers)? };
        let admission = self.door.check(offer.clone(), &facts).await?;
        let identity = identity(&*admission, &offer);
        if offer.probe {
            return Ok(self.granted(StatusCode::OK, None, admission.urls(), &identity, &facts));
        }
        if let Some(known) = self.registrations.get(&identity) {
            if let Some(lease) = fields.lease {
                known.set_lease(lease);
            }
            return Ok(self.registered(StatusCode::NO_CONTENT, &known, &facts));
        }
        let lease = fields.lease.unwrap_or(defaults::POLL_LEASE);
        let fresh = self.enter(identity, admission, lease);
        Ok(self.registered(StatusCode::CREATED, &fresh, &facts))
    }

    fn registered(&self, status: StatusCode, registration: &Registration, facts: &Facts) -> Response {
        let first = self.request_url(facts, registration);
        let mut response =
            self.granted(status, Some(&first), &registration.urls, &registration.identity, facts);
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

    /// What was granted, and where the agent finds the rest.
    fn granted(
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
        let offer = identified(identity).map(|(_, offer)| offer).unwrap_or_default();
        if offer.visitors.is_some() {
            headers.insert(fields::PTTH_VISITORS, HeaderValue::from_static("?1"));
        }
        // The clients of 2009 are not shown a relation that they have never seen.
        let probe = offer.instance.is_some().then(|| self.url(facts, Use::Probe, &probe));
        // Old clients split at ", " and "; ": one field, this spelling, these relations in this order.
        let links = [
            link::value(first, "first"),
            link::value(urls.iter().map(String::as_str), "related"),
            link::value(probe.as_deref(), "probe"),
        ];
        let links: Vec<_> = links.iter().flatten().map(HeaderValue::as_bytes).collect();
        if let Ok(links) = HeaderValue::from_bytes(&links.join(&b", "[..])) {
            headers.insert(LINK, links);
        }
        headers.insert(fields::PTTH_STREAM, HeaderValue::from_static("?1"));
        response
    }

    fn enter(
        &self,
        identity: Box<str>,
        admission: Box<dyn Admission>,
        lease: std::time::Duration,
    ) -> Arc<Registration> {
        let all = &self.registrations;
        let polling = self.door.polling();
        let queue = Queue::new(all.flights.clone(), polling.absence, admission.memory());
        let granted = (admission.agent().clone(), admission.granted().to_vec(), admission.urls().to_vec());
        let attached = admission.attach(carrier(queue.clone()), Kind::Envelope, cores::current());
        let born = all.birth(&identity);
        let registration = Registration::new(identity, granted, born, queue, (lease, polling.hold));
        all.enter(registration.clone(), attached, self.door.scope());
        registration
    }

    /// The registration of a URL. One that has gone with a restart or with its lease comes back, if its agent may
    /// still have what it had; one that was deleted does not.
    pub(super) fn revive(&self, claims: &Claims, facts: &Facts) -> Result<Arc<Registration>, Refusal> {
        let gone = || Refusal::new(RefusalKind::Gone, "this registration was deleted");
        if self.registrations.is_deleted(&claims.identity, claims.born) {
            return Err(gone());
        }
        if let Some(known) = self.registrations.get(&claims.identity) {
            return Ok(known);
        }
        let (agent, offer) = identified(&claims.identity).ok_or_else(gone)?;
        let admission = self.door.check_again(&agent, offer, facts)?;
        Ok(self.enter(claims.identity.clone(), admission, defaults::POLL_LEASE))
    }
}

fn offer(headers: &HeaderMap) -> Result<Offer, Refusal> {
    let header = |name| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let instance = match header(fields::PTTH_INSTANCE) {
        None => None,
        Some(text) => Some(Instance::parse(text).ok_or_else(|| {
            Refusal::new(RefusalKind::Malformed, format!("PTTH-Instance {text:?} is malformed"))
        })?),
    };
    let exclusive = header(fields::PTTH_EXCLUSIVE) == Some("?1");
    Ok(Offer {
        wanted: Vec::new(),
        instance,
        exclusive,
        probe: flip::is_probe(headers),
        transport: TRANSPORT,
        visitors: visitors(headers)?,
    })
}

/// Who asked for what, as a form. Two registrations of one text are one.
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
    write(&mut form, admission.granted());
    form.finish().into()
}

/// What [`identity`] wrote.
pub(super) fn identified(identity: &str) -> Option<(AgentId, Offer)> {
    let mut agent = None;
    let mut offer = Offer { transport: TRANSPORT, ..Offer::default() };
    for (key, value) in form_urlencoded::parse(identity.as_bytes()) {
        match &*key {
            "agent" => agent = Some(AgentId((&*value).into())),
            "instance" => offer.instance = Some(Instance::parse(&value)?),
            "exclusive" => offer.exclusive = true,
            VISITORS => offer.visitors = Some(value.into()),
            "name" => offer.wanted.push(Wanted::Name(Name::parse(&value).ok()?)),
            "host" => offer.wanted.push(Wanted::Host(HostName::parse(&value).ok()?)),
            _ => return None,
        }
    }
    Some((agent?, offer))
}
