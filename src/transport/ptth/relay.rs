//! The relay's half.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;
use http_body::Body as _;

use super::wire;
use crate::domain::{Facts, Instance, Offer, Refusal, RefusalKind};
use crate::message::{Request, Response, fields, hop};
use crate::transport::{Door, RelaySide, flip, visitors};

const TOKEN: &str = "ptth";

pub(super) struct Relay {
    door: Arc<dyn Door>,
}

impl Relay {
    pub(super) fn new(door: Arc<dyn Door>) -> Self {
        Self { door }
    }

    async fn flip(&self, mut request: Request, facts: Facts) -> Result<Response, Refusal> {
        let no = |kind, message: &str| Err(Refusal::new(kind, message));
        if !hop::asks_upgrade(request.headers(), TOKEN) {
            return no(RefusalKind::UpgradeRequired, "this endpoint wants Upgrade: ptth");
        }
        if request.method() != Method::GET || !request.body().is_end_stream() {
            return no(RefusalKind::Malformed, "Upgrade: ptth comes with GET and without a body");
        }
        let Some(offered) = flip::offered(request.headers()) else {
            return no(
                RefusalKind::Malformed,
                "the ALPN field is missing: it lists the carriers that the agent accepts",
            );
        };
        let Some(kind) = flip::choose(&offered) else {
            return no(
                RefusalKind::NothingInCommon,
                "no carrier in common: this relay speaks h2 and http%2F1.1",
            );
        };
        let wanted =
            wire::wanted(request.uri()).map_err(|e| Refusal::new(RefusalKind::Malformed, e.to_string()))?;
        let headers = request.headers();
        let header = |name| headers.get(name).and_then(|v| v.to_str().ok());
        let instance = header(fields::PTTH_INSTANCE).and_then(Instance::parse);
        let exclusive = header(fields::PTTH_EXCLUSIVE) == Some("?1");
        let probe = flip::is_probe(request.headers());
        let visitors = visitors(request.headers())?;
        let offer = Offer { wanted, instance, exclusive, probe, transport: TOKEN, visitors };
        let admission = self.door.check(offer, &facts).await?;
        let mut response = flip::switching("upgrade", TOKEN, &*admission);
        flip::announce(&mut response, kind, &*admission);
        let upgrade = hyper::upgrade::on(&mut request);
        match probe {
            true => flip::answer_probe(&self.door, upgrade, admission),
            false => flip::swap(&self.door, upgrade, kind, admission),
        }
        Ok(response)
    }
}

impl RelaySide for Relay {
    fn wants(&self, request: &Request) -> bool {
        hop::asks_upgrade(request.headers(), TOKEN) || wire::is_well_known(request.uri())
    }

    fn accept(&self, request: Request, facts: Facts) -> BoxFuture<'_, Result<Response, Refusal>> {
        Box::pin(self.flip(request, facts))
    }
}
