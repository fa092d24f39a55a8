//! The store of tokens: SQLite in the state directory, in WAL mode, so that `ptth token` can write while a relay reads.
//! SQLite gives its two side files the mode of the main one.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use crate::defaults;
use crate::domain::{AnswerLimit, Below, HostName, Malformed, Name};

use super::layout;
use super::scope::{Grants, Limits, Prefix};
use super::table::Table;
use super::token::TokenEntry;

/// The file in the state directory.
pub const FILE: &str = "ptth.db";

/// Why tokens cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory or the file cannot be made or opened.
    #[error("cannot open {}: {source}; check --state and its owner", path.display())]
    Open {
        /// The directory or the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Other users may write to the file, so its tokens prove nothing.
    #[error("other users may write to {}: run chmod go-w on it, and check its tokens", .0.display())]
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
        /// The error of SQLite.
        source: rusqlite::Error,
    },
    /// A name or a host in the file is not valid.
    #[error("{} holds a damaged token: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The defect.
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
        // SQLite's busy timeout does not cover the change to WAL, so processes that open the file wait for each other
        // here.
        let _directory_lock = make_file(state, &path)?;
        let failed = |source| StoreError::Database { path: path.clone(), source };
        let connection = connect(&path).map_err(failed)?;
        let mut store = Self { connection, path: path.clone(), seen: 0 };
        store.migrate()?;
        Ok(store)
    }

    /// Makes the tables, or brings those of an older version up to date. Of several processes, only the first does so.
    fn migrate(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        match layout::migrate(&mut self.connection) {
            Ok(layout) if layout > layout::LATEST => Err(StoreError::Newer { path, layout }),
            Ok(_) => Ok(()),
            Err(source) => Err(StoreError::Database { path, source }),
        }
    }

    /// Whether another connection has committed since the table was last read.
    pub(super) fn has_changed(&self) -> Result<bool, StoreError> {
        self.version().map(|now| now != self.seen)
    }

    fn version(&self) -> Result<i64, StoreError> {
        self.connection.pragma_query_value(None, "data_version", |row| row.get(0)).map_err(|e| self.failed(e))
    }

    /// Reads every token that was not revoked.
    pub(super) fn load(&mut self) -> Result<Table, StoreError> {
        // The version is read before the rows, so that a change in between is read again after the next check.
        let version = self.version()?;
        let rows = read(&self.connection).map_err(|e| self.failed(e))?;
        let damaged = |source| StoreError::Damaged { path: self.path.clone(), source };
        let mut entries = HashMap::new();
        for row in rows.live {
            let grants = row.grants().map_err(damaged)?;
            let created = time(row.created);
            entries.insert(row.id, TokenEntry { digest: row.digest, grants: Arc::new(grants), created });
        }
        self.seen = version;
        Ok(Table::new(entries, rows.ever_issued))
    }

    pub(super) fn insert(&mut self, id: &str, entry: &TokenEntry) -> Result<(), StoreError> {
        let grants = &entry.grants;
        let limits = &grants.limits;
        let any = grants.any_name.then(|| ("any", "*".to_owned()));
        let names = grants.names.iter().map(|name| ("name", name.to_string()));
        let prefixes = grants.prefixes.iter().map(|prefix| ("prefix", prefix.to_string()));
        let hosts = grants.hosts.iter().map(|host| ("host", host.to_string()));
        let below = grants.below.iter().map(|below| match below {
            Below::Name(_) => ("name", below.to_string()),
            Below::Host(_) => ("host", below.to_string()),
        });
        let transports = limits.transports.iter().map(|transport| ("transport", transport.to_string()));
        let scope = any.into_iter().chain(names).chain(prefixes).chain(hosts).chain(below).chain(transports);
        let scope: Vec<_> = scope.collect();
        let write = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "INSERT INTO token (id, digest, created, expires, sessions, rate, in_flight, answer_timeout)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    id,
                    entry.digest,
                    seconds(entry.created),
                    limits.expires.map(seconds),
                    limits.sessions,
                    limits.rate,
                    limits.in_flight,
                    limits.answer_timeout.map(|limit| i64::try_from(limit.seconds()).unwrap_or(i64::MAX))
                ],
            )?;
            for (kind, value) in &scope {
                transaction
                    .execute("INSERT OR IGNORE INTO scope VALUES (?1, ?2, ?3)", params![id, kind, value])?;
            }
            transaction.commit()
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

