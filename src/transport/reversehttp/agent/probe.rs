//! Probes whether something on the way holds bodies back: a GET's answer stays open, and so does a POST's body.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::client::conn::http1::SendRequest;

use crate::defaults;
use crate::http1::embedded::MESSAGE_HTTP;
use crate::message::{Body, BoxError, Request};
use crate::net::flag::Flag;
use crate::transport::StreamingSupport;
use crate::transport::polled::Client;
use crate::transport::reversehttp::{DOWN, UP};

/// Probes on two connections of its own, for at most [`defaults::PROBE`] once both are open. A direction without a
/// result counts as one that does not stream, because whole messages get through everywhere. Dropping the future gives
/// up.
pub(super) async fn streaming_support(client: &Client, url: &str) -> StreamingSupport {
    let (Ok((mut get, getting)), Ok((mut post, posting))) = tokio::join!(client.connect(), client.connect())
    else {
        return StreamingSupport::BUFFERED;
    };
    let (down, up) = (Arc::<Flag>::default(), Arc::<Flag>::default());
    let both_raised = async {
        down.listen().await;
        up.listen().await;
    };
    let probing = async {
        let requests = async {
            tokio::join!(probe_down(&mut get, client, url, &down, &up), probe_up(&mut post, client, url, &up))
        };
        let _ = tokio::join!(getting, posting, requests);
    };
    let _ = tokio::time::timeout(defaults::PROBE, async {
        tokio::select! {
            biased;
            () = both_raised => {}
            () = probing => {}
        }
    })
    .await;
    StreamingSupport { down: down.is_raised(), up: up.is_raised() }
}

/// Reads the lines that the relay sends while its answer stays open.
async fn probe_down(
    get: &mut SendRequest<Body>,
    client: &Client,
    url: &str,
    down: &Flag,
    up: &Flag,
) -> Option<()> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = url.parse().ok()?;
    let mut answer = get.send_request(client.with_common_fields(request)).await.ok()?;
    if answer.status() != StatusCode::OK {
        return None;
    }
    let mut received = Vec::new();
    while let Some(Ok(frame)) = answer.body_mut().frame().await {
        received.extend_from_slice(frame.data_ref()?);
        if received.starts_with(DOWN) {
            down.raise();
        }
        if received.get(DOWN.len()..).is_some_and(|rest| rest.starts_with(UP)) {
            up.raise();
            return Some(());
        }
        if received.len() > DOWN.len() + UP.len() {
            return None;
        }
    }
    None
}

/// Sends the start of a body that has no end. The answer proves that the start has arrived. Some boxes let no answer
/// through before its request has ended; then the second line that [`probe_down`] reads proves the same.
async fn probe_up(post: &mut SendRequest<Body>, client: &Client, url: &str, up: &Flag) -> Option<()> {
    let start = stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(UP)))]);
    let mut request = Request::new(Body::wrap(StreamBody::new(start.chain(stream::pending()))));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse().ok()?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE_HTTP));
    let answer = post.send_request(client.with_common_fields(request)).await.ok()?;
    if answer.status() == StatusCode::NO_CONTENT {
        up.raise();
    }
    Some(())
}
