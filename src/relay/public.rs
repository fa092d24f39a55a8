//! A visitor's request: route → permit → session → forward.

use std::sync::Arc;

use http::header::{ACCEPT, CONNECTION};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use http_body::Body as _;
use tracing::Instrument as _;

use super::Shared;
use super::config::Routing;
use super::forward::{self, Downstream, Outgoing};
use super::respond::{self, VisitorFailure};
use super::response_timeout::AnswerClock;
use super::{credentials, demo, https, max_forwards, record};
use crate::defaults;
use crate::domain::{
    AnswerTimeout, Facts, HostName, Name, Refusal, RefusalKind, Route, SessionId, Visitor, Wanted,
};
use crate::message::authority::Unclear;
use crate::message::body::BodyVerdict;
use crate::message::{Request, Response, authority, framing, hop, interim, upgrade};
use crate::observe::exchange::Party;
use crate::observe::{Limit, LimitObserver as _, Recording};
use crate::policy::{VisitorPermit, VisitorPolicy};
use crate::registry::Target;
use crate::session::{SendError, SendErrorKind};

/// The companions of a request until it is answered: its record, and the sender of its interim responses.
type Companions<'a> = (&'a mut Box<Recording>, &'a interim::Sender);

/// Answers one request that arrived on the public port.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    sender: &Downstream,
    mut request: Request,
    interim: &interim::Sender,
) -> Response {
    let version = request.version();
    let is_head = request.method() == Method::HEAD;
    let mut recording = record::open(sender, &mut request);
    let extended = upgrade::from_connect(&mut request);
    let hsts = shared.https.hsts(shared, sender, &request);
    let span = recording.span().clone();
    let mut response = route(shared, sender, request, (&mut recording, interim)).instrument(span).await;
    if extended && response.status().is_success() {
        // The Upgrade was ignored. For an extended CONNECT a success would mean that it was accepted (RFC 9220 §3).
        response = respond::failure(VisitorFailure::Protocol, &http::HeaderMap::new(), &mut recording);
    } else if extended {
        upgrade::to_connected(&mut response);
    } else if version == Version::HTTP_2 && response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // HTTP/2 requests an Upgrade only by extended CONNECT, so an agent that answers this request with a 101 is
        // wrong.
        response = respond::failure(VisitorFailure::Upgrade, &http::HeaderMap::new(), &mut recording);
    }
    if version == Version::HTTP_2 && (extended || recording.exchange().party == Party::Agent) {
        // HTTP/2 has no hop-by-hop fields (RFC 9113 §8.2.2). Answers to agents and to an Upgrade are written for
        // HTTP/1.1.
        let _ = hop::strip(response.headers_mut());
    }
    if let Some(hsts) = hsts.filter(|_| recording.exchange().party == Party::Visitor) {
        https::add_hsts(&mut response, hsts);
    }
    recording.follow(is_head, &mut response);
    response
}

async fn route(
    shared: &Arc<Shared>,
    sender: &Downstream,
    request: Request,
    (recording, interim): Companions<'_>,
) -> Response {
    if framing::size(&request) > defaults::VISITOR_HEAD {
        shared.metrics.reached(Limit::Fields, &sender.visitor().remote);
        return refuse_and_close(VisitorFailure::Head, &request, recording);
    }
    if request.method() == Method::CONNECT {
        return refuse_and_close(VisitorFailure::Method, &request, recording);
    }
    if request.uri().path() == "*" && request.method() != Method::OPTIONS {
        return refuse_and_close(VisitorFailure::Unclear(Unclear::Asterisk), &request, recording);
    }
    let behind_proxy = match sender.behind_proxy(request.headers(), &shared.config.trusted_proxies) {
        Ok(behind_proxy) => behind_proxy,
        Err(unclear) => return refuse_and_close(VisitorFailure::Sender(unclear), &request, recording),
    };
    let sender = behind_proxy.as_deref().unwrap_or(sender);
    if let Some(line) = recording.line() {
        line.visitor = Some(sender.visitor().remote);
    }
    let effective = authority::effective(request.version(), request.uri(), request.headers());
    let authority = match authority::check_scheme(request.uri(), sender.required_tls).and(effective) {
        Ok(authority) => authority,
        Err(unclear) => return refuse_and_close(VisitorFailure::Unclear(unclear), &request, recording),
    };
    if let Some(redirect) = shared.https.redirect(shared, sender, &authority, &request) {
        return redirect;
    }
    // The table holds normalised hosts, so a host that is found as it was received needs no parsing.
    if let Some(target) = shared.registry.find_host(authority.host()) {
        return serve(shared, sender, authority, &target, request, (recording, interim)).await;
    }
    let host = match authority::host(&authority) {
        Ok(host) => host,
        Err(unclear) => return refuse_and_close(VisitorFailure::Unclear(unclear), &request, recording),
    };
    if shared.names.is_own(&host) {
        // Boxed, because this case is rare and large, and would enlarge the future of every visitor.
        return Box::pin(answer_own(shared, sender, authority, &host, request, (recording, interim))).await;
    }
    match shared.names.find(&shared.registry, &host) {
        Some(target) => serve(shared, sender, authority, &target, request, (recording, interim)).await,
        None => respond::failure(unserved(shared, &Route::Host(host)), request.headers(), recording),
    }
}

