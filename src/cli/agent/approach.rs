//! The settings with which `ptth agent` and `ptth doctor` connect to a relay: token, trusted roots, client certificate
//! and proxy.

use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use rustls::ClientConfig;

use super::token;
use crate::cli::{Failure, proxy};
use crate::domain::Secret;
use crate::net::dial::Proxies;
use crate::tls;

/// The flags of these settings.
#[derive(Debug, Clone, clap::Args)]
pub struct Approach {
    /// A file with the token, or - for stdin; without this flag, the environment variable PTTH_TOKEN holds the token, or
    /// else ptth login has kept it
    #[arg(long, value_name = "FILE|-", env = "PTTH_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
    /// Trust the root certificates in this file instead of those of the system
    #[arg(long, value_name = "PEM", env = "PTTH_CA", hide_env_values = true)]
    pub ca: Option<PathBuf>,
    /// The client certificate for relays that accept one: the chain, leaf first
    #[arg(long, value_name = "PEM", env = "PTTH_AGENT_CERT", hide_env_values = true)]
    pub cert: Option<PathBuf>,
    /// The private key of the client certificate
    #[arg(long, value_name = "PEM", env = "PTTH_AGENT_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,
    /// Connect through this proxy: http://HOST:PORT, socks5://HOST:PORT, socks5h://HOST:PORT, or off for none
    /// [default: PTTH_PROXY in the environment, or else HTTPS_PROXY, ALL_PROXY and NO_PROXY]
    #[arg(long, value_name = "URL|off")]
    pub proxy: Option<String>,
}

impl Approach {
    /// Reads the token, if there is one.
    pub(in crate::cli) fn token(&self) -> Result<Option<Secret>, Failure> {
        token::read(self.token_file.as_deref(), std::env::var_os("PTTH_TOKEN"))
    }

    /// A token that was typed, if it has the form of a token.
    pub(in crate::cli) fn clean_token(typed: &Secret) -> Result<Secret, Failure> {
        token::clean(typed.expose().as_bytes(), "the line")
    }

    /// The TLS configuration with the trusted roots. The roots of the system are read only if one of `relays` uses TLS.
    pub(in crate::cli) fn trust(&self, relays: &[Uri]) -> Result<Arc<ClientConfig>, Failure> {
        let encrypted = relays.iter().any(|relay| relay.scheme_str() == Some("https"));
        let tls = match (&self.ca, encrypted) {
            (None, false) => tls::client_config_for_none(),
            (ca, _) => tls::client_config(ca.as_deref(), &[]),
        };
        tls.map_err(Failure::usage)
    }

    /// `tls` with the client certificate, if one is set.
    pub(in crate::cli) fn with_identity(
        &self,
        tls: &Arc<ClientConfig>,
    ) -> Result<Arc<ClientConfig>, Failure> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => tls::with_identity(tls, cert, key).map_err(Failure::usage),
            (None, None) => Ok(tls.clone()),
            _ => Err(Failure::usage("--cert and --key belong together: give both, or neither")),
        }
    }

    /// The proxies between this machine and `relays`.
    pub(in crate::cli) fn proxies(&self, relays: &[Uri]) -> Result<Proxies, Failure> {
        proxy::read(self.proxy.as_deref(), relays, proxy::variable)
    }
}
