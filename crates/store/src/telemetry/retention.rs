//! What is deleted when: first by age, then by size, in steps short enough that a flush between
//! two of them does not wait.
//!
//! 1. Request rows older than `retention` go, and what rules said of them, then rollups older than
//!    `rollup_retention`, then the days of clients that are as old, with the clients that were not
//!    seen since, and shapes that were not seen for as long. Evidence is as old as the rollups.
//! 2. While the live pages take more than `size_max`, the oldest request rows go; when there
//!    are none left, the oldest minutes of the rollups, or days of clients that are older, and
//!    then the oldest shapes.
//! 3. Pages that this frees are used again; what is free beyond a sixteenth of the file, or
//!    1 MiB, is given back to the file system.

use rusqlite::{Connection, OptionalExtension};
use seaworthy_policy::quantity::{ByteSize, Period};

use super::batch::Minute;
use super::config::TelemetryConfig;
use super::consumer_counts::Day;
use super::{objections, shapes};

/// Rows that one step deletes, give or take the rest of a minute: a few milliseconds.
const STEP_ROWS: u32 = 2000;

/// Clients whose day one step deletes: up to some two hundred rows each, commonly ten.
const STEP_CONSUMERS: u32 = 100;

/// Pages that one step gives back.
const STEP_PAGES: i64 = 2000;

/// What is kept free for the next rows.
const FREE_BYTES_MIN: i64 = 1 << 20;

#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    rows: Period,
    rollups: Period,
    size_max: ByteSize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There may be more to do.
    More,
    Done,
}

impl Retention {
    pub(super) fn new(config: &TelemetryConfig) -> Self {
        Self { rows: config.retention, rollups: config.rollup_retention, size_max: config.size_max }
    }

    /// One step, in one transaction.
    pub(super) fn step(
        &self,
        connection: &mut Connection,
        now_unix_ms: i64,
    ) -> rusqlite::Result<Progress> {
        let transaction = connection.transaction()?;
        let rows_until = now_unix_ms.saturating_sub(millis(self.rows));
        let minutes_until = now_unix_ms.saturating_sub(millis(self.rollups));
        let mut deleted = delete_rows(&transaction, rows_until)?;
        if deleted == 0 {
            deleted = objections::delete(&transaction, rows_until, STEP_ROWS)?;
        }
        if deleted == 0 {
            deleted = delete_minutes(&transaction, Minute::of_unix_ms(minutes_until))?;
        }
        if deleted == 0 {
            // A day goes when all of it is too old.
            deleted = delete_days(&transaction, Day::of_unix_ms(minutes_until))?;
        }
        if deleted == 0 {
            deleted = shapes::delete(&transaction, minutes_until, STEP_ROWS)?;
        }
        let pages = Pages::of(&transaction)?;
        if deleted == 0 && pages.live_bytes() > i64::try_from(self.size_max.0).unwrap_or(i64::MAX) {
            deleted = delete_rows(&transaction, i64::MAX)?;
            if deleted == 0 {
                deleted = objections::delete(&transaction, i64::MAX, STEP_ROWS)?;
            }
            if deleted == 0 {
                deleted = delete_oldest(&transaction)?;
            }
            if deleted == 0 {
                deleted = shapes::delete(&transaction, i64::MAX, STEP_ROWS)?;
            }
        }
        transaction.commit()?;
        if deleted > 0 {
            return Ok(Progress::More);
        }
        let excess = pages.free - pages.free_kept();
        if excess > 0 {
            give_back(connection, excess.min(STEP_PAGES))?;
            return Ok(Progress::More);
        }
        Ok(Progress::Done)
    }
}

fn millis(period: Period) -> i64 {
    i64::try_from(period.as_duration().as_millis()).unwrap_or(i64::MAX)
}

