//! The settings of a relay, and how they resolve to a configuration.

use std::cmp::Ordering;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::cli::text::{AdminAt, FromText as _, Net, PublicUrl, one, parse, paths, several};
use crate::cli::{AccessArgs, AccessForm, Failure, file, state};
use crate::defaults;
use crate::domain::HostName;
use crate::policy::Tokens;
use crate::relay::config::{Admin, ClientCerts, DEMO_BY_PATH, Destination, Listen, RelayConfig, Routing};
use crate::tls::dev::{CertHost, DevError};
use crate::tls::{self, PairFiles};

/// The settings of a relay from one source: flags and environment, or the file. The keys of the file are the flags.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RelaySettings {
    /// A listener: ADDR:PORT for TLS, http://ADDR:PORT for plain HTTP; port 0 selects a free port. A transport whose
    /// connections do not begin with an HTTP request can have a listener of its own: TRANSPORT://ADDR:PORT with TLS,
    /// TRANSPORT+plain://ADDR:PORT without TLS [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::<Listen>, env = "PTTH_LISTEN", hide_env_values = true, value_delimiter = ',')]
    #[serde(deserialize_with = "several")]
    pub listen: Vec<Listen>,
    /// The domain below which names are served [default: ptth.localhost]
    #[arg(long, value_name = "DOMAIN", value_parser = parse::<HostName>, env = "PTTH_DOMAIN", hide_env_values = true)]
    #[serde(deserialize_with = "one")]
    pub domain: Option<HostName>,
    /// Another host name of the relay itself
    #[arg(long, value_name = "HOST", value_parser = parse::<HostName>)]
    #[serde(deserialize_with = "several")]
    pub authority: Vec<HostName>,
    /// The scheme, host and port of the public URLs [default: those of the agent's request]
    #[arg(long, value_name = "URL", value_parser = parse::<PublicUrl>, env = "PTTH_PUBLIC_URL", hide_env_values = true)]
    #[serde(deserialize_with = "one")]
    pub public_url: Option<PublicUrl>,
    /// host: each name is a host, NAME.DOMAIN. path: each name is a path, DOMAIN/NAME/; all names then share one
    /// browser origin and must trust each other [default: host]
    #[arg(long, value_name = "host|path", value_parser = parse::<Routing>)]
    #[serde(deserialize_with = "one")]
    pub routing: Option<Routing>,
    /// A trusted proxy in front of the relay: the relay uses the Forwarded and X-Forwarded-* fields of no other client
    #[arg(long, value_name = "CIDR", value_parser = parse::<Net>, env = "PTTH_TRUSTED_PROXY", hide_env_values = true, value_delimiter = ',')]
    #[serde(deserialize_with = "several")]
    pub trusted_proxy: Vec<Net>,
    /// A load balancer that begins each connection with a header of the PROXY protocol, version 1 or 2
    #[arg(long, value_name = "CIDR", value_parser = parse::<Net>, env = "PTTH_PROXY_PROTOCOL", hide_env_values = true, value_delimiter = ',')]
    #[serde(deserialize_with = "several")]
    pub proxy_protocol: Vec<Net>,
    /// Let anybody claim a free name without a token, first come, first served. Anybody can then serve content below
    /// this domain
    #[arg(long, value_name = "true|false", env = "PTTH_OPEN_REGISTRATION", hide_env_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub open_registration: Option<bool>,
    /// Serve a page at /demo on the relay's own host that lets a browser tab answer requests; only with
    /// --routing host
    #[arg(long, value_name = "true|false", env = "PTTH_DEMO", hide_env_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub demo: Option<bool>,
    /// Forward requests of web pages to this destination (RelayHttp), for clients that may act as agents. A
    /// host must resolve to public addresses, unless it is an IP address or =ADDRESS is given
    #[arg(long, value_name = "HOST[:PORT][=ADDRESS]", value_parser = parse::<Destination>)]
    #[serde(deserialize_with = "several")]
    pub relay_http: Vec<Destination>,
    /// The certificate chain, leaf first [default: made by a development CA in the state directory]. Of several
    /// certificates, a client gets the one that names its host, or else the first. Changed files are reloaded
    /// automatically
    #[arg(long, value_name = "PEM", env = "PTTH_CERT", hide_env_values = true)]
    #[serde(deserialize_with = "paths")]
    pub cert: Vec<PathBuf>,
    /// The private key of the certificate; the n-th key belongs to the n-th certificate
    #[arg(long, value_name = "PEM", env = "PTTH_KEY", hide_env_values = true)]
    #[serde(deserialize_with = "paths")]
    pub key: Vec<PathBuf>,
    /// In the file, further certificates, each with its key: `[[certificate]]` with `cert = …` and `key = …`.
    #[arg(skip)]
    pub certificate: Vec<CertificatePair>,
    /// Accept client certificates of the CAs in this file: an agent may present a certificate instead of a token, and
    /// claim the names in the certificate. A browser with such a certificate prompts its user for it
    #[arg(long, value_name = "PEM", env = "PTTH_CLIENT_CA", hide_env_values = true)]
    pub client_ca: Option<PathBuf>,
    /// Require a client certificate and a token from agents; both must allow the requested names. With
    /// --open-registration, the token is optional
    #[arg(long)]
    pub require_client_cert: bool,
    /// Accept agents over plain HTTP from other machines too, for a relay behind a proxy that terminates TLS
    #[arg(long)]
    pub allow_plain: bool,
    /// Redirect visitors of the plain listeners to the listener with TLS (308), except below
    /// /.well-known/acme-challenge/. Agents and trusted proxies are not redirected
    #[arg(long)]
    pub redirect_http: bool,
    /// Send Strict-Transport-Security over TLS for the relay's domain and the names below it, valid for this time, in
    /// seconds; with 0, browsers forget it. The field of a service has precedence, and the hosts of agents' own never
    /// get one [default: off]
    #[arg(long, value_name = "N")]
    pub hsts_seconds: Option<u64>,
    /// The state directory, with tokens and development certificates [default: $XDG_STATE_HOME/ptth]
    #[arg(long, value_name = "DIR", env = "PTTH_STATE", hide_env_values = true)]
    pub state: Option<PathBuf>,
    /// The address of the admin listener: liveness, readiness, metrics and sessions [default: 127.0.0.1:9180, if free]
    #[arg(long, value_name = "ADDR|off", value_parser = parse::<AdminAt>, env = "PTTH_ADMIN", hide_env_values = true)]
    #[serde(deserialize_with = "one")]
    pub admin: Option<AdminAt>,
    /// The time limit for the head of an answer from an agent, in seconds; 0 for none. Agents may request a shorter
    /// limit, and what their token allows [default: 120]
    #[arg(long, value_name = "N")]
    pub answer_timeout_seconds: Option<u64>,
    /// How long routes stay reserved for their token after its last connection has ended, in seconds [default: 60]
    #[arg(long, value_name = "N")]
    pub lease_seconds: Option<u64>,
    /// How long requests in flight may take to finish when the relay stops, in seconds [default: 30]
    #[arg(long, value_name = "N")]
    pub grace_seconds: Option<u64>,
    /// Limit the memory for data that waits for slow visitors and slow agents, in MiB [default: 256]
    #[arg(long, value_name = "N")]
    pub buffer_mib: Option<NonZeroUsize>,
    /// Limit the public connections at once [default: 16384]
    #[arg(long, value_name = "N")]
    pub connections: Option<NonZeroUsize>,
    /// Limit the public connections from one address (IPv6: one /64 network); trusted proxies may have more
    /// [default: 1024]
    #[arg(long, value_name = "N")]
    pub connections_per_address: Option<NonZeroUsize>,
    /// The access log, by default off, or text if a file is given.
    #[command(flatten)]
    #[serde(skip)]
    pub access: AccessArgs,
}

