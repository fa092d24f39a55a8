//! The settings of one target, and the [`Handler`] that they make.

use std::path::PathBuf;
use std::sync::Arc;

use super::edit::{EditedRequests, EditedResponses, FieldEdit, FieldEdits};
use super::error_page::{ErrorPages, WithErrorPages};
use super::paths::{PathPrefix, PathTargets, Stripped};
use super::{BadTarget, HostHeader, Origin, OriginTarget, OriginTls, with_host};
use crate::domain::HostName;
use crate::net::Scope;
use crate::session::Handler;
use crate::tls::TlsError;
use crate::tls::files::FileError;

/// The settings of one target: where requests are served, and what changes on the way there and back.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OriginConfig {
    /// The target.
    pub target: OriginTarget,
    /// The paths that this target serves, if a name has several targets: the longest prefix wins. By default all.
    pub path: PathPrefix,
    /// Removes the prefix from the paths that the target receives. The target receives the prefix as
    /// `X-Forwarded-Prefix`, and `Location` gets it back, unless the target has added it.
    pub strip_prefix: bool,
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
    /// The directory of the pages `502.html`, `503.html` and `504.html`, which visitors that prefer HTML get in place of
    /// the errors that the agent makes. They are read once, at the start.
    pub error_pages: Option<PathBuf>,
    /// Answers a request for a directory without `index.html` with the list of its files; for targets that are
    /// directories.
    pub listing: bool,
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
    /// A page for errors cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A directory has no page for errors.
    #[error("{} has no 502.html, 503.html or 504.html", .0.display())]
    NoPage(PathBuf),
    /// Two targets have the same paths.
    #[error("two targets have the path {0}")]
    SamePath(PathPrefix),
    /// There is no target.
    #[error("there is no target")]
    NoTarget,
    /// TLS has no such server name.
    #[error("{0} cannot be the name of a TLS server")]
    ServerName(HostName),
}

impl OriginConfig {
    /// The default settings for a target.
    pub fn new(target: OriginTarget) -> Self {
        Self {
            target,
            path: PathPrefix::default(),
            strip_prefix: false,
            tls: OriginTls::default(),
            host_header: None,
            request_fields: Vec::new(),
            response_fields: Vec::new(),
            no_forwarded: false,
            error_pages: None,
            listing: false,
        }
    }

    /// The settings wrap the origin, each only if it is used. The first wrapper is the last before the origin.
    fn serve(self, scope: Scope) -> Result<ServedOrigin, BadOrigin> {
        let trust = self.tls.trust(&self.target)?;
        let origin = Origin::with_listing(self.target, scope, trust, self.listing);
        let mut handler: Arc<dyn Handler> = origin.clone();
        if let Some(edits) = FieldEdits::new(self.request_fields, self.no_forwarded) {
            handler = Arc::new(EditedRequests { handler, edits });
        }
        if let Some(header) = self.host_header {
            handler = with_host(handler, header, origin.target());
        }
        if self.strip_prefix && !self.path.is_root() {
            handler = Arc::new(Stripped { handler, prefix: self.path.clone() });
        }
        if let Some(directory) = self.error_pages {
            let pages = Arc::new(ErrorPages::read(&directory)?);
            handler = Arc::new(WithErrorPages { handler, pages });
        }
        if let Some(edits) = FieldEdits::new(self.response_fields, false) {
            handler = Arc::new(EditedResponses { handler, edits: Arc::new(edits) });
        }
        Ok(ServedOrigin { path: self.path, origin, handler })
    }
}

/// One target with its settings.
struct ServedOrigin {
    path: PathPrefix,
    origin: Arc<Origin>,
    handler: Arc<dyn Handler>,
}

/// The targets of one agent.
pub struct ServedOrigins {
    /// The targets themselves, to be probed, each with the paths that it serves.
    pub origins: Vec<(PathPrefix, Arc<Origin>)>,
    /// Answers requests from the targets, with their settings.
    pub handler: Arc<dyn Handler>,
}

/// Makes the origins of these targets; their connections belong to `scope`. Reads the files of their settings.
///
/// # Errors
/// [`BadOrigin`]
pub fn serve(
    configs: impl IntoIterator<Item = OriginConfig>,
    scope: &Scope,
) -> Result<ServedOrigins, BadOrigin> {
    let mut served: Vec<ServedOrigin> = Vec::new();
    for config in configs {
        if served.iter().any(|other| other.path == config.path) {
            return Err(BadOrigin::SamePath(config.path));
        }
        served.push(config.serve(scope.clone())?);
    }
    let origins = served.iter().map(|one| (one.path.clone(), one.origin.clone())).collect();
    let handler: Arc<dyn Handler> = match &served[..] {
        [] => return Err(BadOrigin::NoTarget),
        [only] if only.path.is_root() => only.handler.clone(),
        _ => Arc::new(PathTargets::new(served.into_iter().map(|one| (one.path, one.handler)).collect())),
    };
    Ok(ServedOrigins { origins, handler })
}
