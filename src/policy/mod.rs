//! The policy for agents: tokens and certificates, the claims that each allows, and the store of tokens. The policy for
//! visitors: the rules of a name, and the gate that applies them.
//!
//! Look-ups use a table in memory, so that a request never waits for a disk. A relay calls
//! [`Tokens::refresh_if_changed`] regularly, so that changes by another process take effect.

mod basic;
mod certificate;
mod gate;
mod guesses;
mod layout;
pub mod open;
mod rate;
mod rules;
mod scope;
mod source;
mod store;
mod table;
mod token;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::domain::{AgentId, Below, HostName, Name, Secret};

use self::store::Store;
use self::table::Table;

pub use self::basic::User;
pub use self::certificate::Certificates;
pub use self::gate::{Checks, Denied, VisitorPermit, VisitorPolicy};
pub use self::guesses::Guesses;
pub use self::rules::{BadRules, FieldSecret, Rules, network};
pub use self::scope::{Grants, Limits, Prefix};
pub use self::source::Source;
pub use self::store::{FILE, StoreError};

/// A token without its secret, which is not stored.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TokenRecord {
    /// The part of the token that is not secret.
    pub id: AgentId,
    /// The grants of the token.
    pub grants: Arc<Grants>,
    /// When it was issued.
    pub created: SystemTime,
}

/// Proof that a credential was verified: its agent and its grants.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The agent that the credential identifies.
    pub id: AgentId,
    /// The grants of the credential.
    pub grants: Arc<Grants>,
    /// The grants of a second credential: both must allow a claim.
    pub second_grants: Option<Arc<Grants>>,
}

impl Verified {
    fn all(&self) -> impl Iterator<Item = &Grants> {
        std::iter::once(&*self.grants).chain(self.second_grants.as_deref())
    }

    /// Whether every credential allows the name.
    pub fn allows_name(&self, name: &Name) -> bool {
        self.all().all(|grants| grants.allows_name(name))
    }

    /// Whether every credential allows everything below a name or a host.
    pub fn allows_below(&self, below: &Below) -> bool {
        self.all().all(|grants| grants.allows_below(below))
    }

    /// Whether every credential allows the host.
    pub fn allows_host(&self, host: &HostName) -> bool {
        self.all().all(|grants| grants.allows_host(host))
    }
}

/// The tokens. A cheap handle: clones share one table.
///
/// Reading never blocks. [`issue`](Self::issue), [`revoke`](Self::revoke) and
/// [`refresh_if_changed`](Self::refresh_if_changed) do file I/O and belong into a blocking context.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<TokensInner>,
}

struct TokensInner {
    table: ArcSwap<Table>,
    /// Other processes may change the tokens.
    shared: bool,
    /// Also the lock under which the table is replaced, so that an older table never replaces a newer table.
    store: Mutex<Option<Store>>,
}

