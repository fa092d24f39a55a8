//! The content of the URLs that agents use: the identity of a registration, its birth and the URL's expiry, sealed with
//! a key of the relay. The URL alone restores a registration after a restart. No other party can read or change the
//! content, and it contains no token.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::session::envelope::UrlId;

/// The use of a URL. A URL for one use does not open as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The agent polls it, and posts the answer to it.
    Request,
    /// The owner manages a registration by it.
    Private,
    /// At this URL, the agent probes whether bodies get through before they are complete.
    Probe,
}

/// The content of a sealed URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    /// When the registration was made, in milliseconds since 1970. It distinguishes registrations of one identity.
    pub(super) born: u64,
    /// When the URL expires, in seconds since 1970.
    pub(super) expires: u64,
    /// The id of this URL.
    pub(super) url: UrlId,
    /// The agent and its grant, as a form.
    pub(super) identity: Box<str>,
}

/// The key of a relay, ready for use.
pub(super) struct Seal(Option<LessSafeKey>);

impl Seal {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        // The only error is a key of another length.
        Self(UnboundKey::new(&AES_256_GCM_SIV, key).ok().map(LessSafeKey::new))
    }

    /// Seals claims into the last segment of a URL.
    pub(super) fn seal(&self, purpose: Use, claims: &Claims) -> String {
        let Claims { born, expires, url, identity } = claims;
        let mut text = format!("{born:x} {expires:x} {url:x} {identity}").into_bytes();
        let nonce: [u8; NONCE_LEN] = rand::random();
        let sealed = self.0.as_ref().is_some_and(|key| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(nonce, Aad::from(purpose.label()), &mut text).is_ok()
        });
        if !sealed {
            // Cannot happen with a key of 32 bytes and a short text. A URL that opens nothing is better than a URL
            // that shows the identity.
            tracing::error!("a URL could not be sealed");
            text.clear();
        }
        URL_SAFE_NO_PAD.encode([&nonce[..], &text].concat())
    }

    /// Opens a segment. `None` if it was not sealed here for this use.
    pub(super) fn open(&self, purpose: Use, segment: &str) -> Option<Claims> {
        let mut bytes = URL_SAFE_NO_PAD.decode(segment).ok()?;
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.0.as_ref()?.open_in_place(nonce, Aad::from(purpose.label()), text).ok()?;
        let mut parts = std::str::from_utf8(text).ok()?.splitn(4, ' ');
        Some(Claims {
            born: u64::from_str_radix(parts.next()?, 16).ok()?,
            expires: u64::from_str_radix(parts.next()?, 16).ok()?,
            url: UrlId::from_str_radix(parts.next()?, 16).ok()?,
            identity: parts.next()?.into(),
        })
    }
}

impl Use {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Request => b"ptth request 1",
            Self::Private => b"ptth private 1",
            Self::Probe => b"ptth probe 1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(url: UrlId) -> Claims {
        Claims { born: 1, expires: 2, url, identity: "agent=abc&name=shop".into() }
    }

    #[test]
    fn only_the_same_key_and_use_open_a_seal() {
        let seal = Seal::new(&[1; 32]);
        let segment = seal.seal(Use::Request, &claims(7));
        assert_eq!(seal.open(Use::Request, &segment), Some(claims(7)));
        assert_eq!(seal.open(Use::Private, &segment), None);
        assert_eq!(Seal::new(&[2; 32]).open(Use::Request, &segment), None);
        for index in 0..segment.len() {
            let mut other = segment.clone().into_bytes();
            other[index] = if other[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(seal.open(Use::Request, std::str::from_utf8(&other).unwrap()), None, "{index}");
        }
        for bad in ["", "x", "AAAA", "a/b", &segment[1..]] {
            assert_eq!(seal.open(Use::Request, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_segment_is_url_safe_and_has_a_unique_prefix() {
        let seal = Seal::new(&[1; 32]);
        let all: Vec<_> = (0..100).map(|n| seal.seal(Use::Request, &claims(n))).collect();
        for segment in &all {
            assert!(segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{segment}");
            assert!(!segment.contains("shop"));
        }
        let starts: std::collections::HashSet<_> = all.iter().map(|s| &s[..16]).collect();
        assert_eq!(starts.len(), all.len());
    }

    #[test]
    fn a_seal_without_a_key_reveals_nothing() {
        let sealed = Seal(None).seal(Use::Request, &claims(7));
        let text = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("shop"), "{text:?}");
    }
}
