//! Incremental decoding and encoding of HTTP/1 bodies (RFC 9112 §6, §7).

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::output::Output;
use crate::defaults;
use crate::message::{BoxError, trailers};

/// The end of a chunked body without trailers.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Why a body does not match its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// The stream ended before the body was complete.
    #[error("the body is incomplete")]
    Incomplete,
    /// The chunked coding is broken.
    #[error("the chunked coding of the body is malformed")]
    Chunk,
    /// One body has too many bytes of chunk extensions.
    #[error("the chunks have more than {} bytes of extensions", defaults::CHUNK_EXTENSIONS)]
    Extensions,
    /// More trailers than a message may have.
    #[error(
        "the body has more than {} trailer fields, or more than {} bytes of them",
        defaults::TRAILER_FIELDS,
        defaults::TRAILERS
    )]
    Trailers,
    /// The body is longer than its declared length.
    #[error("the body is longer than its Content-Length")]
    TooLong,
}

/// A part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// At least one byte.
    Data(Bytes),
    /// The end of the body, and the trailers that may be passed on (RFC 9110 §6.5.1).
    End(Option<HeaderMap>),
}

/// Decodes a body from the bytes that follow its head.
#[derive(Debug)]
pub struct Decoder(DecoderKind);

#[derive(Debug)]
enum DecoderKind {
    Done,
    /// This many bytes are still to come.
    Length(u64),
    /// The body ends with the stream.
    Close,
    Chunked(Box<Chunked>),
}

impl Decoder {
    /// A body of this length, in bytes.
    pub fn length(length: u64) -> Self {
        Self(if length == 0 { DecoderKind::Done } else { DecoderKind::Length(length) })
    }

    /// A body that ends with its stream.
    pub fn close() -> Self {
        Self(DecoderKind::Close)
    }

    /// A chunked body.
    pub fn chunked() -> Self {
        Self(DecoderKind::Chunked(Box::default()))
    }

    /// A chunked body whose lines may end with a bare LF, as programs of 2009 write them into envelopes.
    pub fn chunked_leniently() -> Self {
        Self(DecoderKind::Chunked(Box::new(Chunked { bare_lf: true, ..Chunked::default() })))
    }

    /// Whether the whole body was taken.
    pub fn is_done(&self) -> bool {
        matches!(self.0, DecoderKind::Done)
    }

    /// Whether the body ends before its stream does.
    pub fn is_delimited(&self) -> bool {
        !matches!(self.0, DecoderKind::Close)
    }

    /// The number of bytes still to come, if known.
    pub fn left(&self) -> Option<u64> {
        match self.0 {
            DecoderKind::Done => Some(0),
            DecoderKind::Length(left) => Some(left),
            DecoderKind::Close | DecoderKind::Chunked(_) => None,
        }
    }

    /// Takes the next piece of the body from `read`. `None` when more bytes must be read first.
    ///
    /// # Errors
    /// [`BadBody`]
    pub fn next(&mut self, read: &mut BytesMut) -> Result<Option<Piece>, BadBody> {
        let piece = match &mut self.0 {
            DecoderKind::Done => Piece::End(None),
            _ if read.is_empty() => return Ok(None),
            DecoderKind::Close => Piece::Data(read.split().freeze()),
            DecoderKind::Length(left) => {
                let data = take(read, left);
                if *left == 0 {
                    self.0 = DecoderKind::Done;
                }
                Piece::Data(data)
            }
            DecoderKind::Chunked(chunked) => match chunked.next(read)? {
                Some(Piece::End(trailers)) => {
                    self.0 = DecoderKind::Done;
                    Piece::End(trailers)
                }
                Some(piece) => piece,
                None => return Ok(None),
            },
        };
        Ok(Some(piece))
    }

    /// Ends the body at the end of the stream.
    ///
    /// # Errors
    /// [`BadBody::Incomplete`] unless the body may end there.
    pub fn end_of_stream(&mut self) -> Result<(), BadBody> {
        match self.0 {
            DecoderKind::Done => Ok(()),
            DecoderKind::Close => {
                self.0 = DecoderKind::Done;
                Ok(())
            }
            DecoderKind::Length(_) | DecoderKind::Chunked(_) => Err(BadBody::Incomplete),
        }
    }
}

fn take(read: &mut BytesMut, left: &mut u64) -> Bytes {
    let length = read.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= length as u64;
    read.split_to(length).freeze()
}

/// The chunked coding (RFC 9112 §7.1).
#[derive(Debug, Default)]
struct Chunked {
    step: Step,
    /// Bytes of extensions so far.
    extensions: usize,
    /// Bytes of trailers so far.
    trailing: usize,
    trailers: HeaderMap,
    /// Lines may end with a bare LF.
    bare_lf: bool,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Size,
    Data(u64),
    /// The line end after the data of a chunk.
    DataEnd,
    Trailers,
}

