//! Answers: routes an embedded response to the visitor that waits for it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRAILER};
use http::{HeaderValue, StatusCode};
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::UrlId;
use super::queue::{AnswerRouter, Queue};
use super::request::Recipient;
use super::stream::BreakWhenCut;
use crate::defaults;
use crate::http1::embedded::{
    BadMessage, EmbeddedResponse, Framing, Next, ReadError, Reader, parse_answer, parse_next, parse_response,
    take_response, whole,
};
use crate::message::framing::is_bodiless;
use crate::message::{Body, Response, hop};
use crate::session::carrier::SendErrorKind;

/// Why an answer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// No request was delivered to this URL, or the request has its answer.
    #[error("no request waits for this answer")]
    Unknown,
    /// The envelope is not a response.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// All answers together have taken the memory for answers.
    #[error("there is no room for an answer at the moment")]
    Full,
    /// The answer took too long.
    #[error("the answer took too long")]
    Timeout,
}

/// The error for a visitor whose answer was not taken.
fn kind_of(error: &AnswerError) -> SendErrorKind {
    match error {
        AnswerError::Read(ReadError::Bad(_)) => SendErrorKind::Invalid,
        AnswerError::Full => SendErrorKind::Busy,
        _ => SendErrorKind::Closed,
    }
}

impl AnswerRouter {
    /// The visitors that wait for the answer to the delivery of `url`.
    fn take(&self, url: UrlId) -> Result<(Arc<Queue>, Vec<Recipient>), AnswerError> {
        let queue = self.find(url).ok_or(AnswerError::Unknown)?;
        let recipients = queue.update(|mailbox| mailbox.answer(url));
        recipients.map(|recipients| (queue, recipients)).ok_or(AnswerError::Unknown)
    }

    /// As [`AnswerRouter::take`], where one request was delivered.
    fn take_one(&self, url: UrlId) -> Result<(Arc<Queue>, Recipient), AnswerError> {
        let (queue, mut recipients) = self.take(url)?;
        Ok((queue, recipients.pop().ok_or(AnswerError::Unknown)?))
    }

    /// Takes the answer in `envelope`. A short answer is read first, so that the agent is free for its next request. A
    /// long or endless answer streams as its visitor reads. So does an incomplete answer of an agent that streams.
    /// Interim responses before a live answer are sent to its visitor as they arrive. An answer that arrives after its
    /// visitor has left is discarded. Dropping the future breaks the answer off.
    ///
    /// # Errors
    /// [`AnswerError`]; a visitor that still waits gets an error too.
    pub async fn answer(&self, url: UrlId, envelope: Body) -> Result<(), AnswerError> {
        let (queue, mut recipients) = self.take(url)?;
        match recipients.pop() {
            Some(last) if !last.mode.batch => answer_one(&queue, last, envelope).await,
            last => {
                recipients.extend(last);
                answer_batch(&queue, recipients, envelope).await
            }
        }
    }

