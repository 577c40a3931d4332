//! The one registry: the data plane's families, the store's, the process's and our own.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use seaworthy_proxy::metrics::GatewayMetrics;
use seaworthy_store::fleet::{Belief, FleetHealth};
use seaworthy_store::telemetry::{LATENCY_BOUNDS_US, Telemetry};
use tokio::sync::watch;

use super::audit::Auditor;
use super::pump::Pump;

/// What the reloads count.
#[derive(Clone, Debug, Default)]
pub(super) struct ReloadMetrics {
    /// 1 where the newest config was not put in force.
    pub(super) failed: Gauge,
    pub(super) succeeded: Counter,
}

/// What the fetches of URLs count.
#[derive(Clone, Debug, Default)]
pub(super) struct FetchMetrics {
    /// URLs whose newest fetch has failed.
    pub(super) failing: Gauge,
    pub(super) failures: Counter,
}

/// Builds the registry. Each call makes a new one, so two gateways in a process do not meet.
pub(super) fn registry(
    counters: Arc<GatewayMetrics>,
    (telemetry, audit): (&Telemetry, &Auditor),
    pump: &Pump,
    reload: &ReloadMetrics,
    fetch: &FetchMetrics,
) -> Registry {
    let mut registry = Registry::default();
    registry.register(
        "seaworthy_build",
        "The version of this binary",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    registry.register(
        "seaworthy_config_reload_failed",
        "1 where the newest config was not put in force",
        reload.failed.clone(),
    );
    registry.register(
        "seaworthy_config_reloads",
        "Configs put in force after the first",
        reload.succeeded.clone(),
    );
    registry.register(
        "seaworthy_fetch_failing",
        "URLs of the config whose newest fetch has failed",
        fetch.failing.clone(),
    );
    registry.register(
        "seaworthy_fetch_failures",
        "Fetches of URLs of the config that have failed",
        fetch.failures.clone(),
    );
    registry.register(
        "seaworthy_log_lines_suppressed",
        "Log lines of denials, would-denials and failures left out by sampling",
        pump.suppressed(),
    );
    registry.register_collector(Box::new(counters));
    registry.register_collector(Box::new(StoreMetrics(telemetry.clone())));
    registry.register_collector(Box::new(LedgerMetrics(audit.clone())));
    registry.register_collector(Box::new(ProcessMetrics));
    registry
}

/// Adds what there is to be said of a fleet.
pub(super) fn share(registry: &mut Registry, health: watch::Receiver<FleetHealth>) {
    registry.register_collector(Box::new(FleetMetrics(health)));
}

#[derive(Debug)]
struct FleetMetrics(watch::Receiver<FleetHealth>);

impl Collector for FleetMetrics {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let health = self.0.borrow().clone();
        let now_us = jiff::Timestamp::now().as_microsecond();
        let mut family = out.encode_descriptor(
            "seaworthy_modes_belief",
            "1 for why the modes in force are believed to be the fleet's",
            None,
            MetricType::Gauge,
        )?;
        for word in Belief::WORDS {
            let is_so = u8::from(health.belief.word() == word);
            family.encode_family(&[("belief", word)])?.encode_gauge(&f64::from(is_so))?;
        }
        let age = health.age(now_us).map_or(f64::NAN, |age| age.as_secs_f64());
        gauge(
            &mut out,
            "seaworthy_modes_age",
            "How old what the fleet said of the modes is; not a number where it has said nothing",
            Some(&Unit::Seconds),
            age,
        )?;
        let leads = f64::from(u8::from(health.leads));
        gauge(&mut out, "seaworthy_modes_leader", "1 where this gateway promotes", None, leads)
    }
}

struct StoreMetrics(Telemetry);

impl fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreMetrics")
    }
}

