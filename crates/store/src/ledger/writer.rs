//! The one thread that writes `ledger.db`.
//!
//! 1. It takes the changes that have arrived, up to a thousand, and commits them together: one
//!    wait for the disk for all. A change is whole or not at all, whatever becomes of the others.
//! 2. Where changes come in company, it waits up to a millisecond for as many as came last time;
//!    a change that comes alone is written at once.
//! 3. A change is answered when it is on the disk, or with why it is not. What failed is not
//!    tried again here: whoever asked knows whether that would be right.
//! 4. After a failure it looks by itself whether it can write again, at first after a second,
//!    then less often, up to every ten.
//! 5. Leaves that no checkpoint counts get one within a second, or after a thousand of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::watch;

use super::audit_log::{AuditLog, CHECKPOINT_LEAVES};
use super::checkpoint_file::CheckpointFile;
use super::inbox::{Answer, Group, Inbox, Pending, State};
use super::{
    Change, CommitError, Committed, LedgerHealth, LedgerOptions, OperationError, Place, SCHEMA, key,
};
use crate::error::{Doing, StoreError};
use crate::sqlite::{WriterLock, open_writer};

const GROUP_MAX: usize = 1000;
const LINGER: Duration = Duration::from_millis(1);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Writer {
    // Declared, so dropped, before the lock that guards it.
    connection: Connection,
    _lock: WriterLock,
    path: PathBuf,
    log: AuditLog,
    checkpoints: CheckpointFile,
    options: LedgerOptions,
    health: watch::Sender<LedgerHealth>,
    /// When leaves that no checkpoint counts are to have one.
    checkpoint_at: Option<Instant>,
    retry: Option<Retry>,
    /// The size of the last group.
    company: usize,
}

/// After a write that failed.
#[derive(Debug)]
struct Retry {
    at: Instant,
    wait: Duration,
}

/// The present, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) unix_us: i64,
}

impl Now {
    pub(super) fn read() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_us = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        Self { instant: Instant::now(), unix_us }
    }
}

impl Writer {
    /// Makes what is missing, and makes sure that file, key and checkpoints belong together.
    pub(super) fn open(
        dir: &Path,
        options: LedgerOptions,
        now: Now,
    ) -> Result<(Self, watch::Receiver<LedgerHealth>), StoreError> {
        let (mut connection, lock) = open_writer(dir, &SCHEMA)?;
        let path = SCHEMA.path(dir);
        let fault = |error: rusqlite::Error| StoreError::of_sqlite(&path, Doing::Writing, &error);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
        let log = AuditLog::open(&transaction, dir, &path, now.unix_us)?;
        transaction.commit().map_err(fault)?;
        let public_key = log.public_key();
        key::publish(dir, &public_key)?;
        let checkpoints = CheckpointFile::open(dir, &public_key, &connection, &path)?;
        let (health, seen) = watch::channel(LedgerHealth::default());
        let mut writer = Self {
            connection,
            _lock: lock,
            path,
            log,
            checkpoints,
            options,
            health,
            checkpoint_at: None,
            retry: None,
            company: 0,
        };
        // A crash may have come between leaves and their checkpoint.
        writer.checkpoint(now);
        writer.publish(Ok(()));
        Ok((writer, seen))
    }

    /// Works until the inbox is closed.
    pub(super) fn run(mut self, inbox: Arc<Inbox>) {
        let ended = Ended { inbox, health: self.health.clone() };
        let mut wake = self.wake();
        loop {
            let linger = if self.company > 1 { LINGER } else { Duration::ZERO };
            let group = Group { changes_max: GROUP_MAX, linger, wanted: self.company };
            let (changes, state) = ended.inbox.take(wake, group);
            self.company = changes.len();
            wake = self.turn(changes, Now::read());
            if state != State::Open {
                break;
            }
        }
        let now = Now::read();
        self.checkpoint(now);
        if let Err(error) = self.checkpoints.sync() {
            tracing::warn!(%error, "closed with checkpoints that the disk may not have");
        }
        // So that the file alone is the whole ledger, for whoever copies it.
        let whole = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = whole {
            tracing::debug!(%error, "the ledger's newest changes are in its write-ahead log");
        }
        drop(self);
        drop(ended);
    }

