//! `Expect: 100-continue` (RFC 9110 §10.1.1) where request and answer cross on connections of their own: the body of a
//! delivery waits for a 100 that the agent sends ahead of the answer.

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::defaults;
use crate::message::BoxError;
use crate::message::expect::NotWanted;

/// Opens a body that is held back. Dropping it refuses the body.
pub(super) struct ContinueGate(oneshot::Sender<Decision>);

/// Resolves when the body may be read, or is refused.
pub(super) type GateOpened = BoxFuture<'static, Result<(), BoxError>>;

enum Decision {
    /// The agent has sent a 100.
    Open,
    /// The answer has come. The receiver resolves when the answer ends.
    Answered(oneshot::Receiver<()>),
}

/// A gate, and the future that waits for it. The gate opens by itself after [`defaults::ORIGIN_CONTINUE`], because an
/// agent that sends no 100 would leave its origin waiting. The time counts from the first poll of the future.
pub(super) fn gate() -> (ContinueGate, GateOpened) {
    let (gate, decision) = oneshot::channel();
    let opened = async {
        match tokio::time::timeout(defaults::ORIGIN_CONTINUE, decision).await {
            Ok(Ok(Decision::Open)) | Err(_) => return Ok(()),
            Ok(Ok(Decision::Answered(ended))) => {
                // Nothing is ever sent: the other end is dropped.
                let _ = ended.await;
            }
            Ok(Err(_)) => {}
        }
        Err(NotWanted.into())
    };
    (ContinueGate(gate), Box::pin(opened))
}

impl ContinueGate {
    /// The agent has sent a 100: lets the body through.
    pub(super) fn open(self) {
        // A delivery that has ended needs no body.
        let _ = self.0.send(Decision::Open);
    }

    /// The answer has come without a 100, so no part of the body is sent any more. The returned sender is to be held as
    /// long as the answer: dropping the body ends its visitor's connection.
    pub(super) fn keep_shut(self) -> oneshot::Sender<()> {
        let (guard, ended) = oneshot::channel();
        let _ = self.0.send(Decision::Answered(ended));
        guard
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_gate_opens_on_demand_or_after_a_timeout_but_not_after_an_answer() {
        let (requested, opened) = gate();
        requested.open();
        assert!(opened.await.is_ok());
        let (_held, opened) = gate();
        let since = tokio::time::Instant::now();
        assert!(opened.await.is_ok() && since.elapsed() == defaults::ORIGIN_CONTINUE);
        let (refused, opened) = gate();
        drop(refused);
        assert!(opened.await.is_err());
        let (answered, mut opened) = gate();
        let answer = answered.keep_shut();
        assert!((&mut opened).now_or_never().is_none());
        tokio::time::advance(2 * defaults::ORIGIN_CONTINUE).await;
        assert!((&mut opened).now_or_never().is_none());
        drop(answer);
        assert!(opened.await.is_err());
    }
}
