//! The common part of all transports that use Upgrade: the swap of roles after a 101, at both ends.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, RETRY_AFTER, UPGRADE, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::{
    Admission, Admissions, AgentLink, Call, OpenError, Opened, check_rules_in_force, place, query, warnings,
};
use crate::defaults;
use crate::domain::{Offer, Refusal, RefusalKind};
use crate::message::upgrade::{Opening, Tunnel};
use crate::message::{Body, BoxError, Request, Response, fields, hop, link};
use crate::net::dial::dial_via;
use crate::net::{Core, Cores, Io, Scope};
use crate::session::{Kind, send_half};

/// How much of a refusal's body is read, in bytes.
const REFUSAL: usize = 16 << 10;

/// The carriers that an `ALPN` field offers (RFC 7639 §2), or `None` without the field.
pub(super) fn offered(headers: &HeaderMap) -> Option<Vec<Kind>> {
    headers.contains_key(fields::ALPN).then(|| {
        headers.get_all(fields::ALPN).iter().flat_map(hop::list).filter_map(Kind::from_alpn_field).collect()
    })
}

/// The best carrier of an offer.
///
/// # Errors
/// [`RefusalKind::NothingInCommon`]
pub(super) fn choose(offered: &[Kind]) -> Result<Kind, Refusal> {
    Kind::PREFERRED.into_iter().find(|kind| offered.contains(kind)).ok_or_else(|| {
        let message = "no carrier in common: this relay supports h2 and http%2F1.1";
        Refusal::new(RefusalKind::NothingInCommon, message)
    })
}

/// The 101. Existing agents depend on this spelling, and on a single value in each field.
pub(super) fn switching(
    connection: &'static str,
    token: &'static str,
    admissions: &Arc<dyn Admissions>,
    (admission, offer): (&dyn Admission, &Offer),
) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static(connection));
    headers.insert(UPGRADE, HeaderValue::from_static(token));
    if let Some(related) = link::value(admission.urls().iter().map(String::as_str), "related") {
        headers.insert(http::header::LINK, related);
    }
    if admission.is_ruled() {
        headers.insert(fields::PTTH_VISITORS, HeaderValue::from_static("?1"));
    }
    warnings::write_terms(headers, &**admissions, (admission.agent(), offer), admission.urls());
    response
}

/// Adds the chosen carrier, and the number of connections with it that the relay can use.
pub(super) fn announce(response: &mut Response, kind: Kind, admission: &dyn Admission) {
    response.headers_mut().insert(fields::ALPN, HeaderValue::from_static(kind.alpn_field()));
    announce_connections(response, kind, admission);
}

/// Adds the number of connections with this carrier that the relay can use.
pub(super) fn announce_connections(response: &mut Response, kind: Kind, admission: &dyn Admission) {
    response.headers_mut().insert(fields::PTTH_CONNECTIONS, HeaderValue::from(admission.connections(kind)));
}

/// Continues after the 101 to `request`: ends a probe, or swaps the roles.
pub(super) fn proceed(
    admissions: &Arc<dyn Admissions>,
    mut request: Request,
    kind: Kind,
    admission: Box<dyn Admission>,
) {
    let Some(upgrade) = Tunnel::take(request.extensions_mut()) else {
        return tracing::error!("an offer arrived on a connection that cannot be flipped");
    };
    match query::is_probe(request.headers()) {
        true => answer_probe(admissions, upgrade, admission),
        false => swap(admissions, upgrade, kind, admission),
    }
}

/// Sends the 101 to a probe, and closes the connection. The routes that the probe claimed are free again at once.
fn answer_probe(admissions: &Arc<dyn Admissions>, upgrade: Opening, admission: Box<dyn Admission>) {
    drop(admission);
    admissions.scope().spawn(async move {
        if let Ok(Ok(mut stream)) = tokio::time::timeout(defaults::FLIP, upgrade).await {
            // The agent may have closed the connection already.
            let _ = stream.shutdown().await;
        }
    });
}

/// Opens a session on that connection once the 101 is sent.
fn swap(admissions: &Arc<dyn Admissions>, upgrade: Opening, kind: Kind, admission: Box<dyn Admission>) {
    let (cores, scope) = (admissions.cores().clone(), admissions.scope().clone());
    admissions.scope().spawn(async move {
        let upgraded = tokio::time::timeout(defaults::FLIP, upgrade).await;
        let Ok(Ok(upgraded)) = upgraded else {
            return tracing::debug!("an agent left before its 101 was sent");
        };
        let Ok(io) = upgraded.into_any().downcast::<Io>() else {
            return tracing::error!("an upgraded connection is of a type that cannot be flipped");
        };
        drive_on_next_core(*io, kind, admission, &cores, scope).await;
    });
}

/// Makes the relay the client on a stream, and attaches the stream by its admission. Returns at once; the session lives
/// in the scope of the admissions, on one of the cores.
pub fn open_session(admissions: &Arc<dyn Admissions>, io: Io, kind: Kind, admission: Box<dyn Admission>) {
    let (cores, scope) = (admissions.cores().clone(), admissions.scope().clone());
    admissions.scope().spawn(async move { drive_on_next_core(io, kind, admission, &cores, scope).await });
}

