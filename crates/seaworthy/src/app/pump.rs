//! Empties the workers' rings: every record is counted, sampled and shown, every note is a
//! candidate for the log.
//!
//! It wakes often enough that a ring never fills at full speed, and does nothing a worker
//! could wait for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use seaworthy_console::live::{GatewayView, LiveView, LiveWindow, RuleView, UpstreamView};
use seaworthy_policy::registry::REGISTRY;
use seaworthy_proxy::metrics::GatewayMetrics;
use seaworthy_proxy::{Clock, Evidence, Finding, Findings, Note, NoteSource, Publisher};
use seaworthy_store::telemetry::{Aggregator, Objection, Telemetry};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::compile::Rule;
use super::notes::NoteLog;
use super::rollout::{Flushed, Rollout};
use crate::config::Config;

/// A ring of 8192 records holds four turns of this at 40 000 requests a second and worker.
const TURN: Duration = Duration::from_millis(50);

/// What the pump is started with.
pub(super) struct Parts {
    pub(super) evidence: Vec<Evidence>,
    pub(super) findings: Arc<Findings>,
    pub(super) telemetry: Telemetry,
    pub(super) rollout: Rollout,
    pub(super) counters: Arc<GatewayMetrics>,
    pub(super) publisher: Publisher,
    pub(super) clock: Clock,
    pub(super) about: About,
    pub(super) rules: Vec<Rule>,
    pub(super) flush_every: Duration,
}

/// What the pages say of the gateway itself.
pub(super) struct About {
    service: String,
    listen: String,
}

impl About {
    pub(super) fn of(config: &Config, addr: SocketAddr) -> Self {
        let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
        Self { service: config.service.name.clone(), listen: format!("{scheme}://{addr}") }
    }
}

/// What changes while the pump runs.
pub(super) enum Change {
    /// A config was put in force.
    Config { rules: Vec<Rule>, generation: u64 },
    /// A config was not put in force.
    Fault(String),
}

/// The running pump.
pub(super) struct Pump {
    control: mpsc::Sender<Change>,
    live: watch::Receiver<Arc<LiveView>>,
    stop: oneshot::Sender<oneshot::Sender<()>>,
    suppressed: Counter,
}

impl Pump {
    pub(super) fn start(parts: Parts) -> Self {
        let (control, changes) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel();
        let task = Task::new(parts);
        let (publish, live) = watch::channel(Arc::new(task.view()));
        let suppressed = task.notes.suppressed.clone();
        tokio::spawn(task.run(publish, changes, stopped));
        Self { control, live, stop, suppressed }
    }

    pub(super) fn live(&self) -> watch::Receiver<Arc<LiveView>> {
        self.live.clone()
    }

    pub(super) fn control(&self) -> mpsc::Sender<Change> {
        self.control.clone()
    }

    /// Log lines left out since start.
    pub(super) fn suppressed(&self) -> Counter {
        self.suppressed.clone()
    }

    /// Takes out what is left in the rings and hands it to the store.
    pub(super) async fn stop(self) {
        let (done, finished) = oneshot::channel();
        if self.stop.send(done).is_err() || finished.await.is_err() {
            tracing::error!("the evidence pump ended early");
        }
    }
}

struct Task {
    evidence: Vec<Evidence>,
    findings: Arc<Findings>,
    telemetry: Telemetry,
    rollout: Rollout,
    aggregator: Aggregator,
    counters: Arc<GatewayMetrics>,
    publisher: Publisher,
    clock: Clock,
    about: About,
    rules: Vec<Rule>,
    window: LiveWindow,
    notes: NoteLog,
    started_unix_ms: i64,
    flush_every: Duration,
    flushed_unix_ms: i64,
    dropped_before: u64,
    generation: u64,
    fault: Option<String>,
}

impl Task {
    fn new(parts: Parts) -> Self {
        let now = parts.clock.unix_ms(parts.clock.now());
        Self {
            aggregator: parts.telemetry.aggregator(),
            evidence: parts.evidence,
            findings: parts.findings,
            telemetry: parts.telemetry,
            rollout: parts.rollout,
            counters: parts.counters,
            publisher: parts.publisher,
            clock: parts.clock,
            about: parts.about,
            rules: parts.rules,
            window: LiveWindow::new(now / 1000),
            notes: NoteLog::default(),
            started_unix_ms: now,
            flush_every: parts.flush_every,
            flushed_unix_ms: now,
            dropped_before: 0,
            generation: 1,
            fault: None,
        }
    }

