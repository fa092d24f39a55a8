//! What a token is good for, over every way.

use std::num::NonZeroU32;
use std::time::{Duration, Instant, SystemTime};

use ptth::internals::agent::Fatal;
use ptth::internals::policy::{Grants, Limits, Prefix};

use crate::support::{AgentPlan, TestRelay, serve, within};
use crate::ways::{NAME, Way, each, echo, status, token};

/// How soon whoever is not let in any more must be gone.
const SOON: Duration = Duration::from_secs(5);

fn limited(limits: Limits) -> Grants {
    Grants { limits, ..Grants::names([NAME.parse().unwrap()]) }
}

#[test]
fn a_prefix_grants_only_its_names() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let prefixes = vec![Prefix::parse("team-*").unwrap().unwrap()];
        let secret = token(&relay.tokens, Grants { prefixes, ..Grants::default() });
        let agent =
            |name: &str| AgentPlan::new(&relay.url(), name, secret.clone(), way.transport, way.carrier);
        let _team = serve(&agent("team-a"), echo()).await;
        for name in ["team", "teamster", NAME] {
            let refused = within("the refusal", agent(name).start(echo()).connected()).await;
            assert!(
                matches!(&refused, Err(Fatal::Refused(why)) if why.contains("403")),
                "{name}: {refused:?}"
            );
        }
    });
}

#[test]
fn a_transport_that_is_not_allowed_is_refused() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let others = ptth::transport::ALL.iter().map(|t| t.name()).filter(|name| *name != way.transport);
        let transports: Vec<Box<str>> = others.map(Into::into).collect();
        let secret =
            token(&relay.tokens, limited(Limits { transports: transports.clone(), ..Limits::default() }));
        let refused = within("the refusal", way.agent(&relay, secret).start(echo()).connected()).await;
        let expected = |why: &str| why.contains("--transport") && why.contains(&*transports[0]);
        assert!(matches!(&refused, Err(Fatal::Refused(why)) if expected(why)), "{refused:?}");
        let own = Limits { transports: vec![way.transport.into()], ..Limits::default() };
        let _agent = serve(&way.agent(&relay, token(&relay.tokens, limited(own))), echo()).await;
    });
}

#[test]
fn sessions_beyond_the_limit_are_refused() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let secret =
            token(&relay.tokens, limited(Limits { sessions: NonZeroU32::new(2), ..Limits::default() }));
        let one = serve(&way.agent(&relay, secret.clone()), echo()).await;
        let _two = serve(&way.agent(&relay, secret.clone()), echo()).await;
        // An agent is connected a moment before its session counts.
        let refused = async {
            loop {
                let (head, body) = relay.fetch(&way.offer(&secret, "PTTH-Instance: third;boot=1\r\n")).await;
                match head.status() {
                    429 => break (head, body),
                    status => assert!([101, 201, 204].contains(&status), "{head:?} {body}"),
                }
            }
        };
        let (head, body) = within("a refusal", refused).await;
        assert!(body.contains("agents connected") && head.get("retry-after").is_some(), "{head:?} {body}");
        // One that leaves makes room, for an agent that kept trying.
        let mut third = way.agent(&relay, secret).start(echo());
        within("the agent stopping", one.stop(crate::support::STEP)).await;
        within("the agent connecting", third.connected()).await.unwrap();
    });
}

#[test]
fn concurrent_sessions_stay_within_the_limit() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let secret =
            token(&relay.tokens, limited(Limits { sessions: NonZeroU32::new(3), ..Limits::default() }));
        let mut agents: Vec<_> = (0..12).map(|_| way.agent(&relay, secret.clone()).start(echo())).collect();
        let mut standing = || agents.iter_mut().filter(|a| a.status()[0].borrow().connected).count();
        let three = async {
            while standing() < 3 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("three agents", three).await;
        assert_eq!(status(&relay, "").await, 200);
        tokio::time::sleep(4 * crate::support::QUIET).await;
        assert_eq!(standing(), 3);
    });
}

#[test]
fn a_revoked_token_ends_live_sessions() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let (id, secret) = relay.tokens.issue(limited(Limits::default())).unwrap();
        let mut agent = serve(&way.agent(&relay, secret), echo()).await;
        assert_eq!(status(&relay, "").await, 200);
        let start = Instant::now();
        relay.tokens.revoke(&id).unwrap();
        let fatal = within("the agent giving up", agent.ended()).await;
        assert!(matches!(&fatal, Err(Fatal::Refused(_))), "{fatal:?}");
        // It may hear of it by a new connection, before those that it has are cut.
        let gone = async {
            loop {
                let asked = start.elapsed();
                match status(&relay, "").await {
                    200 => {}
                    found => break (asked, found),
                }
            }
        };
        let (took, found) = within("the end of the sessions", gone).await;
        assert!([503, 404, 502].contains(&found), "{found}");
        eprintln!("{way:?}: the sessions ended {} ms after the revocation", took.as_millis());
        assert!(took < SOON, "{took:?}");
    });
}

#[test]
fn an_expired_token_ends_live_sessions() {
    each(async |way: Way| {
        let relay = TestRelay::start();
        let end = SystemTime::now() + Duration::from_secs(2);
        let secret = token(&relay.tokens, limited(Limits { expires: Some(end), ..Limits::default() }));
        let mut agent = serve(&way.agent(&relay, secret), echo()).await;
        assert_eq!(status(&relay, "").await, 200);
        let start = Instant::now() + end.duration_since(SystemTime::now()).unwrap_or_default();
        let fatal = within("the agent giving up", agent.ended()).await;
        let took = start.elapsed();
        assert!(matches!(&fatal, Err(Fatal::Refused(_))), "{fatal:?}");
        assert!(SystemTime::now() >= end && took < SOON, "{took:?}");
        // Nobody could claim it any more.
        within("the removal of the route", async { while status(&relay, "").await != 404 {} }).await;
    });
}
