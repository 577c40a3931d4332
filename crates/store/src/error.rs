//! What can go wrong with the store, one variant for each thing that an operator can do.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Every message fits after "failed to …: " and says what to do where there is something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{} cannot be written ({reason}); make it writable for this user, or name another \
         directory with --data or `[store] dir`",
        path.display()
    )]
    Unwritable { path: PathBuf, reason: String },
    #[error(
        "{} is in use by another gateway{}; stop that one, or give this one a directory of its \
         own with --data or `[store] dir`",
        path.display(),
        holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Locked { path: PathBuf, holder: Option<u32> },
    #[error(
        "SQLite {found} is too old: versions before 3.51.3 can corrupt a write-ahead log; build \
         Seaworthy with the SQLite that it bundles"
    )]
    SqliteTooOld { found: &'static str },
    #[error(
        "{} is damaged ({reason}); move it away and start again: a new one is created",
        path.display()
    )]
    Corrupt { path: PathBuf, reason: String },
    #[error(
        "{} was written by a newer Seaworthy (schema {found}, this one knows {known}); run that \
         version, or move the file away",
        path.display()
    )]
    SchemaNewer { path: PathBuf, found: i32, known: i32 },
    #[error(
        "{} was written by an older Seaworthy (schema {found}, this one needs {known}); start \
         this version's gateway once and it is brought up to date",
        path.display()
    )]
    SchemaOlder { path: PathBuf, found: i32, known: i32 },
    #[error(
        "there is no {}; name the directory of a gateway that has run with --data or `[store] dir`",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error("{} cannot be read ({reason}); check who may read it and its directory", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("the disk of {} is full; free some space", path.display())]
    DiskFull { path: PathBuf },
    #[error("{} is held by another program for too long; try again", path.display())]
    Busy { path: PathBuf },
    #[error("{}: {reason}", path.display())]
    Sqlite { path: PathBuf, reason: String },
    #[error("the store's writer cannot be started ({reason}); check the limit on threads")]
    NoThread { reason: String },
    #[error(
        "{} {reason}; put the right one back, or move ledger.db, audit.checkpoints and the key away \
         together to begin a new log",
        path.display()
    )]
    KeyUnusable { path: PathBuf, reason: String },
    #[error(
        "{} is not of this ledger ({reason}): was an older ledger.db put back? put the newest back, \
         or move both away to begin a new log",
        path.display()
    )]
    Diverged { path: PathBuf, reason: String },
    #[error("the operating system gives no random bytes")]
    NoRandom,
    #[error("the store has been closed")]
    Closed,
}

/// What was being done when SQLite failed: the same fault has another remedy then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Reading,
    Writing,
}

impl StoreError {
    pub(crate) fn of_sqlite(path: &Path, doing: Doing, error: &rusqlite::Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        match (error.sqlite_error_code(), doing) {
            (Some(ErrorCode::DiskFull), _) => Self::DiskFull { path },
            (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _) => {
                Self::Corrupt { path, reason }
            }
            (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _) => Self::Busy { path },
            (
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied),
                Doing::Writing,
            ) => Self::Unwritable { path, reason },
            (
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied),
                Doing::Reading,
            ) => Self::Unreadable { path, reason },
            _ => Self::Sqlite { path, reason },
        }
    }

    pub(crate) fn of_io(path: &Path, error: &std::io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            std::io::ErrorKind::StorageFull => Self::DiskFull { path },
            _ => Self::Unwritable { path, reason: error.to_string() },
        }
    }
}
