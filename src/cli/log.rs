//! The log: its filter and its format.

use std::io::{IsTerminal as _, stderr, stdout};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::agent::FIRST_CONNECTION;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// What is logged, and how. Logs go to stderr.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Log {
    /// The format of log lines
    #[arg(
        long,
        global = true,
        help_heading = "Logging",
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        env = "PTTH_LOG_FORMAT",
        hide_env_values = true
    )]
    pub log_format: LogFormat,
    /// The log filter: a level, or a level for each part, such as ptth=debug,hyper=info
    #[arg(
        long,
        global = true,
        help_heading = "Logging",
        value_name = "FILTER",
        env = "PTTH_LOG",
        hide_env_values = true
    )]
    pub log: Option<String>,
    /// Log debug messages of ptth; given twice, also trace messages
    #[arg(long, short, global = true, help_heading = "Logging", action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What a person reads on the terminal beside the log.
#[derive(Debug, Clone, Copy)]
enum Printed {
    /// Nothing: the output or the log goes elsewhere.
    Elsewhere,
    /// The URLs of an agent.
    Url,
    /// All that matters.
    All,
}

impl Log {
    /// `printed`: the output of the command itself is on the same terminal, begins with the URL, and needs no log line
    /// about the first connection.
    fn filter(&self, printed: Printed) -> Result<EnvFilter, Failure> {
        // ptth logs an error of the verifier itself, once; the verifier would log the error at every attempt.
        let usual = "warn,ptth=info,rustls_platform_verifier=off";
        let text = match (self.verbose, &self.log, printed) {
            (0, Some(filter), _) => filter.clone(),
            (0, None, Printed::Elsewhere) => usual.to_owned(),
            (0, None, Printed::Url) => format!("{usual},{FIRST_CONNECTION}=off"),
            (0, None, Printed::All) => "warn,rustls_platform_verifier=off".to_owned(),
            (1, ..) => "info,ptth=debug".to_owned(),
            _ => "debug,ptth=trace".to_owned(),
        };
        EnvFilter::try_new(&text).map_err(|error| {
            Failure::usage(format!(
                "--log {text:?} is not a filter: {error}; try --log debug or --log ptth=debug,hyper=info"
            ))
        })
    }

    /// Starts logging for this process. `warnings`: only warnings are of interest, unless a flag selects more.
    ///
    /// # Errors
    /// [`Failure`] with code 2 when the filter is invalid.
    pub fn start(&self, warnings: bool) -> Result<(), Failure> {
        let is_read_together = stdout().is_terminal() && stderr().is_terminal();
        let printed = match warnings {
            true => Printed::All,
            false if is_read_together && self.log_format == LogFormat::Text => Printed::Url,
            false => Printed::Elsewhere,
        };
        let log = tracing_subscriber::fmt().with_env_filter(self.filter(printed)?).with_writer(stderr);
        let log = log.with_ansi(stderr().is_terminal());
        let started = match self.log_format {
            LogFormat::Text => log.try_init(),
            LogFormat::Json => log.json().try_init(),
        };
        started.map_err(|error| Failure::failed(format!("cannot start the log: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_filter_is_wrong_usage() {
        let log = |text: &str, verbose| Log { log: Some(text.into()), verbose, ..Log::default() };
        assert_eq!(log("ptth=debug", 0).filter(Printed::All).unwrap().to_string(), "ptth=debug");
        assert!(log("ptth=debug", 1).filter(Printed::Url).unwrap().to_string().contains("ptth=debug"));
        let usual = Log::default().filter(Printed::Url).unwrap().to_string();
        assert!(usual.contains("ptth::first_connection=off"), "{usual}");
        assert_eq!(log("ptth=loud", 0).filter(Printed::Elsewhere).unwrap_err().code, 2);
    }
}
