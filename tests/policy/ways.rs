//! Every way an agent can come, and an origin that tells what reached it.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use ptth::internals::agent::Serving;
use ptth::internals::domain::Secret;
use ptth::internals::message::{Body, Request};
use ptth::internals::policy::{Grants, Tokens};
use ptth::internals::relay::config::RelayConfig;
use ptth::internals::session::handler::handler_fn;
use ptth::internals::session::{Handler, Kind};
use ptth::transport;

use crate::support::{AgentPlan, Head, Plan, TestRelay, named, run, serve};

pub(crate) const NAME: &str = "shop";

/// A transport and a carrier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) transport: &'static str,
    pub(crate) carrier: Kind,
}

/// Runs a scenario over each of them.
pub(crate) fn each(scenario: impl AsyncFn(Way)) {
    for transport in transport::ALL {
        for carrier in transport.carriers() {
            let way = Way { transport: transport.name(), carrier: *carrier };
            eprintln!("over {}/{carrier}", way.transport);
            run(scenario(way));
        }
    }
}

impl Way {
    /// Whether it is asked by polls, so that answers may wait for their end.
    pub(crate) fn is_polled(&self) -> bool {
        self.carrier == Kind::Envelope
    }

    /// An agent of [`NAME`].
    pub(crate) fn agent(&self, relay: &TestRelay, token: Secret) -> AgentPlan {
        AgentPlan::new(&relay.url(), NAME, token, self.transport, self.carrier)
    }

    /// One with rules for its visitors.
    pub(crate) fn with_rules(&self, relay: &TestRelay, token: Secret, rules: &str) -> AgentPlan {
        let mut plan = self.agent(relay, token);
        plan.config.visitors = Some(rules.into());
        plan
    }

    /// An agent with these rules that serves [`echo`].
    pub(crate) async fn serving(&self, relay: &TestRelay, rules: &str) -> Serving {
        serve(&self.with_rules(relay, relay.token(&[NAME]), rules), echo()).await
    }

    /// The bytes of an offer of [`NAME`], as any client could write them; `rest` are further fields.
    pub(crate) fn offer(&self, token: &Secret, rest: &str) -> String {
        let bearer = format!("Host: ptth.localhost\r\nAuthorization: Bearer {}\r\n", token.expose());
        let upgrade = |line: &str, protocol: &str| {
            let alpn = self.carrier.alpn_field();
            format!(
                "{line} HTTP/1.1\r\n{bearer}Connection: Upgrade\r\nUpgrade: {protocol}\r\nALPN: {alpn}\r\n{rest}\r\n"
            )
        };
        match self.transport {
            "ptth" => upgrade("GET /.well-known/ptth/https%3A%2F%2Fshop.ptth.localhost/", "ptth"),
            "ptth10" => upgrade("POST /reversehttp?name=shop", "PTTH/1.0"),
            "comet" => {
                format!(
                    "POST /reversehttp/_comet?name=shop HTTP/1.1\r\n{bearer}Content-Length: 0\r\nPrefer: wait=0\r\n{rest}\r\n"
                )
            }
            _ => format!("POST /reversehttp?name=shop HTTP/1.1\r\n{bearer}Content-Length: 0\r\n{rest}\r\n"),
        }
    }
}

/// A relay that is special in this.
pub(crate) fn relay(change: impl FnOnce(&mut RelayConfig) + 'static) -> TestRelay {
    TestRelay::planned(Plan { change: Box::new(change), ..Plan::default() })
}

pub(crate) fn token(tokens: &Tokens, grants: Grants) -> Secret {
    tokens.issue(grants).unwrap().1
}

/// Answers with what it got: the request line, the fields, and how long the body was.
pub(crate) fn echo() -> Arc<dyn Handler> {
    Arc::new(handler_fn(|request: Request| async {
        let (parts, body) = request.into_parts();
        let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
        let mut text = format!("{} {}\n", parts.method, parts.uri.path());
        for (name, value) in &parts.headers {
            text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or_default()));
        }
        Response::new(Body::full(Bytes::from(format!("{text}length: {length}\n"))))
    }))
}

/// A visitor's GET of [`NAME`].
pub(crate) async fn get(relay: &TestRelay, rest: &str) -> (Head, String) {
    relay.fetch(&format!("GET / HTTP/1.1\r\nHost: {}\r\n{rest}\r\n", named(NAME))).await
}

/// Its status alone.
pub(crate) async fn status(relay: &TestRelay, rest: &str) -> u16 {
    get(relay, rest).await.0.status()
}

/// `Authorization` with a name and a password.
pub(crate) fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {text}\r\n")
}
