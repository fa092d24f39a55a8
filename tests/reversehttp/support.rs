//! A relay in this process, and raw HTTP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use ptth::internals::agent::Serving;
use ptth::internals::domain::{AgentId, HostName, Name};
use ptth::internals::policy::{Grants, Tokens};
use ptth::internals::relay::Relay;
use ptth::internals::relay::config::{Listen, RelayConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// Longer than any step takes.
pub(crate) const STEP: Duration = Duration::from_secs(60);

/// A running relay with a token for any name.
pub(crate) struct Bench {
    pub(crate) relay: Relay,
    pub(crate) config: RelayConfig,
    pub(crate) token: String,
    pub(crate) id: AgentId,
    pub(crate) at: SocketAddr,
}

impl Bench {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut RelayConfig)) -> Self {
        let tokens = Tokens::in_memory();
        let (id, secret) = tokens.issue(Grants::any()).unwrap();
        let mut config = RelayConfig::new(HostName::parse("relay.test").unwrap(), tokens);
        config.listen = vec![Listen::plain(([127, 0, 0, 1], 0).into())];
        config.cores = 1;
        config.grace = Duration::from_secs(2);
        change(&mut config);
        let relay = Relay::start(config.clone()).unwrap();
        let at = relay.addresses()[0].address;
        Self { relay, config, token: secret.expose().into(), id, at }
    }

    /// A short hold: for tests of what happens when there is nothing.
    pub(crate) fn short_hold() -> Self {
        Self::with(|config| {
            config.polling.hold = Duration::from_millis(50);
            config.polling.absence = Duration::from_millis(50);
        })
    }

    /// Registration is open, and nobody has a token: the old clients write a hyphen instead.
    pub(crate) fn open_to_all() -> Self {
        Self { token: "-".to_owned(), ..Self::with(|config| config.open_registration = true) }
    }

    /// Both.
    pub(crate) fn short_hold_and_open() -> Self {
        let bench = Self::with(|config| {
            config.open_registration = true;
            config.polling.hold = Duration::from_millis(50);
            config.polling.absence = Duration::from_millis(50);
        });
        Self { token: "-".to_owned(), ..bench }
    }

    /// The same relay after a restart, on another port.
    pub(crate) async fn restarted(self) -> Self {
        let Self { relay, config, token, id, .. } = self;
        relay.stop().await;
        let relay = Relay::start(config.clone()).unwrap();
        let at = relay.addresses()[0].address;
        Self { relay, config, token, id, at }
    }

    /// And on the same port.
    pub(crate) async fn restarted_in_place(mut self) -> Self {
        self.config.listen[0].address = self.at;
        self.restarted().await
    }

    /// Our own agent for the name `demo`, which goes to the relay by way of `at`.
    pub(crate) fn agent(&self, transport: &str, at: SocketAddr) -> ptth::Agent {
        let agent = ptth::Agent::builder().relay(format!("http://{at}")).name("demo");
        agent.token(self.token.clone()).transport(transport).build().unwrap()
    }

    /// Such an agent, which serves `app` and is there.
    pub(crate) async fn serving(&self, transport: &str, app: Router) -> Serving {
        let mut serving = self.agent(transport, self.at).serve(app).unwrap();
        let connected = tokio::time::timeout(STEP, serving.connected()).await;
        let urls = connected.expect("the agent connects").unwrap();
        assert_eq!(urls, [format!("http://demo.relay.test:{}/", self.at.port())]);
        serving
    }

    pub(crate) fn another_token(&self, names: &[&str]) -> String {
        let names = names.iter().map(|n| Name::parse(n).unwrap());
        self.config.tokens.issue(Grants::names(names)).unwrap().1.expose().into()
    }

    pub(crate) async fn open(&self) -> Raw {
        Raw { stream: TcpStream::connect(self.at).await.unwrap(), read: Vec::new() }
    }

    /// One request on a connection of its own.
    pub(crate) async fn request(&self, method: &str, target: &str, fields: &str, body: &str) -> Answer {
        let mut raw = self.open().await;
        raw.request(method, target, fields, body).await
    }

    pub(crate) async fn register(&self, form: &str) -> Answer {
        self.request("POST", "/reversehttp", "", form).await
    }

    /// Registers a name and returns the path of its first Request URL.
    pub(crate) async fn registered(&self, name: &str) -> String {
        let answer = self.register(&format!("name={name}&token={}", self.token)).await;
        assert!([201, 204].contains(&answer.status), "{answer:?}");
        answer.link("first")
    }

    pub(crate) async fn poll(&self, url: &str) -> Answer {
        self.request("GET", url, "", "").await
    }

    /// A poll that is on its way, on a connection of its own.
    pub(crate) async fn polling(&self, url: &str) -> Raw {
        let mut raw = self.open().await;
        raw.send(&format!("GET {url} HTTP/1.1\r\nHost: relay.test\r\n\r\n")).await;
        raw
    }

    pub(crate) async fn answer(&self, url: &str, message: &str) -> Answer {
        self.request("POST", url, "Content-Type: message/http\r\n", message).await
    }

    /// A visitor's GET.
    pub(crate) async fn visit(&self, name: &str, target: &str) -> Answer {
        let mut raw = self.open().await;
        raw.send(&format!("GET {target} HTTP/1.1\r\nHost: {name}.relay.test\r\n\r\n")).await;
        raw.read().await
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head as it came.
    pub(crate) head: String,
    pub(crate) fields: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// The path of a link, read as the Python client does: split at ", ", then at ";".
    pub(crate) fn link(&self, rel: &str) -> String {
        let url = self.link_url(rel);
        let path = url.splitn(4, '/').nth(3).unwrap();
        format!("/{path}")
    }

    pub(crate) fn link_url(&self, rel: &str) -> String {
        let wanted = format!("rel=\"{rel}\"");
        let links = self.field("Link").split(", ").map(|link| link.split_once("; ").unwrap());
        let found = links.into_iter().find(|(_, parameter)| *parameter == wanted);
        let (url, _) = found.unwrap_or_else(|| panic!("no link {rel} in {self:?}"));
        url.strip_prefix('<').unwrap().strip_suffix('>').unwrap().to_owned()
    }
}

