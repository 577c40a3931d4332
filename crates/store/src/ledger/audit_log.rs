//! The log inside the writer's transactions: appends leaves, makes checkpoints.
//!
//! 1. `seq` counts leaves from 0 without gaps; `ts_us` never steps back, whatever the clock does.
//! 2. Leaf 0 is `key.change`: it names the public key, so that the key cannot be replaced without
//!    every hash behind it changing.
//! 3. A checkpoint is made for a size once. Its row is in the same transaction as the newest of
//!    its leaves, or in a later one; a table with the size for its key keeps two from existing.
//! 4. The state in memory follows the transaction: [`AuditLog::state`] before it,
//!    [`AuditLog::restore`] where it fails.

use std::path::Path;

use ring::signature::Ed25519KeyPair;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::json;

use super::entry::{Action, Entry, Prepared};
use super::key;
use super::merkle::{self, Frontier, Hash, Perfect};
use super::note::{Checkpoint, LogId, PublicKey};
use crate::error::{Doing, StoreError};

/// Leaves after which there is a checkpoint at the latest.
pub(super) const CHECKPOINT_LEAVES: u64 = 1000;

/// The log as its writer sees it.
#[derive(Debug)]
pub(super) struct AuditLog {
    id: LogId,
    key: Ed25519KeyPair,
    state: State,
}

/// What appending changes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    frontier: Frontier,
    chain: Hash,
    ts_us: i64,
    /// The size of the newest checkpoint.
    checkpointed: u64,
}

impl AuditLog {
    /// Reads the log's state, or begins a log where there is none. `connection` is in a
    /// transaction, `path` is for messages.
    pub(super) fn open(
        connection: &Connection,
        dir: &Path,
        path: &Path,
        now_us: i64,
    ) -> Result<Self, StoreError> {
        let fault = |error: rusqlite::Error| StoreError::of_sqlite(path, Doing::Writing, &error);
        let corrupt =
            |reason: &str| StoreError::Corrupt { path: path.to_owned(), reason: reason.to_owned() };
        let kept = key::load(dir)?;
        let Some((log, public)) = identity(connection).map_err(fault)? else {
            let key = kept.map_or_else(|| key::make(dir), Ok)?;
            return Self::begin(connection, key, now_us).map_err(fault);
        };
        let id = LogId::parse(&log).ok_or_else(|| corrupt("its log has no id"))?;
        let unusable = |reason: &str| StoreError::KeyUnusable {
            path: dir.join(key::FILE),
            reason: reason.to_owned(),
        };
        let key = kept.ok_or_else(|| unusable("is gone"))?;
        if key::public_bytes(&key) != public {
            return Err(unusable("is not the key that this log was begun with"));
        }
        let newest = newest(connection).map_err(fault)?;
        let Some((size, leaf, chain)) = newest else { return Err(corrupt("its log is empty")) };
        let ts_us = ts_us(&leaf).ok_or_else(|| corrupt("its newest leaf is none"))?;
        let mut stored = StoredHashes(connection);
        let frontier = Frontier::load(size, |level, at| stored.perfect(level, at)).map_err(
            |error| match error {
                rusqlite::Error::QueryReturnedNoRows => corrupt("its log has a gap"),
                error => fault(error),
            },
        )?;
        let checkpoint = "SELECT size, root FROM audit_checkpoint ORDER BY size DESC LIMIT 1";
        let checkpoint = connection
            .query_row(checkpoint, [], |row| Ok((size_of(row, 0)?, hash_of(row, 1)?)))
            .optional()
            .map_err(fault)?;
        let checkpointed = checkpoint.map_or(0, |(size, _)| size);
        if checkpointed > size {
            return Err(corrupt("leaves that a checkpoint counts are gone"));
        }
        if let Some((_, root)) = checkpoint.filter(|(checkpointed, _)| *checkpointed == size)
            && frontier.root() != root
        {
            return Err(corrupt("its log is not what its newest checkpoint says"));
        }
        Ok(Self { id, key, state: State { frontier, chain, ts_us, checkpointed } })
    }

    fn begin(connection: &Connection, key: Ed25519KeyPair, now_us: i64) -> rusqlite::Result<Self> {
        let id = key::random().map_err(|_| rusqlite::Error::InvalidQuery)?;
        let id = LogId::new(id);
        let public = key::public_bytes(&key);
        let insert = "INSERT INTO audit_log (id, log, public_key) VALUES (1, ?1, ?2)";
        connection.execute(insert, params![id.as_str(), public])?;
        let chain = Hash::ZERO;
        let state = State { frontier: Frontier::default(), chain, ts_us: 0, checkpointed: 0 };
        let mut log = Self { id, key, state };
        let first = Entry {
            after: Some(json!({ "public_key": log.public_key().to_string() })),
            reason: Some("the log begins".to_owned()),
            ..Entry::new("gateway", Action::KeyChange, "audit")
        };
        let first = Prepared::new(&first).expect("a few short fields");
        log.append(connection, &first, now_us)?;
        log.checkpoint(connection)?;
        Ok(log)
    }

