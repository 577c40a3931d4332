//! Reads leaves in batches for the checker: from the database, or from an exported file.
//!
//! A batch has the leaves' bytes one behind the other, so that reading allocates nothing for a
//! leaf. The database is read in one transaction: it is of one moment while a gateway writes on.

use std::io::{BufRead, Read as _};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::super::audit_log::{hash_of, number, size_of};
use super::super::merkle::{self, Hash};
use super::{Batches, VerifyError};
use crate::error::{Doing, StoreError};

/// Leaves of a batch, and bytes after which it is closed.
const BATCH_LEAVES: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;

/// An exported leaf is a line, and none is longer.
const LINE_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) leaves: Vec<Leaf>,
    /// The stored subtrees that these leaves complete, in that order; `None` where one is missing.
    pub(super) nodes: Vec<Option<Hash>>,
    /// The table's checkpoints of these leaves' sizes; at the end also of those behind.
    pub(super) checkpoints: Vec<Stored>,
    /// At the end: how many subtrees are stored.
    pub(super) nodes_count: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Leaf {
    /// Where its bytes end.
    pub(super) end: usize,
    /// Of its bytes: made here, since the other thread has more to do.
    pub(super) hash: Hash,
    /// What the database says beside it.
    pub(super) row: Option<LeafRow>,
}

#[derive(Debug)]
pub(super) struct LeafRow {
    pub(super) seq: u64,
    pub(super) leaf_hash: Hash,
    pub(super) chain_hash: Hash,
}

/// A checkpoint of the table.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) size: u64,
    pub(super) root: Hash,
    pub(super) note: String,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.leaves.len() >= BATCH_LEAVES || self.bytes.len() >= BATCH_BYTES
    }
}

/// Reads all of the database, or up to what cannot be read.
pub(super) fn read_database(connection: Connection, path: &Path, batches: &Batches) {
    if let Err(error) = stream(&connection, batches) {
        let error = StoreError::of_sqlite(path, Doing::Reading, &error);
        send(batches, Err(VerifyError::Store(error)));
    }
}

/// Whether somebody took it.
fn send(batches: &Batches, batch: Result<Batch, VerifyError>) -> bool {
    // The checker has found a fault and gone.
    batches.send(batch).is_ok()
}

fn stream(connection: &Connection, batches: &Batches) -> rusqlite::Result<()> {
    let snapshot = connection.unchecked_transaction()?;
    let mut leaves =
        snapshot.prepare("SELECT seq, leaf, leaf_hash, chain_hash FROM audit_leaf ORDER BY seq")?;
    let mut checkpoints =
        snapshot.prepare("SELECT size, root, note FROM audit_checkpoint ORDER BY size")?;
    let mut node =
        snapshot.prepare("SELECT hash FROM audit_node WHERE level = ?1 AND position = ?2")?;
    let mut leaves = leaves.query([])?;
    let mut checkpoints = checkpoints.query_map([], |row| {
        Ok(Stored { size: size_of(row, 0)?, root: hash_of(row, 1)?, note: row.get(2)? })
    })?;
    let mut next = checkpoints.next().transpose()?;
    let mut batch = Batch::default();
    while let Some(row) = leaves.next()? {
        let seq = size_of(row, 0)?;
        let bytes = row.get_ref(1)?.as_bytes()?;
        batch.bytes.extend_from_slice(bytes);
        let (end, hash) = (batch.bytes.len(), merkle::leaf_hash(bytes));
        let row = LeafRow { seq, leaf_hash: hash_of(row, 2)?, chain_hash: hash_of(row, 3)? };
        batch.leaves.push(Leaf { end, hash, row: Some(row) });
        let size = seq + 1;
        for level in
            (merkle::LEVELS_APART..=size.trailing_zeros()).step_by(merkle::LEVELS_APART as usize)
        {
            let position = number((size >> level) - 1);
            let hash = node.query_row((level, position), |row| hash_of(row, 0)).optional()?;
            batch.nodes.push(hash);
        }
        while let Some(stored) = next.take_if(|stored| stored.size <= size) {
            batch.checkpoints.push(stored);
            next = checkpoints.next().transpose()?;
        }
        if batch.is_full() && !send(batches, Ok(std::mem::take(&mut batch))) {
            return Ok(());
        }
    }
    if let Some(stored) = next {
        batch.checkpoints.push(stored);
    }
    let count = "SELECT count(*) FROM audit_node";
    batch.nodes_count = Some(snapshot.query_row(count, [], |row| size_of(row, 0))?);
    send(batches, Ok(batch));
    Ok(())
}

/// Reads all lines of an exported file.
pub(super) fn read_lines(mut lines: impl BufRead, path: &Path, batches: &Batches) {
    let mut batch = Batch::default();
    let mut line = 0_u64;
    loop {
        let begin = batch.bytes.len();
        let mut limited = lines.by_ref().take(LINE_BYTES_MAX as u64 + 1);
        let read = limited.read_until(b'\n', &mut batch.bytes);
        let fault = |reason: String| VerifyError::NotALedger { path: path.to_owned(), reason };
        match read {
            Err(error) => {
                let (path, reason) = (path.to_owned(), error.to_string());
                send(batches, Err(VerifyError::Unreadable { path, reason }));
                return;
            }
            Ok(0) => break,
            Ok(bytes) if bytes > LINE_BYTES_MAX => {
                send(batches, Err(fault(format!("line {} is longer than any leaf", line + 1))));
                return;
            }
            Ok(_) => {}
        }
        line += 1;
        if batch.bytes.last() == Some(&b'\n') {
            batch.bytes.pop();
        }
        let leaf = &batch.bytes[begin..];
        if line == 1 && !super::is_leaf(leaf) {
            send(batches, Err(fault("its first line is not a leaf".to_owned())));
            return;
        }
        let (end, hash) = (batch.bytes.len(), merkle::leaf_hash(leaf));
        batch.leaves.push(Leaf { end, hash, row: None });
        if batch.is_full() && !send(batches, Ok(std::mem::take(&mut batch))) {
            return;
        }
    }
    if line == 0 {
        let (path, reason) = (path.to_owned(), "it is empty".to_owned());
        send(batches, Err(VerifyError::NotALedger { path, reason }));
        return;
    }
    send(batches, Ok(batch));
}
