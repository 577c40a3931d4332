//! The one thread that writes the file.
//!
//! 1. It takes all that has arrived and commits it together, with what it could not write
//!    before.
//! 2. A write that fails is tried again after a second, then less often, up to every ten; so
//!    writing goes on by itself once there is space. Until then batches merge within
//!    [`Bounds`], and what finds no room is counted.
//! 3. Every ten seconds it does the upkeep: retention, one step at a time with writes in
//!    between, then a checkpoint, then the gauges.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use seaworthy_policy::names::Names;
use tokio::sync::watch;

use super::batch::{Batch, Bounds, Overflow};
use super::health::StoreHealth;
use super::inbox::{Answer, Inbox, State, Work};
use super::insert::{self, Ids};
use super::retention::{Progress, Retention};
use crate::error::{Doing, StoreError};
use crate::sqlite::{WAL_KEPT_BYTES, WriterLock};

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);
const UPKEEP_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Writer {
    // Declared, so dropped, before the lock that guards it.
    connection: Connection,
    _lock: WriterLock,
    path: PathBuf,
    names: Arc<Names>,
    ids: Ids,
    retention: Retention,
    health: watch::Sender<StoreHealth>,
    /// Not written yet.
    held: Batch,
    retry: Option<Retry>,
    upkeep: Upkeep,
    upkeep_error: Option<StoreError>,
}

/// After a write that failed.
#[derive(Debug)]
struct Retry {
    at: Instant,
    wait: Duration,
    error: StoreError,
}

#[derive(Debug)]
enum Upkeep {
    /// From this moment on.
    Due(Instant),
    /// Between two steps of retention, with those who wait for the last.
    Running(Vec<Answer>),
}

/// The present, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) unix_ms: i64,
}

impl Now {
    pub(super) fn read() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Self { instant: Instant::now(), unix_ms }
    }
}

impl Writer {
    pub(super) fn new(
        (connection, lock): (Connection, WriterLock),
        path: PathBuf,
        names: Arc<Names>,
        retention: Retention,
        health: watch::Sender<StoreHealth>,
    ) -> Self {
        let writer = Self {
            connection,
            _lock: lock,
            path,
            names,
            ids: Ids::new(Now::read().unix_ms),
            retention,
            health,
            held: Batch::default(),
            retry: None,
            upkeep: Upkeep::Due(Instant::now()),
            upkeep_error: None,
        };
        writer.measure();
        writer
    }

    /// Works until the inbox is closed.
    pub(super) fn run(mut self, inbox: Arc<Inbox>) {
        let ended = Ended { inbox, health: self.health.clone() };
        let mut wake = Instant::now();
        loop {
            let work = ended.inbox.take(wake);
            let closing = work.state != State::Open;
            wake = self.turn(work, Now::read());
            if closing {
                break;
            }
        }
        if !self.held.is_empty() {
            let lost = self.held.rows.len() as u64;
            tracing::warn!(path = %self.path.display(), rows = lost, "closed with telemetry unwritten");
            self.health.send_modify(|health| health.rows_dropped += lost);
        }
        drop(self);
        drop(ended);
    }

    /// Does what there is to do and returns when to be called again at the latest.
    pub(super) fn turn(&mut self, work: Work, now: Now) -> Instant {
        let overflow = self.held.absorb(work.batch, Bounds::default());
        let asked = !work.flushes.is_empty() || work.state != State::Open;
        let due = self.retry.as_ref().is_none_or(|retry| retry.at <= now.instant);
        if !self.held.is_empty() && (asked || due) {
            self.write(now);
        }
        self.publish(overflow);
        let written = match &self.retry {
            Some(retry) => Err(retry.error.clone()),
            None => Ok(()),
        };
        answer(work.flushes, &written);
        self.keep_up(work.retentions, now);
        self.publish(Overflow::default());
        let upkeep_at = match &self.upkeep {
            Upkeep::Due(at) => *at,
            Upkeep::Running(_) => now.instant,
        };
        self.retry.as_ref().map_or(upkeep_at, |retry| retry.at.min(upkeep_at))
    }

    fn publish(&self, overflow: Overflow) {
        let error = self.retry.as_ref().map(|retry| &retry.error).or(self.upkeep_error.as_ref());
        let last_error = error.map(ToString::to_string);
        self.health.send_modify(|health| {
            health.writable = self.retry.is_none();
            health.last_error = last_error;
            health.rows_dropped += overflow.rows;
            health.records_dropped += overflow.records;
            health.rows_held = self.held.rows.len() as u64;
        });
    }

    fn write(&mut self, now: Now) {
        let began = Instant::now();
        let written = insert::write(&mut self.connection, &self.held, &self.names, &mut self.ids);
        let took_us = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
        match written {
            Ok(()) => {
                let rows = self.held.rows.len() as u64;
                self.held = Batch::default();
                if self.retry.take().is_some() {
                    tracing::info!(path = %self.path.display(), "telemetry is written again");
                }
                self.health.send_modify(|health| {
                    health.committed_unix_ms = Some(now.unix_ms);
                    health.rows_written += rows;
                    health.write_latency.observe(took_us);
                    health.write_latency_last_us = Some(took_us);
                });
                self.measure();
            }
            Err(error) => {
                let error = StoreError::of_sqlite(&self.path, Doing::Writing, &error);
                let wait = match &self.retry {
                    Some(retry) => (retry.wait * 2).min(RETRY_MAX),
                    None => {
                        tracing::warn!(%error, "failed to write telemetry; traffic goes on and writing is tried again");
                        RETRY_FIRST
                    }
                };
                self.retry = Some(Retry { at: now.instant + wait, wait, error });
                self.health.send_modify(|health| health.write_failures += 1);
            }
        }
    }

