//! `ptth doctor`: finds the step at which the connection to a relay fails, and the remedy.

use crate::agent::doctor::{self, Exam, Finding, Verdict};
use crate::agent::origin::{OriginConfig, OriginTarget};
use crate::domain::{HostName, Name, Wanted};

use super::agent::{Approach, TlsArgs, suggested};
use super::running::{self, Signals};
use super::text::{RelayUrl, parse};
use super::{Failure, kept, print_line};

/// The flags of `ptth doctor`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The target that an agent would serve, in the same form as for ptth agent; doctor checks that it answers
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// The URL of the relay [default: that of ptth login]
    #[arg(long, value_name = "URL", value_parser = parse::<RelayUrl>, env = "PTTH_RELAY", hide_env_values = true)]
    pub relay: Option<RelayUrl>,
    /// A name that an agent would request; without --name and --host, the only name of the token, or a random
    /// name
    #[arg(long, value_name = "NAME", value_parser = parse::<Name>)]
    pub name: Vec<Name>,
    /// A host that an agent would request
    #[arg(long, value_name = "HOST", value_parser = parse::<HostName>)]
    pub host: Vec<HostName>,
    /// Token, trusted roots, client certificate and proxy.
    #[command(flatten)]
    pub approach: Approach,
    /// How the certificate of the target is verified.
    #[command(flatten)]
    pub origin_tls: TlsArgs,
}

fn prepare(args: Args) -> Result<Exam, Failure> {
    let target = args.target.map(|text| OriginTarget::parse(&text)).transpose().map_err(Failure::usage)?;
    let targets: Vec<_> = target.iter().collect();
    let origin_tls = args.origin_tls.settings(args.approach.ca.as_deref(), &targets)?;
    let mut approach = args.approach;
    let relays = kept::complete(args.relay.into_iter().collect(), &mut approach)?;
    let relays: Vec<_> = relays.into_iter().map(|url| url.0).collect();
    let token = approach.token()?;
    let tls = approach.with_identity(&approach.trust(&relays)?)?;
    let proxies = approach.proxies(&relays)?;
    let relay = relays.into_iter().next().ok_or_else(|| Failure::usage("no relay is known"))?;
    let names = args.name.into_iter().map(Wanted::Name);
    let wanted: Vec<_> = names.chain(args.host.into_iter().map(Wanted::Host)).collect();
    let suggested = wanted.is_empty().then(|| match &target {
        Some(target) => suggested::suggested(None, target),
        None => suggested::random(),
    });
    let target = target.map(|target| {
        let mut config = OriginConfig::new(target);
        config.tls = origin_tls;
        config
    });
    Ok(Exam { relay, proxies, tls, token, wanted, suggested, target })
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let exam = prepare(args)?;
    running::block_on(async {
        let mut signals = Signals::listen()?;
        let mut printed = Ok(());
        let examined = doctor::examine(&exam, |finding| {
            let line = print_line(&line(&finding));
            printed = printed.clone().and(line);
        });
        let verdict = tokio::select! {
            biased;
            () = signals.received() => return Ok(()),
            verdict = examined => verdict,
        };
        printed?;
        match verdict {
            Verdict::Passed => print_line("all steps passed: an agent can serve from here"),
            Verdict::Failed(remedy) => Err(Failure::failed(remedy)),
            Verdict::Refused(remedy) => Err(Failure::refused(remedy)),
        }
    })
}

/// A finding as one line with aligned columns.
fn line(finding: &Finding) -> String {
    let (verdict, text) = match &finding.found {
        Ok(text) => ("PASS", text),
        Err(text) => ("FAIL", text),
    };
    let text: Vec<_> = text.split_whitespace().collect();
    format!("{verdict}  {:<8}{:>6} ms  {}", finding.step, finding.elapsed.as_millis(), text.join(" "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let elapsed = Duration::from_micros(12_900);
        let finding = Finding { step: "tls", elapsed, found: Err("no\n  way".into()) };
        assert_eq!(line(&finding), "FAIL  tls         12 ms  no way");
        let finding = Finding { step: "upgrade", found: Ok("yes".into()), ..finding };
        assert_eq!(line(&finding), "PASS  upgrade     12 ms  yes");
    }
}
