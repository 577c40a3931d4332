//! A few read-only connections to one file, opened when first needed and used in turns.
//!
//! For threads that may block. A query is short, so whoever finds all connections taken waits
//! for the next one that comes back.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use rusqlite::Connection;

use crate::error::{Doing, StoreError};
use crate::sqlite::{Schema, open_reader};

/// Connections that one pool opens at most.
const READERS_MAX: usize = 4;

/// Statements that a connection keeps compiled: each list has as many as it has filters.
const STATEMENTS_KEPT: usize = 64;

#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    schema: &'static Schema,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    /// Idle and in use.
    open: usize,
}

impl Readers {
    /// Opens the first connection, so that a file that cannot be read is found out here.
    pub(crate) fn open(dir: &Path, schema: &'static Schema) -> Result<Self, StoreError> {
        let path = schema.path(dir);
        let first = connect(&path, schema)?;
        let state = Mutex::new(State { idle: vec![first], open: 1 });
        Ok(Self { path, schema, state, returned: Condvar::new() })
    }

    /// Runs `query` in one read transaction: all that it reads is of one moment.
    pub(crate) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let borrowed = self.borrow()?;
        let connection = borrowed.connection.as_ref().expect("taken back only when dropped");
        let answer = connection.unchecked_transaction().and_then(|snapshot| {
            let answer = query(&snapshot)?;
            snapshot.commit()?;
            Ok(answer)
        });
        answer.map_err(|error| StoreError::of_sqlite(&self.path, Doing::Reading, &error))
    }

    fn borrow(&self) -> Result<Borrowed<'_>, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(connection) = state.idle.pop() {
                return Ok(Borrowed { pool: self, connection: Some(connection) });
            }
            if state.open < READERS_MAX {
                let connection = connect(&self.path, self.schema)?;
                state.open += 1;
                return Ok(Borrowed { pool: self, connection: Some(connection) });
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn connect(path: &Path, schema: &Schema) -> Result<Connection, StoreError> {
    let connection = open_reader(path, schema)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}

/// A connection that goes back to the pool when dropped, also by a panic.
struct Borrowed<'a> {
    pool: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.idle.extend(self.connection.take());
        drop(state);
        self.pool.returned.notify_one();
    }
}
