//! Interim responses as they come in on an HTTP/1.1 connection, from the side that sends the requests. hyper skips
//! them, and its hook for them costs every request four allocations; here a connection is looked at as it is read,
//! and only from a request to the head of its answer. hyper still reads, and judges, every byte.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use parking_lot::Mutex;

use super::{Head, say};
use crate::defaults;

/// How every interim response begins, but the 101, which is told apart later.
const BEGIN: &[u8] = b"HTTP/1.1 1";
const END: &[u8] = b"\r\n\r\n";
/// Fields of one interim response.
const FIELDS: usize = 64;

/// The far end sends interim responses without end.
#[derive(Debug, thiserror::Error)]
#[error("more than {} interim responses to one request", defaults::INTERIM)]
struct Flood;

/// What has come in on one connection. Shared by the connection and whoever sends requests on it.
#[derive(Default)]
pub struct Heads {
    /// From a request to the head of its answer.
    awaiting: AtomicBool,
    flooded: AtomicBool,
    fresh: AtomicBool,
    queue: Mutex<Vec<Head>>,
    waker: AtomicWaker,
}

impl Heads {
    /// Sends a request, and says each interim response before the answer is there. Dropping the future drops the
    /// request's.
    pub async fn exchange<F: Future>(&self, send: impl FnOnce() -> F) -> F::Output {
        self.awaiting.store(true, Ordering::Release);
        let mut answer = pin!(send());
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            let polled = answer.as_mut().poll(cx);
            if self.fresh.load(Ordering::Acquire) {
                self.fresh.store(false, Ordering::Release);
                std::mem::take(&mut *self.queue.lock()).into_iter().for_each(say);
            }
            polled
        })
        .await
    }

    /// Looks at each read of their connection. An error is that of the connection.
    pub fn watch(self: Arc<Self>) -> impl FnMut(Poll<&[u8]>) -> io::Result<()> + Send + Unpin {
        let mut reading = Reading::new(self);
        move |read| match read {
            Poll::Ready(bytes) if reading.heads.awaiting.load(Ordering::Acquire) && !bytes.is_empty() => {
                reading.look(bytes).map_err(io::Error::other)
            }
            _ => Ok(()),
        }
    }

    /// Takes one that somebody else has read.
    pub fn hear(&self, head: Head) {
        self.queue.lock().push(head);
        self.fresh.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the connection was ended because of more than [`defaults::INTERIM`] of them.
    pub fn is_flooded(&self) -> bool {
        self.flooded.load(Ordering::Acquire)
    }
}

/// What one connection has brought since the last request.
struct Reading {
    heads: Arc<Heads>,
    /// The start of a head whose end has not come yet.
    held: Vec<u8>,
    count: usize,
}

impl Reading {
    fn new(heads: Arc<Heads>) -> Self {
        Self { heads, held: Vec::new(), count: 0 }
    }

    fn look(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        if self.held.is_empty() && !may_be_interim(bytes) {
            self.answered();
            return Ok(());
        }
        let mut seen = self.held.len().saturating_sub(END.len() - 1);
        self.held.extend_from_slice(bytes);
        while may_be_interim(&self.held) {
            if !self.held[seen..].windows(END.len()).any(|bytes| bytes == END) {
                if self.held.len() > defaults::INTERIM_BYTES {
                    break;
                }
                return Ok(());
            }
            let Some((head, length)) = parse(&self.held) else { break };
            self.count += 1;
            if self.count > defaults::INTERIM {
                self.heads.flooded.store(true, Ordering::Release);
                return Err(Flood);
            }
            self.heads.hear(head);
            self.held.drain(..length);
            if self.held.is_empty() {
                return Ok(());
            }
            seen = 0;
        }
        self.answered();
        Ok(())
    }

    /// The head of the answer has begun, or what came is for hyper to judge.
    fn answered(&mut self) {
        self.heads.awaiting.store(false, Ordering::Release);
        self.held = Vec::new();
        self.count = 0;
    }
}

fn may_be_interim(bytes: &[u8]) -> bool {
    let length = bytes.len().min(BEGIN.len());
    bytes[..length] == BEGIN[..length]
}

/// A whole interim response, and its length in bytes.
fn parse(bytes: &[u8]) -> Option<(Head, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = parsed.parse(bytes).ok()? else { return None };
    let status = StatusCode::from_u16(parsed.code?).ok()?;
    if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
        return None;
    }
    let mut head = Response::new(());
    *head.status_mut() = status;
    for field in parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        head.headers_mut().append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some((head, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in `bytes`, read in pieces of `cut`, and whether the answer had begun at their end.
    fn found(bytes: &[u8], cut: usize) -> (Vec<u16>, bool, bool) {
        let heads = Arc::new(Heads::default());
        heads.awaiting.store(true, Ordering::Release);
        let mut reading = Reading::new(heads.clone());
        for piece in bytes.chunks(cut) {
            if heads.awaiting.load(Ordering::Acquire) && reading.look(piece).is_err() {
                break;
            }
        }
        let statuses = heads.queue.lock().iter().map(|head| head.status().as_u16()).collect();
        (statuses, !heads.awaiting.load(Ordering::Acquire), heads.is_flooded())
    }

    #[test]
    fn heads_are_found_however_they_are_cut() {
        let bytes =
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\n\r\n\
                      HTTP/1.1 103 in the body\r\n\r\n";
        for cut in 1..=bytes.len() {
            assert_eq!(found(bytes, cut), (vec![103, 102], true, false), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_interim_response_is_left_to_hyper() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"HTTP/1.0 103 Early Hints\r\n\r\n",
            b"HTTP/1.1 1x3 Early Hints\r\n\r\n",
            b"garbage",
            b"\r\n",
        ] {
            assert_eq!(found(bytes, bytes.len()), (vec![], true, false), "{bytes:?}");
        }
        let endless = [b"HTTP/1.1 103 E\r\nLink: ", &vec![b'x'; 2 * defaults::INTERIM_BYTES][..]].concat();
        assert_eq!(found(&endless, 100), (vec![], true, false));
    }

    #[test]
    fn a_flood_is_cut() {
        let many = b"HTTP/1.1 102 P\r\n\r\n".repeat(defaults::INTERIM + 1);
        let (said, answered, flooded) = found(&many, 7);
        assert_eq!((said.len(), answered, flooded), (defaults::INTERIM, false, true));
    }
}
