//! Code that several cores run without a lock, checked by loom over every interleaving and every reordering that the
//! memory model allows. The files of the library are compiled here a second time, with the atomics of loom.

#[path = "../src/session/in_flight.rs"]
mod in_flight;

/// What the files take their atomics from.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
}

use in_flight::InFlight;
use loom::sync::Arc;
use loom::thread;

/// Requests that a link may carry.
const MOST: usize = 2;

/// A link ends while its last request ends: either the link sees that nothing is in flight, or the request sees that the
/// link waits for it. If both missed each other, the link would wait for ever.
#[test]
fn the_last_request_wakes_a_waiting_link() {
    loom::model(|| {
        let link = Arc::new(InFlight::new());
        assert!(link.enter(MOST));
        let request = link.clone();
        let request = thread::spawn(move || request.leave());
        link.retire();
        let waits = link.count() > 0;
        let wakes = request.join().unwrap();
        assert!(!waits || wakes, "the link waits, and its last request did not wake it");
    });
}

/// Two requests end at once on a retired link: exactly one of them is the last.
#[test]
fn exactly_one_request_is_the_last_of_a_retired_link() {
    loom::model(|| {
        let link = Arc::new(InFlight::new());
        assert!(link.enter(MOST) && link.enter(MOST) && !link.enter(MOST));
        assert!(link.retire() && !link.retire() && link.is_retired());
        let other = link.clone();
        let other = thread::spawn(move || other.leave());
        let last = [link.leave(), other.join().unwrap()];
        assert_eq!(last.iter().filter(|last| **last).count(), 1, "{last:?}");
    });
}

/// A request that enters while the link is retired is either refused or seen by the link.
#[test]
fn a_retiring_link_refuses_or_counts_a_request() {
    loom::model(|| {
        let link = Arc::new(InFlight::new());
        let request = link.clone();
        let request = thread::spawn(move || request.enter(MOST));
        link.retire();
        let seen = link.count();
        let entered = request.join().unwrap();
        assert_eq!(seen > 0, entered, "the count of the link and the result of `enter` disagree");
    });
}
