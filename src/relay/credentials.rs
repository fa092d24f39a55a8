//! The identity of an agent: from its token, from its certificate, from both, or, with open registration, from its own
//! secret or its instance.
//!
//! A required certificate is required of every agent: open registration makes only the token optional.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::config::{ClientCerts, RelayConfig};
use super::lookup::Lookup;
use super::names::Names;
use super::open::verified;
use crate::defaults;
use crate::domain::{AgentId, Facts, Instance, Refusal, RefusalKind, Route, Secret};
use crate::policy::open::{Open, is_open};
use crate::policy::{Certificates, Guesses, Verified};

/// See the module.
pub(super) struct Credentials {
    config: Arc<RelayConfig>,
    certificates: Certificates,
    guesses: Guesses,
    lookup: Lookup,
    /// Distinguishes agents without a token; `None` unless registration is open.
    open: Option<Open>,
}

impl Credentials {
    pub(super) fn new(config: Arc<RelayConfig>) -> Self {
        let certificates = Certificates::new(config.domain.clone());
        let open = config.open_registration.then(|| Open::new(&config.polling.seal_key));
        Self {
            config,
            certificates,
            guesses: Guesses::new(defaults::GUESSES),
            lookup: Lookup::default(),
            open,
        }
    }

    /// Must be awaited before a credential is verified, because the token may have been issued a moment ago. Cancel
    /// safe.
    pub(super) async fn look_up(&self, facts: &Facts) {
        if let Some(secret) = &facts.credential {
            self.lookup.read_unless_known(&self.config.tokens, secret).await;
        }
    }

    /// The agent that these credentials identify. All credentials that are presented must be valid, and all that are
    /// required must be presented.
    pub(super) fn verify(&self, facts: &Facts) -> Result<Verified, Refusal> {
        self.verify_presented(facts, || None)
    }

    /// As [`Credentials::verify`], for an agent that connects for the first time: with open registration it needs no
    /// token.
    pub(super) fn verify_new(&self, facts: &Facts, instance: Option<&Instance>) -> Result<Verified, Refusal> {
        self.verify_presented(facts, || Some(self.open.as_ref()?.anonymous(instance)))
    }

    /// `without_token`: the agent that presents neither a token nor a sufficient certificate.
    fn verify_presented(
        &self,
        facts: &Facts,
        without_token: impl FnOnce() -> Option<AgentId>,
    ) -> Result<Verified, Refusal> {
        let certificate = self.certificate(facts)?;
        let identity = match &facts.credential {
            Some(secret) => {
                let by_secret = || Some(verified(self.open.as_ref()?.by_secret(secret)?));
                let wrong =
                    "the token is not valid here: mistyped, revoked, expired, or issued by another relay";
                // Verified even after too many wrong credentials: other agents may share the address, and a right
                // credential is no guess.
                let found = self.config.tokens.verify(secret).or_else(by_secret);
                found.ok_or_else(|| self.guessed(facts, unauthenticated(wrong)))?
            }
            None => {
                if self.certificate_suffices()
                    && let Some(certificate) = certificate
                {
                    return Ok(certificate);
                }
                let needed = "an agent needs a token: give one with --token-file or PTTH_TOKEN";
                verified(without_token().ok_or_else(|| unauthenticated(needed))?)
            }
        };
        Ok(Verified { second_grants: certificate.map(|c| c.grants), ..identity })
    }

    /// As [`Credentials::verify`], for an agent whose identity was verified earlier.
    pub(super) fn verify_again(&self, agent: &AgentId, facts: &Facts) -> Result<Verified, Refusal> {
        let certificate = self.certificate(facts)?;
        if Certificates::is_certificate_id(agent) {
            let same = certificate.filter(|verified| verified.id == *agent && self.certificate_suffices());
            return same.ok_or_else(|| {
                unauthenticated("the agent registered with another client certificate, or needs a token now")
            });
        }
        let identity = match is_open(agent) {
            true => self.open.as_ref().map(|_| verified(agent.clone())),
            false => self.config.tokens.find(agent),
        };
        let revoked = "the token of this agent was revoked or has expired";
        let identity = identity.ok_or_else(|| unauthenticated(revoked))?;
        Ok(Verified { second_grants: certificate.map(|c| c.grants), ..identity })
    }

