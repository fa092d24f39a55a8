//! The command line: turns flags, the environment and a file into the configuration of a relay or an agent.
//!
//! A later layer overrides an earlier one: `defaults` < the `--config` file < the environment < flags.

mod access;
pub mod agent;
mod certs;
mod config;
pub mod demo;
pub mod doctor;
mod examples;
mod failure;
mod file;
mod kept;
mod log;
pub mod login;
mod prompt;
mod proxy;
pub mod relay;
mod running;
mod short_forms;
mod state;
mod text;
mod token;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use self::access::{Args as AccessArgs, Form as AccessForm};
pub use self::failure::Failure;
pub use self::log::Log;

/// Reverse HTTP: a relay on the public internet, an agent behind a firewall
#[derive(Debug, Parser)]
#[command(name = "ptth", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What is logged, and how.
    #[command(flatten)]
    pub log: Log,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Starts logging for this process.
    ///
    /// # Errors
    /// [`Failure`] with code 2 when the log filter is invalid.
    pub fn start_log(&self) -> Result<(), Failure> {
        let warnings = match &self.command {
            // A demo on a terminal prints all that matters itself.
            Command::Demo(_) => std::io::stdout().is_terminal() && std::io::stderr().is_terminal(),
            Command::Agent(args) => args.report.quiet,
            _ => false,
        };
        self.log.start(warnings)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a relay, an agent and a sample origin in one process, with a temporary certificate
    Demo(demo::Args),
    /// Run a relay: the public side
    Relay(Box<relay::Args>),
    /// Run an agent: the side behind the firewall, which serves TARGET
    Agent(Box<agent::Args>),
    /// Keep a relay and its token, so that from then on 'ptth agent TARGET' needs neither
    Login(login::Args),
    /// Check each step of the connection from here to a relay, and report the first fault and its remedy
    Doctor(Box<doctor::Args>),
    /// Issue, list and revoke the tokens that agents present
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Make certificates for development
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Check a configuration file without starting a relay or an agent
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages of all commands, ptth.1 and one for each command
    Man {
        /// The directory to write to, which must exist
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// The definition of the command line, with the examples in its help.
fn definition() -> clap::Command {
    examples::with_examples(Cli::command(), "")
}

/// Parses a command line. `None`: help or the version was requested, and has been printed. Without any argument, the
/// short help is printed.
///
/// # Errors
/// [`Failure`] with code 2 and a message of one line.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Cli>, Failure> {
    let definition = definition();
    let args = short_forms::expanded(args.into_iter().collect(), &definition);
    if args.len() <= 1 {
        print(examples::SHORT.as_bytes())?;
        return Ok(None);
    }
    let matches = definition.try_get_matches_from(&args);
    if let Some(matches) = matches.as_ref().ok().and_then(|matches| matches.subcommand_matches("agent")) {
        agent::check_flags(matches)?;
    }
    let error = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print(error.render().to_string().as_bytes())?;
            Ok(None)
        }
        _ => Err(failure::of_clap(&error, &args)),
    }
}

/// Runs a command. Returns when the command is done, or after a signal to stop.
///
/// # Errors
/// [`Failure`] with its exit code.
pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Relay(args) => relay::run(*args),
        Command::Agent(args) => agent::run(*args),
        Command::Login(args) => login::run(args),
        Command::Doctor(args) => doctor::run(*args),
        Command::Token(command) => token::run(command),
        Command::Certs(command) => certs::run(command),
        Command::Config(command) => config::run(command),
        Command::Man { out } => clap_mangen::generate_to(definition(), &out)
            .map_err(|error| Failure::failed(format!("cannot write to {}: {error}", out.display()))),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut definition(), "ptth", &mut script);
            print(&script)
        }
    }
}

/// Prints one line on stdout and flushes it.
fn print_line(line: &str) -> Result<(), Failure> {
    print(format!("{line}\n").as_bytes())
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|error| Failure::failed(format!("cannot write to stdout: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Cli>, Failure> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_command_line_definition_is_valid() {
        definition().debug_assert();
    }

    #[test]
    fn no_flag_takes_a_secret() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments() {
                assert!(!["token", "secret", "password"].contains(&argument.get_id().as_str()), "{argument}");
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn a_flag_that_takes_a_duration_ends_in_seconds() {
        let mut commands = vec![Cli::command()];
        let mut durations = 0;
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let long = argument.get_long().unwrap_or_default();
                let is_duration =
                    ["in seconds", "in minutes", "in milliseconds"].iter().any(|unit| help.contains(unit));
                assert_eq!(is_duration, long.ends_with("-seconds"), "--{long}: {help}");
                assert!(
                    is_duration || !["timeout", "wait", "lease", "grace"].iter().any(|w| long.contains(w)),
                    "--{long}"
                );
                durations += usize::from(is_duration);
            }
            commands.extend(command.get_subcommands().cloned());
        }
        assert!(durations >= 5, "only {durations} flags were checked");
    }

    #[test]
    fn wrong_usage_is_a_one_line_error_with_code_2() {
        for line in [
            "ptth nonsense",
            "ptth token",
            "ptth agent",
            "ptth relay --lissten 1",
            "ptth relay --listen nowhere",
            "ptth relay --routing sideways",
            "ptth relay --domain a..b",
            "ptth relay --answer-timeout-seconds 1s",
            "ptth agent 3000 --relay https://r --transport pigeon",
            "ptth agent 3000 --relay https://r --token ptth_x",
        ] {
            let failure = parsed(line).err().unwrap_or_else(|| panic!("{line}"));
            let text = failure.to_string();
            assert_eq!(failure.code, 2, "{line}: {text}");
            assert!(
                !text.contains('\n') && !text.contains("error:") && !text.contains("  "),
                "{line}: {text}"
            );
        }
        let text = parsed("ptth relay --lissten 1").unwrap_err().to_string();
        assert!(text.contains("--listen") && text.contains("'ptth relay --help'"), "{text}");
        assert!(
            parsed("ptth token")
                .unwrap_err()
                .message
                .ends_with("a command is missing; try 'ptth token --help'")
        );
    }
}
