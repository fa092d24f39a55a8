//! `ptth login`: keeps a relay and a token, so that later commands need neither.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::agent::Approach;
use super::running::{self, Signals};
use super::text::{FromText, RelayUrl, parse};
use super::{Failure, kept, print_line, prompt};
use crate::agent::doctor::{self, Exam, Verdict};
use crate::domain::Secret;
use crate::tls::{self, PinnedCa, files};

/// The flags of `ptth login`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The URL of the relay
    #[arg(value_name = "RELAY", value_parser = parse::<RelayUrl>)]
    pub relay: RelayUrl,
    /// A file with the token, or - for stdin; without this flag, the token is typed or pasted at the terminal, which
    /// does not show it
    #[arg(long, value_name = "FILE|-")]
    pub token_file: Option<PathBuf>,
    /// Trust the root certificates in this file instead of those of the system, and keep them
    #[arg(long, value_name = "PEM", env = "PTTH_CA", hide_env_values = true)]
    pub ca: Option<PathBuf>,
    /// Trust the development CA of the relay, if it has this SHA-256 digest, and keep that CA; the relay prints the
    /// digest when it starts
    #[arg(long, value_name = "HEX", conflicts_with = "ca", value_parser = parse::<CaDigest>)]
    pub ca_sha256: Option<CaDigest>,
    /// Connect through this proxy, as ptth agent does
    #[arg(long, value_name = "URL|off")]
    pub proxy: Option<String>,
}

/// The SHA-256 digest of a CA in DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaDigest(pub [u8; 32]);

impl CaDigest {
    /// The digest of the CA in a PEM file; `None` if the file holds none.
    pub(super) fn of_file(ca: &Path) -> Option<Self> {
        let der = tls::first_certificate(&files::read(ca).ok()?)?;
        Some(Self(Sha256::digest(der).into()))
    }
}

impl std::fmt::Display for CaDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromText for CaDigest {
    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || "write the 64 hexadecimal digits that the relay prints".to_owned();
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
        if digits.len() != 64 {
            return Err(wrong());
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(digest))
    }
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let Args { relay, token_file, ca, ca_sha256, proxy } = args;
    let relays = [relay.0.clone()];
    let mut approach = Approach { token_file, ca, cert: None, key: None, proxy };
    let proxies = approach.proxies(&relays)?;
    let (trust, pinned) = match ca_sha256 {
        Some(CaDigest(digest)) => {
            let pinned = PinnedCa::new(digest);
            (pinned.client_config().map_err(Failure::failed)?, Some(pinned))
        }
        None => (approach.trust(&relays)?, None),
    };
    let token = token(&mut approach, &relay)?;
    let exam = Exam {
        relay: relay.0.clone(),
        proxies,
        tls: trust,
        token: Some(token.clone()),
        wanted: Vec::new(),
        suggested: None,
        target: None,
    };
    running::block_on(async {
        let mut signals = Signals::listen()?;
        let verdict = tokio::select! {
            biased;
            () = signals.received() => return Err(Failure::failed("cancelled")),
            verdict = doctor::check_token(&exam) => verdict,
        };
        match verdict {
            Verdict::Passed => Ok(()),
            Verdict::Failed(why) => Err(Failure::failed(format!("nothing was kept: {why}"))),
            Verdict::Refused(why) => Err(Failure::refused(format!("nothing was kept: {why}"))),
        }
    })?;
    let ca = match (&approach.ca, pinned) {
        (Some(file), _) => Some(files::read(file).map_err(Failure::usage)?),
        (None, pinned) => pinned.and_then(|pinned| pinned.pem()).map(String::into_bytes),
    };
    let directory = kept::keep(&relay, &token, ca.as_deref())?;
    print_line(&format!("the relay accepts the token; both are kept in {}", directory.display()))?;
    print_line("from now on, this gives the program on port 3000 a URL: ptth agent 3000")
}

/// The token from the file of the flag, from the terminal, or from stdin if that is no terminal.
fn token(approach: &mut Approach, relay: &RelayUrl) -> Result<Secret, Failure> {
    if approach.token_file.is_none() {
        let label = format!("token for {} (not shown)", relay.0);
        if let Some(token) = prompt::secret(&label)? {
            return Approach::clean_token(&token);
        }
        approach.token_file = Some("-".into());
    }
    approach.token()?.ok_or_else(|| Failure::usage("no token was given"))
}