    async fn run(
        mut self,
        publish: watch::Sender<Arc<LiveView>>,
        mut changes: mpsc::Receiver<Change>,
        mut stop: oneshot::Receiver<oneshot::Sender<()>>,
    ) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown_unix_s = 0;
        loop {
            let stopped = tokio::select! {
                _ = turns.tick() => None,
                Some(change) = changes.recv() => {
                    self.take(change);
                    shown_unix_s = 0;
                    None
                }
                done = &mut stop => Some(done),
            };
            let now = self.clock.unix_ms(self.clock.now());
            self.empty_rings(now);
            if stopped.is_some()
                || now - self.flushed_unix_ms >= self.flush_every.as_millis() as i64
            {
                self.flush(now);
            }
            if stopped.is_some() || now / 1000 != shown_unix_s {
                shown_unix_s = now / 1000;
                self.window.tick(shown_unix_s);
                publish.send_replace(Arc::new(self.view()));
            }
            if let Some(done) = stopped {
                if let Ok(done) = done
                    && done.send(()).is_err()
                {
                    tracing::debug!("nobody waited for the last evidence");
                }
                return;
            }
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Config { rules, generation } => {
                self.rules = rules;
                self.generation = generation + 1;
                self.fault = None;
            }
            Change::Fault(fault) => self.fault = Some(fault),
        }
    }

    fn empty_rings(&mut self, now_unix_ms: i64) {
        for evidence in &mut self.evidence {
            while let Ok(record) = evidence.records.pop() {
                self.aggregator.observe(&record);
                self.window.observe(&record);
            }
            while let Ok(shape) = evidence.shapes.pop() {
                self.aggregator.observe_shape(&shape, now_unix_ms);
            }
            while let Ok(note) = evidence.notes.pop() {
                if self.notes.write(&note, now_unix_ms / 60_000)
                    && let Some(objection) = objection(&note, now_unix_ms)
                {
                    self.aggregator.observe_objection(objection);
                }
                if let Some(finding) = finding(&note, now_unix_ms) {
                    self.findings.add(note.client, finding);
                }
            }
        }
    }

    fn flush(&mut self, now_unix_ms: i64) {
        let dropped = self.counters.records_dropped();
        let batch = self.aggregator.flush(now_unix_ms, dropped - self.dropped_before);
        self.dropped_before = dropped;
        self.flushed_unix_ms = now_unix_ms;
        self.telemetry.submit(batch);
        self.rollout.flushed(Flushed {
            now_unix_ms,
            closed: self.aggregator.closed(),
            fresh: self.aggregator.fresh(),
            lost: 0,
        });
    }

    fn view(&self) -> LiveView {
        let now = self.clock.now();
        let unix_ms = self.clock.unix_ms(now);
        let snapshot = self.publisher.snapshot();
        let rules = self.rules.iter().map(|rule| {
            let totals = self.counters.rule(rule.id);
            RuleView {
                protection: REGISTRY[rule.name.protection].name,
                rule: rule.name.to_string(),
                mode: snapshot.modes.get(rule.id),
                setting: rule.setting,
                evaluated: totals.evaluated,
                would_deny: totals.would_deny,
                denied: totals.denied,
                harm: totals.harm,
            }
        });
        let upstreams = snapshot.upstreams.list.iter().map(|upstream| {
            let (requests, failures) = upstream.counts();
            UpstreamView {
                name: upstream.name.to_string(),
                healthy: upstream.is_healthy(),
                ejected: upstream.is_ejected(now),
                requests,
                failures,
                ejections: upstream.ejections(),
            }
        });
        LiveView {
            gateway: GatewayView {
                service: self.about.service.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                listen: self.about.listen.clone(),
                started_unix_s: self.started_unix_ms / 1000,
                uptime_s: (unix_ms - self.started_unix_ms).unsigned_abs() / 1000,
                config_generation: self.generation,
                config_fault: self.fault.clone(),
                records_dropped: self.counters.records_dropped(),
            },
            traffic: self.window.view(),
            rules: rules.collect(),
            upstreams: upstreams.collect(),
        }
    }
}

/// What is kept of a note for whoever has the request explained.
fn objection(note: &Note, now_unix_ms: i64) -> Option<Objection> {
    let NoteSource::Rule { name, .. } = &note.source else { return None };
    Some(Objection {
        time_unix_ms: now_unix_ms,
        request: note.request.to_string(),
        rule: name.to_string(),
        code: note.code.name().to_owned(),
        detail: note.internal.to_string(),
        places: note.objection.places(),
    })
}

/// What a client may be shown of a note: its own request that a rule would have denied.
fn finding(note: &Note, now_unix_ms: i64) -> Option<Finding> {
    match &note.source {
        NoteSource::Rule { name, denied: false, .. } if note.client.is_identified() => {
            Some(Finding {
                rule: Arc::clone(name),
                code: note.code,
                route: note.route,
                path: note.path,
                objection: note.objection.clone(),
                count: 1,
                first_unix_ms: now_unix_ms,
                last_unix_ms: now_unix_ms,
                request: note.request,
            })
        }
        _ => None,
    }
}
