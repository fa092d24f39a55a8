//! Hosts that no certificate of the relay covers: granted, with a warning in the answer.

use std::fs;

use ptth::internals::domain::{HostName, Secret};
use ptth::internals::policy::Grants;
use ptth::internals::relay::config::RelayConfig;
use ptth::internals::tls::{PairFiles, ServerTls};
use tempfile::TempDir;

use crate::support::relay::certs;
use crate::support::{TestRelay, Wire, serve, within};
use crate::ways::{Way, each, echo, relay, token};

const HOST: &str = "www.shop.test";

/// A relay whose certificate, for the domain and the names below it, comes from files.
fn covered(dir: &TempDir, change: impl FnOnce(&mut RelayConfig) + 'static) -> TestRelay {
    let pair = &certs().relay;
    let files = PairFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    fs::write(&files.cert, &pair.cert).unwrap();
    fs::write(&files.key, &pair.key).unwrap();
    let tls = ServerTls::from_files(&[files], None).unwrap();
    relay(move |config| {
        config.tls = Some(tls);
        change(config);
    })
}

/// A token for any name and for [`HOST`].
fn with_host(relay: &TestRelay) -> Secret {
    token(&relay.tokens, Grants { hosts: vec![HostName::parse(HOST).unwrap()], ..Grants::any() })
}

/// What an agent of a name and of [`HOST`] is warned of.
async fn warned(way: Way, relay: &TestRelay, token: Secret) -> Vec<String> {
    let mut plan = way.agent(relay, token);
    plan.config.hosts = vec![HostName::parse(HOST).unwrap()];
    let mut serving = plan.start(echo());
    let urls = within("an agent connecting", serving.connected()).await.expect("the relay admits the agent");
    assert_eq!(urls.len(), 2, "{urls:?}");
    serving.status()[0].borrow().warnings.clone()
}

#[test]
fn an_agent_is_warned_of_an_uncovered_host() {
    each(async |way: Way| {
        let dir = tempfile::tempdir().unwrap();
        let relay = covered(&dir, |_| {});
        let token = with_host(&relay);
        let warnings = warned(way, &relay, token.clone()).await;
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(warning.contains(&format!("no certificate for {HOST}: ")), "{warning}");
        let alone = serve(&way.agent(&relay, token), echo()).await;
        assert_eq!(alone.status()[0].borrow().warnings, Vec::<String>::new(), "a warning for a covered name");
    });
}

#[test]
fn unknown_certificates_cause_no_warning() {
    crate::support::run(async {
        let way = Way { transport: "ptth10", carrier: ptth::internals::session::Kind::H2 };
        let dir = tempfile::tempdir().unwrap();
        let behind = covered(&dir, |config| {
            config.trusted_proxies = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
        });
        assert!(
            warned(way, &behind, with_host(&behind)).await.is_empty(),
            "a warning although a trusted proxy may terminate TLS"
        );
        let own = TestRelay::start();
        assert!(
            warned(way, &own, with_host(&own)).await.is_empty(),
            "a warning for a program's own TLS configuration"
        );
    });
}

#[test]
fn the_warning_field_is_sent_only_with_a_warning() {
    each(async |way: Way| {
        let dir = tempfile::tempdir().unwrap();
        let relay = covered(&dir, |config| config.public_url = Some("https://pub.test".parse().unwrap()));
        let other = TestRelay::start();
        for (relay, warns) in [(&relay, true), (&other, false)] {
            let mut wire: Wire = relay.visitor_tls("ptth.localhost").await;
            wire.send(way.offer(&relay.token(&["shop"]), "")).await;
            let head = wire.head().await;
            let field = head.get("ptth-warning");
            assert_eq!(field.is_some(), warns, "{field:?}");
            assert!(
                field.is_none_or(|text| text.starts_with("\"the relay has no certificate for shop.pub.test"))
            );
        }
    });
}
