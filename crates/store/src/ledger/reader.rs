//! Read access to `ledger.db`, beside a gateway that writes or without one: leaves and proofs.
//!
//! Each query reads of one moment. Its checkpoints are those of the table; whether they and the
//! leaves can be believed is what [`super::verify`] finds out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::Serialize;

use super::SCHEMA;
use super::audit_log::{StoredHashes, hash_of, identity, size_of};
use super::merkle::{self, Hash};
use super::note::{LogId, PublicKey};
use crate::error::StoreError;
use crate::sqlite::Readers;

/// Leaves that one query returns at most, whatever is asked for.
const LEAVES_AT_ONCE: u32 = 1000;

/// A cheap handle. Its queries block for as long as SQLite takes.
#[derive(Clone, Debug)]
pub struct LedgerReader {
    readers: Arc<Readers>,
    path: Arc<PathBuf>,
}

/// A leaf with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeafRow {
    pub seq: u64,
    /// RFC 8785 JSON, as it was hashed.
    pub leaf: String,
    pub leaf_hash: Hash,
    pub chain_hash: Hash,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSummary {
    pub public_key: PublicKey,
    pub leaves: u64,
    /// What the newest checkpoint counts.
    pub checkpoint_size: u64,
    /// Its note.
    pub checkpoint: Option<String>,
}

/// That a leaf is in the log whose checkpoint this is (RFC 9162, section 2.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InclusionProof {
    pub seq: u64,
    pub leaf: String,
    pub leaf_hash: Hash,
    /// The tree's size and root, as the checkpoint says them.
    pub size: u64,
    pub root: Hash,
    /// From the leaf's neighbour up.
    pub path: Vec<Hash>,
    /// The signed note.
    pub checkpoint: String,
}

/// That a log goes on from what it was (RFC 9162, section 2.1.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsistencyProof {
    pub older_size: u64,
    pub older_root: Hash,
    pub newer_size: u64,
    pub newer_root: Hash,
    pub path: Vec<Hash>,
}