    /// Does what there is to do and returns when to be called again at the latest.
    pub(super) fn turn(&mut self, changes: Vec<Pending>, now: Now) -> Option<Instant> {
        if !changes.is_empty() {
            self.commit(changes, now);
        }
        if self.checkpoint_at.is_some_and(|at| at <= now.instant) {
            self.checkpoint(now);
        }
        if self.retry.as_ref().is_some_and(|retry| retry.at <= now.instant) {
            self.probe(now);
        }
        self.wake()
    }

    fn wake(&self) -> Option<Instant> {
        let retry = self.retry.as_ref().map(|retry| retry.at);
        [self.checkpoint_at, retry].into_iter().flatten().min()
    }

    /// Commits a group, and answers each change of it.
    fn commit(&mut self, group: Vec<Pending>, now: Now) {
        let (mut changes, mut answers, mut rooms) = (Vec::new(), Vec::new(), Vec::new());
        for Pending { change, answer, room } in group {
            changes.push(change);
            answers.push(answer);
            rooms.push(room);
        }
        let before = self.log.state();
        let written = write(&mut self.connection, &mut self.log, changes, now).map_err(|error| {
            self.log.restore(before);
            StoreError::of_sqlite(&self.path, Doing::Writing, &error)
        });
        // What is said of the ledger is said before anybody hears of the commit.
        match written {
            Ok(outcomes) => {
                self.settle(Ok(()), now);
                answer(answers.into_iter().zip(outcomes));
                self.checkpoint_soon(now);
            }
            Err(error) => {
                self.settle(Err(error.clone()), now);
                let failed = || Err(CommitError::Disk(error.clone()));
                answer(answers.into_iter().map(|answer| (answer, failed())));
            }
        }
        drop(rooms);
    }

    /// After leaves were committed.
    fn checkpoint_soon(&mut self, now: Now) {
        if self.log.size() > self.log.checkpointed() {
            let at = now.instant + self.options.checkpoint_every;
            self.checkpoint_at.get_or_insert(at);
        }
        // A thousand leaves had theirs with them; the disk is waited for once a second.
        if let Err(error) = self.checkpoints.catch_up(&self.connection, &self.path) {
            self.settle(Err(error), now);
        } else if !self.checkpoints.is_synced() {
            self.checkpoint_at.get_or_insert(now.instant + self.options.checkpoint_every);
        }
    }

    /// Makes the checkpoint that is due, in the table and then in the file.
    fn checkpoint(&mut self, now: Now) {
        self.checkpoint_at = None;
        let written = self.write_checkpoint();
        let kept = written.and_then(|wrote| {
            self.checkpoints.catch_up(&self.connection, &self.path)?;
            self.checkpoints.sync()?;
            Ok(wrote)
        });
        match kept {
            // Nothing was written, so nothing was learnt of the disk.
            Ok(false) => {}
            Ok(true) => self.settle(Ok(()), now),
            Err(error) => {
                self.checkpoint_at = Some(now.instant + RETRY_FIRST);
                self.settle(Err(error), now);
            }
        }
    }

    /// Returns whether there was one to make.
    fn write_checkpoint(&mut self) -> Result<bool, StoreError> {
        if self.log.size() == self.log.checkpointed() {
            return Ok(false);
        }
        let before = self.log.state();
        let (log, immediate) = (&mut self.log, TransactionBehavior::Immediate);
        let written =
            self.connection.transaction_with_behavior(immediate).and_then(|transaction| {
                log.checkpoint(&transaction)?;
                transaction.commit()
            });
        written.map(|()| true).map_err(|error| {
            self.log.restore(before);
            StoreError::of_sqlite(&self.path, Doing::Writing, &error)
        })
    }

    /// Looks whether the disk takes writes again.
    fn probe(&mut self, now: Now) {
        let probe = "UPDATE audit_log SET probed_us = ?1";
        let probed = self
            .connection
            .execute(probe, [now.unix_us])
            .map_err(|error| StoreError::of_sqlite(&self.path, Doing::Writing, &error))
            .and_then(|_| self.checkpoints.catch_up(&self.connection, &self.path));
        self.settle(probed, now);
    }

    fn settle(&mut self, outcome: Result<(), StoreError>, now: Now) {
        match &outcome {
            Ok(()) => {
                if self.retry.take().is_some() {
                    tracing::info!(path = %self.path.display(), "the ledger is written again");
                }
            }
            Err(error) => self.failed(error, now),
        }
        self.publish(outcome);
    }

