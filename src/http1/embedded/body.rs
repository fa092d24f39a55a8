//! The body of an envelope: the head of the embedded message, then the body of that message.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;

use super::{BadMessage, Framing};
use crate::defaults;
use crate::http1::BadBody;
use crate::http1::body::{Decoder, Piece};
use crate::http1::head::Search;
use crate::message::body::{FrameSource, PolledFrame};
use crate::message::{Body, BoxError};

/// Why no message could be read from an envelope.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The envelope contains no valid message.
    #[error(transparent)]
    Bad(#[from] BadMessage),
    /// The message is larger than the limit for messages in memory.
    #[error("the message is larger than {0} bytes")]
    TooLarge(usize),
    /// The envelope broke off.
    #[error("the envelope broke off: {0}")]
    Broken(BoxError),
}

/// Reads an envelope incrementally.
pub struct Reader {
    body: Body,
    read: BytesMut,
}

impl Reader {
    /// A reader at the start of an envelope.
    pub fn new(body: Body) -> Self {
        Self { body, read: BytesMut::new() }
    }

    /// Reads the head. Cancel safe: the bytes that were read stay with the reader.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn head<T>(&mut self, parse: impl Fn(&Bytes) -> Result<T, BadMessage>) -> Result<T, ReadError> {
        let mut search = Search::default();
        loop {
            let head = search.take(&mut self.read, defaults::FIELDS as usize).map_err(BadMessage::from)?;
            if let Some(head) = head {
                return Ok(parse(&head)?);
            }
            match self.body.frame().await {
                None => return Err(BadMessage::Incomplete.into()),
                Some(Err(error)) => return Err(ReadError::Broken(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// Reads the bytes that have arrived already, up to about `most`, and waits for no more. Returns `true` when the
    /// envelope has ended. Dropping the future loses the bytes that were read.
    ///
    /// # Errors
    /// [`ReadError::Broken`]
    pub async fn settle(&mut self, most: usize) -> Result<bool, ReadError> {
        let mut yielded = false;
        while !self.body.is_end_stream() {
            if self.read.len() > most {
                return Ok(false);
            }
            match futures_util::poll!(self.body.frame()) {
                Poll::Ready(None) => break,
                Poll::Ready(Some(frame)) => {
                    if let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() {
                        self.read.extend_from_slice(&data);
                        yielded = false;
                    }
                }
                // The connection may hold more bytes, which it delivers when its own task is polled.
                Poll::Pending if !yielded => {
                    yielded = true;
                    tokio::task::yield_now().await;
                }
                Poll::Pending => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The number of bytes that were read and not consumed yet.
    pub fn ahead(&self) -> usize {
        self.read.len()
    }

    /// The body of the message, as a stream. A declared length must be right, because the receiver relies on it.
    pub fn stream(self, framing: Framing) -> Body {
        let rest = self.body.size_hint().exact().map(|rest| rest + self.read.len() as u64);
        let decode = match framing {
            Framing::Empty => return Body::empty(),
            Framing::Rest(None) if rest == Some(0) => return Body::empty(),
            Framing::Rest(None) => rest.map_or(Decode::Rest, Decode::Exactly),
            Framing::Rest(Some(length)) => Decode::Exactly(length),
            Framing::Chunked => Decode::Chunked(Decoder::chunked_leniently(), BytesMut::new()),
        };
        Body::from_source(EmbeddedBody { body: self.body, read: self.read.freeze(), decode, ended: false })
    }

    /// The body of the message, as a whole, and its trailers. A wrong declared length is ignored.
    ///
    /// # Errors
    /// [`ReadError`], [`ReadError::TooLarge`] beyond `most` bytes.
    pub async fn whole(self, framing: Framing, most: usize) -> Result<(Bytes, Option<HeaderMap>), ReadError> {
        let rest =
            EmbeddedBody { body: self.body, read: self.read.freeze(), decode: Decode::Rest, ended: false };
        let rest = whole(Body::from_source(rest), most).await?;
        match framing {
            Framing::Empty => Ok((Bytes::new(), None)),
            Framing::Rest(declared) => {
                let second = declared.and_then(|declared| rest.get(usize::try_from(declared).ok()?..));
                match second.is_some_and(|second| second.trim_ascii_start().starts_with(b"HTTP/")) {
                    true => Err(BadMessage::Several.into()),
                    false => Ok((rest, None)),
                }
            }
            Framing::Chunked => {
                let mut rest = BytesMut::from(rest);
                let body = unchunk(&mut rest)?;
                if rest.is_empty() { Ok(body) } else { Err(BadMessage::Several.into()) }
            }
        }
    }
}

/// Takes a chunked body and its trailers from `rest`.
pub(super) fn unchunk(rest: &mut BytesMut) -> Result<(Bytes, Option<HeaderMap>), BadMessage> {
    let mut decoder = Decoder::chunked_leniently();
    let mut out = BytesMut::with_capacity(rest.len());
    loop {
        match decoder.next(rest)? {
            None => return Err(BadBody::Incomplete.into()),
            Some(Piece::Data(data)) => out.extend_from_slice(&data),
            Some(Piece::End(trailers)) => return Ok((out.freeze(), trailers)),
        }
    }
}

/// A body in one piece, of at most `most` bytes.
///
/// # Errors
/// [`ReadError::TooLarge`], [`ReadError::Broken`]
pub async fn whole(mut body: Body, most: usize) -> Result<Bytes, ReadError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() else { continue };
        if all.len() + data.len() > most {
            return Err(ReadError::TooLarge(most));
        }
        if all.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

enum Decode {
    Rest,
    /// This many bytes are still to come.
    Exactly(u64),
    Chunked(Decoder, BytesMut),
}

struct EmbeddedBody {
    body: Body,
    read: Bytes,
    decode: Decode,
    ended: bool,
}

impl EmbeddedBody {
    fn poll_coded(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.read))));
        }
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // Trailers of the envelope are not those of the message.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                    _ => {}
                },
            }
        }
    }
}

