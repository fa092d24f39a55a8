//! The relay's end: an HTTP/2 client on a connection that it did not open.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use std::sync::Arc;

use super::budget::ReceiveBudget;
use super::client::{self, Http2Client};
use super::goaway::{GoAway, Tapped};
use super::ping::silence;
use crate::defaults;
use crate::http1::write::Reason;
use crate::message::{Request, Response, fields, interim};
use crate::net::io::LastRead;
use crate::net::{Io, Scope};
use crate::session::Driver;
use crate::session::carrier::{Carrier, SendError, Slot};

struct H2 {
    client: Http2Client,
    last_read: LastRead,
    goaway: GoAway,
}

/// Opens the relay's end and writes the preface.
///
/// # Errors
/// When the connection breaks at once.
pub async fn open(
    mut io: Io,
    scope: &Scope,
    budget: &Arc<ReceiveBudget>,
) -> Result<(Box<dyn Carrier>, Driver), h2::Error> {
    io.keep_alive();
    let last_read = io.last_read();
    let (tapped, goaway) = Tapped::sender(io);
    let (client, connection, pings) = client::open(tapped, scope, budget).await?;
    let closed = client.closed.clone();
    let carrier = H2 { client, last_read: last_read.clone(), goaway };
    let driver = async move {
        tokio::select! {
            () = connection => {}
            () = silence(pings, last_read, defaults::PING_EVERY, defaults::PING_DEAD) => {
                tracing::info!("an agent was silent for too long: its connection is cut");
            }
        }
        closed.store(true, Ordering::Release);
    };
    Ok((Box::new(carrier), Box::pin(driver)))
}

impl Carrier for H2 {
    fn send(
        &self,
        request: Request,
        slot: Slot,
        interim: interim::Sender,
    ) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(async move {
            let mut response = self.client.exchange(request, &interim).await?;
            if let Some(phrase) = response.headers_mut().remove(fields::PTTH_REASON)
                && let Some(reason) =
                    Reason::of(response.status(), &Bytes::copy_from_slice(phrase.as_bytes()))
            {
                response.extensions_mut().insert(reason);
            }
            slot.attach_to(&mut response);
            Ok(response)
        })
    }

    fn capacity(&self) -> usize {
        self.client.streams()
    }

    fn drain(&self) {
        self.goaway.send();
    }

    fn is_late(&self) -> bool {
        self.last_read.elapsed() > defaults::PING_EVERY + defaults::PING_LATE
    }

    fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}
