//! What an agent prints on stdout: lines for a person, or one JSON object for each event.

use std::fmt::Display;

use futures_util::future::select_all;
use serde::Serialize;
use tokio::sync::watch;

use crate::agent::Status;
use crate::agent::origin::{PathPrefix, Probe};
use crate::cli::{Failure, print_line};

/// The flags of the output.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Print one JSON object for each event: connected, disconnected, target, warning
    #[arg(long, help_heading = "Output", conflicts_with = "quiet")]
    pub json: bool,
    /// Print only the URLs, and log only warnings
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
}

/// Prints what one service reports.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) args: Args,
    /// The name of the service, if the agent has a file of services.
    pub(super) service: Option<String>,
}

/// The members of an event. A member without a value is left out.
#[derive(Serialize, Default)]
struct ReportEvent<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    urls: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl ReportEvent<'_> {
    fn print(&self) -> Result<(), Failure> {
        print_line(&serde_json::to_string(self).map_err(Failure::failed)?)
    }
}

impl Report {
    /// The first connection, to `relay`.
    pub(super) fn connected(&self, relay: &dyn Display, urls: &[String]) -> Result<(), Failure> {
        let relay = relay.to_string();
        match (self.args.json, urls) {
            (true, urls) => {
                let relay = Some(relay);
                ReportEvent { event: "connected", relay, urls: Some(urls), ..self.event() }.print()
            }
            (false, []) => self.print(&format!("connected to {relay}, which announced no public URL")),
            (false, urls) => urls.iter().try_for_each(|url| self.print(url)),
        }
    }

    /// What the agent serves, and whether it answers.
    pub(super) fn target(&self, path: &PathPrefix, probe: &Probe) -> Result<(), Failure> {
        let path = (!path.is_root()).then(|| path.to_string());
        match (self.args.json, self.args.quiet) {
            (true, _) => {
                let (answers, text) = (Some(probe.answers), Some(probe.to_string()));
                ReportEvent { event: "target", path, answers, text, ..self.event() }.print()
            }
            (false, true) => Ok(()),
            (false, false) => {
                let path = path.map_or(String::new(), |path| format!(" {path}"));
                self.print(&format!("target{path}: {probe}"))
            }
        }
    }

    /// A warning of a relay.
    pub(super) fn warning(&self, warning: &str) -> Result<(), Failure> {
        match (self.args.json, self.args.quiet) {
            (true, _) => {
                ReportEvent { event: "warning", text: Some(warning.to_owned()), ..self.event() }.print()
            }
            (false, true) => Ok(()),
            (false, false) => self.print(&format!("warning: {warning}")),
        }
    }

    /// The later changes, if they are printed.
    pub(super) fn changes(&self, relays: &[http::Uri], status: Vec<watch::Receiver<Status>>) -> Changes {
        let watched = relays.iter().map(ToString::to_string).zip(status).map(|(relay, mut status)| {
            // The first connection has been printed.
            if status.borrow().connected {
                status.mark_unchanged();
            }
            (relay, status)
        });
        Changes { watched: watched.filter(|_| self.args.json).collect(), report: self.clone() }
    }

    fn event(&self) -> ReportEvent<'_> {
        ReportEvent { service: self.service.as_deref(), ..ReportEvent::default() }
    }

    fn print(&self, line: &str) -> Result<(), Failure> {
        match &self.service {
            Some(service) => print_line(&format!("{service}: {line}")),
            None => print_line(line),
        }
    }
}

/// The status of each relay whose changes are printed.
pub(super) struct Changes {
    watched: Vec<(String, watch::Receiver<Status>)>,
    report: Report,
}

impl Changes {
    /// Prints the next change. Never resolves if no changes are printed. Cancel safe.
    ///
    /// # Errors
    /// [`Failure`] when stdout cannot be written.
    pub(super) async fn print_next(&mut self) -> Result<(), Failure> {
        if self.watched.is_empty() {
            return std::future::pending().await;
        }
        let changed = self.watched.iter_mut().map(|(_, status)| Box::pin(status.changed()));
        let (changed, index, rest) = select_all(changed).await;
        drop(rest);
        if changed.is_err() {
            // The supervisor has ended, and with it the agent.
            return std::future::pending().await;
        }
        let (relay, status) = &mut self.watched[index];
        let (relay, status) = (Some(relay.clone()), status.borrow_and_update().clone());
        let event = self.report.event();
        match status.connected {
            true => ReportEvent { event: "connected", relay, urls: Some(&status.urls), ..event }.print(),
            false => ReportEvent { event: "disconnected", relay, ..event }.print(),
        }
    }
}
