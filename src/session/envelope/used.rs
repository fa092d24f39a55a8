//! The URLs that have delivered, so that none delivers twice.

use std::collections::{HashSet, VecDeque};

use super::UrlId;
use crate::defaults;

/// Remembers the last [`defaults::URLS_USED`] URLs.
#[derive(Debug, Default)]
pub(super) struct Used {
    urls: HashSet<UrlId>,
    order: VecDeque<UrlId>,
}

impl Used {
    pub(super) fn contains(&self, url: UrlId) -> bool {
        self.urls.contains(&url)
    }

    pub(super) fn insert(&mut self, url: UrlId) {
        if self.urls.insert(url) {
            self.order.push_back(url);
        }
        if self.order.len() > defaults::URLS_USED
            && let Some(oldest) = self.order.pop_front()
        {
            self.urls.remove(&oldest);
        }
    }

    /// The delivery failed: the URL may be polled again.
    pub(super) fn forget(&mut self, url: UrlId) {
        if self.urls.remove(&url) {
            self.order.retain(|other| *other != url);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_urls_are_remembered_and_failed_urls_forgotten() {
        let mut used = Used::default();
        for url in 0..=defaults::URLS_USED as u128 {
            used.insert(url);
        }
        assert!(!used.contains(0) && used.contains(1));
        used.forget(1);
        assert!(!used.contains(1));
        assert_eq!(used.urls.len(), used.order.len());
    }
}