    /// Gives the visitor of `url` its answer, which is in memory. `Content-Length` stays only in a 304 and in answers
    /// to a HEAD, where it is the length of the answer to a GET, and never in a 204. An answer that arrives after its
    /// visitor has left is discarded. Returns whether the session of the request is still open.
    ///
    /// # Errors
    /// [`AnswerError::Unknown`]
    pub fn respond(&self, url: UrlId, mut response: Response) -> Result<bool, AnswerError> {
        let (queue, recipient) = self.take_one(url)?;
        let status = response.status();
        let bodiless = is_bodiless(&recipient.method, status);
        if bodiless {
            *response.body_mut() = Body::empty();
        }
        if !bodiless || status == StatusCode::NO_CONTENT {
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        recipient.respond(Ok(response));
        Ok(!queue.is_ended())
    }

    /// Gives the visitor of `url` an error, because the received message is not an answer.
    ///
    /// # Errors
    /// [`AnswerError::Unknown`]
    pub fn refuse(&self, url: UrlId, kind: SendErrorKind) -> Result<(), AnswerError> {
        self.take_one(url)?.1.fail(kind, None);
        Ok(())
    }
}

async fn answer_one(queue: &Arc<Queue>, mut recipient: Recipient, envelope: Body) -> Result<(), AnswerError> {
    let size = envelope.size_hint().exact();
    let mut reader = Reader::new(envelope);
    let until = Instant::now() + defaults::ANSWER;
    let head = match recipient.mode.live {
        true => await_head(queue, &mut recipient, &mut reader).await,
        false => read_head(&recipient, &mut reader, until).await.map(Some),
    };
    let answer = match head {
        // The visitor no longer waits for the answer that is being made.
        Ok(None) => return Ok(()),
        Ok(Some(head)) => {
            let until = if recipient.mode.live { Instant::now() + defaults::ANSWER } else { until };
            let reading = tokio::time::timeout_at(until, read(queue, &recipient, reader, head, size));
            reading.await.unwrap_or(Err(AnswerError::Timeout))
        }
        Err(error) => Err(error),
    };
    let (mut response, complete) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            recipient.fail(kind_of(&error), None);
            return Err(error);
        }
    };
    // An agent that did not request the body before the answer gets no part of it.
    if let Some(gate) = recipient.gate.take() {
        response.body_mut().hold(gate.keep_shut());
    }
    if complete {
        recipient.respond(Ok(response));
        return Ok(());
    }
    let (guard, read) = oneshot::channel::<()>();
    let cut = queue.is_cut();
    response.body_mut().observe(Box::new(BreakWhenCut(queue.is_cut())));
    response.body_mut().hold(guard);
    if recipient.respond(Ok(response)) {
        tokio::select! {
            biased;
            () = cut => {}
            _ = read => {}
        }
    }
    Ok(())
}

/// The head of an answer that is not live.
async fn read_head(
    recipient: &Recipient,
    reader: &mut Reader,
    until: Instant,
) -> Result<EmbeddedResponse, AnswerError> {
    let parse = if recipient.upgrades { parse_answer } else { parse_response };
    match tokio::time::timeout_at(until, reader.head(parse)).await {
        Ok(head) => Ok(head?),
        Err(_) => Err(AnswerError::Timeout),
    }
}

/// The head of a live answer. Interim responses before it go to the visitor at once. `None` when the visitor has left:
/// the only deadline here is how long the visitor waits.
async fn await_head(
    queue: &Queue,
    recipient: &mut Recipient,
    reader: &mut Reader,
) -> Result<Option<EmbeddedResponse>, AnswerError> {
    let (mut left, upgrades) = (defaults::INTERIM, recipient.upgrades);
    loop {
        let next = tokio::select! {
            biased;
            next = reader.head(|bytes| parse_next(bytes, upgrades)) => next?,
            () = recipient.closed() => return Ok(None),
            () = queue.is_cut() => return Err(ReadError::Broken("the registration was cut".into()).into()),
        };
        match next {
            Next::Answer(head) => return Ok(Some(head)),
            Next::Interim(_) if left == 0 => return Err(ReadError::from(BadMessage::Flood).into()),
            Next::Interim(head) => {
                left -= 1;
                match recipient.gate.take_if(|_| head.status() == StatusCode::CONTINUE) {
                    Some(gate) => gate.open(),
                    None => recipient.interim.send(head),
                }
            }
        }
    }
}

