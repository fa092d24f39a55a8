//! `ptth doctor`: where the way to a relay ends, and what to do.

use std::path::PathBuf;

use crate::agent::doctor::{self, Exam, Finding, Verdict};
use crate::agent::origin::Target;
use crate::domain::{HostName, Name, Wanted};
use crate::tls;

use super::agent::{self, token};
use super::running::{self, Asked};
use super::text::{RelayUrl, parse};
use super::{Failure, proxy, say};

/// The flags of `ptth doctor`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What an agent would put on the internet; asked whether it answers
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// The relay to walk to
    #[arg(long, value_name = "URL", value_parser = parse::<RelayUrl>, env = "PTTH_RELAY", hide_env_values = true)]
    pub relay: RelayUrl,
    /// A name that an agent would ask for; without --name and --host: the token's only one
    #[arg(long, value_name = "NAME", value_parser = parse::<Name>)]
    pub name: Vec<Name>,
    /// A host that an agent would ask for
    #[arg(long, value_name = "HOST", value_parser = parse::<HostName>)]
    pub host: Vec<HostName>,
    /// A file with the token, or - for stdin; without it PTTH_TOKEN from the environment
    #[arg(long, value_name = "FILE|-", env = "PTTH_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
    /// Trust the certificates in this file, and no others, to vouch for the relay
    #[arg(long, value_name = "PEM", env = "PTTH_CA", hide_env_values = true)]
    pub ca: Option<PathBuf>,
    /// The client certificate that an agent would show; chain, leaf first
    #[arg(long, value_name = "PEM", env = "PTTH_AGENT_CERT", hide_env_values = true)]
    pub cert: Option<PathBuf>,
    /// The private key of the certificate
    #[arg(long, value_name = "PEM", env = "PTTH_AGENT_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,
    /// Go out through this proxy: http://HOST:PORT, socks5://HOST:PORT, socks5h://HOST:PORT, or off for none
    /// [default: what PTTH_PROXY, or else HTTPS_PROXY, ALL_PROXY and NO_PROXY, say in the environment]
    #[arg(long, value_name = "URL|off")]
    pub proxy: Option<String>,
}

fn prepare(args: Args) -> Result<Exam, Failure> {
    let target = args.target.map(|text| Target::parse(&text)).transpose().map_err(Failure::usage)?;
    let token = token::read(args.token_file.as_deref(), std::env::var_os("PTTH_TOKEN"))?;
    let relay = args.relay.0;
    let tls = match (&args.ca, relay.scheme_str()) {
        (None, Some("http")) => tls::client_config_for_none(),
        (ca, _) => tls::client_config(ca.as_deref(), &[]),
    };
    let proxies = proxy::read(args.proxy.as_deref(), std::slice::from_ref(&relay), proxy::variable)?;
    let names = args.name.into_iter().map(Wanted::Name);
    let wanted = names.chain(args.host.into_iter().map(Wanted::Host)).collect();
    let tls = agent::identified(&tls.map_err(Failure::usage)?, args.cert.as_deref(), args.key.as_deref())?;
    Ok(Exam { relay, proxies, tls, token, wanted, target })
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let exam = prepare(args)?;
    running::block_on(async {
        let mut asked = Asked::listen()?;
        let mut said = Ok(());
        let examined = doctor::examine(&exam, |finding| {
            let line = say(&line(&finding));
            said = said.clone().and(line);
        });
        let verdict = tokio::select! {
            biased;
            () = asked.heard() => return Ok(()),
            verdict = examined => verdict,
        };
        said?;
        match verdict {
            Verdict::Well => say("all is well: an agent can serve from here"),
            Verdict::Ill(remedy) => Err(Failure::failed(remedy)),
            Verdict::Refused(remedy) => Err(Failure::refused(remedy)),
        }
    })
}

/// One line, with columns that stand below each other.
fn line(finding: &Finding) -> String {
    let (verdict, text) = match &finding.found {
        Ok(text) => ("PASS", text),
        Err(text) => ("FAIL", text),
    };
    let text: Vec<_> = text.split_whitespace().collect();
    format!("{verdict}  {:<8}{:>6} ms  {}", finding.step, finding.took.as_millis(), text.join(" "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let took = Duration::from_micros(12_900);
        let finding = Finding { step: "tls", took, found: Err("no\n  way".into()) };
        assert_eq!(line(&finding), "FAIL  tls         12 ms  no way");
        let finding = Finding { step: "upgrade", found: Ok("yes".into()), ..finding };
        assert_eq!(line(&finding), "PASS  upgrade     12 ms  yes");
    }
}