impl Collector for StoreMetrics {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let health = self.0.health();
        let bytes = Some(&Unit::Bytes);
        let number = |value: u64| value as f64;
        let writable = f64::from(u8::from(health.writable));
        gauge(
            &mut out,
            "seaworthy_store_writable",
            "1 where the last write succeeded",
            None,
            writable,
        )?;
        gauge(
            &mut out,
            "seaworthy_store_size",
            "The telemetry database",
            bytes,
            number(health.db_bytes),
        )?;
        gauge(
            &mut out,
            "seaworthy_store_wal",
            "Its write-ahead log",
            bytes,
            number(health.wal_bytes),
        )?;
        gauge(
            &mut out,
            "seaworthy_store_rows_held",
            "Request rows that wait until they can be written",
            None,
            number(health.rows_held),
        )?;
        for (name, help, total) in [
            ("seaworthy_store_rows_written", "Request rows committed", health.rows_written),
            ("seaworthy_store_rows_dropped", "Request rows given up", health.rows_dropped),
            (
                "seaworthy_store_records_dropped",
                "Requests lost to the rollups",
                health.records_dropped,
            ),
            (
                "seaworthy_store_write_failures",
                "Attempts to write that failed",
                health.write_failures,
            ),
        ] {
            out.encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, u64, u64>(&total, None)?;
        }
        let latency = &health.write_latency;
        let seconds = |us: u64| us as f64 / 1e6;
        let bounds = LATENCY_BOUNDS_US.iter().map(|us| seconds(u64::from(*us)));
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(latency.counts).collect();
        out.encode_descriptor(
            "seaworthy_store_write_duration",
            "How long commits took",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?
        .encode_histogram::<NoLabelSet>(
            seconds(latency.sum_us),
            latency.count(),
            &buckets,
            None,
        )
    }
}

struct LedgerMetrics(Auditor);

impl fmt::Debug for LedgerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LedgerMetrics")
    }
}

impl Collector for LedgerMetrics {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let health = self.0.health();
        let writable = f64::from(u8::from(health.writable));
        for (name, help, value) in [
            ("seaworthy_ledger_writable", "1 where the ledger's last write succeeded", writable),
            ("seaworthy_audit_leaves", "Entries in the audit log", health.leaves as f64),
            (
                "seaworthy_audit_checkpoint_size",
                "Entries that the newest signed checkpoint counts",
                health.checkpoint_size as f64,
            ),
        ] {
            gauge(&mut out, name, help, None, value)?;
        }
        Ok(())
    }
}

/// Figures of the process from `/proc`, under their customary names. Where there is no `/proc`
/// there are none.
#[derive(Debug)]
struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(figures) = ProcessFigures::read() else { return Ok(()) };
        out.encode_descriptor(
            "process_cpu",
            "User and system CPU time of the process",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?
        .encode_counter::<NoLabelSet, f64, u64>(&figures.cpu_s, None)?;
        let bytes = Some(&Unit::Bytes);
        gauge(
            &mut out,
            "process_resident_memory",
            "Resident memory",
            bytes,
            figures.resident_bytes,
        )?;
        gauge(&mut out, "process_virtual_memory", "Virtual memory", bytes, figures.virtual_bytes)?;
        gauge(&mut out, "process_open_fds", "Open file descriptors", None, figures.open_fds)?;
        gauge(&mut out, "process_threads", "Threads", None, figures.threads)
    }
}

fn gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> fmt::Result {
    out.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
}

struct ProcessFigures {
    cpu_s: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_fds: f64,
    threads: f64,
}

impl ProcessFigures {
    /// Reads `/proc/self`; see proc(5).
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may hold spaces; the fields are counted behind it.
        let (_, behind) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>().ok()
        };
        Some(Self {
            // Clock ticks are a hundredth of a second on every Linux that Rust supports.
            cpu_s: (ticks(11)? + ticks(12)?) / 100.0,
            resident_bytes: kib("VmRSS")? * 1024.0,
            virtual_bytes: kib("VmSize")? * 1024.0,
            open_fds: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            threads: kib("Threads")?,
        })
    }
}
