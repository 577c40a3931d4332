//! `telemetry.db`: exact rollups of all requests, a sample of single ones, and shapes of some.
//!
//! ```text
//! records ─► Aggregator ─► Batch ─► Telemetry::submit ─► inbox ─► writer thread ─► telemetry.db
//!            counts, samples        never waits          bounded  one transaction      │
//!                                   TelemetryReader ◄── a few read-only connections ◄──┘
//! ```
//!
//! The aggregator is pure and belongs to whoever drains the ring of records. Every
//! `flush_every` its owner hands a [`Batch`] to [`Telemetry::submit`], which returns at once
//! whatever the disk does: a writer that is behind, or a full disk, makes batches merge within
//! bounds, then drop, and be counted ([`StoreHealth`]).

mod aggregator;
mod batch;
mod config;
mod consumer_counts;
mod consumers;
mod evidence;
#[cfg(test)]
mod fixture;
mod health;
mod histogram;
mod inbox;
mod insert;
mod objections;
mod observations;
mod requests;
mod retention;
mod sampler;
mod shapes;
mod summaries;
mod tally;
mod ticks;
mod writer;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use seaworthy_policy::names::Names;
use tokio::sync::{oneshot, watch};

pub use self::aggregator::{Aggregator, TENANT_OTHER, TENANTS_MAX};
pub use self::batch::Batch;
pub use self::config::{TelemetryConfig, TelemetryConfigError};
pub use self::consumer_counts::CONSUMERS_MAX;
pub use self::consumers::{
    ConsumerFilter, ConsumerObjections, ConsumerPageKey, ConsumerRow, ConsumersPage, Harmed,
    NamedCount, NamedCounts, RuleFilter, RuleImpact,
};
pub use self::evidence::{StoredEvidence, StoredPair};
pub use self::health::StoreHealth;
pub use self::histogram::{LATENCY_BOUNDS_US, LATENCY_BUCKETS, LatencyHistogram};
use self::inbox::{Answer, Inbox, Work};
pub use self::objections::{OBJECTIONS_MAX, Objection};
pub use self::requests::{
    FilterError, Page, PageKey, PageLimit, RequestFilter, RequestRow, StatusFilter, VerdictFilter,
};
use self::retention::Retention;
pub use self::shapes::{SHAPES_MAX, ShapeRow};
pub use self::summaries::{
    RouteSummary, RuleSummary, RulesSummary, TimeRange, Traffic, TrafficPoint,
};
pub use self::ticks::FreshEvidence;
use self::writer::{Now, Writer};
use crate::error::StoreError;
use crate::sqlite::{Readers, Schema, open_writer};

static SCHEMA: Schema =
    Schema { file: "telemetry.db", synchronous: "NORMAL", migrations: migrations::runner };

// Makes `mod migrations`.
refinery::embed_migrations!("migrations/sqlite/telemetry");

/// The open file. A cheap handle; when the last one is dropped, what was submitted is written
/// and the writer ends, for which that drop waits.
#[derive(Clone, Debug)]
pub struct Telemetry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: TelemetryConfig,
    names: Arc<Names>,
    inbox: Arc<Inbox>,
    health: watch::Sender<StoreHealth>,
    reader: TelemetryReader,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Read access, beside a gateway that writes or without one. A cheap handle. Its queries block
/// for as long as SQLite takes; [`TelemetryReader::query`] makes them async.
#[derive(Clone, Debug)]
pub struct TelemetryReader {
    readers: Arc<Readers>,
}

impl Telemetry {
    /// Makes what is missing, brings an older file up to date and starts the writer.
    /// Blocks for the time of a few file operations.
    pub fn open(
        dir: &Path,
        config: TelemetryConfig,
        names: Arc<Names>,
    ) -> Result<Self, StoreError> {
        let opened = open_writer(dir, &SCHEMA)?;
        let reader = TelemetryReader::open_read_only(dir)?;
        let health = watch::Sender::new(StoreHealth::default());
        let writer = Writer::new(
            opened,
            SCHEMA.path(dir),
            Arc::clone(&names),
            Retention::new(&config),
            health.clone(),
        );
        let inbox = Arc::new(Inbox::default());
        let theirs = Arc::clone(&inbox);
        let thread = std::thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || writer.run(theirs))
            .map_err(|error| StoreError::NoThread { reason: error.to_string() })?;
        let writer = Mutex::new(Some(thread));
        Ok(Self { shared: Arc::new(Shared { config, names, inbox, health, reader, writer }) })
    }

    /// A new aggregator whose batches are meant for [`Self::submit`]. One for each gateway
    /// process: the budget of rows is its own.
    pub fn aggregator(&self) -> Aggregator {
        let seed = RandomState::new().hash_one(0);
        let Shared { config, names, .. } = &*self.shared;
        Aggregator::new(config, Arc::clone(names), seed, Now::read().unix_ms)
    }

    /// Hands `batch` to the writer. Never waits for the disk; what there is no room for is
    /// dropped and counted in [`StoreHealth`].
    pub fn submit(&self, batch: Batch) {
        let overflow = self.shared.inbox.submit(batch);
        if overflow != batch::Overflow::default() {
            self.shared.health.send_modify(|health| {
                health.rows_dropped += overflow.rows;
                health.records_dropped += overflow.records;
            });
        }
    }

    /// Returns when everything submitted before is committed, or why it could not be; what
    /// could not is still held and tried again.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.ask(|work, answer| work.flushes.push(answer)).await
    }

    /// Deletes what is too old or too much, to the end, and returns when that is done. The
    /// writer does so by itself every ten seconds.
    pub async fn apply_retention(&self) -> Result<(), StoreError> {
        self.ask(|work, answer| work.retentions.push(answer)).await
    }

    /// Flushes, ends the writer and gives up the file, whatever handles there still are; what
    /// they submit later is lost. Returns why the flush failed, where it did.
    pub async fn close(&self) -> Result<(), StoreError> {
        let flushed = self.flush().await;
        let shared = Arc::clone(&self.shared);
        let ended = tokio::task::spawn_blocking(move || shared.end_writer()).await;
        flushed.and(ended.map_err(|_| StoreError::Closed))
    }

    /// How the store is doing now.
    pub fn health(&self) -> StoreHealth {
        self.shared.health.borrow().clone()
    }

    /// Sees every change of [`Self::health`].
    pub fn watch_health(&self) -> watch::Receiver<StoreHealth> {
        self.shared.health.subscribe()
    }

    pub fn reader(&self) -> &TelemetryReader {
        &self.shared.reader
    }

    async fn ask(&self, ask: impl FnOnce(&mut Work, Answer)) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.shared.inbox.ask(|work| ask(work, answer));
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Shared {
    fn end_writer(&self) {
        self.inbox.close();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the telemetry writer panicked");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end_writer();
    }
}

impl TelemetryReader {
    /// Opens the file in `dir` without ever changing it.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self { readers: Arc::new(Readers::open(dir, &SCHEMA)?) })
    }

    /// Runs a query on a thread that may block:
    /// `reader.query(move |reader| reader.requests(&filter)).await`.
    pub async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = self.clone();
        match tokio::task::spawn_blocking(move || query(&reader)).await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down.
                Err(_) => Err(StoreError::Closed),
            },
        }
    }
}

#[cfg(test)]
mod tests;
