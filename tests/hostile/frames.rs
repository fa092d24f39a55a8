//! HTTP/2 frame by frame (RFC 9113 §4, §6), so that what no library would write can be written.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use ptth::internals::net::io::Duplex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// What a client sends first, and empty SETTINGS.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field as a literal that enters no table, its text as it is (RFC 7541 §6.2.2).
pub(crate) fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
}

/// The same, and it enters the table (RFC 7541 §6.2.1).
pub(crate) fn indexed(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0x40][..], &text(name), &text(value)].concat()
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes.len();
    if rest < 127 {
        out.push(rest as u8);
    } else {
        out.push(127);
        rest -= 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(bytes);
    out
}

/// A block of fields.
pub(crate) fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name.as_ref(), value.as_ref())).collect()
}

/// The fields of a request.
pub(crate) fn request(method: &str, host: &str, path: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "http"), (":authority", host), (":path", path)])
}

/// A frame that came.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Whether it begins an answer of this status; only of those that have an index (RFC 7541 A).
    pub(crate) fn has_status(&self, status: u16) -> bool {
        let index = [200, 204, 206, 304, 400, 404, 500].iter().position(|s| *s == status).unwrap();
        self.kind == HEADERS && self.payload.first() == Some(&(0x88 + index as u8))
    }
}

/// One end of such a connection.
pub(crate) struct Frames {
    io: Box<dyn Duplex>,
    read: BytesMut,
}

impl Frames {
    pub(crate) fn new(io: impl Duplex + 'static) -> Self {
        Self { io: Box::new(io), read: BytesMut::new() }
    }

    /// A client's end, which has said its preface.
    pub(crate) async fn client(io: impl Duplex + 'static) -> Self {
        let mut frames = Self::new(io);
        frames.send(PREFACE).await;
        frames
    }

    /// A server's end: takes the preface, and says its SETTINGS, each a number and a value.
    pub(crate) async fn server(io: impl Duplex + 'static, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self::new(io);
        let start = &PREFACE[..24];
        while frames.read.len() < start.len() {
            let more = tokio::time::timeout(crate::support::STEP, frames.io.read_buf(&mut frames.read)).await;
            assert!(more.expect("a preface in time").unwrap() > 0, "no preface");
        }
        assert_eq!(&frames.read[..start.len()], start);
        frames.read.advance(start.len());
        frames.send(frame(SETTINGS, 0, 0, values(settings))).await;
        frames
    }

    /// Sends; whether the far end is still there.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sending = async {
            self.io.write_all(bytes.as_ref()).await?;
            self.io.flush().await
        };
        matches!(tokio::time::timeout(crate::support::STEP, sending).await, Ok(Ok(())))
    }

    /// The next frame; nothing when the connection has ended, or when nothing comes for so long.
    pub(crate) async fn next(&mut self, patience: Duration) -> Option<Frame> {
        loop {
            if let Some(frame) = take(&mut self.read) {
                return Some(frame);
            }
            match tokio::time::timeout(patience, self.io.read_buf(&mut self.read)).await {
                Ok(Ok(1..)) => {}
                _ => return None,
            }
        }
    }

    /// The first frame that is looked for; nothing as with [`Frames::next`]. What must be acknowledged is.
    pub(crate) async fn until(&mut self, patience: Duration, look: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next(patience).await?;
            if look(&frame) {
                return Some(frame);
            }
            let acknowledged = match (frame.kind, frame.flags & ACK) {
                (SETTINGS, 0) => self.send(self::frame(SETTINGS, ACK, 0, [])).await,
                (PING, 0) => self.send(self::frame(PING, ACK, 0, &frame.payload)).await,
                _ => true,
            };
            if !acknowledged {
                return None;
            }
        }
    }

    /// Sends one unit after the other, up to `most`, and reads all the while. Whether the far end put an end to it
    /// within `patience` behind the last: with GOAWAY, or by closing.
    pub(crate) async fn flood(self, most: u32, patience: Duration, unit: impl Fn(u32) -> Vec<u8>) -> bool {
        let (mut reader, mut writer) = tokio::io::split(self.io);
        let mut read = self.read;
        let reading = async {
            loop {
                while let Some(frame) = take(&mut read) {
                    if frame.kind == GOAWAY {
                        return;
                    }
                }
                if !matches!(reader.read_buf(&mut read).await, Ok(1..)) {
                    return;
                }
            }
        };
        let writing = async {
            for start in (0..most).step_by(32) {
                let batch: Vec<u8> = (start..(start + 32).min(most)).flat_map(&unit).collect();
                if writer.write_all(&batch).await.is_err() {
                    return true;
                }
            }
            tokio::time::sleep(patience).await;
            false
        };
        tokio::select! {
            biased;
            () = reading => true,
            ended = writing => ended,
            () = tokio::time::sleep(crate::support::STEP) => false,
        }
    }
}

fn take(read: &mut BytesMut) -> Option<Frame> {
    let [a, b, c, kind, flags, ..] = read[..] else { return None };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if read.len() < 9 + length {
        return None;
    }
    let frame = read.split_to(9 + length);
    let stream = u32::from_be_bytes(frame[5..9].try_into().unwrap());
    Some(Frame { kind, flags, stream, payload: frame[9..].to_vec() })
}

/// The payload of SETTINGS.
pub(crate) fn values(settings: &[(u16, u32)]) -> Vec<u8> {
    settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect()
}
