//! Reads the config again: on SIGHUP, and when its file changes. What is right is swapped in
//! without closing a socket; what is wrong changes nothing and is said in the log, on the page
//! and in `seaworthy_config_reload_failed`.
//!
//! The file, and those that it names, are looked at twice a second, by size and time of change. Watching its inode would
//! miss what Kubernetes does to a mounted config (a symlink is swapped) and what network file
//! systems do not tell.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seaworthy_policy::alert::Intake;
use seaworthy_policy::source::Source;
use seaworthy_proxy::Publisher;
use seaworthy_proxy::upstream::health::{self, HealthChecks};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::alerts;
use super::audit::{self, Auditor, ConfigText};
use super::book::Book;
use super::compile::{self, Ground, Rule};
use super::metrics::ReloadMetrics;
use super::pump::Change;
use super::rollout::Rollout;
use crate::config::{self, Config, Fetched, Inputs};

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long after a take-over that could not be compiled it is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

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
    book: Book,
    told: Told,
    metrics: ReloadMetrics,
    /// Told of each reload that was asked for.
    reloaded: Notify,
    /// One reload at a time: SIGHUP and the file's watcher may come together.
    turn: tokio::sync::Mutex<()>,
    // Read and replaced by the reload whose turn it is, and emptied at the end.
    state: Mutex<State>,
}

/// Who is told of a config beside the workers.
pub(super) struct Told {
    /// The pump, and with it the pages.
    pub(super) changes: mpsc::Sender<Change>,
    /// The console: who may send alerts.
    pub(super) intake: watch::Sender<Option<Arc<Intake>>>,
    pub(super) rollout: Rollout,
    pub(super) audit: Auditor,
}

struct State {
    checks: Option<JoinHandle<()>>,
    /// What is in force, to put what is fetched into. It is not read again for that: its files
    /// may be half-written by then.
    config: Config,
    /// What it has of its URLs.
    fetched: Fetched,
}

/// Why a config is put in force.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It was read again.
    Read,
    /// It is the same, and a rule has another version now.
    TakeOver,
}

