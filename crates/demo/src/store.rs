//! The help desk's state: one SQLite database that one thread owns.
//!
//! Handlers send that thread a piece of work and await its result. The queue between them is
//! bounded; when it is full, handlers wait. The thread ends when the last [`Store`] is gone.

use std::path::PathBuf;
use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

mod seed;

const SCHEMA: &str = include_str!("store/schema.sql");

/// "desk": marks a database file as this service's, so that no other file is ever written to.
const APPLICATION_ID: i32 = 0x6465_736b;

/// Pieces of work waiting for the thread. Each is well below a millisecond.
const QUEUE_LEN: usize = 256;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// The way to the thread that owns the database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    queue: mpsc::Sender<Work>,
}

/// Resolves when the database has been closed.
pub(crate) type Closed = oneshot::Receiver<()>;

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("it holds something else than a help desk")]
    Foreign,
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("its thread could not start: {0}")]
    Thread(#[from] std::io::Error),
    #[error("its thread ended early")]
    Ended,
}

/// Why a piece of work has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("the store is closed")]
    Closed,
}

impl Store {
    /// Opens the database at `path`, or a private one in memory, and fills an empty one with
    /// examples.
    pub(crate) async fn open(path: Option<PathBuf>) -> Result<(Self, Closed), OpenError> {
        let (queue, mut works) = mpsc::channel::<Work>(QUEUE_LEN);
        let (opened, opening) = oneshot::channel();
        let (closed, closing) = oneshot::channel();
        thread::Builder::new().name("demo-store".to_owned()).spawn(move || {
            match open(path) {
                Ok(mut connection) => {
                    if opened.send(Ok(())).is_ok() {
                        while let Some(work) = works.blocking_recv() {
                            work(&mut connection);
                        }
                    }
                }
                // Nobody is left to tell where the receiver is gone.
                Err(error) => drop(opened.send(Err(error))),
            }
            drop(closed);
        })?;
        opening.await.map_err(|_| OpenError::Ended)??;
        Ok((Self { queue }, closing))
    }

    /// Has the thread do `work` and returns what came of it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, result) = oneshot::channel();
        // A request that was given up in the meantime wants no result.
        let work: Work = Box::new(move |connection| drop(done.send(work(connection))));
        self.queue.send(work).await.map_err(|_| StoreError::Closed)?;
        Ok(result.await.map_err(|_| StoreError::Closed)??)
    }
}

fn open(path: Option<PathBuf>) -> Result<Connection, OpenError> {
    let mut connection = match path {
        Some(path) => Connection::open(path)?,
        None => Connection::open_in_memory()?,
    };
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |r| r.get(0))?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(OpenError::Foreign);
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    if tables == 0 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        seed::fill(&transaction)?;
        transaction.commit()?;
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn count(store: &Store, table: &'static str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        store.run(move |connection| connection.query_row(&sql, [], |row| row.get(0))).await.unwrap()
    }

    #[tokio::test]
    async fn a_file_is_filled_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("desk.db");
        let (store, closed) = Store::open(Some(path.clone())).await.unwrap();
        let complaints = count(&store, "complaints").await;
        assert!(complaints > 50);
        store.run(|connection| connection.execute("DELETE FROM messages", [])).await.unwrap();
        drop(store);
        closed.await.expect_err("the thread sends nothing, it ends");

        let (store, _closed) = Store::open(Some(path)).await.unwrap();
        assert_eq!(count(&store, "complaints").await, complaints);
        assert_eq!(count(&store, "messages").await, 0);
    }

    #[tokio::test]
    async fn a_file_that_holds_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(matches!(Store::open(Some(path.clone())).await, Err(OpenError::Foreign)));
        assert_eq!(std::fs::read(&path).unwrap(), before);

        let text = dir.path().join("notes.txt");
        std::fs::write(&text, "not a database, and longer than the header of one".repeat(9))
            .unwrap();
        assert!(matches!(Store::open(Some(text)).await, Err(OpenError::Sqlite(_))));
    }

    #[tokio::test]
    async fn a_table_keeps_its_newest_rows() {
        let (store, _closed) = Store::open(None).await.unwrap();
        store
            .run(|connection| {
                connection.execute(
                    "INSERT INTO complaints (id, tenant, subject, body, category)
                     VALUES (20010, 'acme', 's', 'b', 'other')",
                    [],
                )
            })
            .await
            .unwrap();
        let oldest: i64 = store
            .run(|c| c.query_row("SELECT min(id) FROM complaints", [], |row| row.get(0)))
            .await
            .unwrap();
        assert_eq!(oldest, 11);
    }
}
