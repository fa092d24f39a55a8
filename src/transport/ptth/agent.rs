//! The agent's half.

use futures_util::future::BoxFuture;
use http::Method;

use super::wire;
use crate::transport::{AgentSide, Call, OpenError, Opened, flip};

pub(super) struct Agent;

impl AgentSide for Agent {
    fn open<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Opened, OpenError>> {
        let request = flip::request(call, Method::GET, &wire::target(&call.relay, &call.offer), "ptth");
        Box::pin(flip::open(call, request))
    }
}
