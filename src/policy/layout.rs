//! The tables in the file of tokens, and the migration of each earlier layout to the next.

use rusqlite::{Connection, TransactionBehavior};

/// The layout that this version writes (`PRAGMA user_version`).
pub(super) const LATEST: i64 = 3;

/// The migrations: the step at index N leads from layout N to N + 1. A step never changes after its release, because
/// files of every layout exist.
const STEPS: [&str; 3] = [
    "
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
",
    "
ALTER TABLE token ADD COLUMN expires   INTEGER; -- seconds since 1970; NULL is never
ALTER TABLE token ADD COLUMN sessions  INTEGER CHECK (sessions > 0);
ALTER TABLE token ADD COLUMN rate      INTEGER CHECK (rate > 0);      -- requests per second and name
ALTER TABLE token ADD COLUMN in_flight INTEGER CHECK (in_flight > 0); -- requests at once and name
CREATE TABLE scope (
    token TEXT NOT NULL REFERENCES token (id),
    kind  TEXT NOT NULL CHECK (kind IN ('any', 'name', 'prefix', 'host', 'transport')),
    value TEXT NOT NULL,
    PRIMARY KEY (token, kind, value)
) STRICT, WITHOUT ROWID;
INSERT INTO scope SELECT token, kind, value FROM claimable;
DROP TABLE claimable;
",
    "
ALTER TABLE token ADD COLUMN answer_timeout INTEGER CHECK (answer_timeout >= 0); -- seconds; 0 is no limit
",
];

/// Runs the missing steps, all or none. Returns the layout that the file has then, which is above [`LATEST`] if a newer
/// version wrote it.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let layout: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Some(missing) = usize::try_from(layout).ok().and_then(|layout| STEPS.get(layout..)) else {
        return Ok(layout);
    };
    if missing.is_empty() {
        return Ok(layout);
    }
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", LATEST)?;
    transaction.commit()?;
    Ok(LATEST)
}

/// For tests: a file as the version with this layout made it.
#[cfg(test)]
pub(super) fn create(connection: &Connection, layout: usize) -> rusqlite::Result<()> {
    connection.execute_batch(&STEPS[..layout].concat())?;
    connection.pragma_update(None, "user_version", layout as i64)
}
