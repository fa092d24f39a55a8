//! Bounds for reading on after the last answer of a connection or stream. The far end may still send an upload that
//! nobody needs. If its bytes were not read, the kernel would answer them with a reset, which can discard the answer at
//! the far end (RFC 9112 §9.6).

use std::any::Any;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::flag::Flag;
use crate::defaults;

/// How long and how much is read after the last answer.
#[derive(Debug, Clone, Copy)]
pub struct LingerLimits {
    /// From the first discarded byte to the end.
    pub total: Duration,
    /// The longest wait for the next byte.
    pub silence: Duration,
    /// Bytes of one connection.
    pub bytes: u64,
}

impl LingerLimits {
    /// The limits of every connection and stream.
    pub const DEFAULT: Self =
        Self { total: defaults::LINGER, silence: defaults::LINGER_SILENCE, bytes: defaults::LINGER_BYTES };
}

/// The place of a connection among those that linger. A drop frees it.
#[derive(Default)]
pub struct LingerPlace {
    /// Raised when another connection has taken the place.
    pub evicted: Option<Arc<Flag>>,
    /// Values that are kept for as long as the connection lingers.
    pub guard: Option<Box<dyn Any + Send + Sync>>,
}

impl LingerPlace {
    /// Resolves when another connection has taken the place. Cancel safe.
    pub fn evicted(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        let mut evicted = self.evicted.as_ref().map(Flag::listen);
        poll_fn(move |cx| evicted.as_mut().map_or(Poll::Pending, |evicted| Pin::new(evicted).poll(cx)))
    }
}

/// The rest of the limits of one connection or stream.
#[derive(Debug)]
pub struct Linger {
    silence: Duration,
    until: Instant,
    last_read: Instant,
    left: u64,
}

impl Linger {
    /// Starts to discard.
    pub fn begin(limits: &LingerLimits) -> Self {
        let now = Instant::now();
        Self { silence: limits.silence, until: now + limits.total, last_read: now, left: limits.bytes }
    }

    /// Counts discarded bytes. Returns whether more may be read.
    pub fn discard(&mut self, bytes: usize) -> bool {
        self.last_read = Instant::now();
        self.left = self.left.saturating_sub(bytes as u64);
        self.left > 0 && self.last_read < self.until
    }

    /// Whether more bytes may be read.
    pub fn has_room(&self) -> bool {
        self.left > 0
    }

    /// When the reading ends, if no byte arrives until then.
    pub fn deadline(&self) -> Instant {
        self.until.min(self.last_read + self.silence)
    }

    /// The reading ends at `until` if it would end later.
    pub fn end_by(&mut self, until: Instant) {
        self.until = self.until.min(until);
    }
}