    /// Whether a certificate suffices without a token.
    fn certificate_suffices(&self) -> bool {
        self.config.client_certs == ClientCerts::Accepted
    }

    fn certificate(&self, facts: &Facts) -> Result<Option<Verified>, Refusal> {
        match (&facts.certificate, self.config.client_certs) {
            (_, ClientCerts::Unused) | (None, ClientCerts::Accepted) => Ok(None),
            (None, ClientCerts::Required) => Err(unauthenticated(
                "this relay requires a client certificate besides the token: give one with --cert and --key",
            )),
            (Some(certificate), _) => {
                let verified = self.certificates.verify(certificate);
                verified.map(Some).ok_or_else(|| unauthenticated("the client certificate has expired"))
            }
        }
    }

    /// Whether an agent may keep a route. An agent without a token may not keep a route that a live token names
    /// exactly.
    pub(super) fn may_keep(&self, names: &Names, agent: &AgentId, route: &Route) -> bool {
        self.is_live(agent) && !(is_open(agent) && names.is_named_by_token(route))
    }

    /// Whether the credential of an agent is still valid. Certificates cannot be revoked; they expire.
    pub(super) fn is_live(&self, agent: &AgentId) -> bool {
        match is_open(agent) {
            true => self.open.is_some(),
            false => self.config.tokens.is_live(agent) || self.certificates.is_live(agent),
        }
    }

    /// Whether an agent whose identity was verified may continue on this connection.
    pub(super) fn may_go_on(&self, agent: &AgentId, facts: &Facts) -> bool {
        match (Certificates::is_certificate_id(agent), self.certificate(facts)) {
            (true, Ok(Some(verified))) => verified.id == *agent && self.certificate_suffices(),
            (false, Ok(_)) => self.is_live(agent),
            _ => false,
        }
    }

    /// Counts a wrong credential, and returns its refusal: `refusal`, or the refusal for too many wrong credentials.
    pub(super) fn guessed(&self, facts: &Facts, refusal: Refusal) -> Refusal {
        let Some(wait) = self.guesses.record_wrong(facts.remote.ip()) else { return refusal };
        let message = "too many invalid credentials were sent from this address";
        Refusal { retry_after: Some(wait), ..Refusal::new(RefusalKind::TooMany, message) }
    }
}

/// The credential in `Bearer`, or in `Basic` as the password (RFC 6750 §2.1, RFC 7617). A field that cannot be parsed
/// is a wrong token, not a missing token: open registration treats the two differently.
pub(super) fn presented(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(AUTHORIZATION)?;
    Some(read(value).unwrap_or_else(|| Secret::new("")))
}

fn read(value: &HeaderValue) -> Option<Secret> {
    let value = value.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Secret::new(rest.trim()));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD.decode(rest.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        return Some(Secret::new(text.split_once(':')?.1));
    }
    None
}

fn unauthenticated(message: &str) -> Refusal {
    Refusal::new(RefusalKind::Unauthenticated, message)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::domain::{Certificate, HostName};
    use crate::policy::Tokens;

    fn credentials(mode: ClientCerts) -> Credentials {
        let mut config = RelayConfig::new(HostName::parse("relay.test").unwrap(), Tokens::in_memory());
        config.client_certs = mode;
        Credentials::new(Arc::new(config))
    }

    #[test]
    fn a_certificate_alone_is_refused_once_a_token_is_required() {
        let hosts = vec!["shop.relay.test".into()];
        let certificate = Certificate { hosts, expires: SystemTime::now() + Duration::from_secs(60) };
        let facts = Facts {
            remote: ([127, 0, 0, 1], 1).into(),
            tls: true,
            authority: "relay.test".into(),
            server_name: None,
            credential: None,
            certificate: Some(Arc::new(certificate)),
            closed: None,
        };
        let before = credentials(ClientCerts::Accepted);
        let agent = before.verify_new(&facts, None).unwrap().id;
        assert!(before.verify_again(&agent, &facts).is_ok() && before.may_go_on(&agent, &facts));
        for mode in [ClientCerts::Required, ClientCerts::Unused] {
            let after = credentials(mode);
            assert!(
                after.verify_again(&agent, &facts).is_err() && !after.may_go_on(&agent, &facts),
                "{mode:?}"
            );
        }
    }
}