impl Chunked {
    fn next(&mut self, read: &mut BytesMut) -> Result<Option<Piece>, BadBody> {
        loop {
            match &mut self.step {
                Step::Size => {
                    // Room for the longest size and for extensions.
                    let most = 20 + defaults::CHUNK_EXTENSIONS;
                    let Some(line) = self.line(read, most, BadBody::Extensions)? else { return Ok(None) };
                    self.step = match self.size(&line)? {
                        0 => Step::Trailers,
                        size => Step::Data(size),
                    };
                }
                Step::Data(0) => self.step = Step::DataEnd,
                Step::Data(_) if read.is_empty() => return Ok(None),
                Step::Data(left) => return Ok(Some(Piece::Data(take(read, left)))),
                Step::DataEnd => match self.line(read, 1, BadBody::Chunk)? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => self.step = Step::Size,
                    Some(_) => return Err(BadBody::Chunk),
                },
                Step::Trailers => {
                    let most = defaults::TRAILERS.saturating_sub(self.trailing);
                    let Some(line) = self.line(read, most, BadBody::Trailers)? else { return Ok(None) };
                    if line.is_empty() {
                        let trailers = trailers::allowed(std::mem::take(&mut self.trailers));
                        return Ok(Some(Piece::End((!trailers.is_empty()).then_some(trailers))));
                    }
                    if self.trailers.len() >= defaults::TRAILER_FIELDS {
                        return Err(BadBody::Trailers);
                    }
                    let (name, value) = field(&line).ok_or(BadBody::Chunk)?;
                    self.trailers.append(name, value);
                    self.trailing += line.len() + 1;
                }
            }
        }
    }

    /// Takes a line from `read`, without its line end. `None` when the line is incomplete.
    fn line(&self, read: &mut BytesMut, most: usize, too_long: BadBody) -> Result<Option<Bytes>, BadBody> {
        let Some(end) = memchr::memchr(b'\n', &read[..read.len().min(most + 1)]) else {
            return if read.len() > most { Err(too_long) } else { Ok(None) };
        };
        let mut line = read.split_to(end).freeze();
        read.advance(1);
        match line.last() {
            Some(b'\r') => line.truncate(line.len() - 1),
            _ if self.bare_lf => {}
            _ => return Err(BadBody::Chunk),
        }
        if line.contains(&b'\r') { Err(BadBody::Chunk) } else { Ok(Some(line)) }
    }

    fn size(&mut self, line: &[u8]) -> Result<u64, BadBody> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (number, rest) = line.split_at(digits);
        // Space before an extension is accepted, although no sender may generate it (BWS, RFC 9112 §7.1.1).
        let extension = rest.trim_ascii_start();
        // 15 hexadecimal digits suffice for a million terabytes.
        if !(1..=15).contains(&digits) || !(extension.is_empty() || extension.starts_with(b";")) {
            return Err(BadBody::Chunk);
        }
        self.extensions += rest.len();
        if self.extensions > defaults::CHUNK_EXTENSIONS {
            return Err(BadBody::Extensions);
        }
        let text = std::str::from_utf8(number).map_err(|_| BadBody::Chunk)?;
        u64::from_str_radix(text, 16).map_err(|_| BadBody::Chunk)
    }
}

/// Parses a field line. A line that begins with a blank would continue the previous line (RFC 9112 §5.2), which readers
/// interpret differently. Such a line is refused, because no name begins with a blank.
pub(super) fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = memchr::memchr(b':', line)?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
}

/// Writes a body as its head announced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoder {
    /// This many bytes are still to be written.
    Length(u64),
    /// In the chunked coding.
    Chunked,
    /// Unchanged, up to the end of the stream.
    Close,
}

impl Encoder {
    /// Writes `data`.
    ///
    /// # Errors
    /// [`BadBody::TooLong`]; nothing of `data` is written then.
    pub fn data(&mut self, data: Bytes, out: &mut Output) -> Result<(), BadBody> {
        match self {
            // An empty chunk would end the body.
            _ if data.is_empty() => {}
            Self::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(BadBody::TooLong)?;
                out.data(data);
            }
            Self::Chunked => {
                out.chunk(data);
            }
            Self::Close => out.data(data),
        }
        Ok(())
    }

    /// Writes the end of the body. Only the chunked coding can carry trailers.
    ///
    /// # Errors
    /// [`BadBody::Incomplete`] for fewer bytes than were announced.
    pub fn end(&self, trailers: Option<HeaderMap>, out: &mut Output) -> Result<(), BadBody> {
        match self {
            Self::Length(0) | Self::Close => Ok(()),
            Self::Length(_) => Err(BadBody::Incomplete),
            Self::Chunked => {
                match trailers.and_then(trailers::last_chunk) {
                    Some(last) => out.put(&last),
                    None => out.put(LAST_CHUNK),
                }
                Ok(())
            }
        }
    }
}

/// Writes one frame of a body. Returns whether it was the last. `ends`: no frame follows this one.
///
/// # Errors
/// The error of the body, or [`BadBody`] when the body does not have the announced length.
pub fn write_frame(
    frame: Option<Result<Frame<Bytes>, BoxError>>,
    ends: bool,
    encoder: &mut Encoder,
    takes_trailers: bool,
    output: &mut Output,
) -> Result<bool, BoxError> {
    let trailers = match frame.transpose()?.map(Frame::into_data) {
        None => None,
        Some(Ok(data)) => {
            encoder.data(data, output)?;
            if !ends {
                return Ok(false);
            }
            None
        }
        Some(Err(frame)) => frame.into_trailers().ok().filter(|_| takes_trailers),
    };
    encoder.end(trailers, output)?;
    Ok(true)
}
