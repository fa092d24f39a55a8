//! A visitor with HTTP/2 who hears everything: interim responses, trailers, resets.

use std::future::poll_fn;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use ptth::internals::net::Scope;
use ptth::internals::net::io::Duplex;

use crate::exchange::{at_origin, host};
use crate::support::{Head, Wire, within};
use crate::world::World;

/// See the module.
pub(crate) struct Http2 {
    handle: SendRequest<Bytes>,
    scope: Scope,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) head: Response<()>,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Http2 {
    pub(crate) async fn open(world: &World) -> Self {
        Self::over(world.relay.tls_as(&host(), b"h2").await).await
    }

    /// Without TLS, from another address if one is given.
    pub(crate) async fn open_plain(world: &World, from: Option<std::net::IpAddr>) -> Self {
        let wire = match from {
            Some(address) => world.relay.visitor_from(address).await,
            None => world.relay.visitor().await,
        };
        Self::over(wire.into_io()).await
    }

    async fn over(io: impl Duplex + 'static) -> Self {
        let (handle, connection) = h2::client::handshake(io).await.unwrap();
        let scope = Scope::new();
        scope.spawn(async move {
            let _ = connection.await;
        });
        Self { handle, scope }
    }

    /// Sends a head; what follows is the caller's to send.
    pub(crate) async fn begin(&mut self, request: Request<()>, ends: bool) -> (Answering, SendStream<Bytes>) {
        let mut handle = self.handle.clone();
        within("ready", poll_fn(|cx| handle.poll_ready(cx))).await.unwrap();
        let (response, stream) = handle.send_request(request, ends).unwrap();
        (Answering(response), stream)
    }

    /// Sends a request without a body.
    pub(crate) async fn fetch(&mut self, request: Request<()>) -> Result<Whole, h2::Error> {
        self.begin(request, true).await.0.whole().await
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.scope.abort();
    }
}

/// An answer on its way.
pub(crate) struct Answering(ResponseFuture);

impl Answering {
    /// The next interim response.
    pub(crate) async fn interim(&mut self) -> Response<()> {
        let next = poll_fn(|cx| match self.0.poll_informational(cx) {
            Poll::Ready(Some(head)) => Poll::Ready(head),
            Poll::Ready(None) => panic!("the final answer came before an interim response"),
            Poll::Pending => Poll::Pending,
        });
        within("an interim response", next).await.unwrap()
    }

    /// The request at the origin, unless it has an answer before.
    pub(crate) async fn at_origin(&mut self, world: &World) -> (Wire, Head) {
        tokio::select! {
            at_origin = at_origin(world) => at_origin,
            answer = &mut self.0 => panic!("the origin got no request: {answer:?}"),
        }
    }

    /// The final answer as it comes, which is a success.
    pub(crate) async fn reading(self) -> Reading {
        let answer = within("an answer", self.0).await.unwrap();
        assert_eq!(answer.status(), 200);
        Reading(answer.into_body())
    }

    /// The final answer.
    pub(crate) async fn whole(self) -> Result<Whole, h2::Error> {
        let (head, mut stream) = within("an answer", self.0).await?.into_parts();
        let body = within("a body", read(&mut stream)).await?;
        let trailers = within("trailers", poll_fn(|cx| stream.poll_trailers(cx))).await?;
        Ok(Whole { head: Response::from_parts(head, ()), body, trailers })
    }
}

/// A body, part by part.
pub(crate) struct Reading(pub(crate) RecvStream);

impl Reading {
    /// The next part; empty at the end.
    pub(crate) async fn next(&mut self) -> Bytes {
        let Some(data) = within("a part of a body", self.0.data()).await else { return Bytes::new() };
        let data = data.unwrap();
        self.0.flow_control().release_capacity(data.len()).unwrap();
        data
    }

    /// What stands behind the body, of which there is no more.
    pub(crate) async fn trailers(&mut self) -> Option<HeaderMap> {
        assert_eq!(self.next().await, "");
        within("trailers", poll_fn(|cx| self.0.poll_trailers(cx))).await.unwrap()
    }
}

async fn read(stream: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut all = BytesMut::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// A request to the world's agent.
pub(crate) fn request(method: &str, target: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("https://{}{target}", host()))
}
