//! Answers: routes an embedded response to the visitor that waits for it.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::UrlId;
use super::queue::{AnswerRouter, BreakWhenCut, Queue};
use super::request::Recipient;
use crate::defaults;
use crate::http1::embedded::{
    BadMessage, EmbeddedResponse, Framing, Next, ReadError, Reader, parse_answer, parse_next, parse_response,
    take_response, whole,
};
use crate::message::framing::{is_bodiless, is_incremental};
use crate::message::{Body, Response};
use crate::session::AnswerFault;
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
        AnswerError::Read(ReadError::Bad(bad)) => SendErrorKind::Invalid(AnswerFault::Message(*bad)),
        AnswerError::Full => SendErrorKind::Busy,
        _ => SendErrorKind::Closed,
    }
}

impl AnswerRouter {
    /// The visitors that wait for the answer to the delivery of `url`.
    fn take(&self, url: UrlId) -> Result<(Arc<Queue>, Vec<Recipient>), AnswerError> {
        let queue = self.queues.lock().get(&url).and_then(Weak::upgrade).ok_or(AnswerError::Unknown)?;
        let recipients = queue.lock().answer(url);
        recipients.map(|recipients| (queue, recipients)).ok_or(AnswerError::Unknown)
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

    /// Gives the visitor of `url` its answer, which is in memory, or an error. `Content-Length` stays only in a 304 and
    /// in answers to a HEAD, where it is the length of the answer to a GET, and never in a 204. An answer that arrives
    /// after its visitor has left is discarded. Returns whether the session of the request is still open.
    ///
    /// # Errors
    /// [`AnswerError::Unknown`]
    pub fn respond(&self, url: UrlId, answer: Result<Response, SendErrorKind>) -> Result<bool, AnswerError> {
        let (queue, mut recipients) = self.take(url)?;
        let recipient = recipients.pop().ok_or(AnswerError::Unknown)?;
        match answer {
            Ok(mut response) => {
                let status = response.status();
                let bodiless = is_bodiless(&recipient.method, status);
                if bodiless {
                    *response.body_mut() = Body::empty();
                }
                if !bodiless || status == StatusCode::NO_CONTENT {
                    response.headers_mut().remove(CONTENT_LENGTH);
                }
                recipient.respond(response);
            }
            Err(kind) => recipient.fail(kind, None),
        }
        let continues = !queue.lock().is_ended();
        Ok(continues)
    }
}

async fn answer_one(queue: &Arc<Queue>, mut recipient: Recipient, envelope: Body) -> Result<(), AnswerError> {
    let size = envelope.size_hint().exact();
    let (mut reader, since) = (Reader::new(envelope), Instant::now());
    let answer = async {
        let Some(head) = read_head(queue, &mut recipient, &mut reader).await? else { return Ok(None) };
        let since = if recipient.mode.live { Instant::now() } else { since };
        let reading = read(queue, &recipient, reader, head, size);
        let answer = tokio::time::timeout_at(since + defaults::ANSWER, reading).await;
        answer.unwrap_or(Err(AnswerError::Timeout)).map(Some)
    };
    let (mut response, complete) = match answer.await {
        Ok(Some(answer)) => answer,
        // The visitor no longer waits for the answer that is being made.
        Ok(None) => return Ok(()),
        Err(error) => {
            recipient.fail(kind_of(&error), None);
            return Err(error);
        }
    };
    // An agent that did not request the body before the answer gets no part of it.
    if let Some(gate) = recipient.gate.take() {
        gate.keep_shut();
        response.body_mut().hold(gate);
    }
    let (guard, read) = oneshot::channel::<()>();
    if !complete {
        response.body_mut().observe(Box::new(BreakWhenCut(queue.is_cut())));
        response.body_mut().hold(guard);
    }
    if recipient.respond(response) && !complete {
        tokio::select! {
            biased;
            () = queue.is_cut() => {}
            _ = read => {}
        }
    }
    Ok(())
}

/// The head of an answer. Interim responses before a live answer go to the visitor at once. `None` when the visitor of
/// a live answer has left: the only deadline for that head is how long the visitor waits.
async fn read_head(
    queue: &Queue,
    recipient: &mut Recipient,
    reader: &mut Reader,
) -> Result<Option<EmbeddedResponse>, AnswerError> {
    let (live, upgrades, until) =
        (recipient.mode.live, recipient.upgrades, Instant::now() + defaults::ANSWER);
    let parse = |bytes: &Bytes| match (live, upgrades) {
        (true, _) => parse_next(bytes, upgrades),
        (false, true) => parse_answer(bytes).map(Next::Answer),
        (false, false) => parse_response(bytes).map(Next::Answer),
    };
    let mut left = defaults::INTERIM;
    loop {
        let next = tokio::select! {
            biased;
            next = reader.head(parse) => next?,
            () = recipient.answer.closed(), if live => return Ok(None),
            () = queue.is_cut(), if live => {
                return Err(ReadError::Broken("the registration was cut".into()).into());
            }
            () = tokio::time::sleep_until(until), if !live => return Err(AnswerError::Timeout),
        };
        match next {
            Next::Answer(head) => return Ok(Some(head)),
            Next::Interim(_) if left == 0 => return Err(ReadError::from(BadMessage::Interims).into()),
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
    mut head: EmbeddedResponse,
    size: Option<u64>,
) -> Result<(Response, bool), AnswerError> {
    let announced = size.unwrap_or(defaults::ANSWER_WHOLE).min(defaults::ANSWER_WHOLE);
    // Without memory the answer streams.
    let mut share = queue.router.store.reserve_memory(announced);
    let most = defaults::ANSWER_WHOLE as usize;
    let may_stream = recipient.mode.streams || recipient.mode.live;
    let complete = match may_stream {
        true => share.is_some() && reader.settle(most).await?,
        false if is_incremental(&head.headers) => false,
        false => share.is_some() && size.is_some_and(|length| length <= defaults::ANSWER_WHOLE),
    };
    // Of a body that streams, only the bytes that have arrived occupy memory.
    let ahead = reader.ahead();
    let mut occupied = ahead;
    let bodiless = head.is_bodiless(&recipient.method);
    let framing = head.framing;
    let mut response = match framing {
        _ if bodiless => {
            occupied = 0;
            if complete && framing != Framing::Chunked {
                // The clients of 2009 send bodies here, which are dropped. A second message is refused.
                reader.whole(Framing::Rest(Some(0)), most).await?;
            }
            head.with_body(Body::empty())
        }
        Framing::Chunked if may_stream => head.with_body(reader.stream(framing)),
        // If no more bytes arrive, the answer broke off at the origin. The visitor sees that if the body streams.
        Framing::Rest(Some(length)) if recipient.mode.live && length > ahead as u64 => {
            head.with_body(reader.stream(framing))
        }
        _ if complete => {
            let (body, trailers) = reader.whole(framing, most).await?;
            occupied = body.len();
            // Without trailers, the visitor gets the length of the body.
            head.complete(body, trailers.filter(|_| recipient.takes_trailers))
        }
        _ => head.with_body(reader.stream(framing)),
    };
    if let Some(share) = share.as_mut().filter(|_| occupied > 0)
        && let Some(retained) = share.split(occupied.min(share.num_permits()))
    {
        response.body_mut().hold(retained);
    }
    Ok((response, complete || bodiless))
}

/// Takes the answers to a batch, in the order of its requests. An answer that cannot be read ends the reading: the
/// start of the next answer is not known.
async fn answer_batch(queue: &Queue, recipients: Vec<Recipient>, envelope: Body) -> Result<(), AnswerError> {
    let size = envelope.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let room = size.unwrap_or(defaults::PIPELINE_ANSWERS);
    // Within the registration's memory for answers to batches.
    let reading = async {
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let _share = queue.answers.acquire_many(room).await;
        let _memory = queue.router.store.reserve_memory(room.into()).ok_or(AnswerError::Full)?;
        Ok(whole(envelope, defaults::PIPELINE_ANSWERS).await?)
    };
    let read = match room > defaults::PIPELINE_ANSWERS {
        true => Err(ReadError::TooLarge(defaults::PIPELINE_ANSWERS).into()),
        false => tokio::time::timeout(defaults::ANSWER, reading).await.unwrap_or(Err(AnswerError::Timeout)),
    };
    let mut rest = match read {
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
            None => {
                take_response(&mut rest, (&recipient.method, recipient.takes_trailers), place + 1 == count)
            }
            Some(bad) => Err(bad),
        };
        match read {
            Ok(response) => drop(recipient.respond(response)),
            Err(why) => {
                bad.get_or_insert(why);
                recipient.fail(SendErrorKind::Invalid(AnswerFault::Message(why)), None);
            }
        }
    }
    let more = (!rest.trim_ascii().is_empty()).then_some(BadMessage::Several);
    bad.or(more).map_or(Ok(()), |bad| Err(ReadError::from(bad).into()))
}
