//! An agent for programs: `Agent::builder()…serve(service)`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::config::AgentConfig;
use super::origin::{self, BadOrigin, OriginConfig};
use super::{Fatal, Serving, start};
use crate::defaults;
use crate::domain::{AnswerLimit, HostName, Instance, Name, Secret};
use crate::message::{Body, BoxError};
use crate::net::dial::{BadProxy, Proxies};
use crate::net::{Cores, Scope};
use crate::session::{Handler, Kind};
use crate::tls::{self, TlsError};

/// Serves a program's own service through a relay, without a local port.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let app = axum::Router::new().route("/", axum::routing::get(|| async { "hello from behind the firewall" }));
/// let mut serving = ptth::Agent::builder()
///     .relay("https://relay.example.org")
///     .name("shop")
///     .token(std::env::var("PTTH_TOKEN")?)
///     .build()?
///     .serve(app)?;
/// println!("{}", serving.connected().await?.join(" "));
/// serving.ended().await?;
/// # Ok(())
/// # }
/// ```
pub struct Agent {
    config: AgentConfig,
}

/// The settings of an [`Agent`] that is not built yet.
#[derive(Default)]
pub struct AgentBuilder {
    relays: Vec<String>,
    names: Vec<String>,
    hosts: Vec<String>,
    token: Option<Secret>,
    ca: Option<Box<Path>>,
    proxy: Option<String>,
    transport: Option<Box<str>>,
    climb: Option<Duration>,
    subnames: bool,
    exclusive: bool,
    identity: Option<(Box<Path>, Box<Path>)>,
    visitors: Option<Box<str>>,
    answer_timeout: Option<AnswerLimit>,
}

