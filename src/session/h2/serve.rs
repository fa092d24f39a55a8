//! The agent's end: an HTTP/2 server on the connection that it opened.

use std::pin::pin;
use std::sync::Arc;

use super::budget::ReceiveBudget;
use super::goaway::Tapped;
use super::server::{self, Broken, Http2Terms};
use super::uploads::UploadPolicy;
use crate::defaults;
use crate::http1::write::Reason;
use crate::message::{Request, fields, hop, upgrade};
use crate::net::{Io, Scope};
use crate::session::{Ended, Handler, Load};

fn terms(budget: Arc<ReceiveBudget>) -> Http2Terms {
    Http2Terms {
        uploads: UploadPolicy::Stream(budget),
        streams: defaults::STREAMS,
        fields: defaults::FIELDS,
        // Each visitor that hangs up causes a reset, and the agent has verified the relay. A limit against strangers
        // would end the requests of all visitors here.
        resets: 100_000,
        faults: None,
        ping_every: defaults::PING_EVERY,
        ping_dead: defaults::PING_DEAD,
        idle: None,
        // The relay discards the rest itself, so that it does not cross the link.
        linger: None,
    }
}

/// Serves until the relay closes the connection, the link is retired, or `scope` stops. See
/// [`crate::session::serve_half`].
pub async fn run(
    mut io: Io,
    handler: Arc<dyn Handler>,
    load: Arc<Load>,
    budget: Arc<ReceiveBudget>,
    scope: Scope,
) -> Ended {
    io.keep_alive();
    let last_read = io.last_read();
    let (tapped, goaway) = Tapped::receiver(io);
    let tasks = scope.child();
    let answer = |mut request: Request, interim| {
        let loaded = load.enter();
        let switches = upgrade::from_connect(&mut request);
        let answer = handler.call(request, interim);
        async move {
            let mut response = answer.await;
            let reason = response.extensions_mut().remove::<Reason>().and_then(Reason::into_value);
            let _ = response.headers_mut().remove(fields::PTTH_REASON);
            if let Some(reason) = reason {
                response.headers_mut().insert(fields::PTTH_REASON, reason);
            }
            if switches {
                upgrade::to_connected(&mut response);
            }
            // HTTP/2 has no hop-by-hop fields, and no 101 either (RFC 9113 §8.2.2, §8.6).
            let _ = hop::strip(response.headers_mut());
            response.body_mut().hold(loaded);
            response
        }
    };
    let leave = async {
        tokio::select! {
            biased;
            () = scope.stopping() => {}
            () = load.retired() => {}
        }
    };
    let served = server::serve(tapped, last_read, terms(budget), &tasks, leave, |_| {}, answer);
    let mut served = pin!(served);
    let served = tokio::select! {
        biased;
        () = goaway.received() => {
            load.leave();
            served.await
        }
        served = served.as_mut() => served,
    };
    match served {
        Ok(()) => Ended::Closed,
        Err(Broken::Silent) => Ended::Failed("the relay was silent for too long".into()),
        Err(error @ Broken::SettingsAckTimeout(_)) => Ended::Failed(error.to_string()),
        Err(Broken::Connection(error)) => Ended::Failed(error.to_string()),
    }
}
