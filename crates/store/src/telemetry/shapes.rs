//! Shapes of requests: what `seaworthy schema learn` learns from.
//!
//! A shape is one row, however often it was seen. At most [`SHAPES_MAX`] are kept; of more, those
//! that were seen least recently go, and a service that changed is forgotten the way it was.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, Transaction, params};
use seaworthy_policy::learn::{SHAPE_BYTES_MAX, Shape, ShapeKey};

use super::TelemetryReader;
use crate::error::StoreError;

/// Shapes that are kept. A service of a hundred operations has a few for each.
pub const SHAPES_MAX: usize = 5000;

/// A shape as it is stored, and the requests that had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeRow {
    /// For [`Shape::read`].
    pub shape: String,
    pub samples: u64,
    /// Unix milliseconds.
    pub first_unix_ms: i64,
    pub last_unix_ms: i64,
}

/// Shapes on their way to the writer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shapes(HashMap<ShapeKey, ShapeRow>);

impl Shapes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn observe(&mut self, shape: &Shape, now_unix_ms: i64) {
        let shape = shape.to_text();
        let key = Shape::key(&shape);
        let (first_unix_ms, last_unix_ms) = (now_unix_ms, now_unix_ms);
        self.add(key, ShapeRow { shape, samples: 1, first_unix_ms, last_unix_ms });
    }

    pub(super) fn absorb(&mut self, newer: Self) {
        for (key, row) in newer.0 {
            self.add(key, row);
        }
    }

    /// A new shape finds no room beside [`SHAPES_MAX`] others: the file would not keep all of them
    /// either.
    fn add(&mut self, key: ShapeKey, row: ShapeRow) {
        debug_assert!(row.shape.len() <= SHAPE_BYTES_MAX, "a shape is bounded where it is made");
        let room = self.0.len() < SHAPES_MAX;
        match self.0.entry(key) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.samples = known.samples.saturating_add(row.samples);
                known.first_unix_ms = known.first_unix_ms.min(row.first_unix_ms);
                known.last_unix_ms = known.last_unix_ms.max(row.last_unix_ms);
            }
            Entry::Vacant(free) if room => drop(free.insert(row)),
            Entry::Vacant(_) => {}
        }
    }

    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut insert = transaction.prepare_cached(
            "INSERT INTO request_shape (key, shape, samples, first_ms, last_ms) \
             VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (key) DO UPDATE SET \
             samples = samples + excluded.samples, \
             first_ms = min(first_ms, excluded.first_ms), \
             last_ms = max(last_ms, excluded.last_ms)",
        )?;
        for (key, row) in &self.0 {
            let samples = i64::try_from(row.samples).unwrap_or(i64::MAX);
            insert.execute(params![
                &key[..],
                row.shape,
                samples,
                row.first_unix_ms,
                row.last_unix_ms
            ])?;
        }
        transaction
            .prepare_cached(
                "DELETE FROM request_shape WHERE key IN \
                 (SELECT key FROM request_shape ORDER BY last_ms DESC, key LIMIT -1 OFFSET ?)",
            )?
            .execute([SHAPES_MAX as i64])?;
        Ok(())
    }
}

/// Deletes the `count` least recently seen that were not seen from `until_ms` on, and returns how
/// many those were.
pub(super) fn delete(
    connection: &Connection,
    until_ms: i64,
    count: u32,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM request_shape WHERE key IN \
             (SELECT key FROM request_shape WHERE last_ms < ? ORDER BY last_ms LIMIT ?)",
        )?
        .execute((until_ms, count))
}

impl TelemetryReader {
    /// All shapes, the most recently seen first.
    pub fn shapes(&self) -> Result<Vec<ShapeRow>, StoreError> {
        self.readers.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT shape, samples, first_ms, last_ms FROM request_shape \
                     ORDER BY last_ms DESC, key LIMIT ?",
                )?
                .query_map([SHAPES_MAX as i64], |row| {
                    let samples: i64 = row.get(1)?;
                    Ok(ShapeRow {
                        shape: row.get(0)?,
                        samples: samples.unsigned_abs(),
                        first_unix_ms: row.get(2)?,
                        last_unix_ms: row.get(3)?,
                    })
                })?
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::NOON_MS;
    use super::super::{SCHEMA, TelemetryConfig};
    use super::*;
    use crate::sqlite::open_writer;