/// Deletes the oldest rows before `until_ms` and returns how many.
fn delete_rows(connection: &Connection, until_ms: i64) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM request WHERE seq IN \
             (SELECT seq FROM request WHERE time_ms < ? ORDER BY time_ms LIMIT ?)",
        )?
        .execute((until_ms, STEP_ROWS))
}

/// Deletes the oldest whole minutes of rollups before `until` and returns how many rows.
fn delete_minutes(connection: &Connection, until: Minute) -> rusqlite::Result<usize> {
    let mut oldest = connection.prepare_cached(
        "SELECT min(minute) FROM (\
         SELECT min(minute) AS minute FROM rollup UNION ALL \
         SELECT min(minute) FROM rule_rollup UNION ALL \
         SELECT min(start_ms) / 60000 FROM evidence UNION ALL \
         SELECT min(start_ms) / 60000 FROM evidence_client UNION ALL \
         SELECT min(start_ms) / 60000 FROM evidence_gap UNION ALL \
         SELECT min(minute) FROM dropped_record)",
    )?;
    let mut deleted = 0;
    while deleted < STEP_ROWS as usize {
        let minute: Option<i64> = oldest.query_row([], |row| row.get(0)).optional()?.flatten();
        let Some(minute) = minute.filter(|minute| *minute < until.0) else { break };
        for table in ["rollup", "rule_rollup", "dropped_record"] {
            deleted += connection
                .prepare_cached(&format!("DELETE FROM {table} WHERE minute = ?"))?
                .execute([minute])?;
        }
        for table in ["evidence", "evidence_client", "evidence_gap"] {
            deleted += connection
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE start_ms >= ?1 * 60000 \
                     AND start_ms < (?1 + 1) * 60000"
                ))?
                .execute([minute])?;
        }
    }
    Ok(deleted)
}

/// Deletes the oldest day of clients where it is over before the oldest minute of rollups, else
/// the oldest minutes; returns how many rows.
fn delete_oldest(connection: &Connection) -> rusqlite::Result<usize> {
    let minute: Option<i64> = connection
        .prepare_cached("SELECT min(minute) FROM rollup")?
        .query_row([], |row| row.get(0))?;
    let until =
        minute.map_or(Day(i64::MAX), |minute| Day::of_unix_ms(minute.saturating_mul(Minute::MS)));
    match delete_days(connection, until)? {
        0 => {}
        deleted => return Ok(deleted),
    }
    delete_minutes(connection, Minute(i64::MAX))
}

/// Deletes some clients' oldest day, where it is before `until`, and returns how many rows.
fn delete_days(connection: &Connection, until: Day) -> rusqlite::Result<usize> {
    let day: Option<i64> = connection
        .prepare_cached("SELECT min(day) FROM consumer_day")?
        .query_row([], |row| row.get(0))?;
    let Some(day) = day.filter(|day| *day < until.0) else { return Ok(0) };
    let last: i64 = connection
        .prepare_cached(
            "SELECT max(consumer_id) FROM (SELECT consumer_id FROM consumer_day WHERE day = ? \
             ORDER BY consumer_id LIMIT ?)",
        )?
        .query_row((day, STEP_CONSUMERS), |row| row.get(0))?;
    let mut deleted = 0;
    for table in ["consumer_trait", "consumer_rule", "consumer_day"] {
        deleted += connection
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE day = ?1 AND consumer_id IN \
                 (SELECT consumer_id FROM consumer_day WHERE day = ?1 AND consumer_id <= ?2)"
            ))?
            .execute((day, last))?;
    }
    // Nobody has an older day, so whoever was not seen after this one has none left.
    let ended_ms = Day(day + 1).start_unix_ms();
    deleted += connection
        .prepare_cached(
            "DELETE FROM consumer WHERE id <= ?1 AND last_ms < ?2 AND NOT EXISTS \
             (SELECT 1 FROM consumer_day WHERE consumer_id = consumer.id)",
        )?
        .execute((last, ended_ms))?;
    Ok(deleted)
}

