//! All live tokens at one moment, ready to be asked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::{AgentId, HostName, Name};

use super::TokenRecord;
use super::token::Entry;

/// All live tokens at one moment. Replaced as a whole, never changed while somebody reads.
#[derive(Clone, Default)]
pub(super) struct Table {
    entries: HashMap<Arc<str>, Entry>,
    names: HashSet<Name>,
    hosts: HashSet<HostName>,
    ever: bool,
}

impl Table {
    /// `ever`: whether a token was ever issued, live or not.
    pub(super) fn new(entries: HashMap<Arc<str>, Entry>, ever: bool) -> Self {
        let mut table = Self { entries, ever, ..Self::default() };
        table.index();
        table
    }

    fn index(&mut self) {
        let grants = || self.entries.values().map(|entry| &entry.grants);
        self.names = grants().flat_map(|g| g.names.iter().cloned()).collect();
        self.hosts = grants().flat_map(|g| g.hosts.iter().cloned()).collect();
    }

    pub(super) fn insert(&mut self, id: Arc<str>, entry: Entry) {
        self.ever = true;
        self.entries.insert(id, entry);
        self.index();
    }

    pub(super) fn remove(&mut self, id: &str) -> bool {
        let removed = self.entries.remove(id).is_some();
        self.index();
        removed
    }

    pub(super) fn get(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    pub(super) fn names(&self, name: &Name) -> bool {
        self.names.contains(name)
    }

    pub(super) fn lists(&self, host: &HostName) -> bool {
        self.hosts.contains(host)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn is_new(&self) -> bool {
        !self.ever
    }

    pub(super) fn records(&self) -> Vec<TokenRecord> {
        let record = |(id, entry): (&Arc<str>, &Entry)| TokenRecord {
            id: AgentId(id.clone()),
            grants: entry.grants.clone(),
            created: entry.created,
        };
        let mut records: Vec<_> = self.entries.iter().map(record).collect();
        records.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        records
    }
}
