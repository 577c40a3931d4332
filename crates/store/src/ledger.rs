//! `ledger.db`: the audit log, and what may change only together with an entry in it.
//!
//! ```text
//! Change: entries and operations ─► Ledger::commit ─► inbox ─► writer thread ─► ledger.db
//!                                   returns when       bounded  one transaction    │    │
//!                                   it is on the disk           for a group        │    ▼
//!                                   LedgerReader ◄── read-only connections ◄───────┘  audit.checkpoints
//! ```
//!
//! 1. `synchronous=FULL`: what is committed survives a power loss.
//! 2. A [`Change`] is committed whole or not at all: its entries in the log and its operations on
//!    other aggregates (modes, receipts, waivers, jobs) are one transaction.
//! 3. The log is an RFC 6962 Merkle tree (`merkle.rs`) of RFC 8785 leaves (`entry.rs`) with signed
//!    checkpoints (`note.rs`), which are also in a file of their own (`checkpoint_file.rs`).
//! 4. A ledger whose key or whose checkpoints are of another log, or of another continuation of
//!    this one, is not written: a log that has signed two roots for one size is worth nothing.

mod audit_log;
mod checkpoint_file;
mod entry;
mod inbox;
mod key;
mod merkle;
mod note;
mod reader;
mod rollouts;
mod verify;
mod writer;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot, watch};

use self::entry::Prepared;
pub use self::entry::{
    ACTOR_BYTES_MAX, Action, Entry, EntryError, LEAF_VERSION, REASON_BYTES_MAX,
    REQUEST_ID_BYTES_MAX, TARGET_BYTES_MAX, TENANT_BYTES_MAX, VALUE_BYTES_MAX, VALUE_DEPTH_MAX,
};
use self::inbox::{Inbox, Pending};
pub use self::merkle::{Hash, is_consistent, is_included, leaf_hash};
pub use self::note::{Checkpoint, LogId, NoteError, PublicKey, PublicKeyError, SignedCheckpoint};
pub use self::reader::{ConsistencyProof, InclusionProof, LeafRow, LedgerReader, LogSummary};
pub use self::rollouts::{
    RECEIPTS_AT_ONCE, ReceiptRow, WAIVERS_MAX, WaiverRow, delete_waiver, put_before, put_delivery,
    put_receipt, put_standing, put_waiver,
};
pub use self::verify::{
    Fault, Sound, Verdict, VerifyError, VerifyOptions, read_public_key, verify, verify_export,
};
use self::writer::{Now, Writer};
use crate::error::StoreError;
use crate::sqlite::Schema;

static SCHEMA: Schema =
    Schema { file: "ledger.db", synchronous: "FULL", migrations: migrations::runner };

// Makes `mod migrations`.
refinery::embed_migrations!("migrations/sqlite/ledger");

/// Entries and operations that one change may have together, and bytes.
pub const CHANGE_PARTS_MAX: usize = 1000;
pub const CHANGE_BYTES_MAX: usize = 2 << 20;

/// Kibibytes of changes that wait for the disk; beyond them [`Ledger::commit`] waits first.
const WAITING_KIB_MAX: usize = 32 << 10;

/// What a part of a change costs beside its bytes.
const PART_BYTES: usize = 256;

/// How the ledger behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerOptions {
    /// How long leaves may be without a checkpoint that counts them.
    pub checkpoint_every: Duration,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self { checkpoint_every: Duration::from_secs(1) }
    }
}

/// What is to become true together.
#[derive(Debug, Default)]
pub struct Change {
    entries: Vec<Prepared>,
    operations: Vec<Operation>,
    bytes: usize,
}

/// A write to another aggregate, made by that aggregate's file in this crate.
pub struct Operation {
    name: &'static str,
    apply: Box<Apply>,
}

/// Runs in the transaction of the change. It sees what operations before it have written.
type Apply = dyn FnOnce(&Connection, Place) -> Result<(), OperationError> + Send;

/// Where in the log the change's first entry will be, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub first_seq: u64,
    pub ts_us: i64,
}

/// Why an operation was not done.
#[derive(Debug)]
pub enum OperationError {
    /// It must not be done: an older epoch, a row that is not there. The change is undone, and
    /// the changes beside it are not.
    Refused(String),
    /// A violated constraint undoes the change; anything else is the disk's fault.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for OperationError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// What a change has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its entries in the log.
    pub seqs: Range<u64>,
    pub ts_us: i64,
}

