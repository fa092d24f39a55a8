//! The relay's half: which resource a request is for, and what its agent may do there.

mod manage;
mod poll;
mod probe;
mod register;

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use http::header::{LINK, UPGRADE};
use http::{HeaderMap, Method};

use self::probe::Probes;
use super::seal::{Claims, Seal, Use};
use crate::defaults;
use crate::domain::{Facts, Refusal, RefusalKind};
use crate::http1::embedded::{ReadError, whole};
use crate::message::{Body, Request, Response, fields, hop, link};
use crate::transport::polled::pages;
use crate::transport::polled::{Registration, Registrations, Waiters};
use crate::transport::{Admissions, RelaySide};

/// The fields that a page of another origin must be able to read.
const EXPOSED: &str = "Link, Location, Accept, Requesting-Client, PTTH-Stream, PTTH-Request, PTTH-Cancelled, PTTH-Gone, PTTH-Visitors";

pub(super) struct Relay {
    admissions: Arc<dyn Admissions>,
    seal: Seal,
    registrations: Arc<Registrations>,
    probes: Probes,
    waiters: Waiters,
}

/// The resources of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource<'a> {
    Gateway,
    Request(&'a str),
    Private(&'a str),
    Probe(&'a str),
    Unknown,
}

fn resource(path: &str) -> Option<Resource<'_>> {
    // The path of comet, below the gateway, belongs to that transport.
    let rest = path.strip_prefix(defaults::GATEWAY).filter(|rest| *rest != defaults::COMET)?;
    match rest.split_once('/') {
        None if rest.is_empty() => Some(Resource::Gateway),
        Some(("", "")) => Some(Resource::Gateway),
        Some(("", rest)) => Some(match rest.split_once('/') {
            Some(("request", sealed)) => Resource::Request(sealed),
            Some(("private", sealed)) => Resource::Private(sealed),
            Some(("probe", sealed)) => Resource::Probe(sealed),
            _ => Resource::Unknown,
        }),
        // `/reversehttpx` only has the same beginning.
        _ => None,
    }
}

impl Relay {
    pub(super) fn new(admissions: Arc<dyn Admissions>) -> Self {
        let seal = Seal::new(&admissions.polling().seal_key);
        let registrations = Arc::new(Registrations::new(admissions.polling().store.clone()));
        Self { admissions, seal, registrations, probes: Probes::default(), waiters: Waiters::default() }
    }

    async fn answer(&self, request: Request, facts: Facts) -> Result<Response, Refusal> {
        let path = request.uri().path().to_owned();
        let resource = resource(&path).unwrap_or(Resource::Unknown);
        let method = request.method().clone();
        match (resource, method) {
            (Resource::Unknown, _) => {
                Err(Refusal::new(RefusalKind::NotFound, "the gateway has no such resource"))
            }
            (_, Method::OPTIONS) => Ok(options(resource)),
            (Resource::Gateway, Method::POST) => self.register(request, facts).await,
            (Resource::Gateway, Method::GET) => self.status(&request, &facts),
            (Resource::Request(sealed), Method::GET) => {
                let headers = request.into_parts().0.headers;
                self.poll(sealed, &headers, &facts).await
            }
            (Resource::Request(sealed), Method::POST) => self.take_answer(sealed, request, &facts).await,
            (Resource::Private(sealed), Method::GET) => self.show(sealed, &request, &facts),
            (Resource::Private(sealed), Method::PUT) => self.change(sealed, request, &facts).await,
            (Resource::Private(sealed), Method::DELETE) => self.delete(sealed, &facts),
            (Resource::Probe(sealed), Method::GET) => self.probe_down(sealed, &facts),
            (Resource::Probe(sealed), Method::POST) => self.probe_up(sealed, request, &facts).await,
            (resource, _) => {
                let message = format!("this resource takes {}", methods(resource));
                Err(Refusal::new(RefusalKind::Method, message))
            }
        }
    }

    /// The claims of a sealed URL, if the sender of the request may use the URL.
    fn open(&self, purpose: Use, sealed: &str, facts: &Facts) -> Result<Claims, Refusal> {
        let unknown = || {
            let refusal = Refusal::new(RefusalKind::NotFound, "this URL was not made by this relay");
            self.admissions.guessed(facts, refusal)
        };
        let claims = self.seal.open(purpose, sealed).ok_or_else(unknown)?;
        // A registration that stands names its agent; otherwise the URL names the agent.
        let agent = match self.registrations.get(&claims.identity) {
            Some(registration) => registration.agent.clone(),
            None => register::read_identity(&claims.identity).ok_or_else(unknown)?.0,
        };
        let foreign = facts.credential.is_some() && self.admissions.who(facts).ok().as_ref() != Some(&agent);
        if foreign || !self.admissions.may_go_on(&agent, facts) {
            return Err(Refusal::new(
                RefusalKind::Forbidden,
                "this URL belongs to a token that is not valid here",
            ));
        }
        Ok(claims)
    }

    /// The absolute URL of a resource, with the authority by which the agent reached this relay.
    fn url(&self, facts: &Facts, purpose: Use, claims: &Claims) -> String {
        let scheme = if facts.tls { "https" } else { "http" };
        let folder = match purpose {
            Use::Request => "request",
            Use::Private => "private",
            Use::Probe => "probe",
        };
        let sealed = self.seal.seal(purpose, claims);
        format!("{scheme}://{}{}/{folder}/{sealed}", facts.authority, defaults::GATEWAY)
    }

    /// A Request URL of a registration, valid for `defaults::REQUEST_URL_AGE` seconds.
    fn request_url(&self, facts: &Facts, registration: &Registration, url: u128) -> String {
        let expires = now() + defaults::REQUEST_URL_AGE;
        let identity = registration.identity.clone();
        self.url(facts, Use::Request, &Claims { born: registration.born, expires, url, identity })
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn methods(resource: Resource<'_>) -> &'static str {
    match resource {
        Resource::Gateway | Resource::Request(_) | Resource::Probe(_) => "GET, POST, OPTIONS",
        Resource::Private(_) => "GET, PUT, DELETE, OPTIONS",
        Resource::Unknown => "OPTIONS",
    }
}

fn with_next(mut response: Response, url: &str) -> Response {
    if let Some(next) = link::value([url], "next") {
        response.headers_mut().insert(LINK, next);
    }
    response
}

fn options(resource: Resource<'_>) -> Response {
    // jQuery 1.3 adds X-Requested-With to each request.
    let fields = "Accept, Authorization, Content-Type, Prefer, PTTH-Answer-Timeout, PTTH-Instance, PTTH-Visitors, \
                  X-Requested-With";
    pages::options(methods(resource), "GET, POST, PUT, DELETE", fields)
}

/// Reads a form.
async fn form(body: Body) -> Result<bytes::Bytes, Refusal> {
    whole(body, defaults::FORM).await.map_err(|error| {
        let kind = match error {
            ReadError::TooLarge(_) => RefusalKind::TooLarge,
            _ => RefusalKind::Malformed,
        };
        Refusal::new(kind, format!("the form could not be read: {error}"))
    })
}

/// On this transport a wrong token and a foreign name get the same status (ReverseHttp, "Registration").
fn as_403(mut refusal: Refusal) -> Refusal {
    if refusal.kind == RefusalKind::Unauthenticated {
        refusal.kind = RefusalKind::Forbidden;
    }
    refusal
}

impl RelaySide for Relay {
    fn wants(&self, request: &Request) -> bool {
        let headers = request.headers();
        // A request with Upgrade belongs to another transport, even if only the ALPN field of such a request is left.
        // Some clients request an upgrade to h2c everywhere.
        let upgrade = headers.contains_key(UPGRADE) && !hop::requests_upgrade(headers, "h2c");
        resource(request.uri().path()).is_some() && !upgrade && !headers.contains_key(fields::ALPN)
    }

    fn accept(&self, request: Request, facts: Facts) -> BoxFuture<'_, Result<Response, Refusal>> {
        Box::pin(async move { self.answer(request.map(Body::from), facts).await.map_err(as_403) })
    }

    /// Pages of any origin may be agents: these resources need a token, and never a cookie.
    fn dress(&self, request_headers: &HeaderMap, response: &mut Response) {
        pages::expose(request_headers, response, EXPOSED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_path_matches_whole_segments() {
        assert_eq!(resource("/reversehttp"), Some(Resource::Gateway));
        assert_eq!(resource("/reversehttp/"), Some(Resource::Gateway));
        assert_eq!(resource("/reversehttp/request/x"), Some(Resource::Request("x")));
        assert_eq!(resource("/reversehttp/private/x"), Some(Resource::Private("x")));
        assert_eq!(resource("/reversehttp/probe/x"), Some(Resource::Probe("x")));
        assert_eq!(resource("/reversehttp/x"), Some(Resource::Unknown));
        for other in
            ["/", "/reversehttpfoo", "/reversehttpfoo/request/x", "/x/reversehttp", "/reversehttp/_comet"]
        {
            assert_eq!(resource(other), None, "{other}");
        }
    }
}
