//! Why rules spoke against single requests: what `seaworthy requests --explain` adds to a row.
//!
//! It is what the log is told, and no more of it: the gateway hands over the notes that it writes
//! there, ten a minute of each rule and fewer of those above. At most [`OBJECTIONS_MAX`] are kept, and
//! none for longer than the rows of requests.

use rusqlite::{Connection, Transaction, params};
use serde::Serialize;

use super::TelemetryReader;
use crate::error::StoreError;

/// Objections that are kept, about 4 MB of them.
pub const OBJECTIONS_MAX: usize = 10_000;

/// Objections on their way to the writer; more are let go.
const PENDING_MAX: usize = 1000;

/// Objections to one request; a rule has one.
const OF_REQUEST_MAX: usize = 64;

/// What one rule said against one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Objection {
    /// Unix milliseconds at which the request was over, give or take a second.
    pub time_unix_ms: i64,
    /// The request's id.
    pub request: String,
    pub rule: String,
    pub code: String,
    /// What the log has.
    pub detail: String,
    /// Where the request is at fault; empty where the rule names no place.
    pub places: String,
}

/// Objections on their way to the writer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Objections(Vec<Objection>);

impl Objections {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn observe(&mut self, objection: Objection) {
        if self.0.len() < PENDING_MAX {
            self.0.push(objection);
        }
    }

    pub(super) fn absorb(&mut self, newer: Self) {
        newer.0.into_iter().for_each(|objection| self.observe(objection));
    }

    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut insert = transaction.prepare_cached(
            "INSERT INTO objection (time_ms, request, rule, code, detail, places) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )?;
        for Objection { time_unix_ms, request, rule, code, detail, places } in &self.0 {
            insert.execute(params![time_unix_ms, request, rule, code, detail, places])?;
        }
        transaction
            .prepare_cached(
                "DELETE FROM objection WHERE seq <= (SELECT max(seq) FROM objection) - ?",
            )?
            .execute([OBJECTIONS_MAX as i64])?;
        Ok(())
    }
}

/// Deletes the `count` oldest of those from before `until_ms`, and returns how many those were.
pub(super) fn delete(
    connection: &Connection,
    until_ms: i64,
    count: u32,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM objection WHERE seq IN \
             (SELECT seq FROM objection WHERE time_ms < ? ORDER BY time_ms LIMIT ?)",
        )?
        .execute((until_ms, count))
}

impl TelemetryReader {
    /// What is known of why rules spoke against the request with this id, the newest first.
    pub fn objections(&self, request: &str) -> Result<Vec<Objection>, StoreError> {
        self.readers.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT time_ms, request, rule, code, detail, places FROM objection \
                     WHERE request = ? ORDER BY seq DESC LIMIT ?",
                )?
                .query_map((request, OF_REQUEST_MAX as i64), |row| {
                    Ok(Objection {
                        time_unix_ms: row.get(0)?,
                        request: row.get(1)?,
                        rule: row.get(2)?,
                        code: row.get(3)?,
                        detail: row.get(4)?,
                        places: row.get(5)?,
                    })
                })?
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::SCHEMA;
    use super::*;
    use crate::sqlite::open_writer;

    fn objection(request: &str, time_unix_ms: i64) -> Objection {
        Objection {
            time_unix_ms,
            request: request.to_owned(),
            rule: "request_schema@POST /notes".to_owned(),
            code: "schema-mismatch".to_owned(),
            detail: "one part of the request is not as documented".to_owned(),
            places: "/text maxLength".to_owned(),
        }
    }

    fn write(connection: &mut Connection, objections: &Objections) {
        let transaction = connection.transaction().unwrap();
        objections.write(&transaction).unwrap();
        transaction.commit().unwrap();
    }

    #[test]
    fn objections_are_found_by_their_request_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let (mut connection, _lock) = open_writer(dir.path(), &SCHEMA).unwrap();
        let reader = TelemetryReader::open_read_only(dir.path()).unwrap();
        write(&mut connection, &Objections(vec![objection("a", 1), objection("b", 2)]));
        assert_eq!(reader.objections("a").unwrap(), [objection("a", 1)]);
        assert_eq!(reader.objections("c").unwrap(), []);
        assert_eq!(delete(&connection, 2, 10).unwrap(), 1);
        assert_eq!(reader.objections("a").unwrap(), []);
        let many = (0..OBJECTIONS_MAX).map(|_| objection("many", 3)).collect();
        write(&mut connection, &Objections(many));
        assert_eq!(reader.objections("b").unwrap(), [], "it was the oldest of too many");
        assert_eq!(reader.objections("many").unwrap().len(), OF_REQUEST_MAX);
    }

    #[test]
    fn what_waits_for_the_writer_is_bounded() {
        let mut pending = Objections::default();
        for n in 0..2 {
            let mut newer = Objections::default();
            (0..PENDING_MAX).for_each(|_| newer.observe(objection("a", n)));
            pending.absorb(newer);
        }
        assert_eq!(pending.0.len(), PENDING_MAX);
    }
}
