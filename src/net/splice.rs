//! Two streams, joined until both have ended.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

/// Large enough to carry a full TLS record with room, small enough for thousands of idle WebSockets.
const BUFFER: usize = 32 << 10;

/// Copies in both directions. A half-close is passed on as a half-close: the other direction stays open until it ends
/// by itself. Returns how many bytes were copied from `a` to `b`, and from `b` to `a`. Dropping the future closes both.
///
/// # Errors
/// The first error of either stream.
pub async fn splice<A, B>(a: &mut A, b: &mut B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    tokio::io::copy_bidirectional_with_sizes(a, b, BUFFER, BUFFER).await
}
