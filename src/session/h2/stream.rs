//! One HTTP/2 stream: the body that is sent on it, and the stream as raw bytes behind a CONNECT.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::FutureExt as _;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream_windows::ChargedBody;
use crate::defaults;
use crate::message::body::{BodyEvent, Observer as _};
use crate::message::{Body, trailers};

/// A body that was sent in one piece is kept for another try if it has at most this many bytes.
const KEPT: usize = 16 << 10;

/// The part of a body that is left when its stream has ended.
#[derive(Default)]
pub(super) struct Rest {
    body: Option<Body>,
    /// `body` is the whole body.
    whole: bool,
}

impl Rest {
    /// The body for another try, if it is whole.
    pub(super) fn whole(self) -> Option<Body> {
        self.body.filter(|_| self.whole)
    }
}

/// Sends a body, as fast as the far end's windows allow. Ends early when the far end resets the stream. A body that
/// breaks off resets the stream for the reason `broken`. If the future is dropped, the drop of the stream's other half
/// cancels the stream.
pub(super) async fn send_body(mut body: Body, mut stream: SendStream<Bytes>, broken: Reason) -> Rest {
    let (mut untouched, mut kept) = (true, None);
    let rest = |kept: Option<Bytes>| Rest { whole: kept.is_some(), body: kept.map(Body::full) };
    loop {
        let frame = tokio::select! {
            biased;
            _ = poll_fn(|cx| stream.poll_reset(cx)) => {
                return match kept {
                    Some(_) => rest(kept),
                    None => Rest { body: Some(body), whole: untouched },
                };
            }
            frame = body.frame() => frame,
        };
        let sent = match frame {
            None => stream.send_data(Bytes::new(), true).map(|()| true),
            Some(Err(error)) => {
                tracing::debug!(%error, "a body broke off");
                stream.send_reset(broken);
                return Rest::default();
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let last = body.is_end_stream();
                    kept = (untouched && last && data.len() <= KEPT).then(|| data.clone());
                    untouched = false;
                    send(&mut stream, data, last).await
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => end(&mut stream, trailers::allowed(trailers)).map(|()| true),
                    Err(_) => Ok(false),
                },
            },
        };
        match sent {
            Ok(false) => {}
            Ok(true) => return rest(kept),
            Err(error) => {
                tracing::debug!(%error, "a body could not be sent on");
                stream.send_reset(broken);
                return rest(kept);
            }
        }
    }
}

/// Ends a body with these trailers.
fn end(stream: &mut SendStream<Bytes>, trailers: HeaderMap) -> Result<(), h2::Error> {
    match trailers.is_empty() {
        true => stream.send_data(Bytes::new(), true),
        false => stream.send_trailers(trailers),
    }
}

/// Sends one piece. Returns whether nothing more is to be sent.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> Result<bool, h2::Error> {
    if last && data.is_empty() {
        // The end of a body may come in an empty frame of its own.
        stream.send_data(data, true)?;
        return Ok(true);
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        // A timer is made only for a wait.
        let ready = poll_fn(|cx| stream.poll_capacity(cx)).now_or_never();
        let capacity = match ready {
            Some(capacity) => capacity,
            None => {
                let capacity = poll_fn(|cx| stream.poll_capacity(cx));
                match tokio::time::timeout(defaults::STALLED, capacity).await {
                    Ok(capacity) => capacity,
                    Err(_) => {
                        tracing::debug!("the far end does not read a body: its stream is reset");
                        stream.send_reset(Reason::CANCEL);
                        return Ok(true);
                    }
                }
            }
        };
        let Some(window) = capacity.transpose()? else { return Ok(true) };
        let piece = data.split_to(window.min(data.len()));
        if !piece.is_empty() {
            stream.send_data(piece, last && data.is_empty())?;
        }
    }
    Ok(last)
}

/// A stream as raw bytes. Dropping it cancels a stream that is not finished.
pub(super) struct Raw {
    pub(super) sender: SendStream<Bytes>,
    pub(super) receiver: RecvStream,
    early: Bytes,
    charged: Option<ChargedBody>,
    /// Counts this stream among the open streams of its connection.
    _open: Option<Arc<()>>,
}

impl Raw {
    pub(super) fn new(
        sender: SendStream<Bytes>,
        receiver: RecvStream,
        (charged, open): (Option<ChargedBody>, Option<Arc<()>>),
    ) -> Self {
        Self { sender, receiver, early: Bytes::new(), charged, _open: open }
    }
}

impl AsyncRead for Raw {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.early.is_empty() {
            let polled = self.receiver.poll_data(cx);
            if let Some(charged) = &mut self.charged {
                charged.event(match &polled {
                    Poll::Ready(Some(Ok(bytes))) => BodyEvent::Frame { bytes: bytes.len(), last: false },
                    Poll::Ready(Some(Err(_))) => BodyEvent::Broken,
                    Poll::Ready(None) => BodyEvent::End,
                    Poll::Pending => BodyEvent::Pending,
                });
            }
            match ready!(polled) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(bytes)) => self.early = bytes,
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
            }
        }
        let take = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..take]);
        self.early.advance(take);
        Poll::Ready(self.receiver.flow_control().release_capacity(take).map_err(to_io))
    }
}

impl AsyncWrite for Raw {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.sender.reserve_capacity(buf.len());
        let window = match ready!(self.sender.poll_capacity(cx)) {
            Some(window) => window.map_err(to_io)?,
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        let wrote = window.min(buf.len());
        self.sender.send_data(Bytes::copy_from_slice(&buf[..wrote]), false).map_err(to_io)?;
        Poll::Ready(Ok(wrote))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection writes by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.sender.send_data(Bytes::new(), true).map_err(to_io))
    }
}

fn to_io(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        false => io::Error::other(error),
    }
}
