//! One end of an HTTP/1.1 connection, byte by byte: a visitor, an origin, an agent or a relay as the test needs it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ptth::internals::net::io::Duplex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{QUIET, within};

/// The pause between two blocks of [`Wire::send_until_stuck`].
const PACE: Duration = Duration::from_millis(1);

/// The head of a message, as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// Request line or status line.
    pub(crate) first: String,
    /// The fields in their order, with their spelling.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{self:?}"))
    }

    /// The values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// The only value of a field; `None` without the field. Panics if there are several.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} occurs more than once: {self:?}");
        all.first().copied()
    }

    /// Parses the lines of a head, without the empty line.
    pub(crate) fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a field line: {line:?}"));
            (name.to_owned(), value.trim().to_owned())
        });
        Self { first, fields: fields.collect() }
    }
}

/// See the module.
pub(crate) struct Wire {
    io: Box<dyn Duplex>,
    read: BytesMut,
}

impl Wire {
    pub(crate) fn new(io: impl Duplex + 'static) -> Self {
        Self { io: Box::new(io), read: BytesMut::new() }
    }

    /// The stream itself, when nothing more is in the buffer.
    pub(crate) fn into_io(self) -> Box<dyn Duplex> {
        assert!(self.read.is_empty(), "bytes are left in the buffer: {:?}", self.read);
        self.io
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the far end closed the connection");
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        within("sending", async {
            self.io.write_all(bytes.as_ref()).await?;
            self.io.flush().await
        })
        .await
    }

    /// Sends until no more bytes are accepted for a while, and returns how many were. Sends slowly, because the kernel
    /// gives a fast sender receive buffers of tens of MiB, which would distort the measurement.
    pub(crate) async fn send_until_stuck(&mut self, most: usize) -> usize {
        let block = vec![b'x'; 64 << 10];
        let mut sent = 0;
        while sent < most {
            match tokio::time::timeout(4 * QUIET, self.io.write(&block)).await {
                Ok(wrote) => sent += wrote.expect("the far end closed the connection"),
                Err(_) => return sent,
            }
            tokio::time::sleep(PACE).await;
        }
        sent
    }

    /// Sends this many bytes in blocks.
    pub(crate) async fn stream_out(&mut self, count: usize) {
        let block = vec![b'x'; 64 << 10];
        let mut left = count;
        while left > 0 {
            let piece = left.min(block.len());
            self.send(&block[..piece]).await;
            left -= piece;
        }
    }

    /// One chunk of a chunked body.
    pub(crate) async fn send_chunk(&mut self, data: impl AsRef<[u8]>) {
        let data = data.as_ref();
        self.send([format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()).await;
    }

    /// Closes the sending direction.
    pub(crate) async fn finish(&mut self) {
        within("closing", self.io.shutdown()).await.expect("the far end closed the connection");
    }

    async fn fill(&mut self, step: &str) {
        let got = within(step, self.io.read_buf(&mut self.read)).await;
        let got = got.unwrap_or_else(|error| panic!("{step}: {error}; so far {:?}", self.read));
        assert!(got > 0, "{step}: the connection ended; so far {:?}", self.read);
    }

    async fn line(&mut self, step: &str) -> String {
        loop {
            if let Some(end) = self.read.windows(2).position(|w| w == b"\r\n") {
                let line = self.read.split_to(end + 2);
                return String::from_utf8(line[..end].to_vec()).expect("a line in UTF-8");
            }
            self.fill(step).await;
        }
    }

    /// The next head.
    pub(crate) async fn head(&mut self) -> Head {
        let head = self.head_bytes().await;
        Head::parse(std::str::from_utf8(&head).expect("a head in UTF-8"))
    }

    /// The next head; `None` when the connection has ended before it.
    pub(crate) async fn next_head(&mut self) -> Option<Head> {
        if self.read.is_empty()
            && !matches!(within("waiting for a head", self.io.read_buf(&mut self.read)).await, Ok(1..))
        {
            return None;
        }
        Some(self.head().await)
    }

    /// The next head as it was received, without the empty line.
    pub(crate) async fn head_bytes(&mut self) -> Bytes {
        loop {
            if let Some(end) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                let mut head = self.read.split_to(end + 4);
                head.truncate(end);
                return head.freeze();
            }
            self.fill("waiting for a head").await;
        }
    }

