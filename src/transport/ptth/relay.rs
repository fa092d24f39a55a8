//! The relay's half.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;
use http_body::Body as _;

use super::wire;
use crate::domain::{Facts, Refusal, RefusalKind};
use crate::message::{Request, Response, hop};
use crate::transport::{Admissions, RelaySide, flip, query};

const TOKEN: &str = "ptth";

pub(super) struct Relay {
    admissions: Arc<dyn Admissions>,
}

impl Relay {
    pub(super) fn new(admissions: Arc<dyn Admissions>) -> Self {
        Self { admissions }
    }

    async fn flip(&self, request: Request, facts: Facts) -> Result<Response, Refusal> {
        let refuse = |kind, message: &str| Err(Refusal::new(kind, message));
        if !hop::requests_upgrade(request.headers(), TOKEN) {
            return refuse(RefusalKind::UpgradeRequired, "this endpoint requires Upgrade: ptth");
        }
        if request.method() != Method::GET || !request.body().is_end_stream() {
            return refuse(
                RefusalKind::Malformed,
                "a request with Upgrade: ptth must be a GET without a body",
            );
        }
        let Some(offered) = flip::offered(request.headers()) else {
            return refuse(
                RefusalKind::Malformed,
                "the ALPN field is missing: it lists the carriers that the agent accepts",
            );
        };
        let kind = flip::choose(&offered)?;
        let wanted =
            wire::wanted(request.uri()).map_err(|e| Refusal::new(RefusalKind::Malformed, e.to_string()))?;
        let offer = query::offer(wanted, request.headers(), TOKEN)?;
        let admission = self.admissions.check(offer.clone(), &facts).await?;
        let mut response = flip::switching("upgrade", TOKEN, &self.admissions, (&*admission, &offer));
        flip::announce(&mut response, kind, &*admission);
        flip::proceed(&self.admissions, request, kind, admission);
        Ok(response)
    }
}

impl RelaySide for Relay {
    fn wants(&self, request: &Request) -> bool {
        hop::requests_upgrade(request.headers(), TOKEN) || wire::is_well_known(request.uri())
    }

    fn accept(&self, request: Request, facts: Facts) -> BoxFuture<'_, Result<Response, Refusal>> {
        Box::pin(self.flip(request, facts))
    }
}
