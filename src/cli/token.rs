//! `ptth token`: who may speak for what.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;

use crate::domain::{AgentId, HostName, Name};
use crate::policy::{self, Grants, Tokens};

use super::text::{FromText, parse};
use super::{Failure, say, state};

/// Issue, list and revoke tokens. A running relay notices within a second.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Issue a token and print it, alone; nothing keeps a copy
    New {
        /// Where the relay keeps its state
        #[arg(long, value_name = "DIR", env = "PTTH_STATE", hide_env_values = true)]
        state: Option<PathBuf>,
        /// A name that it may claim, or '*' for any; without --name and --host: any
        #[arg(long, value_name = "NAME", value_parser = parse::<NameGrant>)]
        name: Vec<NameGrant>,
        /// A host of the agent's own that it may claim, exactly
        #[arg(long, value_name = "HOST", value_parser = parse::<HostName>)]
        host: Vec<HostName>,
    },
    /// Print the live tokens, one a line: its id, and what it may claim
    List {
        /// Where the relay keeps its state
        #[arg(long, value_name = "DIR", env = "PTTH_STATE", hide_env_values = true)]
        state: Option<PathBuf>,
    },
    /// End a token
    Revoke {
        /// Where the relay keeps its state
        #[arg(long, value_name = "DIR", env = "PTTH_STATE", hide_env_values = true)]
        state: Option<PathBuf>,
        /// Its id, as the list says it
        id: String,
    },
}

/// A name to be granted, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameGrant {
    /// Any name.
    Any,
    /// This name.
    One(Name),
}

impl FromText for NameGrant {
    fn from_text(text: &str) -> Result<Self, String> {
        if text == "*" { Ok(Self::Any) } else { Name::from_text(text).map(Self::One) }
    }
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::New { state, name, host } => {
            let tokens = Tokens::open(&state::directory(state)?).map_err(Failure::failed)?;
            let (_, secret) = tokens.issue(grants(name, host)).map_err(Failure::failed)?;
            say(secret.expose())
        }
        Command::List { state } => {
            let tokens = existing(&state::directory(state)?)?;
            tokens.list().iter().try_for_each(|token| say(&format!("{}  {}", token.id, token.grants)))
        }
        Command::Revoke { state, id } => {
            let state = state::directory(state)?;
            let id = AgentId(Arc::from(bare(&id)));
            match existing(&state)?.revoke(&id).map_err(Failure::failed)? {
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

fn grants(names: Vec<NameGrant>, hosts: Vec<HostName>) -> Grants {
    let mut grants = Grants { any_name: names.is_empty() && hosts.is_empty(), names: Vec::new(), hosts };
    for name in names {
        match name {
            NameGrant::Any => grants.any_name = true,
            NameGrant::One(name) => grants.names.push(name),
        }
    }
    grants
}

/// The id in what somebody may have pasted: a whole token is understood too, and its secret not repeated.
fn bare(id: &str) -> &str {
    let id = id.strip_prefix("ptth_").unwrap_or(id);
    id.split_once('_').map_or(id, |(id, _)| id)
}

/// To look does not make a state where there is none: a directory that was mistyped is said so.
fn existing(state: &Path) -> Result<Tokens, Failure> {
    if !state.join(policy::FILE).exists() {
        let state = state.display();
        return Err(Failure::failed(format!(
            "there are no tokens in {state}; is it the --state of the relay?"
        )));
    }
    Tokens::open(state).map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_is_what_was_said() {
        let name = |text| NameGrant::from_text(text).unwrap();
        let host = HostName::parse("a.test").unwrap();
        assert_eq!(grants(vec![], vec![]), Grants::any());
        assert_eq!(grants(vec![name("*")], vec![]), Grants::any());
        assert!(!grants(vec![], vec![host.clone()]).any_name, "a token for a host is for no name");
        assert!(!grants(vec![name("a")], vec![host]).any_name);
        assert!(NameGrant::from_text("*.a").is_err());
    }

    #[test]
    fn an_id_is_found_in_a_whole_token() {
        assert_eq!(bare("0123456789ab"), "0123456789ab");
        assert_eq!(bare("ptth_0123456789ab_se_cret"), "0123456789ab");
    }
}