    /// Reads until the connection ends or is silent for a while, and returns the status of the answer, if there is one.
    pub(crate) async fn answer_status(&mut self) -> Option<u16> {
        while let Ok(Ok(1..)) = tokio::time::timeout(4 * QUIET, self.io.read_buf(&mut self.read)).await {}
        let read = self.read.split();
        let line =
            read[..].split(|byte| *byte == b'\r').next().filter(|line| line.starts_with(b"HTTP/1."))?;
        std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
    }

    /// Exactly this many bytes.
    pub(crate) async fn exact(&mut self, count: usize) -> Bytes {
        while self.read.len() < count {
            self.fill("waiting for bytes").await;
        }
        self.read.split_to(count).freeze()
    }

    /// The next chunk of a chunked body. The last chunk is empty, and its trailers are not read yet.
    pub(crate) async fn chunk(&mut self) -> Bytes {
        let size = self.line("waiting for a chunk").await;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
        let size = size.expect("a chunk size");
        if size == 0 {
            return Bytes::new();
        }
        let data = self.exact(size).await;
        assert_eq!(&self.exact(2).await[..], b"\r\n");
        data
    }

    /// The trailers behind the last chunk.
    pub(crate) async fn trailers(&mut self) -> Vec<(String, String)> {
        let mut trailers = Vec::new();
        loop {
            let line = self.line("waiting for trailers").await;
            if line.is_empty() {
                return trailers;
            }
            let (name, value) = line.split_once(':').expect("a field");
            trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The body behind a head, by its framing; empty without a framing.
    pub(crate) async fn body(&mut self, head: &Head) -> Bytes {
        if let Some(coding) = head.get("transfer-encoding") {
            assert_eq!(coding, "chunked");
            assert_eq!(head.get("content-length"), None, "{head:?}");
            let mut all = BytesMut::new();
            loop {
                let chunk = self.chunk().await;
                if chunk.is_empty() {
                    assert_eq!(self.trailers().await, []);
                    return all.freeze();
                }
                all.extend_from_slice(&chunk);
            }
        }
        let length = head.get("content-length").map_or(0, |l| l.parse().expect("a length"));
        self.exact(length).await
    }

    /// The next message with its body.
    pub(crate) async fn message(&mut self) -> (Head, String) {
        let head = self.head().await;
        let body = self.body(&head).await;
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    /// Asserts that the far end closes the connection without another byte.
    pub(crate) async fn closed(&mut self) {
        let got = within("waiting for the end", self.io.read_buf(&mut self.read)).await;
        assert!(matches!(got, Ok(0) | Err(_)) && self.read.is_empty(), "unexpected bytes: {:?}", self.read);
    }

    /// Reads until the far end closes the connection, and returns the bytes.
    pub(crate) async fn rest(&mut self) -> Bytes {
        while let Ok(1..) = within("waiting for the end", self.io.read_buf(&mut self.read)).await {}
        self.read.split().freeze()
    }

    /// Asserts that no byte has arrived, and that none arrives for a while.
    pub(crate) async fn quiet(&mut self) {
        let got = tokio::time::timeout(QUIET, self.io.read_buf(&mut self.read)).await;
        assert!(got.is_err() && self.read.is_empty(), "unexpected bytes: {got:?} {:?}", self.read);
    }

    /// Reads exactly `count` bytes, passes each part to `observe`, and drops it.
    pub(crate) async fn stream(&mut self, mut count: usize, mut observe: impl FnMut(&[u8])) {
        while count > 0 {
            if self.read.is_empty() {
                self.read.reserve(256 << 10);
                self.fill("streaming").await;
            }
            let part = self.read.split_to(self.read.len().min(count));
            count -= part.len();
            observe(&part);
        }
    }
}