/// A certificate and its key, in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificatePair {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl RelaySettings {
    /// Reads a file. Relative paths in the file start from the directory of the file.
    ///
    /// # Errors
    /// [`Failure`] with code 2, and file, line, column and fault.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let (settings, access) = file::load::<Self, AccessArgs>(path, &AccessArgs::keys())?;
        let mut loaded = Self { access, ..settings };
        let base = path.parent().unwrap_or(Path::new(""));
        let pairs = loaded.certificate.iter_mut().flat_map(|pair| [&mut pair.cert, &mut pair.key]);
        let single = [&mut loaded.client_ca, &mut loaded.state, &mut loaded.access.access_log_file]
            .into_iter()
            .flatten();
        for path in loaded.cert.iter_mut().chain(&mut loaded.key).chain(pairs).chain(single) {
            *path = base.join(&*path);
        }
        Ok(loaded)
    }

    /// Takes each setting that is missing here from the layer below.
    pub fn or(self, below: Self) -> Self {
        fn list<T>(own: Vec<T>, below: Vec<T>) -> Vec<T> {
            if own.is_empty() { below } else { own }
        }
        // A certificate and its key must come from the same layer: halves of two layers do not fit each other.
        let has_pair = !self.cert.is_empty() || !self.key.is_empty() || !self.certificate.is_empty();
        Self {
            listen: list(self.listen, below.listen),
            domain: self.domain.or(below.domain),
            authority: list(self.authority, below.authority),
            public_url: self.public_url.or(below.public_url),
            routing: self.routing.or(below.routing),
            trusted_proxy: list(self.trusted_proxy, below.trusted_proxy),
            proxy_protocol: list(self.proxy_protocol, below.proxy_protocol),
            open_registration: self.open_registration.or(below.open_registration),
            demo: self.demo.or(below.demo),
            relay_http: list(self.relay_http, below.relay_http),
            cert: if has_pair { self.cert } else { below.cert },
            key: if has_pair { self.key } else { below.key },
            certificate: if has_pair { self.certificate } else { below.certificate },
            client_ca: self.client_ca.or(below.client_ca),
            require_client_cert: self.require_client_cert || below.require_client_cert,
            allow_plain: self.allow_plain || below.allow_plain,
            redirect_http: self.redirect_http || below.redirect_http,
            hsts_seconds: self.hsts_seconds.or(below.hsts_seconds),
            state: self.state.or(below.state),
            admin: self.admin.or(below.admin),
            answer_timeout_seconds: self.answer_timeout_seconds.or(below.answer_timeout_seconds),
            lease_seconds: self.lease_seconds.or(below.lease_seconds),
            grace_seconds: self.grace_seconds.or(below.grace_seconds),
            buffer_mib: self.buffer_mib.or(below.buffer_mib),
            connections: self.connections.or(below.connections),
            connections_per_address: self.connections_per_address.or(below.connections_per_address),
            access: self.access.or(below.access),
        }
    }
}

