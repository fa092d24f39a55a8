//! Probes whether something between an agent and this relay holds bodies back. Two bodies stay open, one in each
//! direction, and each shows whether its start arrives. A URL is valid for one probe.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::register::read_identity;
use super::{Relay, now};
use crate::defaults;
use crate::domain::{AgentId, Facts, Refusal, RefusalKind};
use crate::http1::embedded::MESSAGE_HTTP;
use crate::message::{Body, BoxError, Request, Response};
use crate::net::flag::Flag;
use crate::session::envelope::UrlId;
use crate::transport::polled::pages::plain;
use crate::transport::reversehttp::seal::Use;
use crate::transport::reversehttp::{DOWN, UP};

/// How long each of the two bodies is kept open. The agent gives up sooner.
const OPEN: std::time::Duration = defaults::PROBE.saturating_mul(2);

/// The probes in progress.
#[derive(Default)]
pub(super) struct Probes(Arc<Mutex<HashMap<UrlId, ProbeState>>>);

struct ProbeState {
    since: Instant,
    agent: AgentId,
    from: IpAddr,
    /// Raised when the start of the agent's body has arrived.
    arrived: Arc<Flag>,
    /// Which of the probe's two requests were received, by [`ProbeDirection`].
    received: [bool; 2],
}

#[derive(Clone, Copy)]
enum ProbeDirection {
    Down,
    Up,
}

impl Probes {
    /// The flag that the two requests of one probe share.
    fn enter(
        &self,
        url: UrlId,
        agent: AgentId,
        from: IpAddr,
        direction: ProbeDirection,
    ) -> Result<Arc<Flag>, Refusal> {
        let mut probes = self.0.lock();
        if let Some(probe) = probes.get_mut(&url) {
            return match std::mem::replace(&mut probe.received[direction as usize], true) {
                true => Err(Refusal::new(RefusalKind::Gone, "this URL can be probed only once")),
                false => Ok(probe.arrived.clone()),
            };
        }
        probes.retain(|_, probe| probe.since.elapsed() < OPEN);
        let own = probes.values().filter(|probe| probe.agent == agent || probe.from == from).count();
        if probes.len() >= defaults::PROBES || own >= defaults::PROBES_PER_AGENT {
            return Err(Refusal::new(RefusalKind::TooMany, "too many probes are in progress"));
        }
        let (since, arrived) = (Instant::now(), Arc::default());
        let mut probe = ProbeState { since, agent, from, arrived, received: [false; 2] };
        probe.received[direction as usize] = true;
        Ok(probes.entry(url).or_insert(probe).arrived.clone())
    }
}

/// Removes a probe when its GET has ended.
struct RemoveOnDrop(Arc<Mutex<HashMap<UrlId, ProbeState>>>, UrlId);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl Relay {
    /// GET of a probe's URL: sends a line at once, and another when the start of the POST's body has arrived. The body
    /// stays open, because a complete body gets through everywhere.
    pub(super) fn probe_down(&self, sealed: &str, facts: &Facts) -> Result<Response, Refusal> {
        let (url, arrived) = self.probe(sealed, facts, ProbeDirection::Down)?;
        let (guard, arrived) = (RemoveOnDrop(self.probes.0.clone(), url), arrived.listen());
        let first = stream::iter([Bytes::from_static(DOWN)]);
        let second = stream::once(async move {
            match tokio::time::timeout(OPEN, arrived).await {
                Ok(()) => Bytes::from_static(UP),
                Err(_) => Bytes::new(),
            }
        });
        let mut response = plain(StatusCode::OK);
        let rest = stream::once(async {
            tokio::time::sleep(OPEN).await;
            Bytes::new()
        });
        let body = first.chain(second).chain(rest).map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
        *response.body_mut() = Body::wrap(StreamBody::new(body));
        response.body_mut().hold(guard);
        // A box may treat media types differently, so this is the type of the polls.
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE_HTTP));
        Ok(response)
    }

    /// POST to a probe's URL: answered as soon as some of its body has arrived.
    pub(super) async fn probe_up(
        &self,
        sealed: &str,
        request: Request,
        facts: &Facts,
    ) -> Result<Response, Refusal> {
        let (_, arrived) = self.probe(sealed, facts, ProbeDirection::Up)?;
        let mut body = request.into_body();
        match tokio::time::timeout(OPEN, body.frame()).await {
            Ok(Some(Ok(_))) => {
                arrived.raise();
                Ok(plain(StatusCode::NO_CONTENT))
            }
            _ => Err(Refusal::new(RefusalKind::Malformed, "the probe has no body")),
        }
    }

    fn probe(
        &self,
        sealed: &str,
        facts: &Facts,
        direction: ProbeDirection,
    ) -> Result<(UrlId, Arc<Flag>), Refusal> {
        let claims = self.open(Use::Probe, sealed, facts)?;
        let gone = || Refusal::new(RefusalKind::Gone, "this URL has expired: register again");
        let identity = read_identity(&claims.identity).filter(|_| claims.expires >= now());
        let (agent, _) = identity.ok_or_else(gone)?;
        Ok((claims.url, self.probes.enter(claims.url, agent, facts.remote.ip(), direction)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn probes_are_limited_and_expire() {
        let probes = Probes::default();
        let agent = |n: usize| AgentId(format!("{n}").into());
        let address = |n: usize| IpAddr::from([192, 0, 2, n as u8]);
        let enter = |url: usize, direction| {
            let share = url / defaults::PROBES_PER_AGENT;
            probes.enter(url as u128, agent(share), address(share), direction)
        };
        let first = enter(0, ProbeDirection::Down).unwrap();
        for url in 1..defaults::PROBES_PER_AGENT {
            enter(url, ProbeDirection::Down).unwrap();
        }
        for own in [(agent(0), address(9)), (agent(9), address(0))] {
            let own = probes.enter(7_000, own.0, own.1, ProbeDirection::Down);
            assert_eq!(own.unwrap_err().kind, RefusalKind::TooMany);
        }
        for url in defaults::PROBES_PER_AGENT..defaults::PROBES {
            enter(url, ProbeDirection::Down).unwrap();
        }
        assert_eq!(enter(7_000, ProbeDirection::Down).unwrap_err().kind, RefusalKind::TooMany);
        assert!(
            Arc::ptr_eq(&first, &enter(0, ProbeDirection::Up).unwrap()),
            "both requests of one probe share a flag"
        );
        assert_eq!(enter(0, ProbeDirection::Up).unwrap_err().kind, RefusalKind::Gone);
        drop(RemoveOnDrop(probes.0.clone(), 0));
        enter(7_000, ProbeDirection::Down).unwrap();
        tokio::time::advance(OPEN).await;
        enter(7_001, ProbeDirection::Up).unwrap();
        assert_eq!(probes.0.lock().len(), 1);
    }
}
