//! Answers on their way to the relay.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Client;
use crate::defaults;
use crate::message::body::BodyEvent;
use crate::message::{Body, BoxError, Request, fields};
use crate::net::Scope;

/// How many times an answer is sent if its connections break.
const TRIES: u32 = 3;

/// Delivers an answer to the relay. If a connection breaks, the answer is sent again, up to `TRIES` times in all and as
/// long as `post` can make another request; the relay takes the first copy that arrives. An answer without progress for
/// [`defaults::ANSWER_STUCK`] is given up. Dropping the future breaks the answer off.
///
/// # Errors
/// A message for the visitor, because the answer did not reach the relay.
pub(in crate::transport) async fn deliver_answer(
    client: &Arc<Client>,
    post: impl Fn() -> Option<Request>,
    scope: &Scope,
) -> Result<(), String> {
    for failures in 1..=TRIES {
        let Some(request) = post() else { break };
        match send(client, request, scope).await {
            Ok(Some(response)) => return check_response(&response.map(drop)),
            Ok(None) => {
                tracing::info!("an answer stalled on its way to the relay, and was abandoned");
                return Err("The answer stalled between the agent and the relay.".into());
            }
            Err(error) => tracing::debug!(%error, "an answer did not reach the relay"),
        }
        tokio::time::sleep(defaults::BACKOFF_FIRST * failures).await;
    }
    Err("The connection from the agent to the relay broke during the answer.".into())
}

/// Sends an answer. `None` when the answer made no progress for [`defaults::ANSWER_STUCK`], or when the relay did not
/// respond for as long after the end of the answer. An answer may pause for hours, as long as its origin pauses.
async fn send(
    client: &Arc<Client>,
    mut request: Request,
    scope: &Scope,
) -> Result<Option<http::Response<Body>>, BoxError> {
    // When the connection took the last piece; `None` while the connection waits for the next one.
    let last_progress = Arc::new(Mutex::new(Some(Instant::now())));
    let observed = last_progress.clone();
    request.body_mut().observe(Box::new(move |event| {
        *observed.lock() = (event != BodyEvent::Pending).then(Instant::now);
    }));
    let mut sending = std::pin::pin!(client.send(request, scope));
    loop {
        let since = *last_progress.lock();
        let until = since.unwrap_or_else(Instant::now) + defaults::ANSWER_STUCK;
        tokio::select! {
            biased;
            response = &mut sending => return response.map(Some),
            () = tokio::time::sleep_until(until) => {}
        }
        if last_progress.lock().is_some_and(|since| since.elapsed() >= defaults::ANSWER_STUCK) {
            return Ok(None);
        }
    }
}

/// Checks the response to an answer. A refusal that is not the relay's is an error, with a message for the visitor.
fn check_response(response: &http::Response<()>) -> Result<(), String> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    if response.headers().contains_key(fields::PROXY_STATUS) {
        tracing::debug!(%status, "the relay refused an answer");
        return Ok(());
    }
    tracing::info!(%status, "an answer was refused on its way to the relay");
    Err(format!(
        "The answer was refused between the agent and the relay ({status}): something there does not accept \
         a body of this type or size."
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::domain::Offer;
    use crate::message::{Body, BoxError};
    use crate::net::dial::DialRoute;
    use crate::transport::Call;

    /// A relay that reads requests on its first connection, and responds when the bytes read end with `end`.
    async fn relay(end: Option<&'static str>) -> (Arc<Client>, Scope) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let scope = Scope::new();
        scope.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while stream.read_buf(&mut read).await.is_ok_and(|read| read > 0) {
                if end.is_some_and(|end| read.ends_with(end.as_bytes())) {
                    stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                }
            }
        });
        let tls = crate::tls::client_config_for_none().unwrap();
        let (offer, carriers) = (Offer::default(), Vec::new());
        let credentials = crate::transport::AgentCredentials::new(tls, None);
        let call = Call { relay, credentials, via: DialRoute::Direct, offer, carriers };
        (Arc::new(Client::new(&call)), scope)
    }

    fn post(body: Body) -> Request {
        let mut request = http::Request::new(body);
        *request.method_mut() = http::Method::POST;
        request
    }

    #[tokio::test(start_paused = true)]
    async fn a_swallowed_answer_is_abandoned() {
        let (client, scope) = relay(None).await;
        let delivery = deliver_answer(&client, || Some(post(Body::full("hey"))), &scope);
        let delivered = tokio::time::timeout(Duration::from_secs(3600), delivery).await;
        delivered.expect("the answer is not abandoned").expect_err("the answer was accepted");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_stream_for_hours_and_be_silent_for_hours() {
        let (client, scope) = relay(Some("0\r\n\r\n")).await;
        let pieces = |pauses: Vec<u64>| {
            let pieces = futures_util::stream::iter(pauses);
            futures_util::StreamExt::then(pieces, |pause| async move {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                Ok::<_, BoxError>(Frame::data("x".into()))
            })
        };
        let body = || Body::wrap(StreamBody::new(Box::pin(pieces(vec![1, 7200, 100, 250, 250, 7200]))));
        assert_eq!(deliver_answer(&client, || Some(post(body())), &scope).await, Ok(()));
    }
}
