//! `--access-log`: the destination of the lines, and the thread that writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};

use clap::ValueEnum;
use serde::Deserialize;

use super::Failure;
use crate::defaults;
use crate::observe::Sink;
use crate::observe::access::{AccessLog, Format};

/// Whether there is an access log, and how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// No access log.
    Off,
    /// For people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// The flags of every command that handles requests. They are also keys of a relay's file.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[group(skip)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Args {
    /// Log one line for each request when it ends [default: text if a file is given, or if the stderr of an agent or a
    /// demo is a terminal, else off]
    #[arg(
        long,
        value_name = "FORM",
        value_enum,
        help_heading = "Logging",
        env = "PTTH_ACCESS_LOG",
        hide_env_values = true
    )]
    pub access_log: Option<Form>,
    /// Write the access log to this file instead of stderr; SIGHUP reopens the file
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Logging",
        env = "PTTH_ACCESS_LOG_FILE",
        hide_env_values = true
    )]
    pub access_log_file: Option<PathBuf>,
    /// Log the query of each request too; queries may contain secrets
    #[arg(long, help_heading = "Logging")]
    pub access_log_query: bool,
}

impl Args {
    /// The keys in a relay's file.
    pub(super) fn keys() -> Vec<String> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new(""));
        command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)).collect()
    }

    /// Takes each setting that is missing here from the layer below.
    pub(super) fn or(self, below: Self) -> Self {
        Self {
            access_log: self.access_log.or(below.access_log),
            access_log_file: self.access_log_file.or(below.access_log_file),
            access_log_query: self.access_log_query || below.access_log_query,
        }
    }

    /// As [`Access::start`]. Without `--access-log`, the form is text if stderr is a terminal or a file is set, else
    /// off.
    pub(super) fn start(&self) -> Result<Access, Failure> {
        let default =
            if stderr().is_terminal() || self.access_log_file.is_some() { Form::Text } else { Form::Off };
        let form = self.access_log.unwrap_or(default);
        Access::start(form, self.access_log_file.as_deref(), self.access_log_query)
    }
}

/// An access log with its writer, or none.
pub(super) struct Access(Option<AccessWriter>);

struct AccessWriter {
    log: Arc<AccessLog>,
    reopen: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl Access {
    /// Opens the file, and starts the thread that writes.
    ///
    /// # Errors
    /// [`Failure`] with code 2 when the file cannot be opened.
    pub(super) fn start(form: Form, file: Option<&Path>, query: bool) -> Result<Self, Failure> {
        let format = match form {
            Form::Off => return Ok(Self(None)),
            Form::Text => Format::Text,
            Form::Json => Format::Json,
        };
        let output = LogOutput::open(file.map(Path::to_owned)).map_err(|error| {
            Failure::usage(format!("cannot open the access log {}: {error}", path_text(file)))
        })?;
        let (log, reopen) = (AccessLog::new(format, query), Arc::new(AtomicBool::new(false)));
        let (end, ended) = mpsc::channel();
        let (queue, reopen_requested) = (log.clone(), reopen.clone());
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || {
            write(&queue, output, &reopen_requested);
            let _ = end.send(());
        });
        thread.map_err(|error| Failure::failed(format!("cannot start the access log: {error}")))?;
        Ok(Self(Some(AccessWriter { log, reopen, ended })))
    }

    /// The sink for the records of requests, if there is a log.
    pub(super) fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.0.as_ref().map(|writer| writer.log.clone() as Arc<dyn Sink>)
    }

    /// Opens the file again before the next lines are written: the file may have been moved away.
    pub(super) fn reopen(&self) {
        if let Some(writer) = &self.0 {
            writer.reopen.store(true, Ordering::Release);
        }
    }
}

/// Waits up to [`defaults::ACCESS_LAST`] for the last lines to be written.
impl Drop for Access {
    fn drop(&mut self) {
        if let Some(writer) = &self.0 {
            writer.log.close();
            let _ = writer.ended.recv_timeout(defaults::ACCESS_LAST);
        }
    }
}

fn path_text(file: Option<&Path>) -> String {
    file.map_or("stderr".into(), |file| file.display().to_string())
}

/// The destination of the lines.
struct LogOutput {
    path: Option<PathBuf>,
    /// `None` for stderr.
    file: Option<File>,
}

impl LogOutput {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let open = |path: &PathBuf| OpenOptions::new().append(true).create(true).open(path);
        let file = path.as_ref().map(open).transpose()?;
        Ok(Self { path, file })
    }

    /// Opens the file again; when that fails, the old file stays in use.
    fn reopen(&mut self) {
        match Self::open(self.path.clone()) {
            Ok(output) => *self = output,
            Err(error) => {
                tracing::warn!(file = path_text(self.path.as_deref()), %error, "cannot reopen the access log");
            }
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(lines),
            None => stderr().lock().write_all(lines),
        }
    }
}

/// Writes until the log is closed. A line that cannot be written is lost; the log goes on.
fn write(log: &AccessLog, mut output: LogOutput, reopen: &AtomicBool) {
    let mut spare = Vec::with_capacity(defaults::ACCESS_BATCH);
    let mut failed = false;
    while let Some(batch) = log.take(spare) {
        if reopen.swap(false, Ordering::AcqRel) {
            output.reopen();
        }
        match output.write(&batch.lines) {
            Ok(()) => failed = false,
            // Logged once, not for each batch: a full disk stays full.
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(file = path_text(output.path.as_deref()), %error, "cannot write the access log");
            }
            Err(_) => {}
        }
        if batch.dropped > 0 {
            tracing::warn!(
                lines = batch.dropped,
                "lines of the access log were dropped: they were not written fast enough"
            );
        }
        spare = batch.lines;
        log.gather(defaults::ACCESS_GATHER);
    }
}
