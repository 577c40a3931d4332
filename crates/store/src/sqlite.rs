//! Opening a SQLite file in the one right way, to write it and to read it.
//!
//! 1. A SQLite older than 3.51.3 is refused: it can corrupt a write-ahead log.
//! 2. One process writes a file. It holds a lock on `<file>.lock` for as long as it does, which
//!    the system releases when the process ends, however it ends.
//! 3. A new file gets `auto_vacuum=INCREMENTAL` before anything is in it, since SQLite takes no
//!    other moment; then WAL, so that readers and the writer never wait for each other.
//! 4. A file with a schema newer than this program's is left alone.

mod readers;

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub(crate) use self::readers::Readers;
use crate::error::{Doing, StoreError};

/// The first SQLite without the WAL-reset bug, as `sqlite3_libversion_number` writes it.
const SQLITE_MIN: i32 = 3_051_003;

/// How long a connection waits for another program's lock, such as that of a `sqlite3` shell.
const BUSY_TIMEOUT: Duration = Duration::from_millis(1000);

/// What the WAL file is cut back to after a checkpoint.
pub(crate) const WAL_KEPT_BYTES: u64 = 16 << 20;

/// What is particular to one database file.
#[derive(Debug)]
pub(crate) struct Schema {
    /// Its name in the data directory.
    pub(crate) file: &'static str,
    /// `PRAGMA synchronous`: with `NORMAL` a power loss can take the last commits, never the
    /// file.
    pub(crate) synchronous: &'static str,
    pub(crate) migrations: fn() -> refinery::Runner,
}

impl Schema {
    pub(crate) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.file)
    }

    fn version(&self) -> i32 {
        let migrations = (self.migrations)();
        migrations.get_migrations().iter().map(refinery::Migration::version).max().unwrap_or(0)
    }
}

/// The right to write a file, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct WriterLock {
    _file: File,
}

/// Makes the directory and the file where they are missing, and brings the schema up to date.
pub(crate) fn open_writer(
    dir: &Path,
    schema: &Schema,
) -> Result<(Connection, WriterLock), StoreError> {
    check_version(rusqlite::version_number(), rusqlite::version())?;
    fs::create_dir_all(dir).map_err(|error| StoreError::of_io(dir, &error))?;
    let path = schema.path(dir);
    let lock = lock(&path)?;
    let fault = |error: rusqlite::Error| StoreError::of_sqlite(&path, Doing::Writing, &error);

    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(fault)?;
    let found = schema_version(&connection).map_err(fault)?.unwrap_or(0);
    let known = schema.version();
    if found > known {
        return Err(StoreError::SchemaNewer { path, found, known });
    }
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(fault)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(fault)?;
    connection.pragma_update(None, "synchronous", schema.synchronous).map_err(fault)?;
    let kept = i64::try_from(WAL_KEPT_BYTES).expect("a few megabytes");
    connection.pragma_update(None, "journal_size_limit", kept).map_err(fault)?;
    if found < known {
        migrate(&mut connection, &path, schema)?;
    }
    Ok((connection, lock))
}

/// Opens a file that a gateway has made, whether or not one is writing it now.
pub(crate) fn open_reader(path: &Path, schema: &Schema) -> Result<Connection, StoreError> {
    check_version(rusqlite::version_number(), rusqlite::version())?;
    if !path.exists() {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let fault = |error: rusqlite::Error| StoreError::of_sqlite(path, Doing::Reading, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(fault)?;
    let found = schema_version(&connection).map_err(fault)?.unwrap_or(0);
    let known = schema.version();
    let path = path.to_owned();
    match found.cmp(&known) {
        std::cmp::Ordering::Less => Err(StoreError::SchemaOlder { path, found, known }),
        std::cmp::Ordering::Equal => Ok(connection),
        std::cmp::Ordering::Greater => Err(StoreError::SchemaNewer { path, found, known }),
    }
}

fn check_version(number: i32, found: &'static str) -> Result<(), StoreError> {
    if number < SQLITE_MIN { Err(StoreError::SqliteTooOld { found }) } else { Ok(()) }
}

fn lock(database: &Path) -> Result<WriterLock, StoreError> {
    let path = database.with_added_extension("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| StoreError::of_io(&path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(StoreError::Locked { path: database.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(StoreError::of_io(&path, &error)),
    }
    // Who holds it is a courtesy to the reader of an error; on a full disk it stays unsaid.
    let noted = file.set_len(0).and_then(|()| file.rewind());
    if noted.and_then(|()| writeln!(file, "{}", std::process::id())).is_err() {
        tracing::debug!(path = %path.display(), "the lock file does not say who holds it");
    }
    Ok(WriterLock { _file: file })
}

/// The newest migration that the file has had; `None` where it is new.
fn schema_version(connection: &Connection) -> rusqlite::Result<Option<i32>> {
    let history = connection.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE name = 'refinery_schema_history'",
        [],
        |row| row.get::<_, i64>(0),
    )?;
    if history == 0 {
        return Ok(None);
    }
    connection.query_row("SELECT max(version) FROM refinery_schema_history", [], |row| row.get(0))
}

fn migrate(connection: &mut Connection, path: &Path, schema: &Schema) -> Result<(), StoreError> {
    let Err(error) = (schema.migrations)().set_grouped(true).run(connection) else {
        return Ok(());
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(fault) = cause {
        if let Some(fault) = fault.downcast_ref::<rusqlite::Error>() {
            return Err(StoreError::of_sqlite(path, Doing::Writing, fault));
        }
        cause = fault.source();
    }
    // An applied migration is not the one that this program knows by its number.
    Err(StoreError::Corrupt { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_with_the_wal_bug_is_refused() {
        assert_eq!(check_version(3_051_003, "3.51.3"), Ok(()));
        assert_eq!(check_version(rusqlite::version_number(), rusqlite::version()), Ok(()));
        let refused = check_version(3_051_002, "3.51.2");
        assert_eq!(refused, Err(StoreError::SqliteTooOld { found: "3.51.2" }));
    }
}
