//! Shared by the long-running commands: a runtime for the control plane, and the wait for a signal to stop.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;

/// Runs a command's control plane on this thread; the data plane has threads of its own.
pub(super) fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::failed(format!("cannot start a runtime: {error}")))?.block_on(command)
}

/// The meaning of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signalled {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: read files again. Its default action would end the process when its terminal closes.
    Reload,
}

/// The signals that a command acts on.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens from now on, so that a signal during the start is not lost.
    pub(super) fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::failed(format!("cannot listen for signals: {error}"));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            hangup: signal(SignalKind::hangup()).map_err(failed)?,
        })
    }

    /// Resolves at the next signal. Cancel safe.
    pub(super) async fn next(&mut self) -> Signalled {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Signalled::Stop,
            _ = self.interrupt.recv() => Signalled::Stop,
            _ = self.hangup.recv() => Signalled::Reload,
        }
    }

    /// Resolves at the next SIGTERM or SIGINT; a SIGHUP until then is left to [`Signals::next`]. Cancel safe.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Resolves at the next SIGTERM or SIGINT; logs each SIGHUP until then. Cancel safe.
    pub(super) async fn received(&mut self) {
        while self.next().await == Signalled::Reload {
            tracing::info!("SIGHUP ignored: no files are reloaded at this point");
        }
    }

    /// Waits for `stopping`; a further SIGTERM or SIGINT ends the wait.
    pub(super) async fn wait_for_stop(&mut self, stopping: impl Future<Output = usize>) {
        tokio::select! {
            biased;
            () = self.received() => tracing::warn!("second signal: stopping without waiting"),
            cut = stopping => {
                if cut > 0 {
                    tracing::warn!(cut, "connections were cut at the end of the grace period");
                }
            }
        }
    }
}
