//! Logins that an origin ties to its connection: the relay marks the requests of the visitor connection, so that the
//! agent reserves the origin's connection for them.

use std::sync::OnceLock;

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::message::fields;
use crate::message::login::{self, VisitorMark};
use crate::message::{Request, Response};

/// The mark of one visitor connection, from the first message of such a login on.
#[derive(Default)]
pub(super) struct ConnectionLogin(OnceLock<HeaderValue>);

impl ConnectionLogin {
    /// Starts to mark the requests of the connection if this request has a credential of such a login.
    pub(super) fn note_request(&self, request: &Request) {
        if login::is_login(request.headers()) {
            self.begin();
        }
    }

    /// Starts to mark the requests of the connection if this answer requests such a login.
    pub(super) fn note_answer(&self, answer: &Response) {
        let is_refusal =
            matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        if is_refusal && login::is_challenge(answer.headers()) {
            self.begin();
        }
    }

    fn begin(&self) {
        self.0.get_or_init(|| VisitorMark::random().value());
    }

    /// Sets the mark on a request, if there is one and the agent removes it.
    pub(super) fn mark(&self, request: &mut HeaderMap, agent_removes_mark: bool) {
        match self.0.get() {
            Some(mark) if agent_removes_mark => {
                request.insert(fields::PTTH_VISITOR_CONNECTION, mark.clone());
            }
            // An earlier try, at another agent, may have set the mark.
            Some(_) => {
                request.remove(fields::PTTH_VISITOR_CONNECTION);
            }
            None => {}
        }
    }
}
