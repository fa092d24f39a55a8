//! Tokens that another process issues while the relay runs, as `ptth token new` does.

use ptth::internals::domain::{Name, Secret};
use ptth::internals::policy::{Grants, Tokens};

use crate::support::{Plan, TestRelay, without_request_id};
use crate::ways::{NAME, Way, each};

#[test]
fn a_token_is_valid_as_soon_as_it_is_issued() {
    each(async |way: Way| {
        let state = tempfile::tempdir().unwrap();
        let of_relay = Tokens::open(state.path()).unwrap();
        let relay = TestRelay::planned(Plan { tokens: of_relay, ..Plan::default() });
        let elsewhere = Tokens::open(state.path()).unwrap();
        for round in 0..3 {
            let name = Name::parse(NAME).unwrap();
            let (id, fresh) = elsewhere.issue(Grants::names([name])).unwrap();
            let (head, body) = relay.fetch(&way.offer(&fresh, "PTTH-Probe: ?1\r\n")).await;
            assert!([101, 200].contains(&head.status()), "round {round}: {head:?} {body}");
            // A wrong secret for a token that is known, and a token that nobody issued, get the same words.
            let refused = [fresh.expose().replace(&*id.0, "000000000000"), format!("{}x", fresh.expose())];
            let mut words = Vec::new();
            for token in refused {
                let (head, body) = relay.fetch(&way.offer(&Secret::new(token), "PTTH-Probe: ?1\r\n")).await;
                assert!([401, 403].contains(&head.status()), "{head:?} {body}");
                words.push(without_request_id(&body));
            }
            assert_eq!(words[0], words[1]);
            elsewhere.revoke(&id).unwrap();
        }
    });
}
