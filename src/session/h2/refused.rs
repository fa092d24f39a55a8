//! Finds heads that the h2 crate refuses by itself: it answers a head with too many fields with a 431 that no caller
//! sees. The 431 is found among the written frames, because it is the only answer that has a status and no other field.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of a frame's head (RFC 9113 §4.1).
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
/// A head that has only a status takes at most this many bytes.
const SHORT: usize = 16;
/// The first index of HPACK's dynamic table (RFC 7541 §2.3.3).
const DYNAMIC: u8 = 62;

/// A server's connection that calls `refused` for each head that the h2 crate has refused.
pub(crate) struct Refused<T, F> {
    io: T,
    scanner: Scanner,
    refused: F,
}

impl<T, F: FnMut()> Refused<T, F> {
    pub(crate) fn new(io: T, refused: F) -> Self {
        Self { io, scanner: Scanner::default(), refused }
    }

    fn wrote(&mut self, bytes: &[u8]) {
        for _ in 0..self.scanner.scan(bytes) {
            (self.refused)();
        }
    }
}

/// Reads the frames that are written.
#[derive(Default)]
struct Scanner {
    /// Bytes of a payload to come that are skipped.
    skip: usize,
    /// A frame's head, and the part of its payload that is examined.
    read: Vec<u8>,
    /// The length at which `read` is complete; 0 while the head of a frame is read.
    wanted: usize,
    /// The streams whose answer has begun. `None` until a 431 may be in HPACK's table: from then on trailers may look
    /// like a 431.
    begun: Option<HashSet<u32>>,
}

impl Scanner {
    /// Returns how many heads were refused in these bytes.
    fn scan(&mut self, mut bytes: &[u8]) -> usize {
        let mut refused = 0;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = self.wanted.max(FRAME_HEAD);
            let take = (wanted - self.read.len()).min(bytes.len());
            self.read.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.read.len() == wanted {
                refused += usize::from(self.frame());
            }
        }
        refused
    }

    /// Examines a frame's head, or the payload behind it. Returns whether the frame refuses a head.
    fn frame(&mut self) -> bool {
        let [a, b, c, kind, flags, d, e, f, g] = self.read[..FRAME_HEAD] else { return false };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let (ends, stream) = (flags & END_STREAM != 0, u32::from_be_bytes([d, e, f, g]));
        // A HEADERS frame that is too long for the 431 of the h2 crate is read up to its first byte: it may add a
        // status to the table.
        let examined = if kind != HEADERS {
            0
        } else if ends && length <= SHORT {
            length
        } else {
            length.min(1)
        };
        if self.wanted == 0 && examined > 0 {
            self.wanted = FRAME_HEAD + examined;
            return false;
        }
        let refuses = examined > 0 && self.refuses(stream, examined == length && ends);
        if let Some(begun) = &mut self.begun {
            match ends {
                true => begun.remove(&stream),
                false => kind == HEADERS && begun.insert(stream),
            };
        }
        self.skip = length - examined;
        self.wanted = 0;
        self.read.clear();
        refuses
    }

    fn refuses(&mut self, stream: u32, complete: bool) -> bool {
        let mut fields = &self.read[FRAME_HEAD..];
        // Changes of the table's size come first (RFC 7541 §6.3).
        while let [first, rest @ ..] = fields
            && first & 0xe0 == 0x20
        {
            let more = if first & 0x1f == 0x1f {
                rest.iter().position(|b| b & 0x80 == 0).map(|p| p + 1)
            } else {
                Some(0)
            };
            fields = more.and_then(|more| rest.get(more..)).unwrap_or_default();
        }
        match fields {
            // A literal with the name `:status`: a status that the table did not have.
            [0x48 | 0x08 | 0x18, value @ ..] => {
                self.begun.get_or_insert_default();
                complete && value.first().is_some_and(|length| value.len() == usize::from(length & 0x7f) + 1)
            }
            [index] if complete && *index >= 0x80 | DYNAMIC => {
                self.begun.as_ref().is_some_and(|begun| !begun.contains(&stream))
            }
            _ => false,
        }
    }
}

impl<T: AsyncRead + Unpin, F: Unpin> AsyncRead for Refused<T, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin, F: FnMut() + Unpin> AsyncWrite for Refused<T, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(wrote)) = polled {
            self.wrote(&buf[..wrote.min(buf.len())]);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(mut wrote)) = polled {
            for buf in bufs {
                let here = wrote.min(buf.len());
                self.wrote(&buf[..here]);
                wrote -= here;
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        frame.extend(payload);
        frame
    }

    #[test]
    fn a_431_of_the_h2_crate_is_found_after_a_431_of_the_caller() {
        let whole =
            [frame(HEADERS, 4, 1, &[0x48, 0x83, 0x69, 0x90, 0x7f, 0xc0]), frame(HEADERS, 5, 3, &[0xbe])];
        assert_eq!(Scanner::default().scan(&whole.concat()), 1);
    }

    #[test]
    fn a_431_is_counted_and_trailers_are_not() {
        let whole = [
            frame(4, 0, 0, &[0; 6]),
            frame(HEADERS, 4, 1, &[0x88, 0x61]),
            frame(0, 0, 1, &[7; 40]),
            // Trailers, before the first 431.
            frame(HEADERS, 5, 1, &[0xbf]),
            frame(HEADERS, 5, 3, &[0x3f, 0xe1, 0x1f, 0x48, 0x83, 0x69, 0x90, 0x7f]),
            frame(HEADERS, 4, 5, &[0x88, 0x61]),
            frame(HEADERS, 5, 5, &[0xbf]),
            frame(HEADERS, 5, 7, &[0xbe]),
            frame(HEADERS, 5, 9, &[0xbe, 0xc0]),
            frame(HEADERS, 4, 11, &[0x48, 0x83, 0x69, 0x90, 0x7f, 0xc0]),
        ]
        .concat();
        assert_eq!(Scanner::default().scan(&whole), 2);
        for size in [1, 2, 7, 10] {
            let mut scanner = Scanner::default();
            assert_eq!(whole.chunks(size).map(|piece| scanner.scan(piece)).sum::<usize>(), 2, "{size}");
        }
    }
}