/// The source of the relay's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// Every listener is plain.
    None,
    /// These files; the first is for clients that name no host.
    Files(Vec<PairFiles>),
    /// A development CA in the state directory, for these hosts.
    Development(Vec<CertHost>),
}

/// The resolved settings of a relay, before any file is opened or made.
#[derive(Clone)]
pub struct Settings {
    /// The configuration of the relay. Tokens and certificate are not loaded yet, so the relay could admit no agent.
    pub config: RelayConfig,
    /// The source of the certificate.
    pub certificate: CertificateSource,
    /// The CAs of the accepted client certificates.
    pub client_ca: Option<PathBuf>,
    /// The state directory.
    pub state: PathBuf,
    /// The access log.
    pub access: AccessArgs,
}

impl Settings {
    /// Fills in the defaults and checks that the settings fit together. Touches no file.
    ///
    /// # Errors
    /// [`Failure`] with code 2.
    pub fn resolve(settings: RelaySettings) -> Result<Self, Failure> {
        let default_listen = || Listen::from_text(defaults::LISTEN).map_err(Failure::failed);
        let listen = if settings.listen.is_empty() { vec![default_listen()?] } else { settings.listen };
        let domain = match settings.domain {
            Some(domain) => domain,
            None => HostName::parse(defaults::DOMAIN).map_err(Failure::failed)?,
        };
        if listen.iter().all(|listen| listen.transport.is_some()) {
            return Err(Failure::usage(
                "every --listen belongs to a transport; add a --listen without a transport for visitors",
            ));
        }
        let routing = settings.routing.unwrap_or_default();
        let is_address = domain.as_str().trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        if routing == Routing::Host && is_address {
            return Err(Failure::usage(format!(
                "the IP address {domain} can have no names below it; use --routing path"
            )));
        }
        let demo = settings.demo.unwrap_or(false);
        if demo && routing == Routing::Path {
            return Err(Failure::usage(DEMO_BY_PATH));
        }
        let pairs = pairs(settings.cert, settings.key, settings.certificate)?;
        let certificate = certificate(pairs, &listen, || hosts(&domain, routing, &settings.authority))?;
        let client_certs =
            client_certs(settings.client_ca.as_deref(), settings.require_client_cert, &listen)?;
        let base = RelayConfig::new(domain, Tokens::in_memory());
        let seconds = |value: Option<u64>, default| value.map_or(default, Duration::from_secs);
        let count = |value: Option<NonZeroUsize>, default| value.map_or(default, NonZeroUsize::get);
        let config = RelayConfig {
            listen,
            authorities: settings.authority,
            public_url: settings.public_url.map(|url| url.0),
            routing,
            trusted_proxies: settings.trusted_proxy.into_iter().map(|net| net.0).collect(),
            proxy_protocol: settings.proxy_protocol.into_iter().map(|net| net.0).collect(),
            client_certs,
            allow_plain: settings.allow_plain,
            redirect_http: settings.redirect_http,
            hsts: settings.hsts_seconds.map(Duration::from_secs),
            open_registration: settings.open_registration.unwrap_or(base.open_registration),
            demo,
            relay_http: settings.relay_http,
            admin: admin(settings.admin)?,
            answer: seconds(settings.answer_timeout_seconds, base.answer),
            lease: seconds(settings.lease_seconds, base.lease),
            grace: seconds(settings.grace_seconds, base.grace),
            buffers: settings.buffer_mib.map_or(base.buffers, |mib| mib.get().saturating_mul(1 << 20)),
            connections: count(settings.connections, base.connections),
            connections_per_address: count(settings.connections_per_address, base.connections_per_address),
            ..base
        };
        config.check_transports().map_err(Failure::usage)?;
        config.check_https().map_err(Failure::usage)?;
        let mut access = settings.access;
        if access.access_log.is_none() && access.access_log_file.is_none() {
            access.access_log = Some(AccessForm::Off);
        }
        let state = state::directory(settings.state)?;
        Ok(Self { config, certificate, client_ca: settings.client_ca, state, access })
    }