/// Fits after "failed to commit: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    #[error(
        "the change has {parts} parts with {bytes} bytes, and {CHANGE_PARTS_MAX} with \
         {CHANGE_BYTES_MAX} are the most"
    )]
    TooLarge { parts: usize, bytes: usize },
    #[error("{operation} was refused: {reason}")]
    Refused { operation: &'static str, reason: String },
    /// Nothing of the change is there, unless the process dies now: what the disk has of it may
    /// then turn up as committed.
    #[error("{0}")]
    Disk(StoreError),
    #[error("the ledger has been closed")]
    Closed,
}

/// A snapshot. Counters are since the ledger was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LedgerHealth {
    /// Whether the last write succeeded.
    pub writable: bool,
    /// Why it did not.
    pub last_error: Option<String>,
    /// Entries in the log.
    pub leaves: u64,
    /// Those that the newest checkpoint counts.
    pub checkpoint_size: u64,
    /// Failed attempts to write.
    pub write_failures: u64,
}

/// The open file. A cheap handle; when the last one is dropped, what was handed in is written
/// and the writer ends, for which that drop waits.
#[derive(Clone, Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inbox: Arc<Inbox>,
    room: Arc<Semaphore>,
    health: watch::Receiver<LedgerHealth>,
    reader: LedgerReader,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Change {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry to the log.
    pub fn audit(mut self, entry: &Entry) -> Result<Self, EntryError> {
        let prepared = Prepared::new(entry)?;
        self.bytes += prepared.bytes() + PART_BYTES;
        self.entries.push(prepared);
        Ok(self)
    }

    /// Adds a write to another aggregate. Operations are done in order, before the entries.
    #[must_use]
    pub fn and(mut self, operation: Operation) -> Self {
        self.bytes += PART_BYTES;
        self.operations.push(operation);
        self
    }

    fn check(&self) -> Result<(), CommitError> {
        let (parts, bytes) = (self.entries.len() + self.operations.len(), self.bytes);
        if parts > CHANGE_PARTS_MAX || bytes > CHANGE_BYTES_MAX {
            return Err(CommitError::TooLarge { parts, bytes });
        }
        Ok(())
    }
}

impl Operation {
    /// `name` is for messages: "setting the mode".
    pub(crate) fn new(
        name: &'static str,
        apply: impl FnOnce(&Connection, Place) -> Result<(), OperationError> + Send + 'static,
    ) -> Self {
        Self { name, apply: Box::new(apply) }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operation").field(&self.name).finish()
    }
}

impl Ledger {
    /// Makes what is missing, the signing key among it, and starts the writer. Blocks for the
    /// time of a few file operations.
    pub fn open(dir: &Path, options: LedgerOptions) -> Result<Self, StoreError> {
        let (writer, health) = Writer::open(dir, options, Now::read())?;
        let reader = LedgerReader::open_read_only(dir)?;
        let inbox = Arc::new(Inbox::default());
        let theirs = Arc::clone(&inbox);
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(theirs))
            .map_err(|error| StoreError::NoThread { reason: error.to_string() })?;
        let room = Arc::new(Semaphore::new(WAITING_KIB_MAX));
        let writer = Mutex::new(Some(thread));
        Ok(Self { shared: Arc::new(Shared { inbox, room, health, reader, writer }) })
    }

    /// Returns when the change is on the disk, or why it is not. Waits while too many others do.
    ///
    /// A caller that stops waiting does not take its change back.
    pub async fn commit(&self, change: Change) -> Result<Committed, CommitError> {
        change.check()?;
        let kib = u32::try_from(change.bytes.div_ceil(1024)).expect("a few megabytes at most");
        let room = Arc::clone(&self.shared.room).acquire_many_owned(kib).await;
        let Ok(room) = room else { return Err(CommitError::Closed) };
        let (answer, answered) = oneshot::channel();
        let pending = Pending { change, answer, room };
        self.shared.inbox.push(pending).map_err(|_| CommitError::Closed)?;
        answered.await.unwrap_or(Err(CommitError::Closed))
    }

    pub fn reader(&self) -> &LedgerReader {
        &self.shared.reader
    }

    /// How the ledger is doing now.
    pub fn health(&self) -> LedgerHealth {
        self.shared.health.borrow().clone()
    }

    /// Sees every change of [`Self::health`].
    pub fn watch_health(&self) -> watch::Receiver<LedgerHealth> {
        self.shared.health.clone()
    }

    /// Writes what was handed in, makes the last checkpoint and gives up the file, whatever
    /// handles there still are; what they commit later is refused.
    pub async fn close(&self) {
        let shared = Arc::clone(&self.shared);
        let ended = tokio::task::spawn_blocking(move || shared.end_writer()).await;
        if let Err(error) = ended {
            tracing::error!(%error, "the ledger was not closed in order");
        }
    }
}

impl Shared {
    fn end_writer(&self) {
        self.room.close();
        self.inbox.close();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the ledger's writer panicked");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end_writer();
    }
}

#[cfg(test)]
mod tests;
