//! A relay, an agent, an origin and a visitor in one process: loopback, port 0, every wait under a deadline.

mod agent;
mod http2;
mod long;
mod origin;
mod proxy;
pub(crate) mod relay;
mod wire;

use std::future::Future;
use std::time::Duration;

pub(crate) use agent::{AgentPlan, offer, serve};
pub(crate) use http2::VisitorH2;
pub(crate) use long::{is_long, limit};
pub(crate) use origin::TestOrigin;
pub(crate) use proxy::Proxy;
pub(crate) use relay::{DOMAIN, Front, Plan, TestRelay, named};
pub(crate) use wire::{Head, Wire};

/// The deadline of one step of a scenario. Some steps wait for a deadline of the product, which passes within a
/// fifth of this on a quiet machine.
pub(crate) const STEP: Duration = Duration::from_secs(60);
/// How long a test waits before it concludes that nothing happens.
pub(crate) const QUIET: Duration = Duration::from_millis(150);

/// The deadline of a scenario.
const LONGEST: Duration = Duration::from_secs(300);

/// Awaits one step. Panics with the description of the step if it takes too long.
pub(crate) async fn within<T>(description: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(STEP, step).await {
        Ok(output) => output,
        Err(_) => panic!("{description}: not within {} s", STEP.as_secs()),
    }
}

/// Runs a scenario on a runtime of its own.
pub(crate) fn run(scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let longest = if is_long() { 5 * LONGEST } else { LONGEST };
    let ended = runtime.block_on(async { tokio::time::timeout(longest, Box::pin(scenario)).await });
    ended.expect("the scenario did not end in time");
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// A problem document without the id of its request, which is random and different in each.
pub(crate) fn without_request_id(body: &str) -> String {
    let (before, rest) = body.split_once(r#","request":""#).expect("every problem names its request");
    let (id, after) = rest.split_once('"').unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{body}");
    format!("{before}{after}")
}
