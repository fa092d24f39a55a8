//! PINGs that detect a dead far end of an HTTP/2 connection (RFC 9113 §6.7).

use std::future::poll_fn;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::Instant;

use crate::net::io::LastRead;

/// Resolves when the far end has sent nothing for too long. All received bytes count. After `every` without a byte a
/// PING is sent, and the far end then has `most` to send something. The next PING is not sent before the last one is
/// acknowledged.
pub(super) async fn silence(pings: Option<PingPong>, last_read: LastRead, every: Duration, most: Duration) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        let silent = last_read.elapsed();
        if silent < every {
            tokio::time::sleep(every - silent).await;
            continue;
        }
        let sent = Instant::now();
        if pings.send_ping(Ping::opaque()).is_err() {
            // The connection is about to end by itself.
            return std::future::pending().await;
        }
        loop {
            let waited = sent.elapsed().min(last_read.elapsed());
            let Some(left) = most.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return;
            };
            match tokio::time::timeout(left, poll_fn(|cx| pings.poll_pong(cx))).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => return std::future::pending().await,
                // If other bytes arrived meanwhile, the far end is alive. The loop still waits for the acknowledgement.
                Err(_) => {}
            }
        }
    }
}
