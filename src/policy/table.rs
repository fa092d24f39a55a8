//! All live tokens at one moment, indexed for look-ups.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::SystemTime;

use crate::domain::{AgentId, Below, HostName, Name};

use super::TokenRecord;
use super::token::TokenEntry;

/// All live tokens at one moment. Replaced as a whole, never changed while it is read.
#[derive(Clone, Default)]
pub(super) struct Table {
    entries: HashMap<Arc<str>, TokenEntry>,
    names: HashMap<Name, End>,
    hosts: HashMap<HostName, End>,
    below: HashMap<Below, End>,
    ever_issued: bool,
}

/// When the last token that names a key expires; `None` is never.
type End = Option<SystemTime>;

impl Table {
    /// All live tokens, and whether any token was issued before, live or not.
    pub(super) fn new(entries: HashMap<Arc<str>, TokenEntry>, ever_issued: bool) -> Self {
        let mut table = Self { entries, ever_issued, ..Self::default() };
        table.index();
        table
    }

    fn index(&mut self) {
        (self.names, self.hosts, self.below) = Default::default();
        for entry in self.entries.values() {
            let (grants, end) = (&entry.grants, entry.grants.limits.expires);
            grants.names.iter().for_each(|name| extend(&mut self.names, name, end));
            grants.hosts.iter().for_each(|host| extend(&mut self.hosts, host, end));
            grants.below.iter().for_each(|below| extend(&mut self.below, below, end));
        }
    }

    pub(super) fn insert(&mut self, id: Arc<str>, entry: TokenEntry) {
        self.ever_issued = true;
        self.entries.insert(id, entry);
        self.index();
    }

    pub(super) fn remove(&mut self, id: &str) -> bool {
        let removed = self.entries.remove(id).is_some();
        self.index();
        removed
    }

    pub(super) fn get(&self, id: &str) -> Option<&TokenEntry> {
        self.entries.get(id)
    }

    pub(super) fn names(&self, name: &Name) -> bool {
        self.names.get(name).is_some_and(|end| is_ahead(*end))
    }

    pub(super) fn lists(&self, host: &HostName) -> bool {
        self.hosts.get(host).is_some_and(|end| is_ahead(*end))
    }

    pub(super) fn lists_below(&self, below: &Below) -> bool {
        self.below.get(below).is_some_and(|end| is_ahead(*end))
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.entries.values().any(TokenEntry::is_live)
    }

    pub(super) fn is_new(&self) -> bool {
        !self.ever_issued
    }

    pub(super) fn records(&self) -> Vec<TokenRecord> {
        let record = |(id, entry): (&Arc<str>, &TokenEntry)| TokenRecord {
            id: AgentId(id.clone()),
            grants: entry.grants.clone(),
            created: entry.created,
        };
        let mut records: Vec<_> = self.entries.iter().map(record).collect();
        records.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        records
    }
}

fn extend<K: Hash + Eq + Clone>(ends: &mut HashMap<K, End>, key: &K, end: End) {
    let later = |latest: &mut End| *latest = latest.zip(end).map(|(a, b)| a.max(b));
    ends.entry(key.clone()).and_modify(later).or_insert(end);
}

fn is_ahead(end: End) -> bool {
    end.is_none_or(|end| SystemTime::now() < end)
}
