//! `ptth agent`: makes an agent's configuration from flags, environment and files.

mod approach;
mod company;
mod fleet;
mod instance;
mod origin;
pub(super) mod reference;
mod reload;
mod report;
pub(super) mod services;
pub(super) mod suggested;
mod token;
mod visitors;

use std::path::PathBuf;
use std::thread::available_parallelism;

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use tokio::sync::mpsc;

use crate::agent::config::AgentConfig;
use crate::agent::origin::{HostHeader, ServedOrigins};
use crate::agent::{self, AUTO, Fatal, Serving};
use crate::defaults;
use crate::domain::{AnswerLimit, HostName, Instance, Name};
use crate::net::{Cores, descriptors};
use crate::session::Kind;

use self::company::Company;
use self::fleet::{Fleet, ServicesFile};
use self::reload::Reload;
use self::report::Report;
use self::services::AgentService;
use super::access::Access;
use super::text::{RelayUrl, parse};
use super::{AccessArgs, Failure, kept, running};

pub use self::approach::Approach;
pub use self::instance::Lock;
pub use self::origin::{EditArgs, PathArgs, TlsArgs};

/// The flags of `ptth agent`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The target to serve: 3000, localhost:3000, http://…, https://…, h2c://… for HTTP/2 (gRPC),
    /// unix:/run/app.sock, or a directory. With --config, the services to run [default: all of the file]
    #[arg(value_name = "TARGET", required_unless_present = "config")]
    pub targets: Vec<String>,
    /// Run the services of this file (TOML), each with the flags below as its keys; a changed file is read again. The
    /// file and flags about a service exclude each other
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The service.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// What is printed.
    #[command(flatten)]
    pub report: report::Args,
    /// What is logged of each request.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// The flags of one service. They are also the keys of a service in a file.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceArgs {
    /// The URL of a relay [default: that of ptth login]; can be given several times. The agent keeps a session to each
    /// relay. It retries a relay that refuses it, unless every relay refuses it
    #[arg(long, value_name = "URL", value_parser = parse::<RelayUrl>, env = "PTTH_RELAY", hide_env_values = true, value_delimiter = ',')]
    pub relay: Vec<RelayUrl>,
    /// A name to request below the relay's domain; without --name and --host, the only name of the token, or a random
    /// name that is kept for this target
    #[arg(long, value_name = "NAME", alias = "subdomain", value_parser = parse::<Name>, env = "PTTH_NAME", hide_env_values = true, value_delimiter = ',')]
    pub name: Vec<Name>,
    /// The Host that the target receives instead of the visitor's, for development servers that refuse unknown hosts:
    /// rewrite for the host of the target, or HOST:PORT
    #[arg(long, value_name = "rewrite|HOST", value_parser = parse::<HostHeader>)]
    pub host_header: Option<HostHeader>,
    /// Several targets, and what changes on the way there and back.
    #[command(flatten)]
    pub paths: PathArgs,
    /// Edits of fields on the way to the target and back.
    #[command(flatten)]
    pub edits: EditArgs,
    /// A host of your own to request; the token must allow this host
    #[arg(long, value_name = "HOST", value_parser = parse::<HostName>)]
    pub host: Vec<HostName>,
    /// Request every host one label below each --name and --host, too; the token must list '*.NAME' or '*.HOST'
    #[arg(long)]
    pub subnames: bool,
    /// The transport to the relay; auto selects the best one that works. ptth10-h1 is ptth10 with HTTP/1.1 alone
    /// after the Upgrade
    #[arg(long, value_name = "NAME", default_value = AUTO, value_parser = PossibleValuesParser::new(agent::transports()))]
    pub transport: String,
    /// Token, trusted roots, client certificate and proxy.
    #[command(flatten)]
    pub approach: Approach,
    /// Keep the identity of this agent in this directory, so that a restarted agent replaces its old process at once
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Take over the names from every other agent process with the same token
    #[arg(long)]
    pub exclusive: bool,
    /// The time limit for the head of an answer, in seconds; 0 for none. The relay shortens a limit that is longer than
    /// its own, unless the token allows it; the agent then prints a warning [default: the limit of the relay]
    #[arg(long, value_name = "N")]
    pub answer_timeout_seconds: Option<u64>,
    /// How the certificate of the target is verified.
    #[command(flatten)]
    pub origin_tls: TlsArgs,
    /// The rules for visitors; without rules, everybody may visit.
    #[command(flatten)]
    pub visitors: visitors::Args,
}

