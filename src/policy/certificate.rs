//! Agents with a client certificate, and the grants of a certificate.
//!
//! A DNS name directly below the relay's domain grants that name, `*.DOMAIN` grants any name, and every other DNS name
//! grants that host. Nothing else in a certificate counts, not even its common name. Certificates with the same DNS
//! names identify the same agent, so that a certificate can be renewed while its agent serves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::domain::{AgentId, Certificate, HostName, Name};

use super::Verified;
use super::scope::Grants;

/// The prefix of the ids of such agents. The ids of tokens are hexadecimal digits, so none has this prefix.
const PREFIX: &str = "cert-";

/// The certificates that agents have presented: at most as many as the CA has issued. Each is dropped after it expires.
pub struct Certificates {
    domain: HostName,
    /// When each of them expires.
    seen: Mutex<HashMap<AgentId, SystemTime>>,
}

impl Certificates {
    /// For a relay with this domain.
    pub fn new(domain: HostName) -> Self {
        Self { domain, seen: Mutex::default() }
    }

    /// The agent and the grants of a certificate. `None` when it has expired.
    pub fn verify(&self, certificate: &Certificate) -> Option<Verified> {
        let now = SystemTime::now();
        if certificate.expires <= now {
            return None;
        }
        let grants = Arc::new(self.grants(certificate));
        let id = identity(certificate);
        let mut seen = self.seen.lock();
        seen.retain(|_, end| *end > now);
        let end = seen.entry(id.clone()).or_insert(certificate.expires);
        *end = certificate.expires.max(*end);
        Some(Verified { id, grants, second_grants: None })
    }

    /// Whether an id is the id of a certificate, even of one that no agent has presented.
    pub fn is_certificate_id(id: &AgentId) -> bool {
        id.0.starts_with(PREFIX)
    }

    /// Whether a certificate of this id was presented and has not expired.
    pub fn is_live(&self, id: &AgentId) -> bool {
        self.seen.lock().get(id).is_some_and(|end| *end > SystemTime::now())
    }

    fn grants(&self, certificate: &Certificate) -> Grants {
        let mut grants = Grants::default();
        for host in &certificate.hosts {
            match (host.strip_prefix("*."), HostName::parse(host)) {
                (Some(below), _) => grants.any_name |= HostName::parse(below).as_ref() == Ok(&self.domain),
                (None, Ok(host)) => match host.label_below(&self.domain).map(Name::parse) {
                    Some(Ok(name)) => grants.names.push(name),
                    _ => grants.hosts.push(host),
                },
                (None, Err(_)) => {}
            }
        }
        grants
    }
}

fn identity(certificate: &Certificate) -> AgentId {
    let mut hosts: Vec<_> = certificate.hosts.iter().map(|host| &**host).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let digest = Sha256::digest(hosts.join(","));
    let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    AgentId(format!("{PREFIX}{digits}").into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn certificate(hosts: &[&str], expires: SystemTime) -> Certificate {
        Certificate { hosts: hosts.iter().map(|host| (*host).into()).collect(), expires }
    }

    #[test]
    fn a_certificate_grants_its_dns_names() {
        let certificates = Certificates::new(HostName::parse("relay.test").unwrap());
        let later = SystemTime::now() + Duration::from_secs(60);
        let grants = |hosts: &[&str]| certificates.grants(&certificate(hosts, later)).to_string();
        assert_eq!(grants(&["shop.relay.test", "www.shop.test"]), "name shop, host www.shop.test");
        assert_eq!(grants(&["*.relay.test"]), "any name");
        assert_eq!(grants(&["*.shop.test", "*", "*.test", "*.a.relay.test", "a b"]), "nothing");
        // These grant hosts, but the relay's own hosts, which no agent may claim.
        assert_eq!(grants(&["relay.test", "a.b.relay.test"]), "host relay.test, host a.b.relay.test");
        assert_eq!(grants(&["xrelay.test"]), "host xrelay.test");
    }

    #[test]
    fn certificates_with_the_same_names_identify_one_agent() {
        let certificates = Certificates::new(HostName::parse("relay.test").unwrap());
        let now = SystemTime::now();
        let verify = |hosts: &[&str], seconds| {
            certificates.verify(&certificate(hosts, now + Duration::from_secs(seconds))).map(|v| v.id)
        };
        let id = verify(&["a.test", "b.test"], 60).unwrap();
        assert_eq!(verify(&["b.test", "a.test"], 90), Some(id.clone()));
        assert_ne!(verify(&["a.test"], 60), Some(id.clone()));
        assert_eq!(verify(&["c.test"], 0), None, "it has expired");
        assert!(certificates.is_live(&id) && Certificates::is_certificate_id(&id));
        assert!(!certificates.is_live(&AgentId("cert-0".into())));
    }
}
