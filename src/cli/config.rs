//! `ptth config`: checks a configuration file, and runs and makes nothing.

use std::path::PathBuf;

use clap::Subcommand;

use super::relay::{RelaySettings, Settings};
use super::{Failure, print_line};

/// Check a configuration file.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check that a relay accepts this file, and report the first error if it does not
    Check {
        /// The configuration file of a relay (TOML)
        file: PathBuf,
    },
}

pub(super) fn run(command: ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Check { file } = command;
    let in_file = |failure: Failure| Failure { message: format!("{}: {failure}", file.display()), ..failure };
    let settings = Settings::resolve(RelaySettings::load(&file)?).map_err(in_file)?;
    settings.check().map_err(in_file)?;
    print_line(&format!("{}: ok", file.display()))
}
