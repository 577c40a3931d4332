//! How the store is doing, for `/readyz` and `/metrics`: a value that its writer publishes.

use serde::Serialize;

use super::histogram::LatencyHistogram;

/// A snapshot. Counters are since the store was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreHealth {
    /// Whether the last write succeeded; true before the first.
    pub writable: bool,
    /// Why the last write, or the last upkeep, failed; `None` once both succeed again.
    pub last_error: Option<String>,
    /// Unix milliseconds of the last commit.
    pub committed_unix_ms: Option<i64>,
    /// Request rows committed.
    pub rows_written: u64,
    /// Request rows let go because they could not be written for too long.
    pub rows_dropped: u64,
    /// Request rows held in memory until they can be written.
    pub rows_held: u64,
    /// Requests and judgements missing from the rollups because those could not be written for
    /// too long. Their minutes are marked incomplete.
    pub records_dropped: u64,
    /// Failed attempts to write.
    pub write_failures: u64,
    /// How long commits took, each with everything that was waiting.
    pub write_latency: LatencyHistogram,
    /// The last of them, in microseconds.
    pub write_latency_last_us: Option<u32>,
    /// Bytes of the database file, and of the write-ahead log beside it.
    pub db_bytes: u64,
    pub wal_bytes: u64,
}

impl Default for StoreHealth {
    fn default() -> Self {
        Self {
            writable: true,
            last_error: None,
            committed_unix_ms: None,
            rows_written: 0,
            rows_dropped: 0,
            rows_held: 0,
            records_dropped: 0,
            write_failures: 0,
            write_latency: LatencyHistogram::default(),
            write_latency_last_us: None,
            db_bytes: 0,
            wal_bytes: 0,
        }
    }
}