/// What a reload cannot change, because it is settled when the parts start.
struct Fixed(Vec<(&'static str, String)>);

impl Fixed {
    fn of(config: &Config) -> Self {
        let Config { service, listen, console, store, modes, log, .. } = config;
        Self(vec![
            ("service.name", service.name.clone()),
            ("listen.addr", listen.addr.to_string()),
            ("listen.workers", listen.workers.to_string()),
            ("listen.drain_timeout", listen.drain_timeout.to_string()),
            ("console.addr", console.addr.to_string()),
            ("store.dir", store.dir.display().to_string()),
            ("store.telemetry", format!("{:?}", store.telemetry)),
            ("modes", format!("{modes:?}")),
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
        (book, checks): (Book, Option<HealthChecks>),
        told: Told,
        metrics: ReloadMetrics,
    ) -> Self {
        let checks = start_checks(&publisher, checks);
        let fetched = inputs.fetched.clone();
        Self {
            shared: Arc::new(Shared {
                inputs,
                ground,
                fixed: Fixed::of(config),
                publisher,
                book,
                told,
                metrics,
                reloaded: Notify::new(),
                turn: tokio::sync::Mutex::new(()),
                state: Mutex::new(State { checks, config: config.clone(), fetched }),
            }),
        }
    }

    /// Reads, validates, swaps. Returns what is wrong, where something is.
    pub(super) async fn reload(&self) -> Result<(), String> {
        let shared = &self.shared;
        let _turn = shared.turn.lock().await;
        let fetched = shared.state().fetched.clone();
        let inputs = Inputs { fetched, ..shared.inputs.clone() };
        let outcome = self
            .swap(Why::Read, move || {
                let config = config::load(&inputs).map_err(|faults| faults.to_string())?;
                Ok((config, inputs.fetched))
            })
            .await;
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
        if shared.told.changes.send(change).await.is_err() {
            tracing::debug!("nobody shows the reload");
        }
        shared.reloaded.notify_one();
        outcome.map(|_| ())
    }

    /// Waits for the next reload.
    pub(super) async fn reloaded(&self) {
        self.shared.reloaded.notified().await;
    }

    /// The URLs of the config in force, and whether there is something of each.
    pub(super) fn urls(&self) -> HashMap<String, bool> {
        let state = self.shared.state();
        let known = |url: &String| (url.clone(), state.fetched.contains_key(url));
        urls(&state.config).iter().map(known).collect()
    }

    /// Puts what was fetched of `url` in force, if the config is right with it.
    pub(super) async fn take(&self, url: &str, bytes: Vec<u8>) -> Result<(), String> {
        let shared = &self.shared;
        let _turn = shared.turn.lock().await;
        let (mut config, mut fetched) = {
            let state = shared.state();
            (state.config.clone(), state.fetched.clone())
        };
        if fetched.get(url) == Some(&bytes) {
            return Ok(());
        }
        config.sources.insert(Source::Url(url.to_owned()), Ok(bytes.clone()));
        fetched.insert(url.to_owned(), bytes);
        let (rules, generation) = self
            .swap(Why::Read, move || Ok((config, fetched)))
            .await
            .map_err(|fault| format!("what {url} has now was not put in force: {fault}"))?;
        tracing::info!(generation = generation + 1, "what {url} has now was put in force");
        if shared.told.changes.send(Change::Config { rules, generation }).await.is_err() {
            tracing::debug!("nobody shows the change");
        }
        Ok(())
    }

    /// Compiles the config in force anew whenever the next version of a rule has taken its place,
    /// again and again until it can be.
    pub(super) async fn follow_take_overs(self, mut take_overs: mpsc::Receiver<()>) {
        let mut fault = None;
        loop {
            tokio::select! {
                told = take_overs.recv() => if told.is_none() { return },
                () = tokio::time::sleep(RETRY_EVERY), if fault.is_some() => {}
            }
            let failed = self.take_over().await.err();
            // What stays as it was has been said.
            if let Some(new) = failed.as_ref().filter(|_| failed != fault) {
                tracing::error!("a rule's next version is in force beside the old one: {new}");
            }
            fault = failed;
        }
    }

    async fn take_over(&self) -> Result<(), String> {
        let shared = &self.shared;
        let _turn = shared.turn.lock().await;
        let (config, fetched) = {
            let state = shared.state();
            (state.config.clone(), state.fetched.clone())
        };
        let (rules, generation) = self.swap(Why::TakeOver, move || Ok((config, fetched))).await?;
        if shared.told.changes.send(Change::Config { rules, generation }).await.is_err() {
            tracing::debug!("nobody shows the change");
        }
        Ok(())
    }

    /// Puts what `load` gives in force.
    async fn swap(
        &self,
        why: Why,
        load: impl FnOnce() -> Result<(Config, Fetched), String> + Send + 'static,
    ) -> Result<(Vec<Rule>, u64), String> {
        let this = self.clone();
        let swapped = tokio::task::spawn_blocking(move || {
            let (config, fetched) = load()?;
            this.put_in_force(config, fetched, why)
        });
        swapped.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn put_in_force(
        &self,
        config: Config,
        fetched: Fetched,
        why: Why,
    ) -> Result<(Vec<Rule>, u64), String> {
        let shared = &self.shared;
        let changed = shared.fixed.changed(&Fixed::of(&config));
        if !changed.is_empty() {
            let keys = changed.join(", ");
            tracing::warn!(keys, "these change with a restart, not with a reload");
        }
        let before = shared.book.rules();
        let standings = shared.book.standings();
        let snapshot = shared.publisher.snapshot();
        let compiled = compile::compile(
            &config,
            &shared.ground,
            &standings,
            Some((&before, &snapshot.upstreams)),
        )
        .map_err(|error| format!("{error:#}"))?;
        let intake = alerts::intake(&config).map_err(|error| format!("{error:#}"))?;
        let (generation, changed) =
            shared.book.put_in_force(compiled.snapshot, &compiled.rules, &config.rollout);
        shared.ground.names.put_in_force(compiled.rules.iter().map(|rule| rule.id));
        let told = &shared.told;
        told.rollout.config(config.rollout.clone(), config.gates.clone(), changed);
        told.intake.send_replace(intake);
        let mut state = shared.state();
        if let Some(checks) = state.checks.take() {
            checks.abort();
        }
        state.checks = start_checks(&shared.publisher, compiled.health);
        let key = &shared.ground.key;
        let texts = (ConfigText::of(&state.config, key), ConfigText::of(&config, key));
        state.config = config;
        state.fetched = fetched;
        drop(state);
        if why == Why::TakeOver {
            return Ok((compiled.rules, generation));
        }
        let file = shared.inputs.file.as_ref().map(|file| file.display().to_string());
        let file = file.as_deref().unwrap_or("the built-in config");
        // As generations are shown: the first is 1.
        shared.told.audit.record(audit::reloaded(file, &texts.0, &texts.1, generation + 1));
        Ok((compiled.rules, generation))
    }

    /// Reloads whenever the config's files have changed, and have been the same for one look: many
    /// editors empty a file before they write it, and an empty one is a config, too.
    pub(super) async fn watch_files(self) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = self.shared.state().config.stamps.clone();
        let mut before = seen.clone();
        while !seen.is_empty() {
            ticks.tick().await;
            let stamps = seen.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || stamps.now()).await else { return };
            let settled = now == std::mem::replace(&mut before, now.clone());
            // A file that is gone for a moment is being replaced.
            if now.is_whole() && now != seen && settled {
                seen = match self.reload().await {
                    Ok(()) => self.shared.state().config.stamps.clone(),
                    // The last config stays in force until another change.
                    Err(_) => now,
                };
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

fn urls(config: &Config) -> Vec<String> {
    config.sources.urls().map(str::to_owned).collect()
}

fn start_checks(publisher: &Publisher, checks: Option<HealthChecks>) -> Option<JoinHandle<()>> {
    let upstreams = Arc::clone(&publisher.snapshot().upstreams);
    checks.map(|checks| tokio::spawn(health::run(upstreams, checks)))
}
