//! Resources for the owner of an agent: the gateway's page, and private URLs.

use form_urlencoded::Serializer;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Relay, form};
use crate::domain::{Facts, Refusal, RefusalKind};
use crate::message::page::{HTML, escape, page, protect, wants_html};
use crate::message::{Body, Request, Response};
use crate::transport::polled::Registration;
use crate::transport::polled::pages::plain;
use crate::transport::reversehttp::form::{read, write};
use crate::transport::reversehttp::seal::Use;

impl Relay {
    /// GET of the gateway: the registrations of the token in the request.
    pub(super) fn status(&self, request: &Request, facts: &Facts) -> Result<Response, Refusal> {
        let malformed = |e: crate::transport::reversehttp::form::BadForm| {
            Refusal::new(RefusalKind::Malformed, e.to_string())
        };
        let fields = read(request.uri().query().unwrap_or_default(), b"").map_err(malformed)?;
        let facts = Facts { credential: fields.token.or(facts.credential.clone()), ..facts.clone() };
        let agent = self.admissions.who(&facts)?;
        let all = self.registrations.of(&agent);
        let lines: Vec<_> = all.iter().map(|registration| line(registration, true)).collect();
        Ok(listing(request.headers(), "Registrations", &lines))
    }

    /// GET of a private URL.
    pub(super) fn show(&self, sealed: &str, request: &Request, facts: &Facts) -> Result<Response, Refusal> {
        let claims = self.open(Use::Private, sealed, facts)?;
        let registration = self.standing(&claims.identity, claims.born)?;
        Ok(listing(request.headers(), "Registration", &[line(&registration, false)]))
    }

    /// PUT of a private URL: sets the lease. A token in the form is checked, but cannot be changed; a name is ignored.
    pub(super) async fn change(
        &self,
        sealed: &str,
        request: Request,
        facts: &Facts,
    ) -> Result<Response, Refusal> {
        let claims = self.open(Use::Private, sealed, facts)?;
        let registration = self.standing(&claims.identity, claims.born)?;
        let body = form(request.into_body()).await?;
        let fields = read("", &body).map_err(|e| Refusal::new(RefusalKind::Malformed, e.to_string()))?;
        if fields.token.is_some() {
            let facts = Facts { credential: fields.token, ..facts.clone() };
            if self.admissions.who(&facts)? != registration.agent {
                return Err(Refusal::new(
                    RefusalKind::Forbidden,
                    "this registration belongs to another token",
                ));
            }
        }
        if let Some(lease) = fields.lease {
            registration.set_lease(lease);
        }
        Ok(plain(StatusCode::NO_CONTENT))
    }

    /// DELETE of a private URL. Polls end; the agent may still answer its requests in flight.
    pub(super) fn delete(&self, sealed: &str, facts: &Facts) -> Result<Response, Refusal> {
        let claims = self.open(Use::Private, sealed, facts)?;
        match self.registrations.delete(&claims.identity, claims.born) {
            true => Ok(plain(StatusCode::NO_CONTENT)),
            false => Err(Refusal::new(RefusalKind::NotFound, "this registration was already deleted")),
        }
    }

    fn standing(&self, identity: &str, born: u64) -> Result<std::sync::Arc<Registration>, Refusal> {
        let deleted = self.registrations.is_deleted(identity, born);
        let registration = self.registrations.get(identity).filter(|_| !deleted);
        registration.ok_or_else(|| Refusal::new(RefusalKind::NotFound, "there is no such registration"))
    }
}

fn line(registration: &Registration, counts: bool) -> String {
    let mut form = Serializer::new(String::new());
    write(&mut form, &registration.granted);
    form.append_pair("lease", &registration.lease.lock().as_secs().to_string());
    if counts {
        let status = registration.queue.lock().status();
        form.append_pair("polls", &status.polls.to_string());
        form.append_pair("waiting", &status.waiting.to_string());
        form.append_pair("unanswered", &status.in_hand.to_string());
    }
    form.finish()
}

/// A form for programs, one line for each registration; a page for people.
fn listing(request_headers: &HeaderMap, title: &str, lines: &[String]) -> Response {
    let (media_type, text) = match wants_html(request_headers) {
        true => {
            let items: String =
                lines.iter().map(|line| format!("<li><code>{}</code></li>\n", escape(line))).collect();
            (HTML, page(title, &format!("<ul>\n{items}</ul>")))
        }
        false => ("application/x-www-form-urlencoded", lines.join("\n")),
    };
    let mut response = plain(StatusCode::OK);
    *response.body_mut() = Body::full(text);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    protect(response.headers_mut());
    response
}
