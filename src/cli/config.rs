//! `ptth config`: a file is looked at, nothing is run or made.

use std::path::PathBuf;

use clap::Subcommand;

use super::relay::{Said, Settings};
use super::{Failure, say};

/// Look at a configuration file.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say whether a relay would take this file, and what is wrong with it if not
    Check {
        /// The file
        file: PathBuf,
    },
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    let Command::Check { file } = command;
    let in_file = |failure: Failure| Failure { message: format!("{}: {failure}", file.display()), ..failure };
    let settings = Settings::resolve(Said::load(&file)?).map_err(in_file)?;
    settings.check().map_err(in_file)?;
    say(&format!("{}: ok", file.display()))
}