    fn failed(&mut self, error: &StoreError, now: Now) {
        let wait = match &self.retry {
            Some(retry) if retry.at > now.instant => retry.wait,
            Some(retry) => (retry.wait * 2).min(RETRY_MAX),
            None => {
                tracing::warn!(%error, "failed to write the ledger; traffic goes on and what moves modes is refused");
                RETRY_FIRST
            }
        };
        self.retry = Some(Retry { at: now.instant + wait, wait });
        self.health.send_modify(|health| health.write_failures += 1);
    }

    fn publish(&self, outcome: Result<(), StoreError>) {
        let writable = self.retry.is_none();
        self.health.send_modify(|health| {
            health.writable = writable;
            health.last_error = match outcome {
                Ok(()) if writable => None,
                Ok(()) => health.last_error.take(),
                Err(error) => Some(error.to_string()),
            };
            health.leaves = self.log.size();
            health.checkpoint_size = self.log.checkpointed();
        });
    }
}

/// Writes a group in one transaction; on failure nothing of it. Returns for each change its
/// place, or why it was refused.
fn write(
    connection: &mut Connection,
    log: &mut AuditLog,
    changes: Vec<Change>,
    now: Now,
) -> rusqlite::Result<Vec<Result<Committed, CommitError>>> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut outcomes = Vec::with_capacity(changes.len());
    for change in changes {
        match write_one(&mut transaction, log, change, now) {
            Ok(committed) => outcomes.push(Ok(committed)),
            Err(WriteError::Refused(error)) => outcomes.push(Err(error)),
            Err(WriteError::Disk(error)) => return Err(error),
        }
    }
    transaction.commit()?;
    Ok(outcomes)
}

fn answer(answers: impl Iterator<Item = (Answer, Result<Committed, CommitError>)>) {
    for (waits, outcome) in answers {
        if waits.send(outcome).is_err() {
            tracing::trace!("nobody waits any more");
        }
    }
}

enum WriteError {
    Refused(CommitError),
    Disk(rusqlite::Error),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Disk(error)
    }
}

/// Writes one change: its operations, then its leaves.
fn write_one(
    transaction: &mut Transaction<'_>,
    log: &mut AuditLog,
    change: Change,
    now: Now,
) -> Result<Committed, WriteError> {
    let Change { entries, operations, .. } = change;
    let place = Place { first_seq: log.size(), ts_us: log.time(now.unix_us) };
    if !operations.is_empty() {
        // Undone as a whole where one of them refuses.
        let savepoint = transaction.savepoint()?;
        for operation in operations {
            match (operation.apply)(&savepoint, place) {
                Ok(()) => {}
                Err(OperationError::Refused(reason)) => {
                    let operation = operation.name;
                    return Err(WriteError::Refused(CommitError::Refused { operation, reason }));
                }
                Err(OperationError::Sqlite(error)) => {
                    let constraint = rusqlite::ErrorCode::ConstraintViolation;
                    if error.sqlite_error_code() != Some(constraint) {
                        return Err(WriteError::Disk(error));
                    }
                    let (operation, reason) = (operation.name, error.to_string());
                    return Err(WriteError::Refused(CommitError::Refused { operation, reason }));
                }
            }
        }
        savepoint.commit()?;
    }
    for entry in &entries {
        log.append(transaction, entry, now.unix_us)?;
        if log.size() - log.checkpointed() >= CHECKPOINT_LEAVES {
            log.checkpoint(transaction)?;
        }
    }
    Ok(Committed { seqs: place.first_seq..log.size(), ts_us: place.ts_us })
}

/// Says that the writer has ended, also where it ended by a panic.
struct Ended {
    inbox: Arc<Inbox>,
    health: watch::Sender<LedgerHealth>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.inbox.writer_ended();
        self.health.send_modify(|health| {
            health.writable = false;
            health.last_error.get_or_insert_with(|| StoreError::Closed.to_string());
        });
    }
}

#[cfg(test)]
impl Writer {
    pub(super) fn health(&self) -> LedgerHealth {
        self.health.borrow().clone()
    }

    /// Lets the file grow by so many pages, as a full disk does: SQLite answers `SQLITE_FULL`.
    pub(super) fn bound_pages(&self, more: Option<i64>) {
        let connection = &self.connection;
        let pages: i64 =
            connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let bound = more.map_or(i64::from(i32::MAX), |more| pages + more);
        connection.pragma_update_and_check(None, "max_page_count", bound, |_| Ok(())).unwrap();
    }
}