/// Assigns streams to the cores in turn, whichever core accepted them, and drives each stream on its core.
async fn drive_on_next_core(
    mut io: Io,
    kind: Kind,
    admission: Box<dyn Admission>,
    cores: &Cores,
    scope: Scope,
) {
    let runtime = cores.next();
    let core = Core::of(runtime);
    if core == Core::current() {
        return drive(io, kind, core, admission, scope).await;
    }
    if io.depart().is_ok() {
        let owner = scope.clone();
        owner.spawn_on(runtime, async move {
            if io.arrive().is_ok() {
                drive(io, kind, core, admission, scope).await;
            }
        });
    }
}

/// The stream of an upgraded connection, with the bytes that were read behind the head.
fn into_io(upgraded: Upgraded) -> Option<Io> {
    let parts = upgraded.downcast::<TokioIo<Io>>().ok()?;
    // Bytes that the relay sends right behind the head are read with the head. They are the start of the session.
    Some(parts.io.into_inner().with_early(parts.read_buf))
}

async fn drive(io: Io, kind: Kind, core: Core, admission: Box<dyn Admission>, scope: Scope) {
    let (carrier, driver) = match send_half(io, kind, &scope, admission.budget()).await {
        Ok(open) => open,
        Err(error) => return tracing::debug!(%error, "an agent left before its session began"),
    };
    let mut attached = admission.attach(carrier, kind, core);
    tokio::select! {
        biased;
        () = &mut attached.cut => return,
        () = scope.stopping() => return,
        () = driver => {}
    }
    // An upgraded stream outlives its connection, and is still cut with its session.
    let emptied = attached.emptied();
    tokio::select! {
        biased;
        () = &mut attached.cut => {}
        () = scope.stopping() => {}
        () = emptied => {}
    }
}

/// The Upgrade request of an agent.
///
/// # Errors
/// [`OpenError::Broken`] if the offer is too long for a target.
pub(super) fn request(
    call: &Call,
    method: Method,
    target: &str,
    token: &'static str,
) -> Result<http::Request<Empty<bytes::Bytes>>, OpenError> {
    let mut request = http::Request::new(Empty::new());
    *request.method_mut() = method;
    *request.uri_mut() = super::target(target)?;
    let headers = request.headers_mut();
    let host = call.relay.authority().map_or("", |a| a.as_str());
    let mut set = |name, value: Result<HeaderValue, _>| {
        if let Ok(value) = value {
            headers.insert(name, value);
        }
    };
    set(HOST, HeaderValue::try_from(host));
    set(CONNECTION, HeaderValue::try_from("Upgrade"));
    set(UPGRADE, HeaderValue::try_from(token));
    let carriers: Vec<_> = call.carriers.iter().copied().map(Kind::alpn_field).collect();
    set(fields::ALPN, HeaderValue::try_from(carriers.join(", ")));
    set(USER_AGENT, HeaderValue::try_from(concat!("ptth/", env!("CARGO_PKG_VERSION"))));
    query::write_fields(headers, call);
    Ok(request)
}

/// Dials the relay, sends `request`, and takes the connection over after the 101. An error in `request` is returned.
///
/// # Errors
/// [`OpenError`]
pub(super) async fn open(
    call: &Call,
    request: Result<http::Request<Empty<bytes::Bytes>>, OpenError>,
) -> Result<Opened, OpenError> {
    let request = request?;
    let io = dial_via(&call.via, &place(&call.relay), &call.credentials.tls(), defaults::CONNECT).await?;
    let opened = tokio::time::timeout(defaults::UPGRADE, exchange(io, request, call)).await;
    opened.unwrap_or_else(|_| {
        Err(OpenError::Broken(format!("no answer within {} s", defaults::UPGRADE.as_secs())))
    })
}

async fn exchange(
    io: Io,
    request: http::Request<Empty<bytes::Bytes>>,
    call: &Call,
) -> Result<Opened, OpenError> {
    let is_plain = io.tls_version().is_none();
    let broken = move |e: hyper::Error| match e.is_parse() && is_plain {
        true => OpenError::NotHttp,
        false => OpenError::Broken(e.to_string()),
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(io))
        .await
        .map_err(broken)?;
    let requested = request.headers().get(UPGRADE).cloned();
    let answer = async move {
        let mut response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(response).await);
        }
        if is_unrequested(response.headers(), requested.as_ref()) {
            return Err(OpenError::Broken("the relay switched to a protocol that was not requested".into()));
        }
        let upgrade = hyper::upgrade::on(&mut response);
        Ok((response.into_parts().0.headers, upgrade.await.map_err(broken)?))
    };
    let (answer, _) = tokio::join!(answer, connection.with_upgrades());
    let (headers, upgraded) = answer?;
    check_rules_in_force(&call.offer, &headers).map_err(OpenError::Broken)?;
    let io = into_io(upgraded).ok_or_else(|| OpenError::Broken("the connection cannot be flipped".into()))?;
    let kind = match headers.get(fields::ALPN) {
        None => Kind::H1,
        Some(id) => {
            let chosen = id.to_str().ok().and_then(Kind::from_alpn_field);
            chosen.filter(|kind| call.carriers.contains(kind)).ok_or_else(|| {
                OpenError::Broken(format!("the relay chose a protocol that was not offered: {id:?}"))
            })?
        }
    };
    let number = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    Ok(Opened {
        urls: link::targets(&headers, "related").map(str::to_owned).collect(),
        warnings: warnings::read(&headers, &call.offer),
        // To a relay that announces no number, the agent opens one connection.
        connections: headers.get(fields::PTTH_CONNECTIONS).and_then(number).unwrap_or(1),
        link: AgentLink::Flipped { kind, io },
    })
}

