//! Watches the files of certificates. New handshakes use a changed file; a file that cannot be loaded is logged and
//! counted.

use std::sync::Arc;

use super::Shared;
use crate::defaults;
use crate::observe::Metrics;
use crate::tls::{Reloaded, ServerTls};

/// Checks every few seconds whether the files have changed, if there are any, until the relay stops listening.
pub(super) async fn watch(shared: Arc<Shared>) {
    if !shared.config.tls.as_ref().is_some_and(ServerTls::has_files) {
        return;
    }
    let mut wait = defaults::CERTIFICATES_CHECK;
    loop {
        tokio::select! {
            biased;
            () = shared.listeners.stopping() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let reloaded = read_changed(&shared, false).await;
        report(&reloaded, &shared.metrics);
        wait = match reloaded.unsettled {
            true => defaults::CERTIFICATES_SETTLE,
            false => defaults::CERTIFICATES_CHECK,
        };
    }
}

/// Reads the files again, at once.
pub(super) async fn reload(shared: &Shared) {
    let reloaded = read_changed(shared, true).await;
    report(&reloaded, &shared.metrics);
    if reloaded.replaced.is_empty() && reloaded.failed.is_empty() {
        tracing::info!("certificates and client CAs are unchanged");
    }
}

/// Loads the changed files. `now`: also those that may be half written.
async fn read_changed(shared: &Shared, now: bool) -> Reloaded {
    let Some(tls) = shared.config.tls.clone() else { return Reloaded::default() };
    match tokio::task::spawn_blocking(move || tls.reload(now)).await {
        Ok(reloaded) => reloaded,
        Err(error) => {
            tracing::warn!(%error, "the task that reads the certificates failed");
            Reloaded::default()
        }
    }
}

fn report(reloaded: &Reloaded, metrics: &Metrics) {
    for replaced in &reloaded.replaced {
        tracing::info!(file = %replaced.file.display(), "loaded again: {}", replaced.contents);
    }
    for error in &reloaded.failed {
        metrics.certificate_reload_failed();
        tracing::warn!("{error}; the previously loaded files stay in use");
    }
}
