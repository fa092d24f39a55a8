//! The settings of one target, and the [`Handler`] that they make.

use std::sync::Arc;

use super::edit::{EditedRequests, EditedResponses, FieldEdit, FieldEdits};
use super::{BadTarget, HostHeader, Origin, OriginTarget, OriginTls, with_host};
use crate::domain::HostName;
use crate::net::Scope;
use crate::session::Handler;
use crate::tls::TlsError;

/// The settings of one target: where requests are served, and what changes on the way there and back.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OriginConfig {
    /// The target.
    pub target: OriginTarget,
    /// How the certificate of a target with TLS is verified.
    pub tls: OriginTls,
    /// The `Host` that the target receives instead of the visitor's.
    pub host_header: Option<HostHeader>,
    /// Edits of the fields of a request. They come last: after the fields of the relay, and after those that
    /// `host_header` and `no_forwarded` change.
    pub request_fields: Vec<FieldEdit>,
    /// Edits of the fields of a final answer, also of one that the agent makes because the target gives none. They come
    /// last. Interim responses and trailers pass unchanged.
    pub response_fields: Vec<FieldEdit>,
    /// Removes `Forwarded` and `X-Forwarded-For`, `-Proto`, `-Host` from requests.
    pub no_forwarded: bool,
}

/// Why a target cannot be served with its settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadOrigin {
    /// The text is no target.
    #[error(transparent)]
    Target(#[from] BadTarget),
    /// A CA, a client certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate of a target on a public address must be verified.
    #[error(
        "--origin-insecure applies to private addresses only, and {0} has a public one: use --origin-pin"
    )]
    NotPrivate(OriginTarget),
    /// TLS has no such server name.
    #[error("{0} cannot be the name of a TLS server")]
    ServerName(HostName),
}

impl OriginConfig {
    /// The default settings for a target.
    pub fn new(target: OriginTarget) -> Self {
        Self {
            target,
            tls: OriginTls::default(),
            host_header: None,
            request_fields: Vec::new(),
            response_fields: Vec::new(),
            no_forwarded: false,
        }
    }

    /// Makes the origin; its connections belong to `scope`. Reads the files of its TLS settings.
    ///
    /// # Errors
    /// [`BadOrigin`]
    pub fn serve(self, scope: Scope) -> Result<ServedOrigin, BadOrigin> {
        let trust = self.tls.trust(&self.target)?;
        let origin = Origin::new(self.target, scope, trust);
        let mut handler: Arc<dyn Handler> = origin.clone();
        if let Some(edits) = FieldEdits::new(self.request_fields, self.no_forwarded) {
            handler = Arc::new(EditedRequests { handler, edits });
        }
        if let Some(header) = self.host_header {
            handler = with_host(handler, header, origin.target());
        }
        if let Some(edits) = FieldEdits::new(self.response_fields, false) {
            handler = Arc::new(EditedResponses { handler, edits: Arc::new(edits) });
        }
        Ok(ServedOrigin { origin, handler })
    }
}

/// An origin with its settings.
pub struct ServedOrigin {
    /// The origin itself, to be probed.
    pub origin: Arc<Origin>,
    /// Answers requests from the origin, with its settings.
    pub handler: Arc<dyn Handler>,
}
