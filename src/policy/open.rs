//! Open registration: anybody may claim a name that is free, first come, first served (ReverseHttp, "Registration").
//! Such an agent has no token; its secret or its instance only serves to recognise the same agent again.

use aws_lc_rs::hmac;

use crate::defaults;
use crate::domain::{AgentId, Instance, Name, Secret};

/// The prefix of the ids of such agents. The ids of tokens are hexadecimal digits, so none has this prefix.
const PREFIX: &str = "open-";

/// Distinguishes agents without a token.
pub struct Open {
    /// The key of the ids, which are logged and shown. Without a key, a reader of an id could find a short secret by
    /// trial.
    key: hmac::Key,
}

impl Open {
    /// With the same `key` an agent keeps its id after a restart of the relay.
    pub fn new(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The agent that a shared secret identifies: the same secret is the same agent. `None` if the text is empty or
    /// looks like a token: a mistyped token must fail, and must not identify an agent without a token.
    pub fn by_secret(&self, secret: &Secret) -> Option<AgentId> {
        let text = secret.expose();
        let is_token_like = text.to_ascii_lowercase().contains("ptth_");
        (!text.is_empty() && !is_token_like).then(|| self.id("secret", text))
    }

    /// An agent without a credential: the same agent again for the same instance, else a new agent.
    pub fn anonymous(&self, instance: Option<&Instance>) -> AgentId {
        match instance {
            Some(instance) => self.id("instance", &instance.id),
            None => self.id("nobody", &format!("{:032x}", rand::random::<u128>())),
        }
    }

    fn id(&self, kind: &str, text: &str) -> AgentId {
        let tag = hmac::sign(&self.key, format!("ptth open registration\0{kind}\0{text}").as_bytes());
        let digits: String = tag.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        AgentId(format!("{PREFIX}{digits}").into())
    }
}

/// Whether an agent has no token.
pub fn is_open(agent: &AgentId) -> bool {
    agent.0.starts_with(PREFIX)
}

/// Whether only an agent with a token may claim a name.
pub fn is_reserved(name: &Name) -> bool {
    defaults::OPEN_RESERVED.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[test]
    fn a_secret_identifies_one_agent() {
        let open = Open::new(b"key");
        let id = |text: &str| open.by_secret(&secret(text)).unwrap();
        assert_eq!(id("a"), id("a"));
        assert_ne!(id("a"), id("b"));
        assert_ne!(id("a"), Open::new(b"another").by_secret(&secret("a")).unwrap());
        assert!(is_open(&id("a")) && !is_open(&AgentId("0123456789ab".into())));
        assert!(!id("hunter2").0.contains("hunter2"));
    }

    #[test]
    fn an_instance_identifies_one_agent_and_its_absence_a_new_agent() {
        let open = Open::new(b"key");
        let instance = |id: &str, boot| Instance { id: id.into(), boot };
        assert_eq!(open.anonymous(Some(&instance("a", 1))), open.anonymous(Some(&instance("a", 2))));
        assert_ne!(open.anonymous(Some(&instance("a", 1))), open.anonymous(Some(&instance("b", 1))));
        assert_ne!(open.anonymous(None), open.anonymous(None));
        assert_ne!(Some(open.anonymous(Some(&instance("a", 1)))), open.by_secret(&secret("a")));
    }

    #[test]
    fn a_malformed_token_is_not_accepted_as_a_secret() {
        let open = Open::new(b"key");
        for text in ["ptth_", "ptth_0123456789ab_x", " ptth_x", "\"ptth_x\"", "PTTH_x", "token=ptth_x", ""] {
            assert_eq!(open.by_secret(&secret(text)), None, "{text:?}");
        }
    }

    #[test]
    fn every_reserved_name_is_valid() {
        for text in defaults::OPEN_RESERVED {
            assert_eq!(Name::parse(text).unwrap().as_str(), *text);
        }
    }
}
