//! `ptth token`: which agents may claim which names and hosts.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use time::{Date, Month};

use crate::domain::{AgentId, AnswerLimit, Below, HostName, Name};
use crate::policy::{self, Grants, Limits, Prefix, Tokens};
use crate::transport;

use super::text::{FromText, parse};
use super::{Failure, print_line, state};

/// Issue, list and revoke tokens. A running relay notices within a second.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Issue a token and print only the token; the relay stores only a digest
    New {
        /// The state directory of the relay [default: $XDG_STATE_HOME/ptth]
        #[arg(long, value_name = "DIR", env = "PTTH_STATE", hide_env_values = true)]
        state: Option<PathBuf>,
        /// What it may claim, and within which limits
        #[command(flatten)]
        scope: Box<TokenScope>,
    },
    /// Print one line for each token: its id, the names and hosts that it may claim, and its limits
    List {
        /// The state directory of the relay [default: $XDG_STATE_HOME/ptth]
        #[arg(long, value_name = "DIR", env = "PTTH_STATE", hide_env_values = true)]
        state: Option<PathBuf>,
    },
    /// Revoke a token
    Revoke {
        /// The state directory of the relay [default: $XDG_STATE_HOME/ptth]
        #[arg(long, value_name = "DIR", env = "PTTH_STATE", hide_env_values = true)]
        state: Option<PathBuf>,
        /// The id of the token, as ptth token list prints it
        id: String,
    },
}

/// What a new token may claim, and within which limits.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TokenScope {
    /// A name that the token may claim, 'WORD-*' for every name with this prefix, '*' for any name, or '*.NAME' for all
    /// hosts one label below a name (ptth agent --subnames); without --name and --host, any name
    #[arg(long, value_name = "NAME", value_parser = parse::<NameGrant>)]
    pub name: Vec<NameGrant>,
    /// A host of your own that the token may claim, or '*.HOST' for the hosts one label below it
    #[arg(long, value_name = "HOST", value_parser = parse::<HostGrant>)]
    pub host: Vec<HostGrant>,
    /// A transport that agents with this token may use; without this flag, any transport
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(transport::ALL.iter().map(|t| t.name())))]
    pub transport: Vec<String>,
    /// Limit the agents that are connected with this token at once
    #[arg(long, value_name = "N")]
    pub sessions: Option<NonZeroU32>,
    /// Limit the visitors' requests per second for each name; agents may set a lower limit, but not a higher one
    #[arg(long, value_name = "N")]
    pub rate: Option<NonZeroU32>,
    /// Limit the visitors' requests in flight for each name; agents may set a lower limit, but not a higher one
    #[arg(long, value_name = "N")]
    pub in_flight: Option<NonZeroU32>,
    /// The longest time limit for the head of an answer that an agent may request, in seconds; 0 for any. Without this
    /// flag, an agent may only request a shorter limit than the relay's
    #[arg(long, value_name = "N")]
    pub answer_timeout_seconds: Option<u32>,
    /// When the token expires: 30d, 12h or 45m from now, or at the start of a day (UTC), as in 2027-01-31
    #[arg(long, value_name = "TIME", value_parser = parse::<Expiry>)]
    pub expires: Option<Expiry>,
}

/// A name or a set of names that a token may claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameGrant {
    /// Any name.
    Any,
    /// Every name with this prefix.
    Prefix(Prefix),
    /// All hosts below this name.
    Below(Below),
    /// This name.
    One(Name),
}

impl FromText for NameGrant {
    fn from_text(text: &str) -> Result<Self, String> {
        if let Some(below) = Below::parse_name(text) {
            return below.map(Self::Below).map_err(|error| error.to_string());
        }
        match (text, Prefix::parse(text)) {
            ("*", _) => Ok(Self::Any),
            (_, Some(prefix)) => prefix.map(Self::Prefix).map_err(|error| error.to_string()),
            (_, None) if text.contains('*') => {
                Err("a star must stand alone, follow a hyphen at the end ('team-*'), or be the first label ('*.shop')"
                    .into())
            }
            (name, None) => Name::from_text(name).map(Self::One),
        }
    }
}

