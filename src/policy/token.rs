//! One token: its text, its digest, its grants. No I/O.
//!
//! The text is `ptth_ID_SECRET`: an id of 12 hexadecimal digits, and 32 random bytes in URL-safe base64 without padding
//! (RFC 4648 §5). That alphabet contains `_` too, so only the first two underscores separate.

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng as _;
use rand::rngs::{SysError, SysRng};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::domain::Secret;

use super::scope::Grants;

/// SHA-256 of the secret's text. Fast on purpose: 256 random bits need no stretching.
pub(super) type DigestBytes = [u8; 32];

/// The part of a token that is stored.
#[derive(Debug, Clone)]
pub(super) struct TokenEntry {
    pub(super) digest: DigestBytes,
    pub(super) grants: Arc<Grants>,
    pub(super) created: SystemTime,
}

impl TokenEntry {
    pub(super) fn is_live(&self) -> bool {
        self.grants.is_live(SystemTime::now())
    }
}

/// A new token. `text` is for the operator, and is not stored.
pub(super) struct NewToken {
    pub(super) id: Arc<str>,
    pub(super) digest: DigestBytes,
    pub(super) text: Secret,
}

/// Makes a token from the randomness of the system.
pub(super) fn generate() -> Result<NewToken, SysError> {
    let mut bytes = [0; 6 + 32];
    SysRng.try_fill_bytes(&mut bytes)?;
    let (id, secret) = bytes.split_at(6);
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = URL_SAFE_NO_PAD.encode(secret);
    let text = Secret::new(format!("ptth_{id}_{secret}"));
    Ok(NewToken { id: id.into(), digest: digest(&secret), text })
}

fn digest(secret: &str) -> DigestBytes {
    Sha256::digest(secret.as_bytes()).into()
}

/// The id and the secret in a token's text; `None` for a text of another form.
fn split(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix("ptth_")?.split_once('_')?;
    let well_formed = id.len() == 12 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (well_formed && !secret.is_empty()).then_some((id, secret))
}

/// Checks a credential against the entry that `find` returns for its id. An unknown id costs a digest and a comparison
/// too. Its look-up may end sooner, which reveals nothing secret.
pub(super) fn verify<'a>(
    credential: &Secret,
    find: impl FnOnce(&str) -> Option<&'a TokenEntry>,
) -> Option<(Arc<str>, TokenEntry)> {
    let (id, secret) = split(credential.expose()).unwrap_or(("", credential.expose()));
    let entry = find(id);
    // No text with this SHA-256 digest is known.
    let expected = entry.map_or([0; 32], |entry| entry.digest);
    let same = bool::from(digest(secret).ct_eq(&expected));
    entry.filter(|_| same).map(|entry| (id.into(), entry.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fresh: &NewToken) -> TokenEntry {
        TokenEntry { digest: fresh.digest, grants: Arc::new(Grants::any()), created: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn a_token_has_the_documented_form() {
        for _ in 0..64 {
            let fresh = generate().unwrap();
            let text = fresh.text.expose();
            let (id, secret) = split(text).unwrap();
            assert_eq!((id, id.len(), secret.len()), (&*fresh.id, 12, 43), "{text}");
            assert_eq!(URL_SAFE_NO_PAD.decode(secret).unwrap().len(), 32);
            assert!(!format!("{:?}", fresh.text).contains(secret));
        }
    }

    #[test]
    fn an_underscore_in_the_secret_does_not_separate() {
        assert_eq!(split("ptth_0123456789ab__x_y"), Some(("0123456789ab", "_x_y")));
    }

    #[test]
    fn malformed_texts_are_no_tokens() {
        for bad in [
            "",
            "ptth_",
            "ptth_0123456789ab",
            "ptth_0123456789ab_",
            "ptth_0123456789a_secret",
            "ptth_0123456789abc_secret",
            "ptth_0123456789AB_secret",
            "PTTH_0123456789ab_secret",
            "0123456789ab_secret",
        ] {
            assert_eq!(split(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_the_whole_token_verifies() {
        let fresh = generate().unwrap();
        let stored = entry(&fresh);
        let right = fresh.text.expose().to_owned();
        let check = |text: String| {
            verify(&Secret::new(text), |id| (id == &*fresh.id).then_some(&stored)).map(|(id, _)| id)
        };
        assert_eq!(check(right.clone()).as_deref(), Some(&*fresh.id));
        assert_eq!(check(format!("{right}x")), None);
        assert_eq!(check(right[..right.len() - 1].to_owned()), None);
        assert_eq!(check(generate().unwrap().text.expose().to_owned()), None);
        let other = generate().unwrap().text.expose().to_owned();
        assert_eq!(check(format!("ptth_{}_{}", fresh.id, split(&other).unwrap().1)), None);
        assert_eq!(check(String::new()), None);
    }

    #[test]
    fn an_empty_id_finds_nothing_even_if_the_digest_fits() {
        assert!(verify(&Secret::new("no token"), |_| None).is_none());
    }
}