    pub(super) fn public_key(&self) -> PublicKey {
        PublicKey::new(self.id.clone(), key::public_bytes(&self.key))
    }

    /// The number of leaves, which is the next `seq`.
    pub(super) const fn size(&self) -> u64 {
        self.state.frontier.size()
    }

    pub(super) const fn checkpointed(&self) -> u64 {
        self.state.checkpointed
    }

    /// The time of a leaf that is appended at `now_us`.
    pub(super) fn time(&self, now_us: i64) -> i64 {
        now_us.max(self.state.ts_us)
    }

    pub(super) fn state(&self) -> State {
        self.state.clone()
    }

    pub(super) fn restore(&mut self, state: State) {
        self.state = state;
    }

    pub(super) fn append(
        &mut self,
        connection: &Connection,
        entry: &Prepared,
        now_us: i64,
    ) -> rusqlite::Result<()> {
        let ts_us = self.time(now_us);
        let seq = self.size();
        let leaf = entry.leaf(&self.id, seq, ts_us);
        let leaf_hash = merkle::leaf_hash(leaf.as_bytes());
        let chain = merkle::chain_hash(&self.state.chain, &leaf_hash);
        connection
            .prepare_cached(
                "INSERT INTO audit_leaf (seq, leaf, leaf_hash, chain_hash) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![number(seq), leaf.as_bytes(), leaf_hash.0, chain.0])?;
        self.state.frontier.push(leaf_hash, |level, position, hash| {
            if !merkle::is_kept(level) {
                return Ok(());
            }
            connection
                .prepare_cached(
                    "INSERT INTO audit_node (level, position, hash) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![level, number(position), hash.0])
                .map(|_| ())
        })?;
        self.state.chain = chain;
        self.state.ts_us = ts_us;
        Ok(())
    }

    /// Makes a checkpoint where there are leaves that none counts.
    pub(super) fn checkpoint(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let State { frontier, ts_us, checkpointed, .. } = &self.state;
        let size = frontier.size();
        if size == *checkpointed {
            return Ok(());
        }
        let (log, root) = (self.id.clone(), frontier.root());
        let checkpoint = Checkpoint { log, size, root, previous: *checkpointed, ts_us: *ts_us };
        let note = checkpoint.sign(&self.key);
        connection
            .prepare_cached("INSERT INTO audit_checkpoint (size, root, note) VALUES (?1, ?2, ?3)")?
            .execute(params![number(size), root.0, note])?;
        self.state.checkpointed = size;
        Ok(())
    }
}

/// The log's id and public key as the table has them.
pub(super) fn identity(connection: &Connection) -> rusqlite::Result<Option<(String, [u8; 32])>> {
    let find = "SELECT log, public_key FROM audit_log";
    connection.query_row(find, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// The number of leaves, with the newest one and the chain's hash behind it.
fn newest(connection: &Connection) -> rusqlite::Result<Option<(u64, Vec<u8>, Hash)>> {
    let find = "SELECT seq, leaf, chain_hash FROM audit_leaf ORDER BY seq DESC LIMIT 1";
    let newest = |row: &Row<'_>| Ok((size_of(row, 0)? + 1, row.get(1)?, hash_of(row, 2)?));
    connection.query_row(find, [], newest).optional()
}

fn ts_us(leaf: &[u8]) -> Option<i64> {
    let leaf: serde_json::Value = serde_json::from_slice(leaf).ok()?;
    leaf.get("ts_us")?.as_i64()
}

/// The perfect subtrees as the tables have them; a missing one is `QueryReturnedNoRows`.
pub(super) struct StoredHashes<'a>(pub(super) &'a Connection);

impl Perfect for StoredHashes<'_> {
    type Error = rusqlite::Error;

    fn perfect(&mut self, level: u32, position: u64) -> rusqlite::Result<Hash> {
        // The nearest level that is stored, and the part of it that lies below.
        let stored = level - level % merkle::LEVELS_APART;
        let first = position << (level - stored);
        let behind = (position + 1) << (level - stored);
        let (from, to) = (number(first), number(behind));
        let hashes: Vec<Hash> = if stored == 0 {
            self.0
                .prepare_cached(
                    "SELECT leaf_hash FROM audit_leaf WHERE seq >= ?1 AND seq < ?2 ORDER BY seq",
                )?
                .query_map([from, to], |row| hash_of(row, 0))?
                .collect::<rusqlite::Result<_>>()?
        } else {
            self.0
                .prepare_cached(
                    "SELECT hash FROM audit_node \
                     WHERE level = ?1 AND position >= ?2 AND position < ?3 ORDER BY position",
                )?
                .query_map([i64::from(stored), from, to], |row| hash_of(row, 0))?
                .collect::<rusqlite::Result<_>>()?
        };
        if hashes.len() as u64 != behind - first {
            return Err(rusqlite::Error::QueryReturnedNoRows);
        }
        merkle::fold(hashes).ok_or(rusqlite::Error::QueryReturnedNoRows)
    }
}

/// As SQLite counts.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).expect("no log has 2^63 leaves")
}

pub(super) fn size_of(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

pub(super) fn hash_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Hash> {
    row.get(column).map(Hash)
}
