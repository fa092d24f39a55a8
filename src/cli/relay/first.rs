//! The first start: the first token, and the command line that starts an agent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::cli::login::CaDigest;
use crate::domain::Secret;
use crate::policy::{Grants, Tokens};
use crate::relay::config::Listen;
use crate::tls::files;

use super::PreparedRelay;

/// The token made at the first start.
pub struct FirstToken {
    /// The file with the token, readable by its owner only.
    pub file: PathBuf,
    /// The token itself, if this start made it.
    pub secret: Option<Secret>,
}

impl FirstToken {
    /// Makes a token for any name, if no token was ever issued here. A later start returns the same token while the
    /// token is live, because the first start may have failed before the token was announced.
    ///
    /// # Errors
    /// [`Failure`] when the token cannot be issued or written; a token that cannot be written is revoked.
    pub fn make(tokens: &Tokens, state: &Path) -> Result<Option<Self>, Failure> {
        let file = state.join("first-token");
        if !tokens.is_new() {
            if tokens.is_empty() {
                tracing::warn!(
                    "every token was revoked or has expired, so no agent can connect; make a token with \
                     ptth token new"
                );
            }
            return Ok(holds_live_token(tokens, &file).then_some(Self { file, secret: None }));
        }
        let (id, secret) = tokens.issue(Grants::any()).map_err(Failure::failed)?;
        if let Err(error) = files::replace(&file, 0o600, format!("{}\n", secret.expose()).as_bytes()) {
            tokens.revoke(&id).map_err(Failure::failed)?;
            return Err(Failure::failed(error));
        }
        Ok(Some(Self { file, secret: Some(secret) }))
    }
}

/// Whether a file holds a live token.
fn holds_live_token(tokens: &Tokens, file: &Path) -> bool {
    let text = files::read_secret(file).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.is_some_and(|text| tokens.verify(&Secret::new(text.trim_end())).is_some())
}

/// The line that announces that a listener accepts connections.
pub fn listener_line(label: &str, listen: &Listen) -> String {
    format!("{label} {listen}")
}

/// The lines that are printed once the relay accepts connections. The secret is printed on a terminal only.
pub fn greeting(
    prepared: &PreparedRelay,
    bound: &[Listen],
    admin: Option<SocketAddr>,
    terminal: bool,
) -> Vec<String> {
    let mut lines: Vec<String> = bound.iter().map(|listen| listener_line("listening on", listen)).collect();
    if let Some(address) = admin {
        lines.push(listener_line("admin on", &Listen::plain(address)));
    }
    if prepared.config.demo {
        lines.push(format!("page: {}/demo", relay_url(prepared, bound)));
    }
    if let Some(ca) = &prepared.ca {
        lines.push(format!("development CA: {}", ca.display()));
    }
    if let Some(first) = &prepared.first {
        lines.push(format!("to start an agent: {}", agent_line(prepared, bound, &first.file)));
        if let Some(line) = login_line(prepared, bound) {
            lines.push(format!("on another machine, first: {line}"));
        }
        if let Some(secret) = first.secret.as_ref().filter(|_| terminal) {
            lines.push(format!("its token: {}", secret.expose()));
        }
    }
    lines
}

/// The command line that starts an agent, complete as printed.
fn agent_line(prepared: &PreparedRelay, bound: &[Listen], token: &Path) -> String {
    let ca = prepared.ca.as_ref().map(|ca| format!(" --ca {}", quoted(ca))).unwrap_or_default();
    let relay = relay_url(prepared, bound);
    format!("ptth agent 3000 --relay {relay} --name hello{ca} --token-file {}", quoted(token))
}

/// The command line that prepares an agent on another machine, which has neither the CA nor the token in a file. `None`
/// if the domain names this machine alone.
fn login_line(prepared: &PreparedRelay, bound: &[Listen]) -> Option<String> {
    if prepared.config.domain.is_this_machine() {
        return None;
    }
    let digest = prepared.ca.as_deref().and_then(CaDigest::of_file);
    let ca = digest.map(|digest| format!(" --ca-sha256 {digest}")).unwrap_or_default();
    Some(format!("ptth login {}{ca}", relay_url(prepared, bound)))
}

/// The URL at which agents reach this relay: the configured URL, or a URL made from domain and listeners.
fn relay_url(prepared: &PreparedRelay, bound: &[Listen]) -> String {
    let (config, is_development) = (&prepared.config, prepared.ca.is_some());
    if let Some(url) = &config.public_url {
        return url.to_string().trim_end_matches('/').to_owned();
    }
    let domain = &config.domain;
    // Many resolvers, as that of Debian, know `localhost` and no name below it. A development certificate covers both.
    let host_at = |listen: &Listen, has_certificate: bool| {
        let is_local = domain.is_this_machine() && listen.address.ip().is_loopback() && has_certificate;
        if is_local { "localhost".to_owned() } else { domain.to_string() }
    };
    let mut http_listeners = bound.iter().filter(|listen| listen.transport.is_none());
    match http_listeners.clone().find(|listen| listen.tls) {
        Some(listen) if listen.address.port() == 443 => {
            format!("https://{}", host_at(listen, is_development))
        }
        Some(listen) => format!("https://{}:{}", host_at(listen, is_development), listen.address.port()),
        None => match http_listeners.next() {
            Some(listen) if domain.is_this_machine() => {
                format!("http://{}:{}", host_at(listen, true), listen.address.port())
            }
            // Plain HTTP for other machines: TLS ends in front of this relay.
            _ => format!("https://{domain}"),
        },
    }
}

