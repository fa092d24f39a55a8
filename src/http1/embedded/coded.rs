//! The body of a message, as it is written into an envelope.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};

use super::Framing;
use crate::http1::write;
use crate::message::body::{FrameSource, PolledFrame};
use crate::message::{Body, trailers};

/// See the module. Only the chunked coding can carry trailers.
pub struct Coded {
    body: Body,
    chunked: bool,
    ended: bool,
}

impl Coded {
    /// Encodes `body` with the framing that its head announces.
    pub fn new(body: Body, framing: Framing) -> Self {
        Self { body, chunked: framing == Framing::Chunked, ended: false }
    }

    /// The unencoded body. Nothing of it may have been taken yet.
    pub fn into_body(self) -> Body {
        self.body
    }

    fn last(&mut self, trailers: HeaderMap) -> PolledFrame {
        self.ended = true;
        let last = trailers::last_chunk(trailers).unwrap_or(Bytes::from_static(b"0\r\n\r\n"));
        Poll::Ready(Some(Ok(Frame::data(last))))
    }
}

impl FrameSource for Coded {
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.body.poll_arrived(cx)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()? {
                Some(frame) => frame,
                None if self.chunked => return self.last(HeaderMap::new()),
                None => return Poll::Ready(None),
            };
            match frame.into_data() {
                Ok(data) if self.chunked && !data.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::data(write::chunk(&data)))));
                }
                Ok(data) if !self.chunked => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(frame) if self.chunked => {
                    return self.last(frame.into_trailers().unwrap_or_default());
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.chunked { self.ended } else { self.body.is_end_stream() }
    }

    fn length(&self) -> Option<u64> {
        self.body.size_hint().exact().filter(|_| !self.chunked)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::super::{Reader, parse_response};
    use super::*;
    use crate::message::BoxError;

    fn body(broken: bool) -> Body {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("6"));
        let end = if broken { Err("broken".into()) } else { Ok(Frame::trailers(trailers)) };
        let frames = ["abc", "", "def"].map(|data| Ok::<_, BoxError>(Frame::data(Bytes::from(data))));
        Body::wrap(StreamBody::new(futures_util::stream::iter(frames.into_iter().chain([end]))))
    }

    fn coded(broken: bool, framing: Framing) -> Body {
        Body::from_source(Coded::new(body(broken), framing))
    }

    #[tokio::test]
    async fn trailers_pass_only_in_the_chunked_coding() {
        let chunked = coded(false, Framing::Chunked).collect().await.unwrap().to_bytes();
        assert_eq!(chunked, "3\r\nabc\r\n3\r\ndef\r\n0\r\nx-sum: 6\r\n\r\n");
        let message = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunked[..]].concat();
        let mut reader = Reader::new(Body::full(message));
        let head = reader.head(parse_response).await.unwrap();
        let read = reader.stream(head.framing).collect().await.unwrap();
        assert_eq!(read.trailers().unwrap()["x-sum"], "6");
        assert_eq!(read.to_bytes(), "abcdef");
        let plain = coded(false, Framing::Rest(None)).collect().await.unwrap();
        assert!(plain.trailers().is_none());
        assert_eq!(plain.to_bytes(), "abcdef");
    }

    #[tokio::test]
    async fn a_broken_body_has_no_last_chunk() {
        for framing in [Framing::Chunked, Framing::Rest(None)] {
            assert!(coded(true, framing).collect().await.is_err(), "{framing:?}");
        }
    }
}