impl Tokens {
    /// Opens the tokens in a state directory. Makes the directory and the file, for the owner alone, if they are
    /// missing.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be made, read or understood, or when others may write to it.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let mut store = Store::open(state)?;
        let table = store.load()?;
        Ok(Self::with_table(table, Some(store)))
    }

    /// Tokens that are lost when the process ends: for tests, for a demonstration, and for embedding.
    pub fn in_memory() -> Self {
        Self::with_table(Table::default(), None)
    }

    fn with_table(table: Table, store: Option<Store>) -> Self {
        let (table, shared) = (ArcSwap::from_pointee(table), store.is_some());
        Self { inner: Arc::new(TokensInner { table, shared, store: Mutex::new(store) }) }
    }

    /// Issues a token. The text returned is the only copy: only a digest of it is kept.
    ///
    /// # Errors
    /// [`StoreError`] when the token cannot be stored, or when the system provides no random bytes.
    pub fn issue(&self, grants: Grants) -> Result<(AgentId, Secret), StoreError> {
        let fresh = token::generate()?;
        let entry =
            token::TokenEntry { digest: fresh.digest, grants: Arc::new(grants), created: SystemTime::now() };
        self.change(
            |store| store.insert(&fresh.id, &entry),
            |table| table.insert(fresh.id.clone(), entry.clone()),
        )?;
        Ok((AgentId(fresh.id), fresh.text))
    }

    /// Revokes a token. `false` when there is no live token of this id.
    ///
    /// # Errors
    /// [`StoreError`] when the change cannot be stored; the token stays live.
    pub fn revoke(&self, id: &AgentId) -> Result<bool, StoreError> {
        self.change(|store| store.revoke(&id.0), |table| table.remove(&id.0))
    }

    /// Changes the store and reads it again; without a store, changes the table alone.
    fn change<T>(
        &self,
        change_store: impl FnOnce(&mut Store) -> Result<T, StoreError>,
        change_table: impl FnOnce(&mut Table) -> T,
    ) -> Result<T, StoreError> {
        let mut store = self.inner.store.lock();
        let (table, result) = match store.as_mut() {
            Some(store) => {
                let result = change_store(store)?;
                (store.load()?, result)
            }
            None => {
                let mut table = Table::clone(&self.inner.table.load());
                let result = change_table(&mut table);
                (table, result)
            }
        };
        self.inner.table.store(Arc::new(table));
        Ok(result)
    }

    /// Reads the table again if another process has changed it, and returns whether it did. Without a store: `false`.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read; the table stays as it was.
    pub fn refresh_if_changed(&self) -> Result<bool, StoreError> {
        let mut store = self.inner.store.lock();
        let Some(store) = store.as_mut() else { return Ok(false) };
        if !store.has_changed()? {
            return Ok(false);
        }
        self.inner.table.store(Arc::new(store.load()?));
        Ok(true)
    }

    /// Whether [`refresh_if_changed`](Self::refresh_if_changed) can find a change, because there is a store.
    pub fn are_shared(&self) -> bool {
        self.inner.shared
    }

    /// The agent and the grants of a credential, if it is a live token. An unknown id takes the same work as a wrong
    /// secret.
    pub fn verify(&self, credential: &Secret) -> Option<Verified> {
        let table = self.inner.table.load();
        let (id, entry) = token::verify(credential, |id| table.get(id))?;
        // Checked last, so that only the holder of the token can learn that it has expired.
        entry.is_live().then(|| Verified {
            id: AgentId(id),
            grants: entry.grants.clone(),
            second_grants: None,
        })
    }

    /// The grants of a live token of this id, without its secret: for an agent whose token was verified earlier.
    pub fn find(&self, id: &AgentId) -> Option<Verified> {
        let table = self.inner.table.load();
        let entry = table.get(&id.0).filter(|entry| entry.is_live())?;
        Some(Verified { id: id.clone(), grants: entry.grants.clone(), second_grants: None })
    }

    /// Every token that was not revoked, oldest first; also those that have expired.
    pub fn list(&self) -> Vec<TokenRecord> {
        self.inner.table.load().records()
    }

    /// Whether a live token of this id exists.
    pub fn is_live(&self, id: &AgentId) -> bool {
        self.inner.table.load().get(&id.0).is_some_and(token::TokenEntry::is_live)
    }

    /// Whether any live token names exactly this name. (A token for any name does not.)
    pub fn names_exactly(&self, name: &Name) -> bool {
        self.inner.table.load().names(name)
    }

    /// Whether any live token lists exactly this host.
    pub fn lists_host(&self, host: &HostName) -> bool {
        self.inner.table.load().lists(host)
    }

    /// Whether any live token lists everything below this name or host.
    pub fn lists_below(&self, below: &Below) -> bool {
        self.inner.table.load().lists_below(below)
    }

    /// Whether there is no live token.
    pub fn is_empty(&self) -> bool {
        self.inner.table.load().is_empty()
    }

    /// Whether no token was ever issued here. Stays `false` after the last token was revoked, so that no relay issues
    /// a first token again.
    pub fn is_new(&self) -> bool {
        self.inner.table.load().is_new()
    }
}

#[cfg(test)]
mod tests;