/// A path, quoted for a POSIX shell where that is necessary.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+,:@%=".contains(&b);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::domain::HostName;
    use crate::relay::config::RelayConfig;

    use super::*;

    fn prepared(domain: &str) -> PreparedRelay {
        PreparedRelay {
            config: RelayConfig::new(HostName::parse(domain).unwrap(), Tokens::in_memory()),
            ca: None,
            first: Some(FirstToken {
                file: "/state dir/first-token".into(),
                secret: Some(Secret::new("ptth_secret")),
            }),
            access: crate::cli::AccessArgs::default(),
        }
    }

    fn listen(text: &str, tls: bool) -> Listen {
        let address = text.parse().unwrap();
        if tls { Listen::tls(address) } else { Listen::plain(address) }
    }

    #[test]
    fn only_the_very_first_start_makes_a_token() {
        let state = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(state.path()).unwrap();
        let first = FirstToken::make(&tokens, state.path()).unwrap().unwrap();
        let secret = first.secret.unwrap();
        assert_eq!(fs::read_to_string(&first.file).unwrap().trim(), secret.expose());
        let again = FirstToken::make(&tokens, state.path()).unwrap().unwrap();
        assert!(again.file == first.file && again.secret.is_none(), "announced again, without the secret");
        assert!(tokens.revoke(&tokens.verify(&secret).unwrap().id).unwrap());
        assert!(FirstToken::make(&tokens, state.path()).unwrap().is_none(), "a revoked token stays revoked");
    }

    #[test]
    fn no_first_token_is_made_when_a_token_exists() {
        let state = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(state.path()).unwrap();
        tokens.issue(Grants::any()).unwrap();
        assert!(FirstToken::make(&tokens, state.path()).unwrap().is_none());
        assert!(!state.path().join("first-token").exists());
    }

    #[test]
    fn a_first_token_that_cannot_be_written_is_revoked() {
        let tokens = Tokens::in_memory();
        assert!(FirstToken::make(&tokens, Path::new("/nonexistent/state")).is_err());
        assert!(tokens.is_empty());
    }

    #[test]
    fn the_agent_command_is_complete_and_only_a_terminal_shows_the_token() {
        let mut relay = prepared("ptth.localhost");
        relay.ca = Some("/s/ca.pem".into());
        let own = listen("[::1]:81", true).of("rh2");
        let bound = [own, listen("127.0.0.1:4711", true), listen("[::1]:80", false), own.of("rhttp")];
        let lines = greeting(&relay, &bound, None, false);
        let listening = ["rh2://[::1]:81", "https://127.0.0.1:4711", "http://[::1]:80", "rhttp://[::1]:81"];
        assert_eq!(lines[..4], listening.map(|listen| format!("listening on {listen}")));
        let agent = "ptth agent 3000 --relay https://localhost:4711 --name hello --ca /s/ca.pem \
                     --token-file '/state dir/first-token'";
        assert_eq!(lines[5], format!("to start an agent: {agent}"));
        assert!(!lines.iter().any(|line| line.contains("ptth_secret")));
        assert!(greeting(&relay, &bound, None, true).iter().any(|line| line.contains("ptth_secret")));
        relay.first = None;
        let admin = "127.0.0.1:1".parse().unwrap();
        let lines = greeting(&relay, &bound, Some(admin), true);
        assert_eq!(lines[4..], ["admin on http://127.0.0.1:1", "development CA: /s/ca.pem"]);
    }

    #[test]
    fn a_relay_of_other_machines_prints_the_login_command() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, crate::tls::dev::ephemeral(&[]).unwrap().ca.cert).unwrap();
        let mut relay = prepared("relay.test");
        relay.ca = Some(ca);
        let line = login_line(&relay, &[listen("0.0.0.0:8443", true)]).unwrap();
        let digest = line.strip_prefix("ptth login https://relay.test:8443 --ca-sha256 ").unwrap();
        assert_eq!((digest.len(), digest.bytes().all(|b| b.is_ascii_hexdigit())), (64, true), "{line}");
        assert_eq!(login_line(&prepared("ptth.localhost"), &[]), None);
        assert_eq!(
            login_line(&prepared("relay.test"), &[]).as_deref(),
            Some("ptth login https://relay.test")
        );
    }

    #[test]
    fn the_agent_command_names_a_reachable_relay_url() {
        let url = |domain: &str, bound: &[Listen]| relay_url(&prepared(domain), bound);
        assert_eq!(url("example.org", &[listen("0.0.0.0:443", true)]), "https://example.org");
        assert_eq!(url("example.org", &[listen("127.0.0.1:80", false)]), "https://example.org");
        assert_eq!(url("ptth.localhost", &[listen("127.0.0.1:81", false)]), "http://localhost:81");
        assert_eq!(url("ptth.localhost", &[listen("0.0.0.0:81", false)]), "http://ptth.localhost:81");
        assert_eq!(url("ptth.localhost", &[listen("127.0.0.1:1", true)]), "https://ptth.localhost:1");
        let mut relay = prepared("example.org");
        relay.config.public_url = Some("https://example.net:8443".parse().unwrap());
        assert_eq!(relay_url(&relay, &[]), "https://example.net:8443");
    }

    #[test]
    fn a_quote_in_a_path_is_escaped_for_the_shell() {
        assert_eq!(quoted(Path::new("a'b")), r"'a'\''b'");
    }
}