    /// One step of retention where it is due or asked for, and what follows the last step.
    fn keep_up(&mut self, asked: Vec<Answer>, now: Now) {
        let mut waiting = match std::mem::replace(&mut self.upkeep, Upkeep::Due(now.instant)) {
            Upkeep::Due(at) if at > now.instant && asked.is_empty() => {
                self.upkeep = Upkeep::Due(at);
                return;
            }
            Upkeep::Due(_) => Vec::new(),
            Upkeep::Running(waiting) => waiting,
        };
        waiting.extend(asked);
        let step = self.retention.step(&mut self.connection, now.unix_ms).and_then(|progress| {
            // Deleting much writes much; the log must not grow by all of it.
            if progress == Progress::Done || self.wal_bytes() > WAL_KEPT_BYTES {
                self.checkpoint()?;
            }
            Ok(progress)
        });
        let done = match step {
            Ok(Progress::More) => {
                self.upkeep = Upkeep::Running(waiting);
                return;
            }
            Ok(Progress::Done) => Ok(()),
            Err(error) => Err(StoreError::of_sqlite(&self.path, Doing::Writing, &error)),
        };
        if let (Err(error), None) = (&done, &self.upkeep_error) {
            tracing::warn!(%error, "failed to tidy up telemetry; it is tried again");
        }
        self.upkeep = Upkeep::Due(now.instant + UPKEEP_EVERY);
        self.measure();
        answer(waiting, &done);
        self.upkeep_error = done.err();
    }

    /// Moves the log into the file as far as readers allow. A log that grew too long in spite
    /// of that is cut, which waits for readers, but not for more than the busy timeout.
    fn checkpoint(&self) -> rusqlite::Result<()> {
        let how = if self.wal_bytes() > WAL_KEPT_BYTES { "TRUNCATE" } else { "PASSIVE" };
        // The row says how far it got; the gauge shows whether that was far enough.
        self.connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(()))
    }

    fn wal_bytes(&self) -> u64 {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        fs::metadata(path).map_or(0, |file| file.len())
    }

    fn measure(&self) {
        let db_bytes = fs::metadata(&self.path).map_or(0, |file| file.len());
        let wal_bytes = self.wal_bytes();
        self.health.send_modify(|health| {
            health.db_bytes = db_bytes;
            health.wal_bytes = wal_bytes;
        });
    }
}

fn answer(waiting: Vec<Answer>, answer: &Result<(), StoreError>) {
    for waits in waiting {
        if waits.send(answer.clone()).is_err() {
            tracing::trace!("nobody waits any more");
        }
    }
}

/// Says that the writer has ended, also where it ended by a panic.
struct Ended {
    inbox: Arc<Inbox>,
    health: watch::Sender<StoreHealth>,
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
mod tests {
    use rusqlite::Connection;
    use seaworthy_policy::record::RequestRecord;
    use tokio::sync::oneshot;

    use super::super::fixture::{NOON_MS, record};
    use super::super::{Aggregator, SCHEMA, TelemetryConfig};
    use super::*;
    use crate::sqlite::open_writer;

    struct Bench {
        dir: tempfile::TempDir,
        writer: Writer,
        aggregator: Aggregator,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let (dir, names) = (tempfile::tempdir().unwrap(), Arc::new(Names::new()));
            let config = TelemetryConfig { rows_per_second: 10_000, ..TelemetryConfig::default() };
            let writer = Writer::new(
                open_writer(dir.path(), &SCHEMA).unwrap(),
                SCHEMA.path(dir.path()),
                Arc::clone(&names),
                Retention::new(&config),
                watch::Sender::new(StoreHealth::default()),
            );
            let aggregator = Aggregator::new(&config, names, 1, NOON_MS);
            Self { dir, writer, aggregator, start: Instant::now() }
        }

        /// A turn at second `at`, for which `requests` have arrived.
        fn turn(&mut self, at: u64, requests: usize) -> Instant {
            for _ in 0..requests {
                self.aggregator.observe(&record());
            }
            let batch = self.aggregator.flush(NOON_MS + 1000 * at as i64, 0);
            let work = Work { batch, ..Work::default() };
            self.writer.turn(work, self.now(at))
        }

        fn now(&self, at: u64) -> Now {
            Now {
                instant: self.start + Duration::from_secs(at),
                unix_ms: NOON_MS + 1000 * at as i64,
            }
        }

        /// The file may not grow any more, as on a full disk: SQLite answers `SQLITE_FULL`.
        fn fill_disk(&self) {
            let connection = &self.writer.connection;
            let pages: i64 =
                connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        }

