//! A directory in the memory of one process.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::{Announcement, Change, Directory, DirectoryError, Generation, RelayId};
use crate::domain::{AgentId, Route};

/// The most changes that a reader may be behind.
const BACKLOG: usize = 4_096;

/// See the module. Relays of one process that share it see each other's routes.
pub struct Memory {
    table: Mutex<DirectoryTable>,
    changes: broadcast::Sender<Change>,
}

#[derive(Default)]
struct DirectoryTable {
    members: HashSet<RelayId>,
    routes: HashMap<Route, Entry>,
    last: u64,
}

struct Entry {
    owner: AgentId,
    /// The claims of each relay.
    at: BTreeMap<RelayId, BTreeSet<Generation>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { table: Mutex::default(), changes: broadcast::Sender::new(BACKLOG) }
    }
}

impl Memory {
    fn enter(&self, relay: &RelayId, announcement: &Announcement) -> Result<Generation, DirectoryError> {
        let mut table = self.table.lock();
        if !table.members.contains(relay) {
            return Err(DirectoryError::NotAMember);
        }
        let owned_elsewhere = |route: &&Route| {
            let entry = table.routes.get(*route).filter(|entry| entry.owner != announcement.owner);
            entry.is_some_and(|entry| entry.at.keys().any(|member| member != relay))
        };
        if let Some(taken) = announcement.routes.iter().find(owned_elsewhere) {
            return Err(DirectoryError::Taken(taken.clone()));
        }
        table.last += 1;
        let generation = Generation(table.last);
        for route in &announcement.routes {
            let fresh = || Entry { owner: announcement.owner.clone(), at: BTreeMap::new() };
            let entry = table.routes.entry(route.clone()).or_insert_with(fresh);
            if entry.owner != announcement.owner {
                *entry = fresh();
            }
            if announcement.exclusive {
                entry.at.retain(|member, _| member == relay);
            }
            entry.at.entry(relay.clone()).or_default().insert(generation);
            self.publish(route, Some(entry));
        }
        Ok(generation)
    }

    fn leave(&self, relay: &RelayId, routes: &[Route], generation: Generation) {
        let mut table = self.table.lock();
        for route in routes {
            let Some(entry) = table.routes.get_mut(route) else { continue };
            let Some(claims) = entry.at.get_mut(relay).filter(|claims| claims.contains(&generation)) else {
                continue;
            };
            claims.remove(&generation);
            if !claims.is_empty() {
                continue;
            }
            entry.at.remove(relay);
            let remaining = Some(&*entry).filter(|entry| !entry.at.is_empty());
            self.publish(route, remaining);
            if remaining.is_none() {
                table.routes.remove(route);
            }
        }
    }

    /// Must be called while the table is locked, so that changes are read in their order.
    fn publish(&self, route: &Route, entry: Option<&Entry>) {
        let newest = |(relay, claims): (&RelayId, &BTreeSet<Generation>)| {
            claims.last().map(|generation| (relay.clone(), *generation))
        };
        // `send` fails when there is no reader, which does no harm.
        let _ = self.changes.send(Change {
            route: route.clone(),
            owner: entry.map(|entry| entry.owner.clone()),
            at: entry.into_iter().flat_map(|entry| &entry.at).filter_map(newest).collect(),
        });
    }
}

impl Directory for Memory {
    fn join<'a>(&'a self, relay: &'a RelayId) -> BoxFuture<'a, Result<(), DirectoryError>> {
        self.table.lock().members.insert(relay.clone());
        Box::pin(ready(Ok(())))
    }

    fn claim<'a>(
        &'a self,
        relay: &'a RelayId,
        announcement: &'a Announcement,
    ) -> BoxFuture<'a, Result<Generation, DirectoryError>> {
        Box::pin(ready(self.enter(relay, announcement)))
    }

    fn release<'a>(
        &'a self,
        relay: &'a RelayId,
        routes: &'a [Route],
        generation: Generation,
    ) -> BoxFuture<'a, Result<(), DirectoryError>> {
        self.leave(relay, routes, generation);
        Box::pin(ready(Ok(())))
    }

    fn watch(&self) -> BoxStream<'static, Change> {
        let changes = |mut receiver: broadcast::Receiver<Change>| async move {
            Some((receiver.recv().await.ok()?, receiver))
        };
        unfold(self.changes.subscribe(), changes).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Name;

    fn route(name: &str) -> Route {
        Route::Path(Name::parse(name).unwrap())
    }

    fn announcement(owner: &str, names: &[&str]) -> Announcement {
        let routes = names.iter().map(|name| route(name)).collect();
        Announcement { owner: AgentId(owner.into()), routes, exclusive: false }
    }

    async fn members(directory: &Memory) -> [RelayId; 2] {
        let relays = ["one", "two"].map(|id| RelayId(id.into()));
        for relay in &relays {
            directory.join(relay).await.unwrap();
        }
        relays
    }

    #[tokio::test]
    async fn two_relays_share_a_route_of_one_owner_and_refuse_another_owner() {
        let directory = Memory::default();
        let [one, two] = members(&directory).await;
        let ours = announcement("a", &["shop", "news"]);
        let first = directory.claim(&one, &ours).await.unwrap();
        let second = directory.claim(&two, &ours).await.unwrap();
        assert!(second > first);
        let other = announcement("b", &["free", "shop"]);
        assert_eq!(directory.claim(&one, &other).await, Err(DirectoryError::Taken(route("shop"))));
        directory.release(&two, &ours.routes, second).await.unwrap();
        assert!(
            directory.claim(&one, &other).await.is_ok(),
            "its own relay has decided which agent has the better right"
        );
        let unknown = RelayId::random();
        assert_eq!(directory.claim(&unknown, &ours).await, Err(DirectoryError::NotAMember));
    }

    #[tokio::test]
    async fn a_route_lasts_until_its_last_claim_ends_and_repeats_do_nothing() {
        let directory = Memory::default();
        let [one, _] = members(&directory).await;
        let mut changes = directory.watch();
        let ours = announcement("a", &["shop"]);
        let first = directory.claim(&one, &ours).await.unwrap();
        let second = directory.claim(&one, &ours).await.unwrap();
        for generation in [first, first, second] {
            directory.release(&one, &ours.routes, generation).await.unwrap();
        }
        let at = |generation| vec![(one.clone(), generation)];
        let owner = Some(ours.owner.clone());
        for (owner, at) in [(owner.clone(), at(first)), (owner, at(second)), (None, Vec::new())] {
            assert_eq!(changes.next().await, Some(Change { route: route("shop"), owner, at }));
        }
        assert!(directory.table.lock().routes.is_empty());
    }

    #[tokio::test]
    async fn an_exclusive_claim_ends_the_claims_of_other_relays() {
        let directory = Memory::default();
        let [one, two] = members(&directory).await;
        directory.claim(&one, &announcement("a", &["shop"])).await.unwrap();
        let mut changes = directory.watch();
        let exclusive = Announcement { exclusive: true, ..announcement("a", &["shop"]) };
        let generation = directory.claim(&two, &exclusive).await.unwrap();
        assert_eq!(changes.next().await.unwrap().at, [(two, generation)]);
    }
}