/// Refuses a request that another hop may have parsed differently. On HTTP/1 nothing after the request is read.
fn refuse_and_close(failure: VisitorFailure, request: &Request, recording: &mut Recording) -> Response {
    let mut response = respond::failure(failure, request.headers(), recording);
    if request.version() < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn unserved(shared: &Shared, route: &Route) -> VisitorFailure {
    if shared.names.is_named_by_token(route) { VisitorFailure::NoAgent } else { VisitorFailure::NoRoute }
}

/// Answers a request on the relay's own authority: RelayHttp and the transports first, then names by path, then the
/// relay's pages.
async fn answer_own(
    shared: &Arc<Shared>,
    sender: &Downstream,
    authority: Authority,
    host: &HostName,
    request: Request,
    (recording, interim): Companions<'_>,
) -> Response {
    if sender.connection_permit().is_newcomer() && shared.transports.by_request(&request).is_none() {
        return refuse_and_close(VisitorFailure::Full, &request, recording);
    }
    // The end of a proxy's connection shows nothing about the agent behind the proxy.
    let observes_close = !closes(&request) && !sender.is_trusted_proxy();
    let agent_facts = |request_headers| {
        require_tls(shared, sender.visitor())?;
        let closed = observes_close.then(|| sender.closed());
        Ok(Facts { closed, ..facts(sender, &authority, request_headers) })
    };
    if shared.relay_http.wants(&request) {
        recording.exchange().party = Party::Agent;
        let facts = agent_facts(request.headers());
        return shared.relay_http.answer(request, facts, recording).await;
    }
    if let Some(side) = shared.transports.by_request(&request) {
        recording.exchange().party = Party::Agent;
        sender.note_agent();
        let request_headers = request.headers().clone();
        let busy = sender.connection_permit().busy();
        let facts = agent_facts(&request_headers).and_then(|facts| require_http1(&request).map(|()| facts));
        let accepted = match facts {
            Ok(facts) => side.accept(request, facts).await,
            Err(refusal) => Err(refusal),
        };
        let mut response = match accepted {
            Ok(response) => response,
            Err(refusal) => {
                shared.metrics.refused(refusal.kind.code().as_str());
                respond::refusal(&refusal, &request_headers, recording)
            }
        };
        side.dress(&request_headers, &mut response);
        if let Some(busy) = busy {
            response.body_mut().hold(busy);
        }
        return response;
    }
    if shared.config.routing == Routing::Path && *host == shared.config.domain {
        let segment = request.uri().path().split('/').nth(1).unwrap_or_default();
        if let Some(target) = shared.registry.find_path(segment) {
            return serve(shared, sender, authority, &target, request, (recording, interim)).await;
        }
        if let Ok(name) = Name::parse(segment)
            && shared.names.is_named_by_token(&Route::Path(name))
        {
            return respond::failure(VisitorFailure::NoAgent, request.headers(), recording);
        }
    }
    let public_url = |wanted: &Wanted| {
        let facts = facts(sender, &authority, request.headers());
        shared.names.public_url(wanted, &facts)
    };
    match demo::answer(&shared.config, public_url, &request, recording) {
        Some(response) => response,
        None => respond::own_page(&request, shared.config.demo, recording),
    }
}

/// Refuses an agent without TLS: everyone on the path can read its token and its answers. A connection to a loopback
/// address has no such path.
pub(super) fn require_tls(shared: &Shared, visitor: &Visitor) -> Result<(), Refusal> {
    let Visitor { tls, local, remote } = visitor;
    if *tls || local.ip().is_loopback() || shared.config.allow_plain {
        return Ok(());
    }
    tracing::info!(%remote, "agent refused: its connection has no TLS");
    let message = "this listener is plain HTTP, and agents must connect over TLS; use the relay's https:// \
                   address, or start the relay with --allow-plain if a proxy in front of it terminates TLS";
    Err(Refusal::new(RefusalKind::Forbidden, message))
}

/// Refuses an extended CONNECT (RFC 8441): it is one stream of an HTTP/2 connection, which cannot swap its roles.
fn require_http1(request: &Request) -> Result<(), Refusal> {
    if request.extensions().get::<upgrade::Tunnel>().is_none_or(upgrade::Tunnel::is_connection) {
        return Ok(());
    }
    let message = "agents connect with an Upgrade of HTTP/1.1, and this request is an extended CONNECT of \
                   HTTP/2; configure the proxy in front of this relay to send HTTP/1.1";
    Err(Refusal::new(RefusalKind::NoUpgrade, message))
}

fn facts(sender: &Downstream, authority: &Authority, headers: &http::HeaderMap) -> Facts {
    Facts {
        remote: sender.visitor().remote,
        tls: sender.visitor().tls,
        authority: authority.as_str().into(),
        server_name: sender.handshake().server_name.clone(),
        credential: credentials::presented(headers),
        certificate: sender.handshake().certificate.clone(),
        closed: None,
    }
}

/// Whether the connection closes after this request in any case (RFC 9112 §9.3).
fn closes(request: &Request) -> bool {
    let mut options = request.headers().get_all(CONNECTION).iter().flat_map(hop::list);
    request.version() < Version::HTTP_11 || options.any(|option| option.eq_ignore_ascii_case("close"))
}

/// Serves a visitor of a route that an agent holds.
async fn serve(
    shared: &Arc<Shared>,
    sender: &Downstream,
    authority: Authority,
    target: &Target,
    mut request: Request,
    (recording, interim): Companions<'_>,
) -> Response {
    recording.record_route(&target.route);
    if sender.connection_permit().is_newcomer() {
        return refuse_and_close(VisitorFailure::Full, &request, recording);
    }
    if let Some(answer) = max_forwards::instead(&mut request, recording) {
        return answer;
    }
    // Held until the answer begins.
    let Some(_charge) = shared.heads.charge(framing::weight(&request)).await else {
        shared.metrics.reached(Limit::Heads, &sender.visitor().remote);
        return respond::failure(VisitorFailure::Heads, request.headers(), recording);
    };
    let permit = {
        let served = target.served();
        VisitorPermit::without_rules(served.policy.clone(), served.epoch)
    };
    match permit {
        Ok(permit) => {
            forward_to_agent(shared, sender, authority, target, permit, request, (recording, interim)).await
        }
        // Boxed, because most names have no rules, and this would enlarge the future of every visitor.
        Err(gate) => {
            Box::pin(serve_by_rules(shared, sender, authority, target, &gate, request, (recording, interim)))
                .await
        }
    }
}

/// Serves a visitor of a name with rules. The gate belongs to the same target that gets the request.
async fn serve_by_rules(
    shared: &Arc<Shared>,
    sender: &Downstream,
    authority: Authority,
    target: &Target,
    gate: &Arc<VisitorPolicy>,
    mut request: Request,
    (recording, interim): Companions<'_>,
) -> Response {
    let accept = accept_of(request.headers());
    let (address, length) = (sender.visitor().remote.ip(), request.body().size_hint().exact());
    let permit = match gate.visit(&shared.checks, address, request.headers_mut(), length).await {
        Ok(permit) => permit,
        Err(denied) => return respond::failure(VisitorFailure::Denied(denied), &accept, recording),
    };
    permit.body().into_iter().for_each(|most| request.body_mut().limit(most));
    forward_to_agent(shared, sender, authority, target, permit, request, (recording, interim)).await
}

/// The only field that decides the form of an error.
fn accept_of(headers: &HeaderMap) -> HeaderMap {
    only_accept(headers.get(ACCEPT).cloned())
}

fn only_accept(accept: Option<HeaderValue>) -> HeaderMap {
    accept.map(|value| (ACCEPT, value)).into_iter().collect()
}

async fn forward_to_agent(
    shared: &Arc<Shared>,
    sender: &Downstream,
    authority: Authority,
    target: &Target,
    permit: VisitorPermit,
    request: Request,
    (recording, interim): Companions<'_>,
) -> Response {
    let version = request.version();
    let accept = request.headers().get(ACCEPT).cloned();
    let Some(Outgoing { mut request, permit, upgrade }) =
        forward::outgoing(request, permit, sender, (authority, recording.id()))
    else {
        return respond::failure(VisitorFailure::Head, &only_accept(accept), recording);
    };
    if let Some(login) = sender.login() {
        login.note_request(&request);
    }
    let relay = AnswerTimeout::in_force(shared.config.answer.into(), None, None);
    let verdict = request.body_mut().verdict();
    let refused = || verdict.as_ref().and_then(BodyVerdict::get).map(VisitorFailure::from);
    let clock = (&mut AnswerClock::watch(&mut request), relay);
    let sent = send(target, &permit, sender, request, clock, (recording, interim));
    let failure = match sent.await {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let context = (version, &mut *recording);
            match forward::join(response, upgrade, permit, sender, context, &shared.visitors) {
                Some(response) => return response,
                None => VisitorFailure::Upgrade,
            }
        }
        // The agent reports the broken body as a failure of its own.
        Ok(response) if response.status().is_server_error() && refused().is_some() => {
            VisitorFailure::Send(SendErrorKind::Closed)
        }
        Ok(response) => {
            recording.record_origin_failure(&response);
            if let Some(login) = sender.login() {
                login.note_answer(&response);
            }
            let mut response = forward::incoming(response, version, shared.names.own());
            if !permit.is_free() {
                response.body_mut().hold(permit);
            }
            return response;
        }
        Err(failure) => failure,
    };
    let failure = refused().unwrap_or(failure);
    tracing::debug!(route = %target.route, ?failure, "a visitor's request failed");
    respond::failure(failure, &only_accept(accept), recording)
}