    /// Checks the files in the settings, and makes none.
    ///
    /// # Errors
    /// [`Failure`] with code 2.
    pub fn check(&self) -> Result<(), Failure> {
        if let CertificateSource::Files(pairs) = &self.certificate {
            pairs.iter().try_for_each(PairFiles::check).map_err(Failure::usage)?;
        }
        if let Some(ca) = &self.client_ca {
            tls::check_clients(ca).map_err(Failure::usage)?;
        }
        Ok(())
    }
}

fn admin(setting: Option<AdminAt>) -> Result<Option<Admin>, Failure> {
    match setting {
        Some(AdminAt(address)) => Ok(address.map(|address| Admin { address, required: true })),
        None => {
            let AdminAt(address) = AdminAt::from_text(defaults::ADMIN).map_err(Failure::failed)?;
            Ok(address.map(|address| Admin { address, required: false }))
        }
    }
}

/// A rule that cannot be enforced is an error: without its CA, or without TLS, the relay does not start.
fn client_certs(ca: Option<&Path>, required: bool, listen: &[Listen]) -> Result<ClientCerts, Failure> {
    match (ca, required) {
        (None, false) => Ok(ClientCerts::Unused),
        (None, true) => {
            Err(Failure::usage("--require-client-cert needs the CA of the certificates: --client-ca FILE"))
        }
        (Some(_), _) if !listen.iter().any(|listen| listen.tls) => Err(Failure::usage(
            "--client-ca needs TLS, but every --listen is plain http://; leave one of them out",
        )),
        (Some(_), true) => Ok(ClientCerts::Required),
        (Some(_), false) => Ok(ClientCerts::Accepted),
    }
}

/// Pairs the n-th certificate with the n-th key. The pairs in `more` follow.
fn pairs(
    certs: Vec<PathBuf>,
    keys: Vec<PathBuf>,
    more: Vec<CertificatePair>,
) -> Result<Vec<PairFiles>, Failure> {
    let without = |present: &str, missing: &str| {
        Failure::usage(format!("there is a {present} without its {missing}; give both, or neither"))
    };
    match certs.len().cmp(&keys.len()) {
        Ordering::Greater => return Err(without("--cert", "--key")),
        Ordering::Less => return Err(without("--key", "--cert")),
        Ordering::Equal => {}
    }
    let listed = certs.into_iter().zip(keys).map(|(cert, key)| PairFiles { cert, key });
    Ok(listed.chain(more.into_iter().map(|CertificatePair { cert, key }| PairFiles { cert, key })).collect())
}

fn certificate(
    pairs: Vec<PairFiles>,
    listen: &[Listen],
    hosts: impl FnOnce() -> Result<Vec<CertHost>, DevError>,
) -> Result<CertificateSource, Failure> {
    let tls = listen.iter().any(|listen| listen.tls);
    match (pairs.is_empty(), tls) {
        (false, true) => Ok(CertificateSource::Files(pairs)),
        (false, false) => Err(Failure::usage(
            "--cert needs TLS, but every --listen is plain http://; leave one of them out",
        )),
        (true, false) => Ok(CertificateSource::None),
        (true, true) => {
            let hosts =
                hosts().map_err(|error| Failure::usage(format!("{error}; or give --cert and --key")))?;
            Ok(CertificateSource::Development(hosts))
        }
    }
}

/// The hosts of a development certificate.
fn hosts(domain: &HostName, routing: Routing, authorities: &[HostName]) -> Result<Vec<CertHost>, DevError> {
    let star = (routing == Routing::Host).then(|| format!("*.{domain}"));
    let own = std::iter::once(domain).chain(authorities).map(ToString::to_string);
    own.chain(star).map(|text| text.parse()).collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