impl FrameSource for EmbeddedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let this = self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            if let Decode::Chunked(decoder, read) = &mut this.decode
                && !decoder.is_done()
            {
                match decoder.next(read).map_err(BadMessage::from)? {
                    Some(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Some(Piece::End(Some(trailers))) => {
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                    Some(Piece::End(None)) | None => {}
                }
            }
            let coded = ready!(this.poll_coded(cx)).transpose()?;
            match (&mut this.decode, coded) {
                (Decode::Rest | Decode::Exactly(0), None) => this.ended = true,
                (Decode::Exactly(_), None) => return Poll::Ready(Some(Err(BadMessage::Length.into()))),
                (Decode::Chunked(decoder, read), None) if decoder.is_done() && read.is_empty() => {
                    this.ended = true;
                }
                (Decode::Chunked(decoder, _), Some(_)) if decoder.is_done() => {
                    return Poll::Ready(Some(Err(BadMessage::Several.into())));
                }
                (Decode::Chunked(..), None) => {
                    return Poll::Ready(Some(Err(BadMessage::Body(BadBody::Incomplete).into())));
                }
                (Decode::Rest, Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                (Decode::Exactly(left), Some(data)) => {
                    *left = left.checked_sub(data.len() as u64).ok_or(BadMessage::Length)?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                (Decode::Chunked(_, read), Some(data)) => read.extend_from_slice(&data),
            }
        }
    }

    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.poll_coded(cx)) {
            Some(Ok(data)) => self.read = data,
            Some(Err(error)) => self.body = Body::broken(error),
            None => self.body = Body::empty(),
        }
        Poll::Ready(())
    }

    fn length(&self) -> Option<u64> {
        match &self.decode {
            Decode::Exactly(left) => Some(*left),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_response;
    use super::*;

    async fn read(text: &'static str) -> Result<Bytes, ReadError> {
        let mut reader = Reader::new(Body::full(text));
        let head = reader.head(parse_response).await?;
        Ok(reader.whole(head.framing, 20).await?.0)
    }

    #[tokio::test]
    async fn a_wrong_content_length_is_ignored() {
        for length in ["", "Content-Length: 1\r\n", "Content-Length: 3\r\n", "Content-Length: 99\r\n"] {
            let text = format!("HTTP/1.1 200 OK\r\n{length}\r\nabc").leak();
            assert_eq!(read(text).await.unwrap(), "abc", "{length}");
        }
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await.unwrap(),
            "abc"
        );
    }

    #[tokio::test]
    async fn a_second_message_is_refused() {
        let second = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200";
        assert!(matches!(read(second).await, Err(ReadError::Bad(BadMessage::Several))));
        assert!(matches!(
            read("HTTP/1.1 200 OK\r\n\r\n123456789012345678901").await,
            Err(ReadError::TooLarge(20))
        ));
        assert!(matches!(read("HTTP/1.1 200 OK").await, Err(ReadError::Bad(BadMessage::Incomplete))));
    }

    #[tokio::test]
    async fn a_streamed_body_must_have_its_announced_length() {
        for (length, fits) in [(2, false), (3, true), (4, false)] {
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nabc");
            let mut reader = Reader::new(Body::full(text));
            let head = reader.head(parse_response).await.unwrap();
            assert_eq!(reader.stream(head.framing).collect().await.is_ok(), fits, "{length}");
        }
    }
}
