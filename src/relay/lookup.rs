//! Credentials that are not in memory. The relay reads the tokens again before it refuses one, because another process
//! may have issued the token a moment ago.
//!
//! All credentials that do not verify wait alike, whether the id is unknown or the secret is wrong, so the response
//! time reveals neither. One read of the store serves all requests that wait. Between reads there is a minimum
//! interval, so wrong credentials cause a bounded rate of reads.

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::defaults;
use crate::domain::Secret;
use crate::policy::Tokens;

/// See the module.
#[derive(Default)]
pub(super) struct Lookup {
    reads: Mutex<TokenReads>,
}

#[derive(Default)]
struct TokenReads {
    /// The start of the last read.
    began: Option<Instant>,
    /// The start of the last completed read.
    completed_began: Option<Instant>,
}

impl Lookup {
    /// Reads the tokens again unless the credential is known; returns at once for a known credential. Cancel safe.
    pub(super) async fn read_unless_known(&self, tokens: &Tokens, credential: &Secret) {
        if !tokens.are_shared() || tokens.verify(credential).is_some() {
            return;
        }
        if tokio::time::timeout(defaults::TOKENS_LOOKUP_WAIT, self.read(tokens)).await.is_err() {
            tracing::warn!("the tokens were not read again in time; the relay uses the known tokens");
        }
    }

    async fn read(&self, tokens: &Tokens) {
        let arrived = Instant::now();
        let mut reads = self.reads.lock().await;
        if reads.completed_began.is_some_and(|began| began > arrived) {
            return;
        }
        if let Some(began) = reads.began {
            tokio::time::sleep_until(began + defaults::TOKENS_LOOKUP).await;
        }
        let now = Instant::now();
        reads.began = Some(now);
        let tokens = tokens.clone();
        match tokio::task::spawn_blocking(move || tokens.refresh_if_changed()).await {
            Ok(Ok(_)) => reads.completed_began = Some(now),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot read the tokens again; the known tokens remain valid")
            }
            Err(error) => tracing::warn!(%error, "the task that reads the tokens failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;
    use crate::policy::Grants;

    fn wrong(n: usize) -> Secret {
        Secret::new(format!("ptth_{n:012x}_wrong"))
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_credentials_cause_reads_at_a_bounded_rate_and_wait_alike() {
        let state = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(state.path()).unwrap();
        let (_, right) = tokens.issue(Grants::any()).unwrap();
        let lookup = Lookup::default();
        let nearly = Secret::new(format!("{}x", right.expose()));
        lookup.read_unless_known(&tokens, &wrong(0)).await;
        for credential in [&nearly, &wrong(1), &Secret::new("no token"), &nearly] {
            let began = Instant::now();
            lookup.read_unless_known(&tokens, credential).await;
            assert_eq!(began.elapsed(), defaults::TOKENS_LOOKUP, "one read for each separate credential");
        }
        let began = Instant::now();
        let all: Vec<_> = (0..500).map(wrong).collect();
        join_all(all.iter().map(|credential| lookup.read_unless_known(&tokens, credential))).await;
        assert!(began.elapsed() <= 2 * defaults::TOKENS_LOOKUP, "one read serves all: {:?}", began.elapsed());
        let began = Instant::now();
        lookup.read_unless_known(&tokens, &right).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "a known token waits for nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_without_a_store_cause_no_read() {
        let (tokens, lookup, began) = (Tokens::in_memory(), Lookup::default(), Instant::now());
        for n in 0..10 {
            lookup.read_unless_known(&tokens, &wrong(n)).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_read_does_not_count_as_a_read() {
        let state = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(state.path()).unwrap();
        let lookup = Lookup::default();
        lookup.read_unless_known(&tokens, &wrong(0)).await;
        let unknown = wrong(1);
        let given_up =
            tokio::time::timeout(defaults::TOKENS_LOOKUP / 2, lookup.read_unless_known(&tokens, &unknown));
        assert!(given_up.await.is_err());
        let fresh = Tokens::open(state.path()).unwrap().issue(Grants::any()).unwrap().1;
        lookup.read_unless_known(&tokens, &fresh).await;
        assert!(tokens.verify(&fresh).is_some());
    }
}
