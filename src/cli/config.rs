//! `ptth config`: checks a configuration file, and runs and makes nothing.

use std::path::PathBuf;

use clap::Subcommand;

use super::relay::{RelaySettings, Settings};
use super::{Failure, print_line};

/// Look at a configuration file.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether a relay would take this file, and what is wrong with it if not
    Check {
        /// The file
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