    /// A file, and what is read of it.
    struct Bench {
        connection: Connection,
        reader: TelemetryReader,
        _lock: crate::sqlite::WriterLock,
        _dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (connection, lock) = open_writer(dir.path(), &SCHEMA).unwrap();
            let reader = TelemetryReader::open_read_only(dir.path()).unwrap();
            Self { connection, reader, _lock: lock, _dir: dir }
        }

        fn write(&mut self, shapes: &Shapes) {
            let transaction = self.connection.transaction().unwrap();
            shapes.write(&transaction).unwrap();
            transaction.commit().unwrap();
        }

        fn read(&self) -> Vec<ShapeRow> {
            self.reader.shapes().unwrap()
        }
    }

    fn seen(numbers: std::ops::Range<usize>, at_ms: i64) -> Shapes {
        let mut shapes = Shapes::default();
        for n in numbers {
            let shape = n.to_string();
            let key = Shape::key(&shape);
            let row = ShapeRow { shape, samples: 1, first_unix_ms: at_ms, last_unix_ms: at_ms };
            shapes.add(key, row);
        }
        shapes
    }

    #[test]
    fn a_shape_is_one_row_however_often_it_is_seen() {
        let mut bench = Bench::new();
        let mut first = seen(0..2, NOON_MS);
        first.absorb(seen(1..3, NOON_MS + 5));
        bench.write(&first);
        bench.write(&seen(1..2, NOON_MS - 3));
        let rows: Vec<_> = bench
            .read()
            .into_iter()
            .map(|row| (row.shape, row.samples, row.first_unix_ms, row.last_unix_ms))
            .collect();
        assert_eq!(rows.len(), 3);
        assert!(rows.contains(&("0".to_owned(), 1, NOON_MS, NOON_MS)));
        assert!(rows.contains(&("1".to_owned(), 3, NOON_MS - 3, NOON_MS + 5)));
        assert_eq!(rows[2].0, "0", "the most recently seen come first");
    }

    #[test]
    fn of_too_many_the_least_recently_seen_go() {
        let mut bench = Bench::new();
        bench.write(&seen(0..SHAPES_MAX, NOON_MS));
        bench.write(&seen(SHAPES_MAX - 10..SHAPES_MAX + 90, NOON_MS + 1));
        let rows = bench.read();
        assert_eq!(rows.len(), SHAPES_MAX);
        assert_eq!(rows.iter().filter(|row| row.last_unix_ms > NOON_MS).count(), 100);
        assert_eq!(seen(0..SHAPES_MAX + 1, NOON_MS).0.len(), SHAPES_MAX);
    }

    #[test]
    fn what_is_too_old_goes() {
        let mut bench = Bench::new();
        bench.write(&seen(0..5, NOON_MS));
        bench.write(&seen(5..8, NOON_MS + 1));
        assert_eq!(delete(&bench.connection, NOON_MS + 1, 3).unwrap(), 3);
        assert_eq!(delete(&bench.connection, NOON_MS + 1, 3).unwrap(), 2);
        assert_eq!(bench.read().len(), 3);
    }

    #[test]
    fn retention_takes_them_with_the_rollups() {
        use super::super::retention::{Progress, Retention};
        let mut bench = Bench::new();
        let config = TelemetryConfig::default();
        let kept_ms = i64::try_from(config.rollup_retention.as_duration().as_millis()).unwrap();
        bench.write(&seen(0..5, NOON_MS - kept_ms - 1));
        bench.write(&seen(5..8, NOON_MS - kept_ms));
        let retention = Retention::new(&config);
        while retention.step(&mut bench.connection, NOON_MS).unwrap() == Progress::More {}
        assert_eq!(bench.read().len(), 3);
    }
}
