//! What an agent shows to its relays and whom it trusts: both can be replaced while connections stand.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ClientConfig;

use crate::domain::Secret;

/// See the module. Connections and requests that begin from now on use what was put here last. Cloning is cheap, and
/// clones change together.
#[derive(Clone)]
pub struct AgentCredentials(Arc<CredentialsInner>);

struct CredentialsInner {
    tls: ArcSwap<ClientConfig>,
    token: ArcSwap<Option<Secret>>,
}

impl AgentCredentials {
    /// What to begin with.
    pub fn new(tls: Arc<ClientConfig>, token: Option<Secret>) -> Self {
        Self(Arc::new(CredentialsInner { tls: ArcSwap::new(tls), token: ArcSwap::from_pointee(token) }))
    }

    /// What a relay's certificate must chain to, and the client certificate that is shown.
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.0.tls.load_full()
    }

    /// The token.
    pub fn token(&self) -> Option<Secret> {
        self.0.token.load().as_ref().clone()
    }

    /// Trusts these roots and shows this client certificate from now on.
    pub fn replace_tls(&self, tls: Arc<ClientConfig>) {
        self.0.tls.store(tls);
    }

    /// Presents this token from now on.
    pub fn replace_token(&self, token: Option<Secret>) {
        self.0.token.store(Arc::new(token));
    }
}