/// A host, or the hosts below one, that a token may claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostGrant {
    /// All hosts below this host.
    Below(Below),
    /// This host.
    One(HostName),
}

impl FromText for HostGrant {
    fn from_text(text: &str) -> Result<Self, String> {
        match Below::parse_host(text) {
            Some(below) => below.map(Self::Below).map_err(|error| error.to_string()),
            None => HostName::from_text(text).map(Self::One),
        }
    }
}

/// When a token expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// This long after the token was issued.
    After(Duration),
    /// At this time.
    At(SystemTime),
}

impl FromText for Expiry {
    fn from_text(text: &str) -> Result<Self, String> {
        let form = || "write 30d, 12h, 45m, or a date as in 2027-01-31".to_owned();
        if let Some(day) = day(text) {
            return match SystemTime::from(day.midnight().assume_utc()) {
                end if end <= SystemTime::now() => Err(format!("{text} is in the past")),
                end => Ok(Self::At(end)),
            };
        }
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(form)?;
        let seconds = match unit {
            "d" => 24 * 3600,
            "h" => 3600,
            "m" => 60,
            _ => return Err(form()),
        };
        let number: NonZeroU32 = number.parse().map_err(|_| form())?;
        let after = Duration::from_secs(u64::from(number.get()) * seconds);
        let limit = Duration::from_secs(100 * 365 * 24 * 3600);
        if after > limit {
            Err("that is longer than a century; leave --expires out".into())
        } else {
            Ok(Self::After(after))
        }
    }
}

fn day(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    let year = parts.next().filter(|year| year.len() == 4)?.parse().ok()?;
    let month: u8 = parts.next()?.parse().ok()?;
    let day = parts.next()?.parse().ok()?;
    Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()
}

pub(super) fn run(command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::New { state, scope } => {
            let is_default = state.is_none();
            let state = state::directory(state)?;
            let is_new = !state.join("ptth.db").exists();
            let tokens = Tokens::open(&state).map_err(Failure::failed)?;
            let (_, secret) = tokens.issue(grants(*scope)).map_err(Failure::failed)?;
            if is_default && is_new {
                note(&format!(
                    "{} is new: a relay of another user, as with sudo, or with another --state does not know this token",
                    state.display()
                ));
            }
            protect_stdout();
            print_line(secret.expose())
        }
        TokenCommand::List { state } => {
            let tokens = open_existing(&state::directory(state)?)?;
            let now = SystemTime::now();
            tokens.list().iter().try_for_each(|token| {
                let expired = if token.grants.is_live(now) { "" } else { " (expired)" };
                print_line(&format!("{}  {}{expired}", token.id, token.grants))
            })
        }
        TokenCommand::Revoke { state, id } => {
            let state = state::directory(state)?;
            let id = AgentId(Arc::from(id_part(&id)));
            match open_existing(&state)?.revoke(&id).map_err(Failure::failed)? {
                true => Ok(()),
                false => Err(Failure::failed(format!(
                    "no live token in {} has the id {:?}; see ptth token list",
                    state.display(),
                    &*id.0
                ))),
            }
        }
    }
}

/// Makes the file that stdout is redirected to readable by its owner alone: the shell has just made it for a secret.
fn protect_stdout() {
    let Ok(file) = std::io::stdout().as_fd().try_clone_to_owned().map(File::from) else { return };
    let Ok(about) = file.metadata() else { return };
    if about.is_file() && about.permissions().mode() & 0o077 != 0 {
        match file.set_permissions(Permissions::from_mode(0o600)) {
            Ok(()) => note("the file with the token is now for you alone (mode 600)"),
            Err(error) => note(&format!("others may read the file with the token ({error}): chmod 600 it")),
        }
    }
}

