//! RelayHttp (T. Garnock-Jones, 2009): a web page that may call only its own relay sends requests to other hosts
//! through that relay. Without a list of destinations RelayHttp is off; with a list, requests go only to these
//! destinations.
//!
//! A redirect is an answer like any other: the client may send a request for the new target, which is checked like the
//! first. No agent takes part, so RelayHttp is no transport; it only shares the path of the gateway.

mod destination;
mod exchange;

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ORIGIN, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use self::destination::HostAndPort;
pub use self::destination::{BadDestination, Destination};
use super::config::RelayConfig;
use super::credentials::Credentials;

use super::connection_limit::{ConnectionLimit, ConnectionPermit};
use super::respond::{self, VisitorFailure};
use crate::defaults;
use crate::domain::{Facts, Refusal, RefusalKind};
use crate::message::{Body, Request, Response};
use crate::net::Scope;
use crate::observe::Recording;

/// The path below the gateway; the destination follows it.
const RELAY_PATH: &str = "/_relay/";

/// Relays requests to the destinations of a configuration.
pub(super) struct RelayHttp {
    config: Arc<RelayConfig>,
    credentials: Arc<Credentials>,
    /// Owns the connections to destinations.
    scope: Scope,
    connection_limit: Arc<ConnectionLimit>,
}

/// Why a request was not relayed, or got no answer.
enum NotRelayed {
    Refused(Refusal),
    Failed(VisitorFailure),
}

impl From<Refusal> for NotRelayed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<VisitorFailure> for NotRelayed {
    fn from(failure: VisitorFailure) -> Self {
        Self::Failed(failure)
    }
}

fn refused(kind: RefusalKind, message: impl Into<String>) -> NotRelayed {
    NotRelayed::Refused(Refusal::new(kind, message))
}

impl RelayHttp {
    pub(super) fn new(config: Arc<RelayConfig>, credentials: Arc<Credentials>, scope: Scope) -> Self {
        Self {
            config,
            credentials,
            scope,
            connection_limit: ConnectionLimit::new(defaults::RELAY_HTTP, defaults::RELAY_HTTP_PER_ADDRESS),
        }
    }

    /// Whether a request on the relay's own authority is for RelayHttp.
    pub(super) fn wants(&self, request: &Request) -> bool {
        // A request for an Upgrade is for a transport, on any path.
        let upgrade = request.headers().contains_key(UPGRADE);
        !self.config.relay_http.is_empty() && !upgrade && destination_in(request.uri().path()).is_some()
    }

    /// Relays the message in a request's body, and answers with the message of the destination. Dropping the future
    /// abandons the request.
    pub(super) async fn answer(
        &self,
        request: Request,
        facts: Result<Facts, Refusal>,
        recording: &mut Recording,
    ) -> Response {
        let request_headers = request.headers().clone();
        let mut response = match self.relay(request.map(Body::from), facts).await {
            Ok(response) => response,
            Err(NotRelayed::Refused(refusal)) => respond::refusal(&refusal, &request_headers, recording),
            Err(NotRelayed::Failed(failure)) => respond::failure(failure, &request_headers, recording),
        };
        // As with the gateway, access depends on a token and never on a cookie, so pages of any origin may send
        // requests.
        if request_headers.contains_key(ORIGIN) {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        response
    }

    async fn relay(
        &self,
        request: http::Request<Body>,
        facts: Result<Facts, Refusal>,
    ) -> Result<Response, NotRelayed> {
        match *request.method() {
            Method::OPTIONS => return Ok(options()),
            Method::POST => {}
            _ => return Err(refused(RefusalKind::Method, "this resource takes POST, OPTIONS")),
        }
        // Only a client that could be an agent here may relay. Any other client must not learn the destinations.
        let facts = facts?;
        self.credentials.look_up(&facts).await;
        self.credentials.verify_new(&facts, None)?;
        let text = destination_in(request.uri().path()).unwrap_or_default().to_owned();
        let requested =
            HostAndPort::parse(&text).map_err(|e| refused(RefusalKind::Malformed, e.to_string()))?;
        let Some(destination) = self.config.relay_http.iter().find(|allowed| allowed.matches(&requested))
        else {
            let message = format!("requests are not relayed to {text} here");
            return Err(refused(RefusalKind::Forbidden, message));
        };
        if media_type(request.headers()).is_some_and(|kind| kind.eq_ignore_ascii_case("application/http")) {
            let message = "application/http is not accepted; send one request as message/http";
            return Err(refused(RefusalKind::MediaType, message));
        }
        let connection_permit = self.connection_permit(&facts)?;
        let embedded = exchange::embedded(request.into_body(), &requested).await?;
        let addresses = tokio::time::timeout(defaults::CONNECT, destination.addresses()).await;
        let addresses =
            addresses.map_err(|_| VisitorFailure::Late)?.map_err(|_| VisitorFailure::Unreachable)?;
        let Some(addresses) = addresses else {
            tracing::warn!(
                destination = %requested,
                "a destination of RelayHttp resolves to an address that is not public: not dialled"
            );
            return Err(refused(RefusalKind::Forbidden, format!("requests are not relayed to {text} here")));
        };
        tracing::debug!(destination = %requested, remote = %facts.remote, "relaying a request");
        exchange::send(addresses, &requested, embedded, (&self.scope, connection_permit)).await
    }

    fn connection_permit(&self, facts: &Facts) -> Result<ConnectionPermit, Refusal> {
        let connection_permit = self.connection_limit.enter().and_then(|mut connection_permit| {
            connection_permit.try_assign(facts.remote.ip()).then_some(connection_permit)
        });
        connection_permit.ok_or_else(|| {
            let mut refusal =
                Refusal::new(RefusalKind::Full, "the limit of relayed requests is reached; try again");
            refusal.retry_after = Some(defaults::RETRY_AFTER);
            refusal
        })
    }
}

/// The destination in a path.
fn destination_in(path: &str) -> Option<&str> {
    path.strip_prefix(defaults::GATEWAY)?.strip_prefix(RELAY_PATH)
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

fn options() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    let allowed = "Accept, Authorization, Content-Type, X-Requested-With";
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}