/// Why an agent cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No relay is set, or a relay is not `https://HOST[:PORT][/PATH]`. Plain `http` is accepted for loopback hosts
    /// only.
    #[error("{0:?} is not the URL of a relay: write https://HOST[:PORT]")]
    Relay(String),
    /// A name or a host is malformed.
    #[error(transparent)]
    Malformed(#[from] crate::domain::Malformed),
    /// The proxy setting, from [`AgentBuilder::proxy`] or from the environment, is malformed.
    #[error(transparent)]
    Proxy(#[from] BadProxy),
    /// The token or the rules for visitors cannot be the value of a header field. The error does not repeat the text,
    /// which may be a secret.
    #[error("the {0} must fit in a header field: use one line of printable characters")]
    Unprintable(&'static str),
    /// The roots cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why an agent cannot serve a target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The settings of the target.
    #[error(transparent)]
    Origin(#[from] BadOrigin),
    /// The settings of the agent.
    #[error(transparent)]
    Agent(#[from] Fatal),
}

impl Agent {
    /// A builder without settings.
    pub fn builder() -> AgentBuilder {
        AgentBuilder::default()
    }

    /// An agent with an existing configuration.
    pub fn new(config: AgentConfig) -> Self {
        Self { config }
    }

    /// Serves a tower service, such as an `axum::Router`, that answers [`http::Request`]s. WebSockets reach the service
    /// as HTTP/1.1 Upgrades on every carrier. Must be called within a tokio runtime, on which all tasks run.
    ///
    /// # Errors
    /// [`Fatal::Usage`] for a transport that does not exist.
    pub fn serve<S, B>(self, service: S) -> Result<Serving, Fatal>
    where
        S: tower_service::Service<http::Request<Body>, Response = http::Response<B>>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.handle(Arc::new(origin::tower(service)))
    }

    /// Serves a service at an address, or a directory, as `ptth agent` does; or several, each for the paths below a
    /// prefix.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut origin = ptth::OriginConfig::new("https://10.0.0.7:8443".parse()?);
    /// origin.tls.pins.push("sha256//0Q3lOZ1ZWRkIZUP3Wf8ljtvgeHSRZXM0wxkHWaAaWCA=".parse()?);
    /// let agent = ptth::Agent::builder().relay("https://relay.example.org").name("shop").token("ptth_…").build()?;
    /// let serving = agent.forward([origin])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ForwardError`]
    pub fn forward(self, origins: impl IntoIterator<Item = OriginConfig>) -> Result<Serving, ForwardError> {
        let served = origin::serve(origins, &Scope::new())?;
        Ok(self.handle(served.handler)?)
    }

    /// Serves a [`Handler`].
    ///
    /// # Errors
    /// [`Fatal::Usage`] for a transport that does not exist.
    pub fn handle(self, handler: Arc<dyn Handler>) -> Result<Serving, Fatal> {
        start(&self.config, handler, Cores::ambient())
    }
}

impl AgentBuilder {
    /// Adds a relay. The agent keeps a session to every relay.
    #[must_use]
    pub fn relay(mut self, url: impl Into<String>) -> Self {
        self.relays.push(url.into());
        self
    }

    /// Requests a name below the relay's domain.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Requests a host of your own, which the token must list.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Requests every host one label below each name and host, too. The token must list `*.NAME` or `*.HOST`.
    #[must_use]
    pub fn subnames(mut self) -> Self {
        self.subnames = true;
        self
    }

    /// The token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Secret::new(token.into().trim_end()));
        self
    }

    /// Trusts the roots of this PEM file instead of the system's.
    #[must_use]
    pub fn ca_file(mut self, pem: impl AsRef<Path>) -> Self {
        self.ca = Some(pem.as_ref().into());
        self
    }

    /// Connects through this proxy (`http://`, `socks5://` or `socks5h://`, with `USER:PASSWORD@` if the proxy needs
    /// it), or directly with `off`. By default the environment decides: `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`.
    #[must_use]
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// Sets the transport, one of [`transports`](super::transports), instead of `auto`.
    #[must_use]
    pub fn transport(mut self, name: impl Into<Box<str>>) -> Self {
        self.transport = Some(name.into());
        self
    }

    /// Sets the wait after which the agent tries better transports again while the best transport does not work; half a
    /// minute by default.
    #[must_use]
    pub fn climb(mut self, wait: Duration) -> Self {
        self.climb = Some(wait);
        self
    }

    /// Fences every other process of this token and name.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Presents this client certificate to relays that accept one: the chain, leaf first, and its key, both as PEM
    /// files.
    #[must_use]
    pub fn identity(mut self, cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.identity = Some((cert.as_ref().into(), key.as_ref().into()));
        self
    }

    /// Sets the rules for visitors, as the value of [`PTTH-Visitors`](crate::message::fields::PTTH_VISITORS), such as
    /// `net=("192.0.2.0/24"), visitor-rate=10`. The relay enforces them. The agent does not serve through a relay that
    /// does not support them.
    #[must_use]
    pub fn visitors(mut self, rules: impl Into<Box<str>>) -> Self {
        self.visitors = Some(rules.into());
        self
    }

    /// Requests a limit of a visitor's wait for the head of an answer, in whole seconds; a fraction is rounded up.
    /// [`Duration::ZERO`] requests no limit. The relay caps the limit at the most that the token allows, and without a
    /// value in the token at its own limit; [`Status::warnings`](super::Status::warnings) then has a warning.
    #[must_use]
    pub fn answer_timeout(mut self, limit: Duration) -> Self {
        self.answer_timeout = Some(limit.into());
        self
    }

    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`BuildError`]
    pub fn build(self) -> Result<Agent, BuildError> {
        let relays: Vec<_> = self.relays.into_iter().map(relay).collect::<Result<_, _>>()?;
        if relays.is_empty() {
            return Err(BuildError::Relay(String::new()));
        }
        // A field that cannot be written would be left out of the offer.
        let fits = |text: &str| http::HeaderValue::from_str(text).is_ok();
        if self.token.as_ref().is_some_and(|token| !fits(token.expose())) {
            return Err(BuildError::Unprintable("token"));
        }
        if self.visitors.as_deref().is_some_and(|rules| !fits(rules)) {
            return Err(BuildError::Unprintable("rules for visitors"));
        }
        let proxies = match self.proxy {
            Some(text) => Proxies::parse(&text, "proxy()")?,
            None => Proxies::environment(relays.iter().filter_map(http::Uri::host), |name| {
                // A value that is not Unicode does not count as a missing variable.
                std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
            })?,
        };
        let mut tls = tls::client_config(self.ca.as_deref(), &[])?;
        if let Some((cert, key)) = &self.identity {
            tls = tls::with_identity(&tls, cert, key)?;
        }
        Ok(Agent::new(AgentConfig {
            relays,
            names: self.names.iter().map(|n| Name::parse(n)).collect::<Result<_, _>>()?,
            hosts: self.hosts.iter().map(|h| HostName::parse(h)).collect::<Result<_, _>>()?,
            subnames: self.subnames,
            suggested: None,
            token: self.token,
            transport: self.transport.unwrap_or_else(|| "auto".into()),
            carriers: Kind::PREFERRED.to_vec(),
            climb: self.climb.unwrap_or(defaults::CLIMB_FIRST),
            tls,
            proxies,
            instance: Instance::random(),
            exclusive: self.exclusive,
            visitors: self.visitors,
            answer_timeout: self.answer_timeout,
        }))
    }
}

fn relay(text: String) -> Result<http::Uri, BuildError> {
    let uri: Option<http::Uri> = text.parse().ok();
    let accepted = uri.filter(|uri| {
        let is_local = uri.host().and_then(|h| HostName::parse(h).ok()).is_some_and(|h| h.is_this_machine());
        uri.query().is_none()
            && (uri.scheme_str() == Some("https") || uri.scheme_str() == Some("http") && is_local)
    });
    accepted.ok_or(BuildError::Relay(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_url_needs_https_unless_its_host_is_loopback() {
        for good in [
            "https://relay.test",
            "https://relay.test:8443/x",
            "http://127.0.0.1:1",
            "http://[::1]:1",
            "http://a.localhost",
        ] {
            assert!(relay(good.into()).is_ok(), "{good}");
        }
        for bad in ["", "relay.test", "http://relay.test", "ftp://relay.test", "https://relay.test/?a"] {
            assert!(relay(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_timeout_is_requested_in_whole_seconds() {
        let requested = |limit| {
            let agent = Agent::builder().relay("https://relay.test").answer_timeout(limit).build().unwrap();
            agent.config.answer_timeout.map(AnswerLimit::seconds)
        };
        assert_eq!(requested(Duration::from_millis(1_500)), Some(2));
        assert_eq!(requested(Duration::ZERO), Some(0));
        let unset = Agent::builder().relay("https://relay.test").build().unwrap();
        assert_eq!(unset.config.answer_timeout, None);
    }

    /// Otherwise the offer would leave out such a value without an error.
    #[test]
    fn a_value_that_fits_in_no_header_field_is_refused() {
        let builder = || Agent::builder().relay("https://relay.test");
        assert!(builder().token("ptth_x_y\n").visitors("rate=1").build().is_ok());
        let token = builder().token("ptth_x\ny").build().err().unwrap().to_string();
        assert!(token.contains("token") && !token.contains("ptth_x"), "{token}");
        let visitors = builder().visitors("rate=1,\nnet=()").build().err().unwrap().to_string();
        assert!(visitors.contains("visitors"), "{visitors}");
    }
}
