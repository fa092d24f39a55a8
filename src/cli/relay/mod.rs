//! `ptth relay`: makes a relay's configuration from flags, environment and file.

mod first;
mod seal;
mod settings;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::net::descriptors::{self, Descriptors};
use crate::policy::Tokens;
use crate::relay::Relay;
use crate::relay::config::{Listen, RelayConfig};
use crate::tls::{PairFiles, ServerTls, dev};

use super::running::{self, Signalled, Signals};
use super::{AccessArgs, Failure, print_line};

pub use self::first::{FirstToken, greeting, listener_line};
pub use self::settings::{CertificatePair, CertificateSource, RelaySettings, Settings};

/// The flags of `ptth relay`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A TOML file whose keys are the flags below; flags and environment override it
    #[arg(long, value_name = "FILE", env = "PTTH_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Everything else can stand in the file too.
    #[command(flatten)]
    pub said: RelaySettings,
}

/// A relay ready to be started, with the data that [`announce`] prints once the relay accepts connections.
pub struct PreparedRelay {
    /// The configuration of the relay.
    pub config: RelayConfig,
    /// The CA to give to agents, if the certificate is a development certificate.
    pub ca: Option<PathBuf>,
    /// The token of the first start, while it is live.
    pub first: Option<FirstToken>,
    /// The access log.
    pub access: AccessArgs,
}

/// Makes a relay's configuration: reads the file, opens the tokens, loads the certificate, and makes missing files.
///
/// # Errors
/// [`Failure`]: code 2 for wrong usage, 1 for an operation that failed.
pub fn prepare(args: Args) -> Result<PreparedRelay, Failure> {
    let file = args.config.as_deref().map(RelaySettings::load).transpose()?.unwrap_or_default();
    let Settings { mut config, certificate, client_ca, state, access } =
        Settings::resolve(args.said.or(file))?;
    config.tokens = Tokens::open(&state).map_err(Failure::failed)?;
    let client_ca = client_ca.as_deref();
    let mut ca = None;
    config.tls = match &certificate {
        CertificateSource::None => None,
        CertificateSource::Files(pairs) => {
            Some(ServerTls::from_files(pairs, client_ca).map_err(Failure::usage)?)
        }
        CertificateSource::Development(hosts) => {
            let made = dev::load_or_make(&state, hosts).map_err(Failure::failed)?;
            if made.new_ca && !made.had_ca {
                tracing::info!(ca = %made.ca.display(), "made a development CA, which agents must trust");
            } else if made.new_ca {
                tracing::info!(
                    ca = %made.ca.display(),
                    "made a new development CA; agents with an older CA need the new one"
                );
            }
            ca = Some(made.ca);
            let pair = PairFiles { cert: made.cert, key: made.key };
            Some(ServerTls::from_files(&[pair], client_ca).map_err(Failure::usage)?)
        }
    };
    let first = FirstToken::make(&config.tokens, &state)?;
    config.polling.seal_key = seal::key(&state).map_err(Failure::failed)?;
    // The spool is in the state directory, because the directory for temporary files is in memory on many systems.
    let spool = state.join("spool");
    std::fs::create_dir_all(&spool).map_err(|e| Failure::failed(format!("{}: {e}", spool.display())))?;
    config.polling.keep_in(spool);
    Ok(PreparedRelay { config, ca, first, access })
}

/// Prints the lines that a person or a script waits for: one per listener, and the command that starts an agent.
/// `bound` are the listeners with their actual addresses.
///
/// # Errors
/// [`Failure`] when stdout cannot be written.
pub fn announce(
    prepared: &PreparedRelay,
    bound: &[Listen],
    admin: Option<SocketAddr>,
) -> Result<(), Failure> {
    let terminal = std::io::stdout().is_terminal();
    greeting(prepared, bound, admin, terminal).iter().try_for_each(|line| print_line(line))
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    serve(prepare(args)?)
}

fn serve(prepared: PreparedRelay) -> Result<(), Failure> {
    descriptors::raise();
    running::block_on(async {
        let mut signals = Signals::listen()?;
        let access = prepared.access.start()?;
        let config = RelayConfig { access_log: access.sink(), ..prepared.config.clone() };
        let relay = Relay::start(config).map_err(Failure::failed)?;
        report_connection_limit(prepared.config.connections, relay.room());
        announce(&prepared, relay.addresses(), relay.admin())?;
        if prepared.config.open_registration {
            tracing::warn!(
                "registration is open: anybody who reaches this relay may claim a free name below {} and \
                 serve any content there",
                prepared.config.domain
            );
        }
        while signals.next().await == Signalled::Reload {
            tracing::info!("SIGHUP: reading certificates and client CAs again");
            access.reopen();
            tokio::select! {
                biased;
                () = signals.stop() => break,
                () = relay.reload() => {}
            }
        }
        tracing::info!("stopping: agents are notified, and requests in flight finish");
        signals.wait_for_stop(relay.stop()).await;
        Ok(())
    })
}

/// Logs how many public connections fit, and warns with a remedy when they are fewer than `wanted`.
fn report_connection_limit(wanted: usize, room: usize) {
    let limit = Descriptors::of_this_process().limit();
    tracing::info!(connections = wanted.min(room), open_files = limit, "relay started");
    if wanted > room {
        tracing::warn!(
            "--connections {wanted} do not fit: the limit of {limit} open files leaves {room} for visitors; \
             raise the limit with ulimit -n or LimitNOFILE=, or set --connections {room}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(state: &std::path::Path, settings: RelaySettings) -> PreparedRelay {
        prepare(Args { config: None, said: RelaySettings { state: Some(state.into()), ..settings } }).unwrap()
    }

    #[test]
    fn a_second_start_uses_the_token_key_and_ca_of_the_first() {
        let state = tempfile::tempdir().unwrap();
        let first = start(state.path(), RelaySettings::default());
        let secret = first.first.unwrap().secret.unwrap();
        let ca = std::fs::read(first.ca.unwrap()).unwrap();
        assert!(first.config.tls.is_some());
        let second = start(state.path(), RelaySettings::default());
        assert!(second.config.tokens.verify(&secret).is_some());
        assert_eq!(second.config.polling.seal_key, first.config.polling.seal_key);
        assert_eq!(std::fs::read(second.ca.unwrap()).unwrap(), ca);
    }

    #[test]
    fn a_plain_relay_makes_no_certificate() {
        let state = tempfile::tempdir().unwrap();
        let listen = Listen::plain("127.0.0.1:0".parse().unwrap());
        let plain = start(state.path(), RelaySettings { listen: vec![listen], ..RelaySettings::default() });
        assert!(plain.config.tls.is_none() && plain.ca.is_none());
        assert!(!state.path().join("ca.pem").exists());
    }
}
