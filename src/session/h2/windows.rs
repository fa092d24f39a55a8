//! How far agents may send ahead of slow visitors. What a visitor does not read waits at the relay, up to the window of
//! its stream; so windows shrink as long answers become many, and all of them together stay within one budget.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::Connection;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::defaults;
use crate::message::{Body, BoxError};

/// One frame of the default size (RFC 9113 §4.2): less would make every frame wait for the one before.
const LEAST: u32 = 16 << 10;
/// An answer up to this counts for nothing: it costs no more than its own length.
const SHORT: u64 = 64 << 10;
/// A far end that has not acknowledged a smaller window by then means to send on (RFC 9113 §6.5.3).
const ACKNOWLEDGED: Duration = Duration::from_secs(10);

/// The long answers under way at one relay, and the windows that follow from their number.
///
/// The first few have [`defaults::STREAM_WINDOW`]; beyond them the window falls with the square of their number, so
/// that the sum over any number of them converges, to the budget. A stream that filled a large window when there were
/// few is one of few still, whatever comes after it.
#[derive(Debug)]
pub struct Windows {
    long: AtomicUsize,
    full: usize,
}

impl Default for Windows {
    fn default() -> Self {
        Self::new(defaults::BUFFERS)
    }
}

impl Windows {
    /// Windows of at most `budget` bytes together, beside `LEAST` for each stream.
    pub fn new(budget: usize) -> Self {
        let full = budget / 2 / defaults::STREAM_WINDOW as usize;
        Self { long: AtomicUsize::new(0), full: full.max(1) }
    }

    /// The window of each stream now, in bytes: a power of two, so that it changes seldom.
    fn size(&self) -> u32 {
        let long = self.long.load(Ordering::Relaxed);
        let mut size = defaults::STREAM_WINDOW;
        let mut most = self.full;
        while long > most && size > LEAST {
            // Twice as many streams, a quarter of the window.
            most *= 2;
            size /= 4;
        }
        size.max(LEAST)
    }

    /// Watches an answer of this length. `None` for one that is too short to matter.
    pub(super) fn watch(self: &Arc<Self>, length: Option<u64>) -> Option<Watch> {
        let long = length.is_none_or(|length| length > SHORT);
        long.then(|| Watch { windows: self.clone(), counted: false })
    }
}

/// One long answer. It counts from the moment that something of it was taken until its reader waits for more: then
/// nothing of it is buffered, and a stream that is only open takes nothing from the others.
#[derive(Debug)]
pub(super) struct Watch {
    windows: Arc<Windows>,
    counted: bool,
}

impl Watch {
    /// Looks at what polling the stream has brought.
    pub(super) fn saw<T>(&mut self, polled: &Poll<T>) {
        let counted = polled.is_ready();
        if counted != self.counted {
            self.counted = counted;
            match counted {
                true => self.windows.long.fetch_add(1, Ordering::Relaxed),
                false => self.windows.long.fetch_sub(1, Ordering::Relaxed),
            };
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.saw(&Poll::<()>::Pending);
    }
}

/// The body of a long answer.
pub(super) struct Watched {
    pub(super) body: Body,
    pub(super) watch: Watch,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.watch.saw(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What one connection has told its far end.
pub(super) struct Told {
    windows: Arc<Windows>,
    size: u32,
    refused_since: Option<Instant>,
}

/// The far end does not acknowledge that its windows are smaller now.
pub(super) struct Deaf;

impl Told {
    pub(super) fn new(windows: Arc<Windows>) -> Self {
        Self { size: windows.size(), windows, refused_since: None }
    }

    /// What the connection begins with.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// Tells the far end when the windows have changed. Larger ones are told late, so that a number that goes up and
    /// down by one does not become a conversation.
    ///
    /// # Errors
    /// [`Deaf`]
    pub(super) fn update<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        connection: &mut Connection<T, bytes::Bytes>,
    ) -> Result<(), Deaf> {
        let size = self.windows.size();
        if size == self.size || size > self.size && size / 16 < self.size && size < defaults::STREAM_WINDOW {
            return Ok(());
        }
        if connection.set_initial_window_size(size).is_ok() {
            (self.size, self.refused_since) = (size, None);
            return Ok(());
        }
        // The one before is not acknowledged yet.
        match self.refused_since.get_or_insert_with(Instant::now).elapsed() > ACKNOWLEDGED {
            true => Err(Deaf),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A long answer of which something was taken.
    fn long(windows: &Arc<Windows>) -> Watch {
        let mut watch = windows.watch(None).unwrap();
        watch.saw(&Poll::Ready(()));
        watch
    }

    #[test]
    fn all_windows_together_stay_within_the_budget() {
        for budget in [16 << 20, 256 << 20, 1 << 30] {
            let windows = Arc::new(Windows::new(budget));
            let (mut held, mut sum) = (Vec::new(), 0);
            for count in 1..=16_384_usize {
                held.push(long(&windows));
                sum += windows.size() as usize;
                assert!(sum <= budget + count * LEAST as usize, "{count} answers within {budget}: {sum}");
            }
            assert_eq!(windows.size(), LEAST);
            held.clear();
            assert_eq!(windows.size(), defaults::STREAM_WINDOW);
        }
    }

    #[test]
    fn only_what_may_wait_unread_counts() {
        let windows = Arc::new(Windows::new(1));
        assert!(windows.watch(Some(SHORT)).is_none());
        let open: Vec<_> = (0..1000).map(|_| windows.watch(None).unwrap()).collect();
        assert_eq!(windows.size(), defaults::STREAM_WINDOW, "nothing has come on them");
        let [_one, mut two] = [long(&windows), long(&windows)];
        assert_eq!(windows.size(), defaults::STREAM_WINDOW / 4);
        two.saw(&Poll::<()>::Pending);
        assert_eq!(windows.size(), defaults::STREAM_WINDOW, "its reader has taken all that there was");
        drop(open);
    }
}
