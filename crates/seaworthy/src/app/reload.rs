//! Reads the config again: on SIGHUP, and when its file changes. What is right is swapped in
//! without closing a socket; what is wrong changes nothing and is said in the log, on the page
//! and in `seaworthy_config_reload_failed`.
//!
//! The file is looked at once a second, by size and time of change. Watching its inode would
//! miss what Kubernetes does to a mounted config (a symlink is swapped) and what network file
//! systems do not tell.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use seaworthy_proxy::Publisher;
use seaworthy_proxy::upstream::health::{self, HealthChecks};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::compile::{self, Ground, Rule};
use super::metrics::ReloadMetrics;
use super::pump::Change;
use crate::config::{self, Config, Inputs};

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What reloads the config. Clones share everything.
#[derive(Clone)]
pub(super) struct Reloader {
    shared: Arc<Shared>,
}

struct Shared {
    inputs: Inputs,
    ground: Ground,
    fixed: Fixed,
    publisher: Publisher,
    changes: mpsc::Sender<Change>,
    metrics: ReloadMetrics,
    /// One reload at a time: SIGHUP and the file's watcher may come together.
    turn: tokio::sync::Mutex<()>,
    // Read and replaced by the reload whose turn it is, and emptied at the end.
    state: Mutex<State>,
}

struct State {
    rules: Vec<Rule>,
    checks: Option<JoinHandle<()>>,
}

/// What a reload cannot change, because it is settled when the parts start.
struct Fixed(Vec<(&'static str, String)>);

impl Fixed {
    fn of(config: &Config) -> Self {
        let Config { service, listen, console, store, log, .. } = config;
        Self(vec![
            ("service.name", service.name.clone()),
            ("listen.addr", listen.addr.to_string()),
            ("listen.workers", listen.workers.to_string()),
            ("listen.drain_timeout", listen.drain_timeout.to_string()),
            ("console.addr", console.addr.to_string()),
            ("store.dir", store.dir.display().to_string()),
            ("store.telemetry", format!("{:?}", store.telemetry)),
            ("log", format!("{log:?}")),
        ])
    }

    /// The keys that differ in `other`.
    fn changed(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(ours, theirs)| ours != theirs).map(|((key, _), _)| *key).collect()
    }
}

impl Reloader {
    pub(super) fn new(
        inputs: Inputs,
        config: &Config,
        ground: Ground,
        publisher: Publisher,
        (rules, checks): (Vec<Rule>, Option<HealthChecks>),
        changes: mpsc::Sender<Change>,
        metrics: ReloadMetrics,
    ) -> Self {
        let checks = start_checks(&publisher, checks);
        Self {
            shared: Arc::new(Shared {
                inputs,
                ground,
                fixed: Fixed::of(config),
                publisher,
                changes,
                metrics,
                turn: tokio::sync::Mutex::new(()),
                state: Mutex::new(State { rules, checks }),
            }),
        }
    }

    /// Reads, validates, swaps. Returns what is wrong, where something is.
    pub(super) async fn reload(&self) -> Result<(), String> {
        let shared = &self.shared;
        let _turn = shared.turn.lock().await;
        let reloaded = {
            let this = self.clone();
            tokio::task::spawn_blocking(move || this.swap()).await
        };
        let outcome = reloaded.unwrap_or_else(|error| Err(error.to_string()));
        let change = match &outcome {
            Ok((rules, generation)) => {
                shared.metrics.failed.set(0);
                shared.metrics.succeeded.inc();
                tracing::info!(generation = generation + 1, "the config was put in force");
                Change::Config { rules: rules.clone(), generation: *generation }
            }
            Err(fault) => {
                shared.metrics.failed.set(1);
                tracing::error!("the config was not put in force: {fault}");
                Change::Fault(fault.clone())
            }
        };
        if shared.changes.send(change).await.is_err() {
            tracing::debug!("nobody shows the reload");
        }
        outcome.map(|_| ())
    }

    fn swap(&self) -> Result<(Vec<Rule>, u64), String> {
        let shared = &self.shared;
        let config = config::load(&shared.inputs).map_err(|faults| faults.to_string())?;
        let changed = shared.fixed.changed(&Fixed::of(&config));
        if !changed.is_empty() {
            let keys = changed.join(", ");
            tracing::warn!(keys, "these change with a restart, not with a reload");
        }
        let before = shared.state().rules.clone();
        let snapshot = shared.publisher.snapshot();
        let compiled =
            compile::compile(&config, &shared.ground, Some((&before, &snapshot.upstreams)))
                .map_err(|error| format!("{error:#}"))?;
        let generation = shared.publisher.publish(compiled.snapshot);
        let mut state = shared.state();
        if let Some(checks) = state.checks.take() {
            checks.abort();
        }
        state.checks = start_checks(&shared.publisher, compiled.health);
        state.rules.clone_from(&compiled.rules);
        Ok((compiled.rules, generation))
    }

    /// Reloads whenever the config's file is another than `seen`, and has been for one look: many
    /// editors empty a file before they write it, and an empty one is a config, too.
    pub(super) async fn watch_file(self, mut seen: Option<Stamp>) {
        let Some(path) = self.shared.inputs.path() else { return };
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = seen;
        loop {
            ticks.tick().await;
            let now = Stamp::of(&path).await;
            let settled = now == std::mem::replace(&mut before, now);
            // A file that is gone for a moment is being replaced.
            if now.is_some() && now != seen && settled {
                seen = now;
                if self.reload().await.is_err() {
                    tracing::debug!("the last config stays in force");
                }
            }
        }
    }

    pub(super) fn stop(&self) {
        if let Some(checks) = self.shared.state().checks.take() {
            checks.abort();
        }
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start_checks(publisher: &Publisher, checks: Option<HealthChecks>) -> Option<JoinHandle<()>> {
    let upstreams = Arc::clone(&publisher.snapshot().upstreams);
    checks.map(|checks| tokio::spawn(health::run(upstreams, checks)))
}

/// What tells one state of the config's file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    changed: SystemTime,
}

impl Stamp {
    /// The file of `inputs` as it is now. Taken before the file is read, so that a change that
    /// comes while the gateway starts is seen by the watcher.
    pub(super) async fn of_config(inputs: &Inputs) -> Option<Self> {
        Self::of(&inputs.path()?).await
    }

    async fn of(path: &Path) -> Option<Self> {
        let path = path.to_owned();
        let read = move || {
            let metadata = std::fs::metadata(path).ok()?;
            Some(Self { bytes: metadata.len(), changed: metadata.modified().ok()? })
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }
}
