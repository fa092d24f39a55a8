//! The log: its filter and its format.

use std::io::{IsTerminal as _, stderr};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::Failure;

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

impl Log {
    fn filter(&self) -> Result<EnvFilter, Failure> {
        let text = match (self.verbose, &self.log) {
            (0, Some(filter)) => filter,
            // ptth logs an error of the verifier itself, once; the verifier would log the error at every attempt.
            (0, None) => "warn,ptth=info,rustls_platform_verifier=off",
            (1, _) => "info,ptth=debug",
            _ => "debug,ptth=trace",
        };
        EnvFilter::try_new(text).map_err(|error| {
            Failure::usage(format!(
                "--log {text:?} is not a filter: {error}; try --log debug or --log ptth=debug,hyper=info"
            ))
        })
    }

    /// Starts logging for this process.
    ///
    /// # Errors
    /// [`Failure`] with code 2 when the filter is invalid.
    pub fn start(&self) -> Result<(), Failure> {
        let log = tracing_subscriber::fmt().with_env_filter(self.filter()?).with_writer(stderr);
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
        assert_eq!(log("ptth=debug", 0).filter().unwrap().to_string(), "ptth=debug");
        assert!(log("ptth=debug", 1).filter().unwrap().to_string().contains("ptth=debug"));
        assert_eq!(log("ptth=loud", 0).filter().unwrap_err().code, 2);
    }
}