/// An agent ready to be started.
pub struct PreparedAgent {
    /// The configuration of the agent.
    pub config: AgentConfig,
    /// The targets where requests are served.
    pub origins: ServedOrigins,
    /// Reads files again on SIGHUP.
    reload: Reload,
    /// Keeps other processes from using the agent's identity until this process ends.
    pub lock: Option<Lock>,
}

/// Makes an agent's configuration: reads the token and the CA, and locks the identity.
///
/// # Errors
/// [`Failure`]: code 2 for wrong usage, 1 for an operation that failed.
pub fn prepare(target: &str, args: ServiceArgs) -> Result<PreparedAgent, Failure> {
    let origins = origin::serve(target, &args)?;
    if args.subnames && args.name.is_empty() && args.host.is_empty() {
        return Err(Failure::usage("--subnames needs --name or --host"));
    }
    let mut approach = args.approach;
    let relays = kept::complete(args.relay, &mut approach)?;
    let relays: Vec<_> = relays.into_iter().map(|url| url.0).collect();
    let token = approach.token()?;
    let tls = approach.with_identity(&approach.trust(&relays)?)?;
    let unnamed = args.name.is_empty() && args.host.is_empty();
    let first = origins.origins.first().filter(|_| unnamed);
    let suggested = first.map(|(_, origin)| suggested::suggested(args.state.clone(), origin.target()));
    let names = suggested.as_ref().map_or(&args.name[..], std::slice::from_ref);
    let visitors = args.visitors.rules(names, &args.host)?;
    let proxies = approach.proxies(&relays)?;
    let (instance, lock) = match &args.state {
        Some(state) => instance::load_or_make(state).map(|(instance, lock)| (instance, Some(lock)))?,
        None => (Instance::random(), None),
    };
    let reload = Reload::new(approach, relays.clone(), token.clone());
    let config = AgentConfig {
        relays,
        names: args.name,
        hosts: args.host,
        subnames: args.subnames,
        suggested,
        token,
        transport: args.transport.into(),
        carriers: Kind::PREFERRED.to_vec(),
        climb: defaults::CLIMB_FIRST,
        tls,
        proxies,
        instance,
        exclusive: args.exclusive,
        visitors: visitors.map(|rules| rules.to_string().into()),
        answer_timeout: args.answer_timeout_seconds.map(AnswerLimit::from_seconds),
    };
    Ok(PreparedAgent { config, origins, reload, lock })
}

/// Refuses flags about a service beside a file of services.
///
/// # Errors
/// [`Failure`] with code 2.
pub(super) fn check_flags(matches: &ArgMatches) -> Result<(), Failure> {
    if !matches.contains_id("config") {
        return Ok(());
    }
    let is_given =
        |flag: &Arg| matches.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine);
    let flag = services::flags().into_iter().find(is_given);
    match flag.as_ref().and_then(Arg::get_long) {
        Some(flag) => Err(Failure::usage(format!(
            "--{flag} and --config exclude each other: write {flag} = … into the file"
        ))),
        None => Ok(()),
    }
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let Args { targets, config, service, report, access } = args;
    let (services, file) = match config {
        Some(path) => {
            let file = ServicesFile { path, selected: targets };
            (file.load()?, Some(file))
        }
        None => match <[String; 1]>::try_from(targets) {
            Ok([target]) => (vec![AgentService::of_command_line(target, service)], None),
            Err(_) => {
                return Err(Failure::usage(
                    "give one TARGET; several targets are services of a file (--config), or paths of one name (--path)",
                ));
            }
        },
    };
    let access = access.start()?;
    descriptors::raise();
    let cores = Cores::start(available_parallelism().map_or(1, usize::from));
    let cores = cores.map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    running::block_on(Fleet::new(report, &access, cores).run(services, file))
}