/// A remark on stderr, beside the token on stdout.
fn note(text: &str) {
    // Without stderr, the token alone is printed.
    let _ = writeln!(std::io::stderr(), "ptth: {text}");
}

fn grants(scope: TokenScope) -> Grants {
    let TokenScope { name, host, transport, sessions, rate, in_flight, answer_timeout_seconds, expires } =
        scope;
    let limits = Limits {
        transports: transport.into_iter().map(Into::into).collect(),
        sessions,
        rate,
        in_flight,
        answer_timeout: answer_timeout_seconds.map(|seconds| AnswerLimit::from_seconds(seconds.into())),
        expires: expires.map(|expires| match expires {
            Expiry::After(after) => SystemTime::now() + after,
            Expiry::At(end) => end,
        }),
    };
    let any_name = name.is_empty() && host.is_empty();
    let mut grants = Grants { any_name, limits, ..Grants::default() };
    for host in host {
        match host {
            HostGrant::Below(below) => grants.below.push(below),
            HostGrant::One(host) => grants.hosts.push(host),
        }
    }
    for name in name {
        match name {
            NameGrant::Any => grants.any_name = true,
            NameGrant::Prefix(prefix) => grants.prefixes.push(prefix),
            NameGrant::Below(below) => grants.below.push(below),
            NameGrant::One(name) => grants.names.push(name),
        }
    }
    grants
}

/// The id in a text that may be a complete token; the secret is cut off and never repeated.
fn id_part(id: &str) -> &str {
    let id = id.strip_prefix("ptth_").unwrap_or(id);
    id.split_once('_').map_or(id, |(id, _)| id)
}

/// Opens the tokens in an existing state directory. A missing directory is an error and is not created, because its
/// path may be mistyped.
fn open_existing(state: &Path) -> Result<Tokens, Failure> {
    if !state.join(policy::FILE).exists() {
        let state = state.display();
        return Err(Failure::failed(format!(
            "there are no tokens in {state}; check that it is the --state directory of the relay"
        )));
    }
    Tokens::open(state).map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_grants() {
        let name = |text| NameGrant::from_text(text).unwrap();
        let granted = |name, host| grants(TokenScope { name, host, ..TokenScope::default() });
        let host = HostGrant::from_text("a.test").unwrap();
        assert_eq!(granted(vec![], vec![]), Grants::any());
        assert_eq!(granted(vec![name("*")], vec![]), Grants::any());
        assert!(!granted(vec![], vec![host.clone()]).any_name, "a token for a host allows no name");
        assert!(!granted(vec![name("a")], vec![host]).any_name);
        let team = granted(vec![name("team-*")], vec![]);
        assert_eq!((team.prefixes.len(), team.any_name), (1, false));
        for bad in ["*.a.b", "*.", "team*", "**", "*-a", "-*"] {
            assert!(NameGrant::from_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_expiry_is_a_duration_or_a_date() {
        let hours = |n: u64| Ok(Expiry::After(Duration::from_secs(n * 3600)));
        assert_eq!(Expiry::from_text("30d"), hours(30 * 24));
        assert_eq!((Expiry::from_text("12h"), Expiry::from_text("120m")), (hours(12), hours(2)));
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800);
        assert_eq!(Expiry::from_text("2100-01-01"), Ok(Expiry::At(day)));
        for bad in [
            "",
            "d",
            "0d",
            "-1d",
            "30",
            "30w",
            "1.5h",
            "2100-13-01",
            "2100-02-30",
            "2020-01-01",
            "99999d",
            "dü",
        ] {
            assert!(Expiry::from_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_id_is_taken_from_a_whole_token() {
        assert_eq!(id_part("0123456789ab"), "0123456789ab");
        assert_eq!(id_part("ptth_0123456789ab_se_cret"), "0123456789ab");
    }
}
