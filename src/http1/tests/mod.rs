mod client;
mod codec;
mod half_close;
mod hyper;
mod linger;
mod server;

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

use super::server::{HalfClose, ServerOptions};
use super::write::Case;
use crate::defaults;
use crate::message::{Body, BoxError};
use crate::net::linger::LingerLimits;

/// The options for visitors, without a `Date`.
const CONFIG: ServerOptions = ServerOptions {
    head: defaults::VISITOR_HEAD,
    head_within: Some(Duration::from_secs(30)),
    stalled: Duration::from_secs(300),
    drain: defaults::DRAIN,
    linger: LingerLimits::DEFAULT,
    keep_alive: true,
    case: Case::Title,
    half_close: HalfClose::Probed,
    trailers_on_demand: true,
    date: false,
};

/// The far end of a connection.
struct Wire(DuplexStream);

impl Wire {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads up to `end`, and no further.
    async fn until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            match self.0.read_u8().await {
                Ok(byte) => read.push(byte),
                Err(error) => panic!("{error} behind {:?}", String::from_utf8_lossy(&read)),
            }
        }
        String::from_utf8(read).unwrap()
    }

    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).await.unwrap();
        rest
    }
}

async fn text_of(body: Body) -> String {
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// A body, and the sender of its frames.
fn channel() -> (mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>, Body) {
    let (frames, mut taken) = mpsc::unbounded_channel();
    let stream = futures_util::stream::poll_fn(move |cx| taken.poll_recv(cx));
    (frames, Body::wrap(StreamBody::new(stream)))
}

fn trailers() -> Frame<Bytes> {
    Frame::trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "294".parse().unwrap())]))
}
