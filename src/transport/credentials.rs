//! The credentials that an agent presents to its relays, and the roots that it trusts. Both can be replaced
//! while connections stand.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ClientConfig;

use crate::domain::Secret;

/// See the module. New connections and requests use the latest values. Cloning is cheap, and clones change together.
#[derive(Clone)]
pub struct AgentCredentials(Arc<CredentialsInner>);

struct CredentialsInner {
    tls: ArcSwap<ClientConfig>,
    token: ArcSwap<Option<Secret>>,
}

impl AgentCredentials {
    /// The first values.
    pub fn new(tls: Arc<ClientConfig>, token: Option<Secret>) -> Self {
        Self(Arc::new(CredentialsInner { tls: ArcSwap::new(tls), token: ArcSwap::from_pointee(token) }))
    }

    /// The roots for a relay's certificate, and the client certificate.
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.0.tls.load_full()
    }

    /// The token.
    pub fn token(&self) -> Option<Secret> {
        self.0.token.load().as_ref().clone()
    }

    /// From now on, trusts these roots and presents this client certificate.
    pub fn replace_tls(&self, tls: Arc<ClientConfig>) {
        self.0.tls.store(tls);
    }

    /// Presents this token from now on.
    pub fn replace_token(&self, token: Option<Secret>) {
        self.0.token.store(Arc::new(token));
    }
}