/// The answer, and whether it is complete. `size` is the length of its envelope in bytes, if that is announced.
async fn read(
    queue: &Queue,
    recipient: &Recipient,
    mut reader: Reader,
    head: EmbeddedResponse,
    size: Option<u64>,
) -> Result<(Response, bool), AnswerError> {
    let announced = size.unwrap_or(defaults::ANSWER_WHOLE).min(defaults::ANSWER_WHOLE);
    // Without memory the answer streams.
    let mut share = queue.router.store.reserve_memory(announced);
    let short = share.is_some() && size.is_some_and(|length| length <= defaults::ANSWER_WHOLE);
    let most = usize::try_from(defaults::ANSWER_WHOLE).unwrap_or(usize::MAX);
    let EmbeddedResponse { status, mut headers, framing, upgrade } = head;
    let may_stream = recipient.mode.streams || recipient.mode.live;
    let complete = if may_stream { share.is_some() && reader.settle(most).await? } else { short };
    // Of a body that streams, only the bytes that have arrived occupy memory.
    let ahead = reader.ahead();
    if let Some(token) = upgrade {
        hop::set_upgrade(&mut headers, token);
    }
    let bodiless = is_bodiless(&recipient.method, status);
    let body = match framing {
        _ if bodiless => {
            // The length of the answer to a GET.
            if let Framing::Rest(Some(length)) = framing
                && status != StatusCode::NO_CONTENT
            {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            if complete && !matches!(framing, Framing::Chunked) {
                refuse_second(reader).await?;
            }
            Body::empty()
        }
        Framing::Chunked if may_stream => reader.stream(framing),
        // If no more bytes arrive, the answer broke off at the origin. The visitor sees that if the body streams.
        Framing::Rest(Some(length)) if recipient.mode.live && length > ahead as u64 => reader.stream(framing),
        framing if complete => {
            // A body that is taken in loses its trailers.
            headers.remove(TRAILER);
            Body::full(reader.whole(framing, most).await?)
        }
        framing => reader.stream(framing),
    };
    let length = if complete { body.size_hint().lower() } else { ahead as u64 };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if let Some(share) = share.as_mut().filter(|_| length > 0)
        && let Some(retained) = share.split(length.min(share.num_permits()))
    {
        response.body_mut().hold(retained);
    }
    Ok((response, complete || bodiless))
}

/// Drops a body that the message must not have, because the clients of 2009 send such bodies. Refuses a second message.
async fn refuse_second(reader: Reader) -> Result<(), ReadError> {
    let most = usize::try_from(defaults::ANSWER_WHOLE).unwrap_or(usize::MAX);
    match reader.whole(Framing::Rest(Some(0)), most).await {
        Err(ReadError::Bad(BadMessage::Several)) => Err(BadMessage::Several.into()),
        other => other.map(|_| ()),
    }
}

/// Takes the answers to a batch, in the order of its requests. An answer that cannot be read ends the reading: the
/// start of the next answer is not known.
async fn answer_batch(queue: &Queue, recipients: Vec<Recipient>, envelope: Body) -> Result<(), AnswerError> {
    let mut rest = match take_in(queue, envelope).await {
        Ok(rest) => rest,
        Err(error) => {
            recipients.into_iter().for_each(|recipient| recipient.fail(kind_of(&error), None));
            return Err(error);
        }
    };
    let count = recipients.len();
    let mut bad = None;
    for (place, recipient) in recipients.into_iter().enumerate() {
        let read = match bad {
            None => take_response(&mut rest, &recipient.method, place + 1 == count),
            Some(bad) => Err(bad),
        };
        match read {
            Ok((status, headers, body)) => {
                let mut response = Response::new(Body::full(body));
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                recipient.respond(Ok(response));
            }
            Err(why) => {
                bad.get_or_insert(why);
                recipient.fail(SendErrorKind::Invalid, None);
            }
        }
    }
    let more = (!rest.trim_ascii().is_empty()).then_some(BadMessage::Several);
    bad.or(more).map_or(Ok(()), |bad| Err(ReadError::from(bad).into()))
}

/// Reads the envelope of a batch, within the registration's memory for answers to batches.
async fn take_in(queue: &Queue, envelope: Body) -> Result<Bytes, AnswerError> {
    let size = envelope.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let room = size.unwrap_or(defaults::PIPELINE_ANSWERS);
    if room > defaults::PIPELINE_ANSWERS {
        return Err(ReadError::TooLarge(defaults::PIPELINE_ANSWERS).into());
    }
    let reading = async {
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let _share = queue.answers.acquire_many(room).await;
        let _memory = queue.router.store.reserve_memory(room.into()).ok_or(AnswerError::Full)?;
        Ok(whole(envelope, defaults::PIPELINE_ANSWERS).await?)
    };
    tokio::time::timeout(defaults::ANSWER, reading).await.unwrap_or(Err(AnswerError::Timeout))
}
