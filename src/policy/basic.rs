//! Visitors with a password (RFC 7617), of which the relay gets only a hash from the agent.
//!
//! The hash is PBKDF2-HMAC-SHA-256. Every visitor sends the relay the password itself, and the relay keeps the hash
//! only in memory, so the hash protects only against a copy of that memory. A harder hash would not be worth its cost:
//! memory for each try (argon2, scrypt) helps an attacker that floods a name with wrong passwords. A try costs about
//! twenty milliseconds, few tries run at once, wrong ones are counted by address, and a credential that was right once
//! is recognised by a keyed digest.

use std::collections::HashSet;
use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::defaults;
use crate::domain::Secret;

/// The rounds of PBKDF2. The name of the parameter in the rules distinguishes this hash from others.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99_999);
const SALT: usize = 16;
const HASH: usize = 32;

/// A visitor that is admitted with a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    name: Box<str>,
    salt: [u8; SALT],
    hash: [u8; HASH],
}

impl User {
    /// Hashes a password. The salt is made from `context` and the name: `context` must be the same for agents that are
    /// to be interchangeable, and differ for all others. Takes about twenty milliseconds.
    ///
    /// # Errors
    /// A short message, for an invalid name or an empty password.
    pub fn new(name: &str, password: &Secret, context: &str) -> Result<Self, &'static str> {
        check(name)?;
        if password.expose().is_empty() {
            return Err("the password is empty");
        }
        let digest = Sha256::new().chain_update("ptth visitor\0").chain_update(context);
        let digest = digest.chain_update("\0").chain_update(name).finalize();
        let mut salt = [0; SALT];
        salt.copy_from_slice(&digest[..SALT]);
        Ok(Self { name: name.into(), salt, hash: hash(&salt, password.expose()) })
    }

    /// Makes a user from the salt followed by the hash.
    pub(super) fn from_digest(name: &str, bytes: &[u8]) -> Result<Self, &'static str> {
        check(name)?;
        let (salt, hash) = bytes.split_at_checked(SALT).ok_or("a hash is too short")?;
        let salt = salt.try_into().map_err(|_| "a hash is too short")?;
        let hash = hash.try_into().map_err(|_| "a hash must have 48 bytes")?;
        Ok(Self { name: name.into(), salt, hash })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The bytes that [`User::from_digest`] reads.
    pub(super) fn bytes(&self) -> Vec<u8> {
        [&self.salt[..], &self.hash].concat()
    }
}

/// Checks a name: printable ASCII, which every client encodes alike, without a colon, which would end the name.
fn check(name: &str) -> Result<(), &'static str> {
    let fits = |b: u8| (b.is_ascii_graphic() || b == b' ') && b != b':';
    let valid = !name.is_empty() && name.len() <= 64 && name.bytes().all(fits);
    if valid { Ok(()) } else { Err("a user's name is 1 to 64 printable ASCII characters, without a colon") }
}

fn hash(salt: &[u8], password: &str) -> [u8; HASH] {
    let mut hash = [0; HASH];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, password.as_bytes(), &mut hash);
    hash
}

/// A name and a password, as a visitor sent them.
pub(super) struct Credential {
    user: Box<str>,
    password: Secret,
}

impl Credential {
    pub(super) fn parse(value: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Self { user: user.into(), password: Secret::new(password) })
    }

    /// Whether the credential is right for one of these users. An unknown name takes as much work as a known one.
    pub(super) fn is_valid_for(&self, users: &[User]) -> bool {
        let user = users.iter().find(|user| *user.name == *self.user);
        let (salt, expected) = user.map_or(([0; SALT], [0; HASH]), |user| (user.salt, user.hash));
        let matches = hash(&salt, self.password.expose()).ct_eq(&expected);
        bool::from(matches) && user.is_some()
    }
}

/// Credentials that were valid, recognised by a digest that only this process can compute.
pub(super) struct VerifiedCredentials {
    key: [u8; 32],
    digests: Mutex<HashSet<[u8; 32]>>,
}

impl VerifiedCredentials {
    pub(super) fn new() -> Self {
        Self { key: rand::random(), digests: Mutex::default() }
    }

    fn digest(&self, value: &HeaderValue) -> [u8; 32] {
        Sha256::new().chain_update(self.key).chain_update(value.as_bytes()).finalize().into()
    }

    pub(super) fn contains(&self, value: &HeaderValue) -> bool {
        let digest = self.digest(value);
        self.digests.lock().contains(&digest)
    }

    pub(super) fn insert(&self, value: &HeaderValue) {
        let digest = self.digest(value);
        let mut digests = self.digests.lock();
        // One password has several encodings, and a visitor that has it could fill the memory with them.
        if digests.len() >= defaults::CREDENTIALS_KNOWN {
            digests.clear();
        }
        digests.insert(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(user: &str, password: &str) -> HeaderValue {
        HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))).unwrap()
    }

    fn user(name: &str, password: &str) -> User {
        User::new(name, &Secret::new(password), "shop").unwrap()
    }

    #[test]
    fn a_password_is_right_only_for_its_own_user() {
        let users = [user("ann", "pass:word"), user("bob", "other")];
        let valid = |user, password| Credential::parse(&value(user, password)).unwrap().is_valid_for(&users);
        assert!(valid("ann", "pass:word") && valid("bob", "other"));
        for (user, password) in [
            ("ann", "other"),
            ("bob", "pass:word"),
            ("eve", "other"),
            ("", ""),
            ("ann", ""),
            ("Ann", "pass:word"),
        ] {
            assert!(!valid(user, password), "{user}:{password}");
        }
        for bad in ["", "Basic", "Basic !", "Bearer YTpi", "Basic YQ==", "Basic /w=="] {
            assert!(Credential::parse(&HeaderValue::from_static(bad)).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_salt_depends_on_the_user_and_the_name_that_it_protects() {
        let ann = user("ann", "x");
        assert_eq!(ann, user("ann", "x"));
        assert_ne!(ann.salt, user("bob", "x").salt);
        assert_ne!(ann.salt, User::new("ann", &Secret::new("x"), "other").unwrap().salt);
        assert_eq!(User::from_digest("ann", &ann.bytes()).unwrap(), ann);
        for bad in ["", "a:b", "ü", "a\n"] {
            assert!(User::new(bad, &Secret::new("x"), "").is_err(), "{bad}");
        }
        assert!(User::from_digest("ann", &[0; 47]).is_err() && User::from_digest("ann", &[0; 49]).is_err());
    }

    #[test]
    fn the_set_of_known_credentials_is_bounded() {
        let verified = VerifiedCredentials::new();
        for n in 0..=defaults::CREDENTIALS_KNOWN {
            verified.insert(&value("ann", &n.to_string()));
        }
        assert_eq!(verified.digests.lock().len(), 1);
        assert!(verified.contains(&value("ann", &defaults::CREDENTIALS_KNOWN.to_string())));
        assert!(!VerifiedCredentials::new().contains(&value("ann", "0")));
    }
}
