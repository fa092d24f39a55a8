//! The agent's half. So far only other people's agents use this transport.

use futures_util::future::BoxFuture;

use crate::transport::{AgentSide, Call, OpenError, Opened};

pub(super) struct Agent;

impl AgentSide for Agent {
    fn open<'a>(&'a self, _call: &'a Call) -> BoxFuture<'a, Result<Opened, OpenError>> {
        let error = OpenError::Broken("this version has no agent for reversehttp".into());
        Box::pin(std::future::ready(Err(error)))
    }
}
