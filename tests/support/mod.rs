//! A relay, an agent, an origin and a visitor in one process: loopback, port 0, every wait under a deadline.

mod agent;
mod http2;
mod origin;
mod proxy;
pub(crate) mod relay;
mod wire;

use std::future::Future;
use std::time::Duration;

pub(crate) use agent::{AgentPlan, offer, serve};
pub(crate) use http2::VisitorH2;
pub(crate) use origin::TestOrigin;
pub(crate) use proxy::Proxy;
pub(crate) use relay::{DOMAIN, Front, Plan, TestRelay, named};
pub(crate) use wire::{Head, Wire};

/// Longer than any step of a scenario takes on a busy machine; a step that needs more hangs.
pub(crate) const STEP: Duration = Duration::from_secs(20);
/// How long nothing must happen before "nothing happens" is believed.
pub(crate) const QUIET: Duration = Duration::from_millis(150);

/// Longer than any whole scenario takes.
const LONGEST: Duration = Duration::from_secs(80);

/// Awaits one step, and says which one it was if it hangs.
pub(crate) async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(STEP, step).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {} s", STEP.as_secs()),
    }
}

/// Runs a scenario on a runtime of its own.
pub(crate) fn run(scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let longest = if std::env::var_os("PTTH_LONG").is_some() { 10 * LONGEST } else { LONGEST };
    let ended = runtime.block_on(async { tokio::time::timeout(longest, Box::pin(scenario)).await });
    ended.expect("a scenario that goes on for ever");
    runtime.shutdown_timeout(Duration::from_secs(1));
}
