//! The chunked coding inside an envelope (RFC 9112 §7.1), decoded as it comes and written as it goes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;

use super::BadMessage;
use super::head::{FIELDS, field};
use crate::defaults;
use crate::message::trailers;

/// A size line with its extensions: more is an attack.
const LINE: usize = 8 << 10;

#[derive(Debug, Default)]
enum Step {
    #[default]
    Size,
    Data(u64),
    /// The line end behind the data of a chunk.
    End,
    Trailers(usize),
    Done,
}

/// Turns chunked bytes into the bytes that were meant.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    step: Step,
    read: BytesMut,
    trailers: HeaderMap,
    /// Something may follow that is not its business.
    among_others: bool,
}

impl Decoder {
    /// A decoder of one message among others: what follows it stays.
    pub(super) fn among_others() -> Self {
        Self { among_others: true, ..Self::default() }
    }

    /// What follows the last chunk and its trailers.
    pub(super) fn into_rest(self) -> Bytes {
        self.read.freeze()
    }

    /// Takes more of the coded bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.read.extend_from_slice(bytes);
    }

    /// The next decoded bytes. `None` when more must be fed, or at the end.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, BadMessage> {
        loop {
            match self.step {
                Step::Done if self.read.is_empty() || self.among_others => return Ok(None),
                Step::Done => return Err(BadMessage::Several),
                Step::Size => {
                    let Some(line) = self.line(LINE)? else { return Ok(None) };
                    self.step = match size(&line)? {
                        0 => Step::Trailers(0),
                        size => Step::Data(size),
                    };
                }
                Step::Data(0) => self.step = Step::End,
                Step::Data(left) => {
                    if self.read.is_empty() {
                        return Ok(None);
                    }
                    let take = self.read.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.step = Step::Data(left - take as u64);
                    return Ok(Some(self.read.split_to(take).freeze()));
                }
                Step::End => match self.line(1)? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => self.step = Step::Size,
                    Some(_) => return Err(BadMessage::Chunk),
                },
                Step::Trailers(seen) => match self.line(defaults::TRAILERS - seen.min(defaults::TRAILERS))? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => self.step = Step::Done,
                    Some(_) if self.trailers.len() >= FIELDS => return Err(BadMessage::TooLarge),
                    Some(line) => {
                        let (name, value) = field(&line)?;
                        self.trailers.append(name, value);
                        self.step = Step::Trailers(seen + line.len() + 1);
                    }
                },
            }
        }
    }

    /// Whether the last chunk was seen.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.step, Step::Done)
    }

    /// What came behind the last chunk, once that was seen; without what may only stand in front (RFC 9110 §6.5.1).
    pub(super) fn trailers(&mut self) -> Option<HeaderMap> {
        let trailers = trailers::allowed(std::mem::take(&mut self.trailers));
        (!trailers.is_empty()).then_some(trailers)
    }

    /// A line without its end, of at most `most` bytes.
    fn line(&mut self, most: usize) -> Result<Option<Bytes>, BadMessage> {
        let Some(end) = self.read.iter().position(|b| *b == b'\n') else {
            return if self.read.len() > most { Err(BadMessage::Chunk) } else { Ok(None) };
        };
        if end > most {
            return Err(BadMessage::Chunk);
        }
        let mut line = self.read.split_to(end).freeze();
        self.read.advance(1);
        if line.ends_with(b"\r") {
            line.truncate(line.len() - 1);
        }
        Ok(Some(line))
    }
}

/// One chunk. Empty for no data, because an empty chunk would be the last.
pub(super) fn chunk(data: &[u8]) -> Bytes {
    if data.is_empty() {
        return Bytes::new();
    }
    let mut out = BytesMut::with_capacity(data.len() + 20);
    out.put_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.put_slice(data);
    out.put_slice(b"\r\n");
    out.freeze()
}

fn size(line: &[u8]) -> Result<u64, BadMessage> {
    let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii_end();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(BadMessage::Chunk);
    }
    let text = std::str::from_utf8(digits).map_err(|_| BadMessage::Chunk)?;
    u64::from_str_radix(text, 16).map_err(|_| BadMessage::Chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), BadMessage> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            while let Some(data) = decoder.next()? {
                out.extend_from_slice(&data);
            }
        }
        Ok((out, decoder.is_done()))
    }

    #[test]
    fn chunks_may_come_cut_anywhere() {
        let coded = b"3;x=y\r\nabc\r\nA\n0123456789\n0\r\nTrailer: x\r\n\r\n";
        for cut in 0..coded.len() {
            let (out, done) = decode(&[&coded[..cut], &coded[cut..]]).unwrap();
            assert_eq!((&out[..], done), (&b"abc0123456789"[..], true), "cut at {cut}");
        }
        assert_eq!(decode(&[b"3\r\nab"]).unwrap(), (b"ab".to_vec(), false));
    }

    #[test]
    fn trailers_come_through_unless_they_belong_in_front() {
        let last = b"0\r\nX-Sum: 1\r\nX-Sum: 2\r\nContent-Length: 9\r\nConnection: x\r\nIf_Match: *\r\n\r\n";
        let mut decoder = Decoder::default();
        decoder.feed(&[&chunk(b"abc")[..], &chunk(b""), last].concat());
        assert_eq!(decoder.next().unwrap().unwrap(), "abc");
        assert_eq!((decoder.next().unwrap(), decoder.is_done()), (None, true));
        let got = decoder.trailers().unwrap();
        assert_eq!((got.len(), got.get_all("x-sum").iter().count()), (2, 2), "{got:?}");
        assert_eq!(decoder.trailers(), None);
    }

    #[test]
    fn the_most_that_is_written_is_read() {
        let value = "a".repeat(defaults::TRAILERS - b"0\r\nx: \r\n\r\n".len()).parse().unwrap();
        let last = trailers::last_chunk(HeaderMap::from_iter([("x".parse().unwrap(), value)])).unwrap();
        assert_eq!(decode(&[&last]).unwrap(), (Vec::new(), true));
    }

    #[test]
    fn broken_chunks_are_refused() {
        for bad in [
            &b"x\r\n"[..],
            b"-1\r\n",
            b"\r\n",
            b"3\r\nabcd\r\n",
            b"1000000000000000\r\n",
            b"0\r\n\r\nHTTP/1.1 200 OK\r\n",
            b"0\r\nno field\r\n\r\n",
            b"0\r\nA: b\r\n folded: c\r\n\r\n",
            &[b'1'; LINE + 1],
        ] {
            assert!(decode(&[bad]).is_err(), "{bad:?}");
        }
    }
}