/// Whether a 101 names protocols (RFC 9110 §15.2.2), and the requested protocol is not among them. The 101 of an old
/// relay names no protocol.
fn is_unrequested(answer: &HeaderMap, requested: Option<&HeaderValue>) -> bool {
    let requested = requested.map(HeaderValue::as_bytes).unwrap_or_default();
    let mut protocols = answer.get_all(UPGRADE).iter().flat_map(hop::list).peekable();
    protocols.peek().is_some() && !protocols.any(|token| token.as_bytes().eq_ignore_ascii_case(requested))
}

/// The error for an answer that does not accept the offer.
pub(super) async fn refused<B: http_body::Body>(response: http::Response<B>) -> OpenError
where
    B::Error: Into<BoxError>,
{
    #[derive(serde::Deserialize)]
    struct OfferProblem {
        detail: String,
    }
    let (parts, body) = response.into_parts();
    let status = parts.status;
    let is_from_relay = parts.headers.contains_key(fields::PROXY_STATUS);
    let body = Limited::new(body, REFUSAL).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let detail = serde_json::from_slice::<OfferProblem>(&body).ok().map(|p| p.detail);
    match status.as_u16() {
        // A refusal by a relay has `Proxy-Status` or a problem body. Any other answer is that of a box on the way.
        401 | 403 | 409 | 400 | 406 | 429 | 503 if is_from_relay || detail.is_some() => {}
        // A 401 with a challenge is a refusal too, by a relay of another make. Any other 403 may be a firewall's: the
        // agent then tries the next transport.
        401 if parts.headers.contains_key(WWW_AUTHENTICATE) => {}
        _ => return OpenError::Absent { status },
    }
    let seconds = |value: &HeaderValue| value.to_str().ok()?.parse().ok().map(Duration::from_secs);
    // A date is not parsed. It counts as the default delay, so that the refusal is not final.
    let retry_after = parts.headers.get(RETRY_AFTER).map(|v| seconds(v).unwrap_or(defaults::RETRY_AFTER));
    OpenError::Refused {
        status,
        message: detail.unwrap_or_else(|| format!("the relay answered {status}")),
        retry_after,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::domain::{HostName, Wanted};
    use crate::net::dial::DialRoute;
    use crate::transport::{Transport as _, ptth10};

    /// Without its names, the offer would request whatever the token grants.
    #[tokio::test]
    async fn an_offer_too_long_for_a_target_is_not_sent_without_its_names() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let host = |n: usize| Wanted::Host(HostName::parse(&format!("host-{n}.example.org")).unwrap());
        let offer = Offer { wanted: (0..4_000).map(host).collect(), ..Offer::default() };
        let tls = crate::tls::client_config_for_none().unwrap();
        let credentials = crate::transport::AgentCredentials::new(tls, None);
        let call = Call { relay, credentials, via: DialRoute::Direct, offer, carriers: vec![Kind::H1] };
        let received = async {
            let (mut agent, _) = listener.accept().await.unwrap();
            let mut line = vec![0; 64];
            let length = agent.read(&mut line).await.unwrap();
            String::from_utf8_lossy(&line[..length]).into_owned()
        };
        let side = ptth10::Ptth10.agent();
        tokio::select! {
            received = received => panic!("the relay received {received:?}"),
            opened = side.open(&call) => {
                let error = opened.err().unwrap().to_string();
                assert!(error.contains("too long"), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn a_refusal_with_a_retry_date_is_not_permanent() {
        let answer = |after: &str| {
            let answer = http::Response::builder().status(409).header("proxy-status", "relay");
            answer.header("retry-after", after).body(Empty::<bytes::Bytes>::new()).unwrap()
        };
        let default = defaults::RETRY_AFTER.as_secs();
        for (after, expected) in [("7", 7), ("Wed, 21 Oct 2026 07:28:00 GMT", default)] {
            let OpenError::Refused { retry_after, .. } = refused(answer(after)).await else { panic!() };
            assert_eq!(retry_after, Some(Duration::from_secs(expected)), "{after}");
        }
    }
}
