//! A table that remembers its newest entries.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// At most `most` entries; a new entry evicts the oldest.
#[derive(Debug)]
pub struct Recent<K, V = ()> {
    most: usize,
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    /// An empty table for `most` entries.
    pub fn new(most: usize) -> Self {
        Self { most, entries: HashMap::new(), order: VecDeque::new() }
    }

    /// Whether the table has no entry.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The value of an entry.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// Adds an entry, or changes its value. Returns the key of the entry that was evicted.
    pub fn insert(&mut self, key: K, value: V) -> Option<K> {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > self.most { self.pop() } else { None }
    }

    /// Removes the oldest entry, and returns its key.
    pub fn pop(&mut self) -> Option<K> {
        let oldest = self.order.pop_front()?;
        self.entries.remove(&oldest);
        Some(oldest)
    }

    /// Removes an entry. Returns whether it was there.
    pub fn remove(&mut self, key: &K) -> bool {
        let removed = self.entries.remove(key).is_some();
        if removed {
            self.order.retain(|other| other != key);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entries_are_remembered_and_removed_entries_forgotten() {
        let mut recent = Recent::new(3);
        assert!((0..3).all(|key| recent.insert(key, ()).is_none()));
        assert_eq!((recent.insert(2, ()), recent.insert(3, ())), (None, Some(0)));
        assert!(recent.get(&0).is_none() && recent.get(&1).is_some());
        assert!(recent.remove(&1) && !recent.remove(&1));
        assert_eq!((recent.pop(), recent.pop(), recent.pop()), (Some(2), Some(3), None));
        assert!(recent.is_empty() && recent.entries.is_empty());
    }
}
