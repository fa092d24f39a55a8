//! Who an agent is: by its token, by its certificate, or by both.

use std::sync::Arc;

use super::config::{ClientCerts, Config};
use crate::defaults;
use crate::domain::{AgentId, Facts, Refusal, RefusalKind};
use crate::policy::{Certificates, Guesses, Verified};

/// See the module.
pub(super) struct Credentials {
    config: Arc<Config>,
    certificates: Certificates,
    guesses: Guesses,
}

impl Credentials {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let certificates = Certificates::new(config.domain.clone());
        Self { config, certificates, guesses: Guesses::new(defaults::GUESSES) }
    }

    /// Whose credentials these are, if all that is presented is valid, and all that is needed is presented.
    pub(super) fn verify(&self, facts: &Facts) -> Result<Verified, Refusal> {
        let certificate = self.certificate(facts)?;
        let token = facts.credential.as_ref().map(|secret| {
            let wrong = "the token is not valid here: it is mistyped, revoked, expired, or another relay's";
            let verified = self.config.tokens.verify(secret);
            // Tried even when there were too many: others may share the address, and a right one is not guessed.
            verified.ok_or_else(|| self.guessed(facts, unauthenticated(wrong)))
        });
        match (token.transpose()?, certificate) {
            (Some(token), certificate) => Ok(Verified { besides: certificate.map(|c| c.grants), ..token }),
            (None, Some(certificate)) if self.config.client_certs == ClientCerts::Accepted => Ok(certificate),
            (None, _) => {
                Err(unauthenticated("an agent needs a token: give one with --token-file or PTTH_TOKEN"))
            }
        }
    }

    /// As [`Credentials::verify`], for whoever proved earlier who it is.
    pub(super) fn again(&self, agent: &AgentId, facts: &Facts) -> Result<Verified, Refusal> {
        let certificate = self.certificate(facts)?;
        if Certificates::is_one(agent) {
            let same = certificate.filter(|verified| verified.id == *agent);
            return same
                .ok_or_else(|| unauthenticated("this was registered with another client certificate"));
        }
        let token = self.config.tokens.find(agent);
        let token =
            token.ok_or_else(|| unauthenticated("the token of this agent was revoked or has expired"))?;
        Ok(Verified { besides: certificate.map(|c| c.grants), ..token })
    }

    fn certificate(&self, facts: &Facts) -> Result<Option<Verified>, Refusal> {
        match (&facts.certificate, self.config.client_certs) {
            (_, ClientCerts::Unused) | (None, ClientCerts::Accepted) => Ok(None),
            (None, ClientCerts::Required) => Err(unauthenticated(
                "this relay wants a client certificate besides the token: give one with --cert and --key",
            )),
            (Some(certificate), _) => {
                let verified = self.certificates.verify(certificate);
                verified.map(Some).ok_or_else(|| unauthenticated("the client certificate has expired"))
            }
        }
    }

    /// Whether an agent may be here at all. Certificates cannot be revoked, they end.
    pub(super) fn is_live(&self, agent: &AgentId) -> bool {
        self.config.tokens.is_live(agent) || self.certificates.is_live(agent)
    }

    /// Whether an agent that proved who it is may go on, on this connection.
    pub(super) fn may_go_on(&self, agent: &AgentId, facts: &Facts) -> bool {
        match (Certificates::is_one(agent), self.certificate(facts)) {
            (true, Ok(Some(verified))) => verified.id == *agent,
            (false, Ok(_)) => self.config.tokens.is_live(agent),
            _ => false,
        }
    }

    /// Counts a credential that was wrong, and refuses it: as it would be refused anyway, or as one too many.
    pub(super) fn guessed(&self, facts: &Facts, refusal: Refusal) -> Refusal {
        let Some(wait) = self.guesses.wrong(facts.remote.ip()) else { return refusal };
        let message = "too many credentials that are not valid here came from this address";
        Refusal { retry_after: Some(wait), ..Refusal::new(RefusalKind::TooMany, message) }
    }
}

fn unauthenticated(message: &str) -> Refusal {
    Refusal::new(RefusalKind::Unauthenticated, message)
}