/// A connection and what was read too far.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) read: Vec<u8>,
}

impl Raw {
    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn request(&mut self, method: &str, target: &str, fields: &str, body: &str) -> Answer {
        let host = self.stream.peer_addr().unwrap();
        let length = match method {
            "GET" | "DELETE" | "OPTIONS" => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        self.send(&format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}{length}\r\n{body}")).await;
        self.read().await
    }

    pub(crate) async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(STEP, self.stream.read_buf(&mut self.read));
        read.await.expect("bytes before the timeout").unwrap() > 0
    }

    /// Everything up to and with `end`.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            let found = self.read.windows(end.len()).position(|w| w == end.as_bytes());
            if let Some(place) = found {
                let rest = self.read.split_off(place + end.len());
                let taken = std::mem::replace(&mut self.read, rest);
                return String::from_utf8(taken).unwrap();
            }
            assert!(self.more().await, "closed before {end:?}: {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// A head, without its body.
    pub(crate) async fn head(&mut self) -> Answer {
        let head = self.until("\r\n\r\n").await;
        let fields = head.lines().skip(1).filter_map(|l| l.split_once(": "));
        let fields = fields.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, fields, body: String::new() }
    }

    /// A whole answer, by its Content-Length.
    pub(crate) async fn read(&mut self) -> Answer {
        let mut answer = self.head().await;
        let length: usize = answer.field("Content-Length").parse().unwrap_or(0);
        while self.read.len() < length {
            assert!(self.more().await, "truncated: {answer:?}");
        }
        let rest = self.read.split_off(length);
        answer.body = String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
        answer
    }
}
