//! What the relay says to agents that it does not let in, and who replaces whom.

use ptth::internals::agent::Fatal;
use ptth::internals::domain::{Instance, Secret};

use crate::support::{AgentPlan, Head, TestOrigin, TestRelay, serve, within, without_request_id};
use crate::world::{NAME, On, World};

/// What asks for a name on this transport, as raw bytes; `rest` are further fields.
fn offer(on: On, relay: &TestRelay, name: &str, rest: &str) -> String {
    if on.transport == "reversehttp" {
        return format!(
            "POST /reversehttp?name={name} HTTP/1.1\r\nHost: ptth.localhost\r\nContent-Length: 0\r\n{rest}\r\n"
        );
    }
    crate::support::offer((on.transport, on.carrier), relay, name, rest)
}

fn bearer(secret: &Secret) -> String {
    format!("Authorization: Bearer {}\r\n", secret.expose())
}

pub(crate) async fn refused_offers(on: On) {
    let relay = TestRelay::start();
    let token = relay.token(&[NAME]);
    relay.token(&["other"]);
    let send_offer = async |name: &str, rest: &str| -> (Head, String) {
        relay.fetch(&offer(on, &relay, name, rest)).await
    };
    let without = send_offer(NAME, "").await;
    // ReverseHttp has one status for every no.
    let unknown = if on.transport == "reversehttp" { 403 } else { 401 };
    assert_eq!(without.0.status(), unknown, "{without:?}");
    assert_eq!(without.0.get("www-authenticate"), (unknown == 401).then_some("Bearer realm=\"ptth\""));
    let wrong = send_offer(NAME, "Authorization: Bearer ptth_0123456789ab_wrong\r\n").await;
    let unknown_name = send_offer("nobody", "Authorization: Bearer ptth_0123456789ab_wrong\r\n").await;
    assert_eq!((wrong.0.status(), unknown_name.0.status()), (unknown, unknown));
    // Whoever has no token learns nothing of names.
    assert_eq!(without_request_id(&wrong.1), without_request_id(&unknown_name.1));
    let others = send_offer("other", &bearer(&token)).await;
    assert_eq!(others.0.status(), 403);
    assert!(others.1.contains("other"), "the answer lacks the name: {}", others.1);
    let malformed = send_offer("a%20b", &bearer(&token)).await;
    assert_eq!(malformed.0.status(), 400, "{malformed:?}");
    // Nothing of all that has claimed anything.
    assert_eq!(relay.fetch(&World::head("GET", "/", "")).await.0.status(), 503);
    // An agent that is told so gives up, with the relay's words.
    let mut plan = on.agent(&relay);
    plan.config.token = Some(Secret::new("ptth_0123456789ab_wrong"));
    let origin = TestOrigin::start().await;
    let fatal = within("the refusal", plan.start(origin.handler()).connected()).await;
    assert!(matches!(fatal, Err(Fatal::Refused(_))), "{fatal:?}");
}

pub(crate) async fn a_held_name_is_refused_to_another_token(on: On) {
    let world = on.world().await;
    let stranger = world.relay.token(&[NAME]);
    let (head, body) = world.relay.fetch(&offer(on, &world.relay, NAME, &bearer(&stranger))).await;
    assert_eq!(head.status(), 403);
    let words = format!(r#"the name \"{NAME}\" belongs to another token; try another --name, or revoke"#);
    assert!(body.contains(&words), "{body}");
    world.still_works().await;
}

pub(crate) async fn stripped_upgrade(on: On) {
    let relay = TestRelay::start();
    let token = relay.token(&[NAME]);
    let stripped = offer(on, &relay, NAME, &bearer(&token));
    let stripped = stripped.replace("Connection: Upgrade\r\n", "").replace("Upgrade: ", "X-Was: ");
    let (head, _) = relay.fetch(&stripped).await;
    assert_eq!(head.status(), 426);
    assert!(head.get("upgrade").unwrap().contains("PTTH/1.0"), "{head:?}");
    assert!(head.all("connection").iter().any(|v| v.to_ascii_lowercase().contains("upgrade")), "{head:?}");
    assert_eq!(relay.fetch(&World::head("GET", "/", "")).await.0.status(), 503);
}

pub(crate) async fn higher_boot_replaces_the_lower(on: On) {
    let relay = TestRelay::start();
    let [old, new] = [TestOrigin::start().await, TestOrigin::start().await];
    let first = on.agent(&relay);
    let booted = |boot| AgentPlan {
        config: ptth::internals::agent::config::AgentConfig {
            instance: Instance { id: "one".into(), boot },
            ..first.config.clone()
        },
    };
    let mut lower = serve(&booted(1), old.handler()).await;
    let higher = serve(&booted(2), new.handler()).await;
    let fenced = within("being fenced", lower.ended()).await;
    assert!(matches!(fenced, Err(Fatal::Fenced(_))), "{fenced:?}");
    let world = World { relay, origin: new, agent: higher };
    for _ in 0..3 {
        world.still_works().await;
    }
    old.quiet().await;
    // And one that comes too late is told so at once.
    let late = within("being fenced", booted(1).start(old.handler()).connected()).await;
    assert!(matches!(late, Err(Fatal::Fenced(_))), "{late:?}");
}
