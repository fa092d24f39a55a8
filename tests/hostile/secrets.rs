//! What must be known to be let in, and what can be learnt of it from outside.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt as _};

use crate::support::{TestRelay, Wire, run};
use crate::world::connect;

fn form(text: &str) -> String {
    format!(
        "POST /reversehttp HTTP/1.1\r\nHost: ptth.localhost\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

/// A2: no word tells how much of a token is right (CWE-204). Nor does time (CWE-208; Traefik CVE-2026-32595): a digest is
/// compared, see below; and after a few tries from one address there is no answer to measure.
#[test]
fn a_wrong_token_tells_nothing() {
    run(async {
        let relay = TestRelay::start();
        let right = relay.token(&["shop"]).expose().to_owned();
        let (start, secret) = right.split_at(right.len() - 43);
        let other = |count: usize| -> String {
            // The first letters are right, the rest are others.
            let wrong = secret.bytes().skip(count).map(|b| if b == b'A' { 'B' } else { 'A' });
            secret[..count].chars().chain(wrong).collect()
        };
        let mut tries: Vec<String> = [0, 1, 21, 42].map(|count| format!("{start}{}", other(count))).into();
        tries.push(format!("ptth_000000000000_{}", other(0)));
        let mut relay_end = Wire::new(connect(relay.plain).await);
        let mut words = HashSet::new();
        let mut too_many = false;
        'tries: for round in 0..400 {
            for place in 0..tries.len() {
                let token = &tries[(place + round) % tries.len()];
                let name = if place % 2 == 0 { "shop" } else { "nobody" };
                let offer = format!(
                    "POST /reversehttp?name={name} HTTP/1.1\r\nHost: ptth.localhost\r\nConnection: Upgrade\r\n\
                     Upgrade: PTTH/1.0\r\nAuthorization: Bearer {token}\r\n\r\n"
                );
                relay_end.send(offer).await;
                let (head, body) = relay_end.message().await;
                too_many = head.status() == 429;
                if too_many {
                    break 'tries;
                }
                assert!(!body.contains(&**token), "the token is in the answer");
                words.insert((head.status(), body));
            }
        }
        assert_eq!(words.len(), 1, "{words:?}");
        assert!(too_many, "whoever tries too often is told so");
    });
}

/// The digest is compared in constant time, and nothing else is compared at all.
#[test]
fn tokens_are_compared_by_their_digests() {
    let source =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/policy/token.rs")).unwrap();
    let code = source.split("#[cfg(test)]").next().unwrap();
    assert!(code.contains("digest(secret).ct_eq(&expected)"), "{code}");
    assert!(
        !code.contains("digest ==") && !code.contains("== digest") && !code.contains("== secret"),
        "{code}"
    );
}

/// A3: URLs that are capabilities cannot be guessed, and are good once.
#[test]
fn the_urls_of_agents_cannot_be_guessed() {
    run(async {
        let relay = TestRelay::start();
        let token = relay.token(&["shop"]).expose().to_owned();
        let mut relay_end = Wire::new(connect(relay.plain).await);
        let mut urls = Vec::new();
        for _ in 0..2_000 {
            relay_end.send(form(&format!("name=shop&token={token}"))).await;
            let (head, _) = relay_end.message().await;
            let link = head.get("link").unwrap();
            let url = link.split_once('<').unwrap().1.split_once('>').unwrap().0;
            urls.push(url.rsplit('/').next().unwrap().to_owned());
        }
        assert_eq!(urls.iter().collect::<HashSet<_>>().len(), urls.len(), "a URL came twice");
        // 128 random bits are 22 letters: no two of the URLs begin, or end, with the same eight.
        assert!(urls.iter().all(|url| url.len() >= 22 && !url.contains(&token)));
        for part in [|url: &String| url[..8].to_owned(), |url: &String| url[url.len() - 8..].to_owned()] {
            assert_eq!(urls.iter().map(part).collect::<HashSet<_>>().len(), urls.len());
        }
        // Each letter of the start is as frequent as every other: 64 of them, in 16 places of 2,000 URLs.
        let mut counts = [0_u32; 128];
        urls.iter().flat_map(|url| url.bytes().take(16)).for_each(|b| counts[usize::from(b)] += 1);
        let used: Vec<_> = counts.into_iter().filter(|count| *count > 0).collect();
        assert_eq!(used.len(), 64);
        assert!(used.iter().all(|count| (350..650).contains(count)), "{used:?}");
        // Guesses: one letter changed, one cut off, one put on, and pure chance.
        let guesses = (0..2_000_usize).map(|n| {
            let (url, place) = (&urls[n], n % urls[n].len());
            match n % 4 {
                0 => format!(
                    "{}{}{}",
                    &url[..place],
                    if url[place..].starts_with('A') { 'B' } else { 'A' },
                    &url[place + 1..]
                ),
                1 => url[..url.len() - 1].to_owned(),
                2 => format!("{url}AAAA"),
                _ => (0..url.len()).map(|_| char::from(b'a' + rand::random::<u8>() % 26)).collect(),
            }
        });
        let tried = stream::iter(guesses).map(|guess| {
            let relay = &relay;
            async move {
                let ask = format!("GET /reversehttp/request/{guess} HTTP/1.1\r\nHost: ptth.localhost\r\nConnection: close\r\n\r\n");
                relay.ask(&ask).await.0.status()
            }
        });
        let statuses: HashSet<_> = tried.buffer_unordered(8).collect().await;
        assert!(statuses.is_subset(&HashSet::from([404, 429])), "a guess was a hit: {statuses:?}");
    });
}

/// A28: nothing is taken from the first flight of TLS, which can be sent again (RFC 8446 §8).
#[test]
fn early_data_is_off() {
    let host = ptth::domain::HostName::parse("ptth.localhost").unwrap();
    let certs = ptth::tls::dev::ephemeral(&[ptth::tls::dev::CertHost::Name(host)]).unwrap();
    let (cert, key) = (certs.relay.cert.as_bytes(), certs.relay.key.as_bytes());
    let server = ptth::tls::server_config_from_pem(cert, key, &[]).unwrap();
    assert!(server.max_early_data_size == 0 && !server.send_half_rtt_data);
    assert!(!ptth::tls::client_config_from_pem(certs.ca.cert.as_bytes(), &[]).unwrap().enable_early_data);
}