/// Sends a request to one session after the other until a session answers it. A request that a session returned unsent
/// goes to the next session. A request whose answer was lost is repeated only if a repetition is harmless (RFC 9110
/// §9.2.2) and the request cannot have had a body.
async fn send(
    target: &Target,
    permit: &VisitorPermit,
    sender: &Downstream,
    mut request: Request,
    (clock, relay): (&mut AnswerClock, AnswerTimeout),
    (recording, interim): (&mut Recording, &interim::Sender),
) -> Result<Response, VisitorFailure> {
    let mut repeats = defaults::REPEATS;
    let (mut tried, mut returned): (Vec<SessionId>, Vec<SessionId>) = (Vec::new(), Vec::new());
    let mut failure = VisitorFailure::NoAgent;
    // An agent that connected while this request waited may have other rules than those that admitted its visitor.
    let search = target.session(&tried, permit.epoch());
    // The limit of an agent counts from the moment at which its session is found.
    let found = AnswerClock::default().wait(search, relay.limit).await;
    let mut found = found.ok_or(VisitorFailure::Timeout(relay))?;
    loop {
        let Some(session) = found else { return Err(failure) };
        let timeout = session.answer_timeout;
        if target.is_polled() {
            request.extensions_mut().insert(*sender.visitor());
        }
        if let Some(login) = sender.login() {
            login.mark(request.headers_mut(), session.instance.is_some());
        }
        let sent = session.send(request, recording.record_attempt(session.id), interim);
        match clock.wait(sent, timeout.limit).await.ok_or(VisitorFailure::Timeout(timeout))? {
            Ok(response) => return Ok(response),
            Err(SendError { kind, unsent: Some(unsent), .. }) if kind.is_declined() => {
                tried.push(session.id);
                failure = VisitorFailure::Send(kind);
                request = *unsent;
            }
            // The session has ended or is ending. If a link has joined it meanwhile, that link gets the request; there
            // is no third try.
            Err(SendError { kind: SendErrorKind::Closed, unsent: Some(unsent), .. }) => {
                let returned_before = returned.contains(&session.id);
                if returned_before { &mut tried } else { &mut returned }.push(session.id);
                request = *unsent;
            }
            Err(SendError { kind: SendErrorKind::Closed, repeatable: Some(sent), .. }) if repeats > 0 => {
                repeats -= 1;
                request = *sent;
            }
            // RFC 9110 §7.8: an Upgrade may be ignored. A WebSocket handshake makes sense only with its Upgrade.
            Err(SendError { kind: SendErrorKind::NoUpgrade, unsent: Some(unsent), .. })
                if !hop::requests_upgrade(unsent.headers(), "websocket") =>
            {
                request = *unsent;
                let _ = hop::strip(request.headers_mut());
            }
            Err(error) => return Err(VisitorFailure::Send(error.kind)),
        }
        found = match failure {
            VisitorFailure::Send(
                SendErrorKind::Full(_) | SendErrorKind::NoTrailers | SendErrorKind::NotIncremental,
            ) => target.other_session(&tried, permit.epoch()),
            _ => {
                let next = clock.wait(target.session(&tried, permit.epoch()), timeout.limit);
                next.await.ok_or(VisitorFailure::Timeout(timeout))?
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::domain::AgentId;
    use crate::message::Body;
    use crate::net::Core;
    use crate::observe::RequestId;
    use crate::registry::{Registry, Terms};
    use crate::relay::forward::tests::sender;
    use crate::session::Kind;
    use crate::session::carrier::Fake;

    /// The target of a session whose link returns every request unsent and stays open, and the number of requests that
    /// the link received.
    fn returning() -> (Arc<Target>, Arc<AtomicUsize>, impl Sized) {
        let registry = Registry::new(defaults::LEASE);
        let (route, agent) = (Route::Path(Name::parse("a").unwrap()), AgentId("a".into()));
        let claim = registry.claim(&agent, Terms { routes: [route].into(), ..Terms::default() }).unwrap();
        let received = Arc::<AtomicUsize>::default();
        let count = received.clone();
        let carrier = Fake::carrier(1, move |request, _| {
            assert!(count.fetch_add(1, Ordering::Relaxed) < 100, "the same session is tried for ever");
            Err(SendError { kind: SendErrorKind::Closed, unsent: Some(Box::new(request)), repeatable: None })
        });
        let joined = claim.join(carrier, (Kind::H1, Core::default()));
        (registry.find_path("a").unwrap(), received, (registry, joined))
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_returns_a_request_is_tried_at_most_twice() {
        let (target, received, _registry) = returning();
        let permit = VisitorPermit::without_rules(None, target.served().epoch).ok().unwrap();
        let mut recording = Recording::open(&Arc::default(), RequestId::draw());
        let (visitor, interim) = (sender("192.0.2.1:1", false), interim::Sender::default());
        let clock = (&mut AnswerClock::default(), AnswerTimeout::default());
        let sent =
            send(&target, &permit, &visitor, Request::default(), clock, (&mut recording, &interim)).await;
        assert!(sent.is_err());
        assert_eq!(recording.exchange().retries, 1);
        assert_eq!(received.load(Ordering::Relaxed), 2, "the second try is for a link that joined meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn an_upgrade_that_no_carrier_takes_is_ignored_unless_it_is_a_websocket() {
        for (token, answered) in [("h2c", true), ("websocket", false)] {
            let registry = Registry::new(defaults::LEASE);
            let (route, agent) = (Route::Path(Name::parse("a").unwrap()), AgentId("a".into()));
            let claim = registry.claim(&agent, Terms { routes: [route].into(), ..Terms::default() }).unwrap();
            let carrier = Fake::carrier(1, |request, _| match request.headers().contains_key("upgrade") {
                true => Err(SendError {
                    kind: SendErrorKind::NoUpgrade,
                    unsent: Some(Box::new(request)),
                    repeatable: None,
                }),
                false => Ok(Response::new(Body::empty())),
            });
            let _joined = claim.join(carrier, (Kind::H1, Core::default()));
            let target = registry.find_path("a").unwrap();
            let permit = VisitorPermit::without_rules(None, target.served().epoch).ok().unwrap();
            let mut request = Request::default();
            hop::set_upgrade(request.headers_mut(), HeaderValue::from_static(token));
            let mut recording = Recording::open(&Arc::default(), RequestId::draw());
            let (visitor, interim) = (sender("192.0.2.1:1", false), interim::Sender::default());
            let clock = (&mut AnswerClock::default(), AnswerTimeout::default());
            let sent = send(&target, &permit, &visitor, request, clock, (&mut recording, &interim)).await;
            assert_eq!(sent.is_ok(), answered, "{token}");
        }
    }
}