/// Makes the directory and the file, for the owner alone, if they are missing, and refuses a file that others may
/// write. Returns the directory, locked.
fn make_file(state: &Path, path: &Path) -> Result<File, StoreError> {
    let open_error = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Open { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(open_error(state))?;
    let directory = File::open(state).map_err(open_error(state))?;
    directory.lock().map_err(open_error(state))?;
    // An existing file is not opened here: closing it again would drop the locks that SQLite holds on it in this
    // process (fcntl(2): closing any descriptor of a file ends the process's record locks on it).
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(open_error(path)(error)),
        _ => {}
    }
    let mode = path.metadata().map_err(open_error(path))?.permissions().mode();
    if mode & 0o022 != 0 { Err(StoreError::Exposed(path.to_owned())) } else { Ok(directory) }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(defaults::STATE_BUSY)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // A token that was printed must survive a power failure.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

struct Row {
    id: Arc<str>,
    digest: [u8; 32],
    created: i64,
    limits: Limits,
    scope: Vec<(String, String)>,
}

impl Row {
    fn grants(&self) -> Result<Grants, Malformed> {
        let mut grants = Grants { limits: self.limits.clone(), ..Grants::default() };
        for (kind, value) in &self.scope {
            match kind.as_str() {
                "any" => grants.any_name = true,
                "name" => match Below::parse_name(value) {
                    Some(below) => grants.below.push(below?),
                    None => grants.names.push(Name::parse(value)?),
                },
                // A damaged prefix is parsed as a name, whose error reports the damage.
                "prefix" => match Prefix::parse(value) {
                    Some(prefix) => grants.prefixes.push(prefix?),
                    None => grants.names.push(Name::parse(value)?),
                },
                "host" => match Below::parse_host(value) {
                    Some(below) => grants.below.push(below?),
                    None => grants.hosts.push(HostName::parse(value)?),
                },
                _ => grants.limits.transports.push(value.as_str().into()),
            }
        }
        Ok(grants)
    }
}

struct Rows {
    live: Vec<Row>,
    ever_issued: bool,
}

/// Reads all rows in one transaction: both queries see the same state.
fn read(connection: &Connection) -> rusqlite::Result<Rows> {
    let snapshot = connection.unchecked_transaction()?;
    let mut tokens = snapshot.prepare_cached(
        "SELECT id, digest, created, expires, sessions, rate, in_flight, answer_timeout
         FROM token WHERE revoked IS NULL",
    )?;
    let mut scope = snapshot.prepare_cached("SELECT kind, value FROM scope WHERE token = ?1")?;
    let live = tokens
        .query_map([], |row| {
            let limits = Limits {
                transports: Vec::new(),
                expires: row.get::<_, Option<i64>>(3)?.map(time),
                sessions: row.get(4)?,
                rate: row.get(5)?,
                in_flight: row.get(6)?,
                answer_timeout: row.get::<_, Option<i64>>(7)?.map(limit),
            };
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, limits))
        })?
        .map(|row| {
            let (id, digest, created, limits) = row?;
            let pairs = scope.query_map([&id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let scope = pairs.collect::<rusqlite::Result<_>>()?;
            Ok(Row { scope, id: id.into(), digest, created, limits })
        })
        .collect::<rusqlite::Result<_>>()?;
    let ever_issued = snapshot.query_row("SELECT 1 FROM token LIMIT 1", [], |_| Ok(())).optional()?.is_some();
    Ok(Rows { live, ever_issued })
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0).cast_unsigned())
}

fn limit(seconds: i64) -> AnswerLimit {
    AnswerLimit::from_seconds(seconds.max(0).cast_unsigned())
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}