/// Serves until the sender of `reloads` is dropped, or until the agent cannot go on. Each item of `reloads` lets the
/// agent read its files again. Returns the number of connections that were cut.
async fn serve(
    prepared: PreparedAgent,
    report: Report,
    access: &Access,
    cores: Cores,
    mut reloads: mpsc::Receiver<()>,
) -> Result<usize, Failure> {
    let PreparedAgent { config, origins, mut reload, lock: _lock } = prepared;
    let ServedOrigins { origins, handler } = origins;
    let probes = futures_util::future::join_all(origins.iter().map(|(_, origin)| origin.probe())).await;
    let handler = agent::recorded(handler, access.sink());
    let mut serving = agent::start(&config, handler, cores).map_err(of_fatal)?;
    let urls = loop {
        tokio::select! {
            biased;
            requested = reloads.recv() => match requested {
                None => return Ok(0),
                Some(()) => reload.run(serving.credentials()),
            },
            urls = serving.connected() => break urls.map_err(of_fatal)?,
        }
    };
    let statuses = serving.status();
    let mut relays = config.relays.iter().zip(&statuses).filter(|(_, status)| status.borrow().connected);
    let relay = relays.next().or_else(|| config.relays.iter().zip(&statuses).next());
    report.connected(&relay.map_or("a relay".into(), |(relay, _)| relay.to_string()), &urls)?;
    for ((path, _), probe) in origins.iter().zip(probes) {
        report.target(path, &probe)?;
    }
    warnings(&serving).iter().try_for_each(|warning| report.warning(warning))?;
    let mut changes = report.changes(&config.relays, statuses);
    let mut company = urls.first().and_then(|url| Company::join(url));
    let mut tick = tokio::time::interval(company::CHECK);
    loop {
        tokio::select! {
            biased;
            requested = reloads.recv() => match requested {
                None => break,
                Some(()) => reload.run(serving.credentials()),
            },
            ended = serving.ended() => break ended.map_err(of_fatal)?,
            printed = changes.print_next() => printed?,
            _ = tick.tick(), if company.is_some() => company.iter_mut().for_each(Company::log_newcomer),
        }
    }
    // A changed service serves the same URL from now on, and is no other agent.
    drop(company);
    Ok(serving.stop(defaults::GRACE).await)
}

/// The warnings that the relays have sent so far.
fn warnings(serving: &Serving) -> Vec<String> {
    serving.status().iter().flat_map(|status| status.borrow().warnings.clone()).collect()
}

/// A refusal has an exit code of its own.
pub(super) fn of_fatal(fatal: Fatal) -> Failure {
    match fatal {
        Fatal::Refused(message) => Failure::refused(message),
        Fatal::Usage(message) => Failure::usage(message),
        Fatal::Fenced(message) => Failure::failed(message),
        Fatal::Unusable(message) => Failure::unusable(message),
        Fatal::Lost => Failure::failed(fatal),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn of_line(line: &[&str]) -> Result<PreparedAgent, Failure> {
        let args = Line::try_parse_from([&["x"], line].concat()).unwrap().args;
        prepare(&args.targets[0], args.service)
    }

    #[test]
    fn flags_and_files_become_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let [token, state] = ["token", "state"].map(|name| directory.path().join(name).display().to_string());
        std::fs::write(&token, "ptth_x_y\n").unwrap();
        let prepared = of_line(&[
            "3000",
            "--relay=http://localhost:1,http://127.0.0.1:2",
            "--name=a",
            "--name=b",
            "--host=c.test",
            "--transport=ptth10",
            "--exclusive",
            "--answer-timeout-seconds=300",
            &format!("--token-file={token}"),
            &format!("--state={state}"),
        ])
        .unwrap();
        let config = &prepared.config;
        assert_eq!(config.relays, ["http://localhost:1/", "http://127.0.0.1:2/"]);
        assert_eq!(config.names.iter().map(Name::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(config.hosts[0].as_str(), "c.test");
        assert_eq!(config.token.as_ref().unwrap().expose(), "ptth_x_y");
        assert_eq!((&*config.transport, config.exclusive, config.instance.boot), ("ptth10", true, 1));
        assert_eq!(config.answer_timeout, Some(AnswerLimit::from_seconds(300)));
        assert!(prepared.lock.is_some());
        let failure = of_line(&["3000", "--relay=http://localhost:1", &format!("--state={state}")]);
        assert_eq!(failure.err().unwrap().code, 1, "the identity is taken");
    }

    #[test]
    fn a_ca_file_is_read_even_for_plain_http_relays() {
        let line = ["3000", "--relay=http://localhost:1", "--ca=/nonexistent.pem"];
        assert_eq!(of_line(&line).err().unwrap().code, 2);
    }
}
