//! `ptth certs`: certificates for development.

use std::path::PathBuf;

use clap::Subcommand;

use crate::defaults;
use crate::tls::dev::{self, CertHost, DevError};

use super::text::{FromText, parse};
use super::{Failure, print_line};

/// Make certificates for development.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make a CA that is limited to these host names, and certificates for a relay and an agent; print the paths
    New {
        /// The directory to write to; existing files are not overwritten
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A host name, a wildcard such as *.ptth.localhost, or an IP address [default: ptth.localhost and
        /// *.ptth.localhost]
        #[arg(long, value_name = "HOST", value_parser = parse::<CertHost>)]
        host: Vec<CertHost>,
    },
}

impl FromText for CertHost {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: DevError| error.to_string())
    }
}

pub(super) fn run(command: CertsCommand) -> Result<(), Failure> {
    let CertsCommand::New { out, mut host } = command;
    if host.is_empty() {
        let defaults = [defaults::DOMAIN.to_owned(), format!("*.{}", defaults::DOMAIN)];
        host = defaults.iter().map(|host| host.parse()).collect::<Result<_, _>>().map_err(Failure::failed)?;
    }
    let paths = dev::write_dir(&out, &host).map_err(Failure::failed)?;
    paths.iter().try_for_each(|path| print_line(&path.display().to_string()))
}
