//! The relay's half.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::UPGRADE;
use http_body::Body as _;

use crate::domain::{Facts, Offer, Refusal, RefusalKind};
use crate::message::{Request, Response, fields, hop};
use crate::session::Kind;
use crate::transport::{Admissions, RelaySide, flip, query};

pub(super) struct Relay {
    admissions: Arc<dyn Admissions>,
}

impl Relay {
    pub(super) fn new(admissions: Arc<dyn Admissions>) -> Self {
        Self { admissions }
    }

    async fn flip(&self, request: Request, facts: Facts) -> Result<Response, Refusal> {
        let Some(token) = token(&request) else {
            let message = "the Upgrade field is missing: something between agent and relay removes it";
            return Err(Refusal::new(RefusalKind::UpgradeRequired, message));
        };
        if !request.body().is_end_stream() {
            return Err(Refusal::new(RefusalKind::Malformed, "a request with Upgrade must not have a body"));
        }
        let kind = match flip::offered(request.headers()) {
            None => None,
            Some(offered) => Some(flip::choose(&offered)?),
        };
        let offer = offer(&request)?;
        let admission = self.admissions.check(offer.clone(), &facts).await?;
        let mut response = flip::switching("Upgrade", token, &self.admissions, (&*admission, &offer));
        match kind {
            Some(kind) => flip::announce(&mut response, kind, &*admission),
            // Something on the way has removed the field ALPN of our own agent. With a single connection the agent
            // could serve only one request at a time.
            None if offer.instance.is_some() => {
                flip::announce_connections(&mut response, Kind::H1, &*admission)
            }
            None => {}
        }
        flip::proceed(&self.admissions, request, kind.unwrap_or(Kind::H1), admission);
        Ok(response)
    }
}

fn token(request: &Request) -> Option<&'static str> {
    ["PTTH/1.0", "PTTH/0.9"].into_iter().find(|token| hop::requests_upgrade(request.headers(), token))
}

fn offer(request: &Request) -> Result<Offer, Refusal> {
    let parameters = request.uri().query().unwrap_or_default();
    let wanted =
        query::wanted(parameters).map_err(|e| Refusal::new(RefusalKind::Malformed, e.to_string()))?;
    query::offer(wanted, request.headers(), "ptth10")
}

impl RelaySide for Relay {
    fn wants(&self, request: &Request) -> bool {
        // A request with ALPN and without Upgrade has lost its Upgrade field on the way.
        let stripped =
            request.headers().contains_key(fields::ALPN) && !request.headers().contains_key(UPGRADE);
        token(request).is_some() || stripped
    }

    fn accept(&self, request: Request, facts: Facts) -> BoxFuture<'_, Result<Response, Refusal>> {
        Box::pin(self.flip(request, facts))
    }
}
