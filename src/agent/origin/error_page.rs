//! `--error-page`: the owner's pages in place of the errors that the agent makes.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

use super::BadOrigin;
use super::failure::AgentFailure;
use crate::message::{Body, Request, Response, interim, page};
use crate::session::Handler;
use crate::tls::files::{self, FileError};

/// The statuses that have pages.
const STATUSES: [StatusCode; 3] =
    [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];

/// The pages of a directory, in memory.
pub(super) struct ErrorPages([Option<Bytes>; STATUSES.len()]);

impl ErrorPages {
    /// Reads `502.html`, `503.html` and `504.html`, of which one must exist.
    pub(super) fn read(directory: &Path) -> Result<Self, BadOrigin> {
        let mut pages = [const { None }; STATUSES.len()];
        for (page, status) in pages.iter_mut().zip(STATUSES) {
            *page = match files::read(&directory.join(format!("{}.html", status.as_u16()))) {
                Ok(text) => Some(text.into()),
                Err(FileError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error.into()),
            };
        }
        match pages.iter().any(Option::is_some) {
            true => Ok(Self(pages)),
            false => Err(BadOrigin::NoPage(directory.into())),
        }
    }

    fn of(&self, status: StatusCode) -> Option<Bytes> {
        STATUSES.iter().zip(&self.0).find(|(known, _)| **known == status).and_then(|(_, page)| page.clone())
    }
}

/// Replaces the body of an error that the agent made, for visitors that prefer HTML. The errors of the target itself
/// pass unchanged.
pub(super) struct WithErrorPages {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) pages: Arc<ErrorPages>,
}

impl Handler for WithErrorPages {
    fn call(&self, request: Request, interim: interim::Sender) -> BoxFuture<'static, Response> {
        let html = page::wants_html(request.headers());
        let answer = self.handler.call(request, interim);
        if !html {
            return answer;
        }
        let pages = self.pages.clone();
        Box::pin(async move {
            let response = answer.await;
            let own = response.extensions().get::<AgentFailure>().is_some();
            match pages.of(response.status()).filter(|_| own) {
                Some(page) => with_page(response, page),
                None => response,
            }
        })
    }
}

fn with_page(response: Response, text: Bytes) -> Response {
    let mut response = response.map(|_| Body::full(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page::HTML));
    // The policy of the agent's own page would forbid the styles of this page.
    headers.remove(CONTENT_SECURITY_POLICY);
    response
}
