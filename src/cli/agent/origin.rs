//! The flags about the target: how `ptth agent` and `ptth doctor` reach it.

use std::path::{Path, PathBuf};

use crate::agent::origin::{
    self, BadEdit, BadPrefix, BadTarget, FieldEdit, OriginConfig, OriginTarget, OriginTls, ServedOrigins,
};
use crate::cli::Failure;
use crate::cli::text::parse;
use crate::domain::HostName;
use crate::net::Scope;
use crate::tls::files;
use crate::tls::pin::Pin;

/// The flags about the certificate of an `https://` or `h2://` target.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Target with TLS")]
pub struct TlsArgs {
    /// Trust the root certificates in this file for the target, instead of those of --ca or the system
    #[arg(long, value_name = "PEM", conflicts_with_all = ["origin_pin", "origin_insecure"])]
    pub origin_ca: Option<PathBuf>,
    /// The name in the target's certificate, which the agent also sends (SNI), if it is not the target's host
    #[arg(long, value_name = "HOST", value_parser = parse::<HostName>)]
    pub origin_server_name: Option<HostName>,
    /// The client certificate that the agent presents to the target: the chain, leaf first
    #[arg(long, value_name = "PEM", requires = "origin_key")]
    pub origin_cert: Option<PathBuf>,
    /// The private key of that client certificate
    #[arg(long, value_name = "PEM", requires = "origin_cert")]
    pub origin_key: Option<PathBuf>,
    /// Trust the target by the SHA-256 of its public key alone, in base64 or hexadecimal; ptth doctor prints it. Can be
    /// given several times, for a change of keys
    #[arg(long, value_name = "SHA256", conflicts_with = "origin_insecure")]
    pub origin_pin: Vec<Pin>,
    /// Do not verify the target's certificate; for loopback, private and link-local addresses only
    #[arg(long)]
    pub origin_insecure: bool,
}

impl TlsArgs {
    /// The settings; `ca` is that of the relay, which the target's certificate may come from too.
    pub(in crate::cli) fn settings(
        &self,
        ca: Option<&Path>,
        targets: &[&OriginTarget],
    ) -> Result<OriginTls, Failure> {
        let mut tls = OriginTls::default();
        tls.ca.clone_from(&self.origin_ca);
        tls.server_name.clone_from(&self.origin_server_name);
        tls.identity = self.origin_cert.clone().zip(self.origin_key.clone());
        tls.pins.clone_from(&self.origin_pin);
        tls.insecure = self.origin_insecure;
        if tls != OriginTls::default() && !targets.iter().any(|target| target.tls_place().is_some()) {
            return Err(Failure::usage(
                "the flags --origin-… are about a target with TLS: write https://HOST:PORT or h2://HOST:PORT",
            ));
        }
        if tls.ca.is_none() {
            tls.ca = ca.map(Path::to_owned);
        }
        Ok(tls)
    }
}

/// The flags about the fields of messages.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EditArgs {
    /// Set a field of requests ('X-Key: value'), or remove it ('-X-Key'); can be given several times. @FILE has one such
    /// edit on each line, for values that are secret
    #[arg(long, value_name = "EDIT|@FILE", allow_hyphen_values = true)]
    pub request_header: Vec<String>,
    /// The same for the fields of answers
    #[arg(long, value_name = "EDIT|@FILE", allow_hyphen_values = true)]
    pub response_header: Vec<String>,
    /// Do not send Forwarded and X-Forwarded-For, -Proto, -Host to the target
    #[arg(long)]
    pub no_forwarded: bool,
}

/// The edits of one flag, in their order.
fn edits(flag: &str, texts: &[String]) -> Result<Vec<FieldEdit>, Failure> {
    let parse =
        |text: &str| text.parse().map_err(|error: BadEdit| Failure::usage(format!("{flag}: {error}")));
    let mut all = Vec::new();
    for text in texts {
        let Some(file) = text.strip_prefix('@') else {
            all.push(parse(text)?);
            continue;
        };
        let bytes = files::read_secret(Path::new(file)).map_err(Failure::usage)?;
        let lines = String::from_utf8(bytes)
            .map_err(|_| Failure::usage(format!("{flag}: {file} is not a text in UTF-8")))?;
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            all.push(parse(line)?);
        }
    }
    Ok(all)
}

/// The flags about several targets, and about their errors.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PathArgs {
    /// Another target, for the paths below a prefix: /api=3001. Can be given several times; the longest prefix wins, and
    /// TARGET serves the other paths
    #[arg(long, value_name = "PREFIX=TARGET")]
    pub path: Vec<String>,
    /// Remove the prefix of --path from the paths that its target receives
    #[arg(long, requires = "path")]
    pub strip_prefix: bool,
    /// Show visitors the pages 502.html, 503.html and 504.html of this directory in place of the errors that the agent
    /// makes
    #[arg(long, value_name = "DIR")]
    pub error_page: Option<PathBuf>,
    /// For a target that is a directory: show the list of files where there is no index.html
    #[arg(long)]
    pub listing: bool,
}

impl PathArgs {
    fn targets(&self) -> Result<Vec<OriginConfig>, Failure> {
        let target = |text: &String| {
            let bad = |why: String| Failure::usage(format!("--path {text}: {why}"));
            let (path, target) =
                text.split_once('=').ok_or_else(|| bad("write PREFIX=TARGET, as in /api=3001".into()))?;
            let mut config =
                OriginConfig::new(target.parse().map_err(|error: BadTarget| bad(error.to_string()))?);
            config.path = path.parse().map_err(|error: BadPrefix| bad(error.to_string()))?;
            Ok(config)
        };
        self.path.iter().map(target).collect()
    }
}

/// The targets of `ptth agent`. The flags apply to each of them.
pub(super) fn serve(target: &str, args: &super::ServiceArgs) -> Result<ServedOrigins, Failure> {
    let target = OriginTarget::parse(target).map_err(Failure::usage)?;
    let mut configs = vec![OriginConfig::new(target)];
    configs.extend(args.paths.targets()?);
    let targets: Vec<_> = configs.iter().map(|config| &config.target).collect();
    let is_directory = |target: &&OriginTarget| matches!(target, OriginTarget::Directory(_));
    if args.paths.listing && !targets.iter().any(is_directory) {
        return Err(Failure::usage("--listing is for a target that is a directory"));
    }
    let tls = args.origin_tls.settings(args.approach.ca.as_deref(), &targets)?;
    let request_fields = edits("--request-header", &args.edits.request_header)?;
    let response_fields = edits("--response-header", &args.edits.response_header)?;
    for config in &mut configs {
        config.strip_prefix = args.paths.strip_prefix;
        config.tls.clone_from(&tls);
        config.host_header.clone_from(&args.host_header);
        config.request_fields.clone_from(&request_fields);
        config.response_fields.clone_from(&response_fields);
        config.listing = args.paths.listing;
        config.no_forwarded = args.edits.no_forwarded;
        config.error_pages.clone_from(&args.paths.error_page);
    }
    origin::serve(configs, &Scope::new()).map_err(Failure::usage)
}
