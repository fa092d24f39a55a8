//! `ptth config`: checks a configuration file, and runs and makes nothing.

use std::path::PathBuf;

use clap::Subcommand;

use super::agent::{reference, services};
use super::relay::{RelaySettings, Settings};
use super::{Failure, print_line};

/// Check a configuration file.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check that a relay or an agent accepts this file, and report the first error if not
    Check {
        /// The configuration file of a relay, or the file of an agent's services (TOML)
        file: PathBuf,
    },
    /// Print a JSON schema of the file of an agent's services
    Schema,
}

pub(super) fn run(command: ConfigCommand) -> Result<(), Failure> {
    let file = match command {
        ConfigCommand::Check { file } => file,
        ConfigCommand::Schema => {
            let schema = serde_json::to_string_pretty(&reference::schema()).map_err(Failure::failed)?;
            return print_line(&schema);
        }
    };
    let in_file = |failure: Failure| Failure { message: format!("{}: {failure}", file.display()), ..failure };
    if services::is_of_agent(&file) {
        for service in services::load(&file)? {
            service.check().map_err(in_file)?;
        }
    } else {
        let settings = Settings::resolve(RelaySettings::load(&file)?).map_err(in_file)?;
        settings.check().map_err(in_file)?;
    }
    print_line(&format!("{}: ok", file.display()))
}
