//! The agent's half.

use futures_util::future::BoxFuture;
use http::Method;

use crate::defaults;
use crate::transport::{AgentSide, Call, OpenError, Opened, flip, query};

pub(super) struct Agent;

impl AgentSide for Agent {
    fn open<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Opened, OpenError>> {
        let path = match call.relay.path() {
            "" | "/" => defaults::GATEWAY,
            path => path,
        };
        let request = flip::request(call, Method::POST, &query::target(path, &call.offer), "PTTH/1.0");
        Box::pin(flip::open(call, request))
    }
}