fn give_back(connection: &Connection, pages: i64) -> rusqlite::Result<()> {
    // One page a row: the pragma only goes as far as its rows are read.
    let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

struct Pages {
    count: i64,
    free: i64,
    bytes_each: i64,
}

impl Pages {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
        Ok(Self {
            count: pragma("page_count")?,
            free: pragma("freelist_count")?,
            bytes_each: pragma("page_size")?,
        })
    }

    fn live_bytes(&self) -> i64 {
        (self.count - self.free) * self.bytes_each
    }

    fn free_kept(&self) -> i64 {
        (self.count / 16).max(FREE_BYTES_MIN / self.bytes_each)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use seaworthy_policy::client::ClientKey;
    use seaworthy_policy::evidence::{ClientCounts, Lane};
    use seaworthy_policy::names::Names;
    use seaworthy_policy::record::{MethodLabel, RequestRecord, RouteId, RuleId, Tenant};

    use super::super::batch::{Batch, EvidencePart, Rollup, RollupKey, SampledRow};
    use super::super::fixture::{NOON_MS, count_client, record, would_be_denied};
    use super::super::insert::{Ids, write};
    use super::super::{SCHEMA, TelemetryConfig};
    use super::*;
    use crate::sqlite::open_writer;

    const NOON: i64 = NOON_MS / Minute::MS;

    fn open(dir: &Path) -> Connection {
        open_writer(dir, &SCHEMA).unwrap().0
    }

    /// One row and one rollup for each of `minutes`.
    fn fill(connection: &mut Connection, minutes: impl Iterator<Item = i64>) {
        let (names, mut batch) = (Names::new(), Batch::default());
        for minute in minutes {
            let started_unix_ms = minute * Minute::MS;
            let record = RequestRecord { started_unix_ms, ..record() };
            batch.rows.push(SampledRow { record, weight: 1.0 });
            let key = RollupKey {
                route: RouteId(0),
                method: MethodLabel::Get,
                status_class: 2,
                tenant: Tenant::default(),
            };
            let mut rollup = Rollup::default();
            rollup.count(&record);
            batch.rollups.insert((Minute(minute), key), rollup);
            batch.note_dropped(Minute(minute), 1);
            let client = ClientKey::Bearer((minute % 500) as u64);
            let record = RequestRecord { client, ..would_be_denied() };
            count_client(&mut batch.consumers, &record, started_unix_ms);
        }
        write(connection, &batch, &names, &mut Ids::default()).unwrap();
    }

    fn fill_evidence(connection: &mut Connection, minutes: std::ops::Range<i64>) {
        let mut batch = Batch::default();
        for minute in minutes {
            let other = ClientCounts { evaluated: 1, ..ClientCounts::default() };
            let part = EvidencePart { other, ..EvidencePart::default() };
            batch.evidence.insert((minute * Minute::MS, RuleId(0), Lane::Current), part);
            batch.note_gap(minute * Minute::MS, 1);
        }
        write(connection, &batch, &Names::new(), &mut Ids::default()).unwrap();
    }

    fn run(connection: &mut Connection, config: &TelemetryConfig) {
        let retention = Retention::new(config);
        while retention.step(connection, NOON_MS).unwrap() == Progress::More {}
    }

    fn count(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_is_too_old_goes_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = open(dir.path());
        fill(&mut connection, NOON - 5000..NOON);
        fill_evidence(&mut connection, NOON - 5000..NOON);
        let config = TelemetryConfig {
            retention: Period::secs(600),
            rollup_retention: Period::secs(6000),
            ..TelemetryConfig::default()
        };
        run(&mut connection, &config);
        assert_eq!(count(&connection, "SELECT count(*) FROM request"), 10);
        let oldest = count(&connection, "SELECT min(time_ms) FROM request");
        assert_eq!(oldest, NOON_MS - 600_000);
        assert_eq!(count(&connection, "SELECT count(*) FROM rollup"), 100);
        assert_eq!(count(&connection, "SELECT min(minute) FROM rollup"), NOON - 100);
        assert_eq!(count(&connection, "SELECT min(minute) FROM dropped_record"), NOON - 100);
        for table in ["evidence", "evidence_client", "evidence_gap"] {
            let first = count(&connection, &format!("SELECT min(start_ms) FROM {table}"));
            assert_eq!(first, (NOON - 100) * Minute::MS, "{table}");
        }
    }

    #[test]
    fn past_its_size_the_oldest_rows_go_first_and_the_file_shrinks() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = open(dir.path());
        for part in 0..10 {
            fill(&mut connection, NOON + part * 5000..NOON + (part + 1) * 5000);
        }
        let before = Pages::of(&connection).unwrap();
        assert_eq!(before.free, 0);
        let size_max = ByteSize::mib(10);
        assert!(before.live_bytes() > 14 << 20, "{}", before.live_bytes());
        run(&mut connection, &TelemetryConfig { size_max, ..TelemetryConfig::default() });

        let after = Pages::of(&connection).unwrap();
        assert!(after.live_bytes() <= 10 << 20 && after.live_bytes() > 8 << 20);
        assert!(after.count * after.bytes_each <= 11 << 20, "free pages are given back");
        let rows = count(&connection, "SELECT count(*) FROM request");
        assert!(rows > 0 && rows < 50_000);
        assert_eq!(
            count(&connection, "SELECT min(time_ms) FROM request"),
            (NOON + 50_000 - rows) * Minute::MS,
            "the newest rows stay"
        );
        assert_eq!(count(&connection, "SELECT count(*) FROM rollup"), 50_000);
    }

    #[test]
    fn without_rows_to_delete_the_oldest_minutes_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = open(dir.path());
        fill(&mut connection, NOON..NOON + 20_000);
        let size_max = ByteSize::mib(1);
        run(&mut connection, &TelemetryConfig { size_max, ..TelemetryConfig::default() });
        assert_eq!(count(&connection, "SELECT count(*) FROM request"), 0);
        let rollups = count(&connection, "SELECT count(*) FROM rollup");
        assert!(rollups > 0 && rollups < 20_000);
        assert_eq!(count(&connection, "SELECT max(minute) FROM rollup"), NOON + 19_999);
    }

    #[test]
    fn a_limit_that_cannot_be_met_ends_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = open(dir.path());
        fill(&mut connection, NOON..NOON + 10);
        let size_max = ByteSize(1);
        run(&mut connection, &TelemetryConfig { size_max, ..TelemetryConfig::default() });
        assert_eq!(count(&connection, "SELECT count(*) FROM rollup"), 0);
        for table in ["consumer", "consumer_day", "consumer_trait", "consumer_rule"] {
            let rows = count(&connection, &format!("SELECT count(*) FROM {table}"));
            assert_eq!(rows, 0, "{table}");
        }
    }

    #[test]
    fn days_of_clients_go_whole_and_who_has_none_left_goes_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = open(dir.path());
        // Two days ago 500 clients, today 120 of them.
        let today = NOON - NOON % 1440;
        fill(&mut connection, (today - 2 * 1440..today - 1440).chain(today..today + 120));
        let days = |connection: &Connection| count(connection, "SELECT count(*) FROM consumer_day");
        assert_eq!(days(&connection), 620);
        let rollup_retention = Period::secs(24 * 3600);
        let config = TelemetryConfig { rollup_retention, ..TelemetryConfig::default() };
        run(&mut connection, &config);
        assert_eq!(days(&connection), 120);
        for table in ["consumer", "consumer_trait WHERE trait = 'agent'", "consumer_rule"] {
            let rows = count(&connection, &format!("SELECT count(*) FROM {table}"));
            assert_eq!(rows, 120, "{table}");
        }
    }
}
