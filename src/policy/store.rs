//! Where tokens are kept: SQLite in the state directory, in WAL mode, so that `ptth token` can write while a
//! relay
//! reads. SQLite gives its two side files the mode of the main one.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use crate::defaults;
use crate::domain::{HostName, Malformed, Name};

use super::table::Table;
use super::token::{Entry, Grants};

/// The file in the state directory.
pub const FILE: &str = "ptth.db";

/// The layout of the file that this version writes (`PRAGMA user_version`).
const LAYOUT: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE token (
    id      TEXT PRIMARY KEY,
    digest  BLOB NOT NULL CHECK (length(digest) = 32),
    created INTEGER NOT NULL, -- seconds since 1970
    revoked INTEGER           -- seconds since 1970; NULL is live
) STRICT;
CREATE TABLE claimable (
    token TEXT NOT NULL REFERENCES token (id),
    kind  TEXT NOT NULL CHECK (kind IN ('any', 'name', 'host')),
    value TEXT NOT NULL,
    PRIMARY KEY (token, kind, value)
) STRICT, WITHOUT ROWID;
";

/// Why tokens cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or the file cannot be made or opened.
    #[error("cannot open {}: {source}; check --state and its owner", path.display())]
    Open {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may write to the file, so what it says proves nothing.
    #[error("{} may be written by others; chmod go-w it, and look whether its tokens are yours", .0.display())]
    Exposed(PathBuf),
    /// A newer version wrote the file.
    #[error("{} was written by a newer ptth (layout {layout}); use that version, or another --state", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        layout: i64,
    },
    /// SQLite failed: a damaged file, a full disk, a lock held for long.
    #[error("cannot use {}: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A name or a host in the file is none.
    #[error("{} holds a damaged token: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Malformed,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] rand::rngs::SysError),
}

/// An open file of tokens.
pub(super) struct Store {
    connection: Connection,
    path: PathBuf,
    /// `PRAGMA data_version` when the table was last read: changes when *another* connection commits.
    seen: i64,
}

impl Store {
    pub(super) fn open(state: &Path) -> Result<Self, StoreError> {
        let path = state.join(FILE);
        // SQLite's busy timeout does not cover the change to WAL, so those who open wait for each other here.
        let _first = make(state, &path)?;
        let failed = |source| StoreError::Database { path: path.clone(), source };
        let connection = connect(&path).map_err(failed)?;
        let mut store = Self { connection, path: path.clone(), seen: 0 };
        store.lay_out()?;
        Ok(store)
    }

    /// Makes the tables, once, whoever comes first.
    fn lay_out(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let failed = |source| StoreError::Database { path: path.clone(), source };
        let change =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let layout: i64 =
            change.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        match layout {
            0 => {
                change.execute_batch(SCHEMA).map_err(failed)?;
                change.pragma_update(None, "user_version", LAYOUT).map_err(failed)?;
                change.commit().map_err(failed)
            }
            LAYOUT => Ok(()),
            layout => Err(StoreError::Newer { path, layout }),
        }
    }

    /// Whether another connection has committed since the table was last read.
    pub(super) fn has_changed(&self) -> Result<bool, StoreError> {
        self.version().map(|now| now != self.seen)
    }

    fn version(&self) -> Result<i64, StoreError> {
        self.connection.pragma_query_value(None, "data_version", |row| row.get(0)).map_err(|e| self.failed(e))
    }

    /// Reads every live token.
    pub(super) fn load(&mut self) -> Result<Table, StoreError> {
        // Asked first: a change that comes in between is then read now, and once more at the next look.
        let version = self.version()?;
        let rows = read(&self.connection).map_err(|e| self.failed(e))?;
        let damaged = |source| StoreError::Damaged { path: self.path.clone(), source };
        let mut entries = HashMap::new();
        for row in rows.live {
            let grants = row.grants().map_err(damaged)?;
            let created = SystemTime::UNIX_EPOCH + Duration::from_secs(row.created.max(0).cast_unsigned());
            entries.insert(row.id, Entry { digest: row.digest, grants: Arc::new(grants), created });
        }
        self.seen = version;
        Ok(Table::new(entries, rows.ever))
    }

    pub(super) fn insert(&mut self, id: &str, entry: &Entry) -> Result<(), StoreError> {
        let grants = &entry.grants;
        let any = grants.any_name.then_some(("any", "*"));
        let names = grants.names.iter().map(|name| ("name", name.as_str()));
        let hosts = grants.hosts.iter().map(|host| ("host", host.as_str()));
        let write = |connection: &mut Connection| {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute(
                "INSERT INTO token (id, digest, created) VALUES (?1, ?2, ?3)",
                params![id, entry.digest, seconds(entry.created)],
            )?;
            for (kind, value) in any.into_iter().chain(names).chain(hosts) {
                change.execute(
                    "INSERT OR IGNORE INTO claimable VALUES (?1, ?2, ?3)",
                    params![id, kind, value],
                )?;
            }
            change.commit()
        };
        write(&mut self.connection).map_err(|e| self.failed(e))
    }

    pub(super) fn revoke(&mut self, id: &str) -> Result<bool, StoreError> {
        let now = seconds(SystemTime::now());
        let sql = "UPDATE token SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL";
        self.connection.execute(sql, params![id, now]).map(|rows| rows > 0).map_err(|e| self.failed(e))
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Database { path: self.path.clone(), source }
    }
}

/// Makes directory and file for the owner alone, where they are missing, and refuses a file that others may
/// write.
/// Returns the directory, locked.
fn make(state: &Path, path: &Path) -> Result<File, StoreError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Open { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(at(state))?;
    let directory = File::open(state).map_err(at(state))?;
    directory.lock().map_err(at(state))?;
    // An existing file is not opened here: closing it again would drop the locks that SQLite holds on it in
    // this
    // process (fcntl(2): closing any descriptor of a file ends the process's record locks on it).
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(path)(error)),
        _ => {}
    }
    let mode = path.metadata().map_err(at(path))?.permissions().mode();
    if mode & 0o022 != 0 { Err(StoreError::Exposed(path.to_owned())) } else { Ok(directory) }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(defaults::STATE_BUSY)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // A token that was printed must not be lost with the power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

struct Row {
    id: Arc<str>,
    digest: [u8; 32],
    created: i64,
    claimable: Vec<(String, String)>,
}

impl Row {
    fn grants(&self) -> Result<Grants, Malformed> {
        let mut grants = Grants::default();
        for (kind, value) in &self.claimable {
            match kind.as_str() {
                "any" => grants.any_name = true,
                "name" => grants.names.push(Name::parse(value)?),
                _ => grants.hosts.push(HostName::parse(value)?),
            }
        }
        Ok(grants)
    }
}

struct Rows {
    live: Vec<Row>,
    ever: bool,
}

/// One moment's rows: both queries see the same state.
fn read(connection: &Connection) -> rusqlite::Result<Rows> {
    let moment = connection.unchecked_transaction()?;
    let mut tokens = moment.prepare_cached("SELECT id, digest, created FROM token WHERE revoked IS NULL")?;
    let mut claimable = moment.prepare_cached("SELECT kind, value FROM claimable WHERE token = ?1")?;
    let live = tokens
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?
        .map(|row| {
            let (id, digest, created) = row?;
            let pairs = claimable.query_map([&id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(Row { claimable: pairs.collect::<rusqlite::Result<_>>()?, id: id.into(), digest, created })
        })
        .collect::<rusqlite::Result<_>>()?;
    let ever = moment.query_row("SELECT 1 FROM token LIMIT 1", [], |_| Ok(())).optional()?.is_some();
    Ok(Rows { live, ever })
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}
