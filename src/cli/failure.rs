//! The failure of a command.

use std::ffi::OsString;
use std::fmt;

use clap::error::{ContextKind, ErrorKind};

use super::{definition, short_forms};

/// Why a command failed, with an exit code for scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// 1 failed, 2 wrong usage or configuration, 3 refused by the relay, 4 a relay that cannot be used.
    pub code: u8,
    /// The fault, its place, and a remedy.
    pub message: String,
}

impl Failure {
    /// The operation failed (1).
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// The usage or the configuration is wrong (2).
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// The relay refused the agent, and another try would not help (3).
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { code: 3, message: message.to_string() }
    }

    /// The first connection failed for a cause that lasts (4).
    pub fn unusable(message: impl fmt::Display) -> Self {
        Self { code: 4, message: message.to_string() }
    }
}

/// Always one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.message.split_whitespace().enumerate() {
            f.write_str(if index == 0 { "" } else { " " })?;
            f.write_str(word)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// An error of clap as one line: its first part, its tips, and the command that prints the help.
pub(super) fn of_clap(error: &clap::Error, args: &[OsString]) -> Failure {
    if let Some(message) = foreign(error) {
        return Failure::usage(message);
    }
    let mut message = String::new();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        message.push_str("a command is missing");
    } else {
        let text = error.render().to_string();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        for line in lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")) {
            let tip = line.strip_prefix("tip: ");
            message.push_str(if tip.is_some() { "; " } else { " " });
            message.push_str(tip.unwrap_or_else(|| line.trim_start_matches("error: ")));
        }
    }
    Failure::usage(format!("{message}; try '{} --help'", command(args)))
}

/// The right command, for a command or a flag of another program.
fn foreign(error: &clap::Error) -> Option<String> {
    let word = |kind| error.get(kind).map(ToString::to_string);
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = word(ContextKind::InvalidSubcommand)?;
            let instead = short_forms::in_place_of_command(&word)?;
            Some(format!("there is no command {word:?}: {instead}"))
        }
        ErrorKind::UnknownArgument => {
            let flag = word(ContextKind::InvalidArg)?;
            let instead = short_forms::in_place_of_flag(&flag)?;
            let flag = flag.split(['=', ' ']).next().unwrap_or_default();
            Some(format!("there is no flag {flag}: {instead}"))
        }
        _ => None,
    }
}

/// The command in a command line, without its flags.
fn command(args: &[OsString]) -> String {
    let mut command = definition();
    let mut path = String::from("ptth");
    for arg in args.iter().skip(1) {
        if let Some(subcommand) = arg.to_str().and_then(|arg| command.find_subcommand(arg)).cloned() {
            path = format!("{path} {}", subcommand.get_name());
            command = subcommand;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_always_one_line() {
        let failure = Failure::failed("first\n  second\t third ");
        assert_eq!(failure.to_string(), "first second third");
        assert_eq!([failure.code, Failure::usage("").code, Failure::refused("").code], [1, 2, 3]);
    }
}