impl LedgerReader {
    /// Opens the file in `dir` without ever changing it.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let readers = Arc::new(Readers::open(dir, &SCHEMA)?);
        Ok(Self { readers, path: Arc::new(SCHEMA.path(dir)) })
    }

    pub fn summary(&self) -> Result<LogSummary, StoreError> {
        let (identity, leaves, newest) = self.read(|connection| {
            let count = "SELECT coalesce(max(seq) + 1, 0) FROM audit_leaf";
            let leaves = connection.query_row(count, [], |row| size_of(row, 0))?;
            Ok((identity(connection)?, leaves, newest(connection)?))
        })?;
        let Some((log, public)) = identity else { return Err(self.corrupt("it has no log")) };
        let log = LogId::parse(&log).ok_or_else(|| self.corrupt("its log has no id"))?;
        let public_key = PublicKey::new(log, public);
        let checkpoint_size = newest.as_ref().map_or(0, |newest| newest.size);
        let checkpoint = newest.map(|newest| newest.note);
        Ok(LogSummary { public_key, leaves, checkpoint_size, checkpoint })
    }

    /// The newest `count` leaves, oldest first, a thousand at most.
    pub fn tail(&self, count: u32) -> Result<Vec<LeafRow>, StoreError> {
        self.read(|connection| {
            let mut rows: Vec<LeafRow> = connection
                .prepare_cached(
                    "SELECT seq, leaf, leaf_hash, chain_hash FROM audit_leaf \
                     ORDER BY seq DESC LIMIT ?1",
                )?
                .query_map([count.min(LEAVES_AT_ONCE)], leaf_row)?
                .collect::<rusqlite::Result<_>>()?;
            rows.reverse();
            Ok(rows)
        })
    }

    /// Leaves from `seq` on, a thousand at most.
    pub fn leaves_from(&self, seq: u64) -> Result<Vec<LeafRow>, StoreError> {
        let Ok(seq) = i64::try_from(seq) else { return Ok(Vec::new()) };
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT seq, leaf, leaf_hash, chain_hash FROM audit_leaf \
                     WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
                )?
                .query_map((seq, LEAVES_AT_ONCE), leaf_row)?
                .collect()
        })
    }

    pub fn leaf(&self, seq: u64) -> Result<Option<LeafRow>, StoreError> {
        let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
        self.read(|connection| leaf(connection, seq))
    }

    /// Proves that the leaf `seq` is in the log; `None` where there is none, or no checkpoint
    /// counts it yet.
    pub fn prove(&self, seq: u64) -> Result<Option<InclusionProof>, StoreError> {
        let Ok(at) = i64::try_from(seq) else { return Ok(None) };
        self.read(|connection| {
            let Some(newest) = newest(connection)?.filter(|newest| newest.size > seq) else {
                return Ok(None);
            };
            let Some(LeafRow { leaf, leaf_hash, .. }) = leaf(connection, at)? else {
                return Ok(None);
            };
            let path = merkle::inclusion(&mut StoredHashes(connection), seq, newest.size)?;
            let Newest { size, root, note } = newest;
            Ok(Some(InclusionProof { seq, leaf, leaf_hash, size, root, path, checkpoint: note }))
        })
    }

    /// Proves that the log of `newer` leaves goes on from that of `older`; `None` where there are
    /// not so many, or `older` is none or more.
    pub fn prove_consistency(
        &self,
        older: u64,
        newer: u64,
    ) -> Result<Option<ConsistencyProof>, StoreError> {
        let leaves = self.summary()?.leaves;
        if older == 0 || older > newer || newer > leaves {
            return Ok(None);
        }
        self.read(|connection| {
            let mut hashes = StoredHashes(connection);
            let mut root = |size| -> rusqlite::Result<Hash> {
                let perfect = |level, at| merkle::Perfect::perfect(&mut hashes, level, at);
                Ok(merkle::Frontier::load(size, perfect)?.root())
            };
            let (older_root, newer_root) = (root(older)?, root(newer)?);
            let path = merkle::consistency(&mut StoredHashes(connection), older, newer)?;
            Ok(Some(ConsistencyProof {
                older_size: older,
                older_root,
                newer_size: newer,
                newer_root,
                path,
            }))
        })
    }

    pub(super) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        // A hash that a proof needs is not there.
        let mut gap = false;
        let answer = self.readers.read(|connection| {
            query(connection).inspect_err(|error| {
                gap = matches!(error, rusqlite::Error::QueryReturnedNoRows);
            })
        });
        if gap { Err(self.corrupt("its log has a gap")) } else { answer }
    }

    pub(super) fn corrupt(&self, reason: &str) -> StoreError {
        StoreError::Corrupt { path: self.path.to_path_buf(), reason: reason.to_owned() }
    }
}

struct Newest {
    size: u64,
    root: Hash,
    note: String,
}

fn newest(connection: &Connection) -> rusqlite::Result<Option<Newest>> {
    connection
        .prepare_cached("SELECT size, root, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1")?
        .query_row([], |row| {
            Ok(Newest { size: size_of(row, 0)?, root: hash_of(row, 1)?, note: row.get(2)? })
        })
        .optional()
}

fn leaf(connection: &Connection, seq: i64) -> rusqlite::Result<Option<LeafRow>> {
    connection
        .prepare_cached("SELECT seq, leaf, leaf_hash, chain_hash FROM audit_leaf WHERE seq = ?1")?
        .query_row([seq], leaf_row)
        .optional()
}

/// Text that is not UTF-8, which only damage makes, is shown as far as it can be.
fn leaf_row(row: &Row<'_>) -> rusqlite::Result<LeafRow> {
    let leaf = String::from_utf8_lossy(row.get_ref(1)?.as_bytes()?).into_owned();
    let (leaf_hash, chain_hash) = (hash_of(row, 2)?, hash_of(row, 3)?);
    Ok(LeafRow { seq: size_of(row, 0)?, leaf, leaf_hash, chain_hash })
}
