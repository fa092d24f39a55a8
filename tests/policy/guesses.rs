//! Credentials that are tried at speed.

use ptth::internals::defaults;
use ptth::internals::domain::Secret;

use crate::support::{Head, TestRelay, without_request_id};
use crate::ways::{NAME, Way, each, relay};

fn wrong(n: u32) -> Secret {
    Secret::new(format!("ptth_{n:012x}_wrong"))
}

fn is_too_many((head, body): &(Head, String)) {
    assert_eq!(head.status(), 429, "{body}");
    let wait: u64 = head.get("retry-after").unwrap().parse().unwrap();
    assert!((1..=defaults::GUESSES_WITHIN.as_secs()).contains(&wait), "{wait}");
}

#[test]
fn wrong_tokens_are_counted_and_right_ones_pass() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let right = relay.token(&[NAME]);
        let mut first = None;
        for n in 0..defaults::GUESSES {
            let (head, body) = relay.fetch(&way.offer(&wrong(n), "")).await;
            let status = if way.transport == "reversehttp" { 403 } else { 401 };
            assert_eq!(head.status(), status);
            let body = without_request_id(&body);
            assert_eq!(*first.get_or_insert(body.clone()), body);
        }
        is_too_many(&relay.fetch(&way.offer(&wrong(99), "")).await);
        // Others may share the address.
        let (head, body) = relay.fetch(&way.offer(&right, "PTTH-Probe: ?1\r\n")).await;
        assert!([101, 200].contains(&head.status()), "{head:?} {body}");
    });
}

#[test]
fn a_missing_token_is_not_counted_as_a_guess() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        for _ in 0..2 * defaults::GUESSES {
            let offer = way.offer(&wrong(0), "").replace("Authorization", "X-Was");
            assert!([401, 403].contains(&relay.fetch(&offer).await.0.status()));
        }
    });
}

#[test]
fn invented_urls_are_counted_as_guesses() {
    crate::support::run(async {
        let relay = relay(|_| {});
        let fetch = async |kind: &str, n: u32| {
            relay
                .fetch(&format!("GET /reversehttp/{kind}/guess{n} HTTP/1.1\r\nHost: ptth.localhost\r\n\r\n"))
                .await
        };
        for n in 0..defaults::GUESSES {
            let kind = ["request", "private"][n as usize % 2];
            assert_eq!(fetch(kind, n).await.0.status(), 404);
        }
        is_too_many(&fetch("request", 99).await);
        is_too_many(&fetch("private", 99).await);
    });
}
