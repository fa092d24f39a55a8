//! Answers: read whole, within bounds, and passed to the visitors that wait for them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::BytesMut;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::sessions::{CometRequest, Sessions, number};
use crate::defaults;
use crate::domain::{AgentId, Refusal, RefusalKind};
use crate::http1::embedded::ReadError;
use crate::message::Body;
use crate::session::SendErrorKind;
use crate::session::envelope::{AnswerError, AnswerRouter, UrlId};
use crate::transport::comet::wire::{InvalidMessage, id_of, read_answer};

/// The relay's memory for the answers of each agent.
#[derive(Default)]
pub(super) struct Answers(Mutex<HashMap<AgentId, Weak<Semaphore>>>);

/// The name of an exchange: its id, bound to the agent that received it. The id is of no use to another agent.
pub(super) fn exchange(agent: &AgentId, id: u128) -> UrlId {
    let hash = Sha256::new().chain_update(id.to_be_bytes()).chain_update(agent.0.as_bytes()).finalize();
    hash.iter().take(16).fold(0, |all, byte| all << 8 | UrlId::from(*byte))
}

impl Answers {
    /// Passes the answer in `body` to its visitor. `None` if there is no answer; otherwise whether the session of the
    /// request continues.
    pub(super) async fn take(
        &self,
        sessions: &Sessions,
        comet_request: &CometRequest,
        body: Body,
    ) -> Result<Option<bool>, Refusal> {
        let (router, agent) = (sessions.router(), &comet_request.agent);
        if body.is_end_stream() {
            return Ok(None);
        }
        let mut text = BytesMut::new();
        let reading = tokio::time::timeout(defaults::ANSWER, self.read_body(agent, body, &mut text)).await;
        let share = match reading {
            Ok(Ok(share)) => share,
            Ok(Err(ReadError::TooLarge(most))) => {
                refuse(router, agent, id_of(&text), InvalidMessage::TooLarge.for_visitor());
                return Err(Refusal::new(
                    RefusalKind::TooLarge,
                    format!("the answer is larger than {most} bytes"),
                ));
            }
            Ok(Err(error)) => {
                refuse(router, agent, id_of(&text), SendErrorKind::Closed);
                return Err(malformed(&error));
            }
            Err(_) => {
                refuse(router, agent, id_of(&text), SendErrorKind::Closed);
                return Err(malformed(&AnswerError::Timeout));
            }
        };
        match read_answer(&text) {
            Ok(None) => Ok(None),
            Ok(Some((message_header, mut response))) => {
                drop(text);
                attach_share(response.body_mut(), share);
                let id = number(&message_header.id).map(|id| exchange(agent, id));
                match id.map(|id| router.respond(id, Ok(response))) {
                    Some(Ok(continues)) => Ok(Some(continues)),
                    _ => {
                        let delivered = id.is_some_and(|id| sessions.has_delivered(comet_request, id));
                        Err(unknown(delivered))
                    }
                }
            }
            Err(error) => {
                refuse(router, agent, error.id, error.reason.for_visitor());
                let kind = match error.reason {
                    InvalidMessage::TooLarge => RefusalKind::TooLarge,
                    _ => RefusalKind::Malformed,
                };
                Err(Refusal::new(kind, format!("the answer is malformed: {}", error.reason)))
            }
        }
    }

    /// Reads a body into `text`. A body that is not short waits for its share of the agent's memory.
    async fn read_body(
        &self,
        agent: &AgentId,
        mut body: Body,
        text: &mut BytesMut,
    ) -> Result<Option<OwnedSemaphorePermit>, ReadError> {
        let (announced, short) = (body.size_hint(), defaults::ANSWER_WHOLE as usize);
        // If the announced length is too large, only the beginning is read, which has the id of the exchange.
        let too_large = announced.lower() > defaults::JSON as u64;
        let most = if too_large { defaults::FORM } else { defaults::JSON };
        let mut share = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() else { continue };
            let remaining = most - text.len();
            if data.len() > remaining {
                text.extend_from_slice(&data[..remaining]);
                return Err(ReadError::TooLarge(defaults::JSON));
            }
            if share.is_none() && text.len() + data.len() > short {
                let length = announced.exact().and_then(|length| usize::try_from(length).ok());
                let room = u32::try_from(length.unwrap_or(defaults::JSON)).unwrap_or(u32::MAX);
                share = self.room(agent).acquire_many_owned(room).await.ok();
            }
            text.extend_from_slice(&data);
        }
        Ok(share)
    }

    fn room(&self, agent: &AgentId) -> Arc<Semaphore> {
        let mut rooms = self.0.lock();
        if let Some(room) = rooms.get(agent).and_then(Weak::upgrade) {
            return room;
        }
        rooms.retain(|_, room| room.strong_count() > 0);
        let room = Arc::new(Semaphore::new(defaults::COMET_MESSAGES));
        rooms.insert(agent.clone(), Arc::downgrade(&room));
        room
    }
}

/// Keeps the body's part of a share until the visitor has read the body.
fn attach_share(body: &mut Body, share: Option<OwnedSemaphorePermit>) {
    let length = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    if let (Some(mut share), Some(length)) = (share, length)
        && let Some(body_share) = share.split(length)
    {
        body.hold(body_share);
    }
}

/// No request waits for this answer, perhaps because the request has its answer already.
fn unknown(delivered: bool) -> Refusal {
    match delivered {
        true => Refusal::new(RefusalKind::Answered, "this request has its answer already"),
        false => Refusal::new(
            RefusalKind::NotFound,
            "no request with this message-id waits for an answer from this agent",
        ),
    }
}

fn malformed(error: &impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalKind::Malformed, format!("the answer is malformed: {error}"))
}

fn refuse(router: &AnswerRouter, agent: &AgentId, id: Option<Box<str>>, reason: SendErrorKind) {
    if let Some(id) = id.as_deref().and_then(number) {
        // If the request has its answer already, that answer stands.
        let _ = router.respond(exchange(agent, id), Err(reason));
    }
}