        fn free_disk(&self) {
            self.writer
                .connection
                .pragma_update_and_check(None, "max_page_count", i32::MAX, |_| Ok(()))
                .unwrap();
        }

        fn health(&self) -> StoreHealth {
            self.writer.health.borrow().clone()
        }

        fn committed(&self, sql: &str) -> i64 {
            let connection = Connection::open(SCHEMA.path(self.dir.path())).unwrap();
            connection.query_row(sql, [], |row| row.get(0)).unwrap()
        }
    }

    #[test]
    fn a_full_disk_loses_nothing_within_bounds_and_recovers_by_itself() {
        let mut bench = Bench::new();
        bench.turn(1, 5);
        bench.fill_disk();
        let again = bench.turn(2, 2000);
        let health = bench.health();
        assert!(!health.writable && health.last_error.unwrap().contains("is full"));
        assert_eq!((health.rows_written, health.rows_held, health.rows_dropped), (5, 2000, 0));
        assert_eq!(again, bench.start + Duration::from_secs(3));

        // It waits longer each time; what arrives meanwhile joins what is held.
        for (at, retry_at) in [(3, 5), (4, 5), (5, 9), (9, 17), (17, 27), (27, 37)] {
            let again = bench.turn(at, 100);
            let expected = bench.start + Duration::from_secs(retry_at);
            assert!(again <= expected, "the upkeep may come first");
            assert_eq!(bench.writer.retry.as_ref().unwrap().at, expected, "at {at}");
        }
        assert_eq!(bench.committed("SELECT count(*) FROM request"), 5);

        bench.free_disk();
        bench.turn(36, 0);
        assert!(!bench.health().writable, "its time has not come");
        bench.turn(37, 0);
        let health = bench.health();
        assert_eq!((health.writable, health.last_error, health.rows_held), (true, None, 0));
        assert_eq!(bench.committed("SELECT count(*) FROM request"), 2605);
        assert_eq!(bench.committed("SELECT sum(requests) FROM rollup"), 2605);
        assert_eq!(health.rows_dropped, 0);
    }

    #[test]
    fn a_disk_full_for_too_long_drops_rows_counts_them_and_keeps_the_rollups() {
        let mut bench = Bench::new();
        bench.turn(1, 1);
        bench.fill_disk();
        for at in 2..10 {
            bench.turn(at, 5000);
        }
        let held = Bounds::default().rows as u64;
        let health = bench.health();
        assert_eq!((health.rows_held, health.rows_dropped), (held, 8 * 5000 - held));
        bench.free_disk();
        bench.turn(60, 0);
        assert_eq!(bench.committed("SELECT sum(requests) FROM rollup"), 1 + 8 * 5000);
        assert_eq!(bench.committed("SELECT count(*) FROM dropped_record"), 0);
    }

    #[test]
    fn who_asks_for_a_flush_is_told_why_it_failed() {
        let mut bench = Bench::new();
        bench.turn(1, 1);
        bench.fill_disk();
        for _ in 0..2000 {
            bench.aggregator.observe(&record());
        }
        let ask = |bench: &mut Bench, at: u64| {
            let (answer, mut answered) = oneshot::channel();
            let batch = bench.aggregator.flush(NOON_MS + 1000 * at as i64, 0);
            let work = Work { batch, flushes: vec![answer], ..Work::default() };
            bench.writer.turn(work, bench.now(at));
            answered.try_recv().unwrap()
        };
        let path = SCHEMA.path(bench.dir.path());
        assert_eq!(ask(&mut bench, 2), Err(StoreError::DiskFull { path }));
        bench.free_disk();
        assert_eq!(ask(&mut bench, 2), Ok(()), "asking is trying at once");
    }

    #[test]
    fn a_failed_write_forgets_the_ids_that_went_with_it() {
        let mut bench = Bench::new();
        bench.turn(1, 1);
        let route = bench.writer.names.intern_route("/late");
        bench.fill_disk();
        bench.aggregator.observe(&RequestRecord { route, ..record() });
        bench.turn(2, 2000);
        assert!(!bench.health().writable);
        bench.free_disk();
        bench.turn(3, 0);
        let late = "SELECT count(*) FROM request JOIN route ON route.id = route_id \
                    WHERE route.name = '/late'";
        assert_eq!(bench.committed(late), 1);
    }

    #[test]
    fn upkeep_deletes_in_steps_and_lets_writes_between_them() {
        let mut bench = Bench::new();
        bench.turn(1, 6000);
        assert_eq!(bench.committed("SELECT count(*) FROM request"), 6000);
        let week = 7 * 24 * 3600;
        let mut turns = 0;
        while bench.turn(week + 60, 1) <= bench.now(week + 60).instant {
            turns += 1;
        }
        assert!(turns >= 3, "{turns}");
        // Those that came in between are from noon as well, and as old.
        let left = bench.committed("SELECT count(*) FROM request");
        assert!(left <= 1, "{left}");
        assert_eq!(bench.committed("SELECT sum(requests) FROM rollup"), 6000 + turns + 1);
        assert!(bench.health().db_bytes > 0);
    }
}
