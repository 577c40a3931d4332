//! The wiring: takes the config apart once, starts every part, and ends them in order.
//!
//! Data flows one way. Workers push records and notes into rings; the pump takes them out
//! and feeds the telemetry, the live view and the log; config and modes flow back to the
//! workers as snapshots.

mod alerts;
mod announce;
mod audit;
mod book;
mod compile;
pub mod demo;
mod fetch;
pub(crate) mod key;
pub(crate) mod log;
mod metrics;
mod notes;
pub(crate) mod operator;
mod outbound;
mod pump;
pub(crate) mod relay;
mod reload;
mod rollout;
pub mod serve;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use seaworthy_console::control::RuleStanding;
pub use seaworthy_console::live::LiveView;
use seaworthy_console::{AlertInputs, AlertMetrics, Console, ConsoleInputs, Readiness, ReadyCheck};
use seaworthy_policy::gates::minute::TickLength;
use seaworthy_policy::modes::ModeBoard;
use seaworthy_policy::names::Names;
use seaworthy_policy::quantity::Period;
use seaworthy_proxy::metrics::GatewayMetrics;
use seaworthy_proxy::{Clock, Gateway, GatewayOptions, Publisher};
use seaworthy_store::fleet::{Fleet, FleetState};
use seaworthy_store::telemetry::Telemetry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::audit::{Auditor, ConfigText};
use self::book::Book;
use self::compile::Ground;
use self::metrics::{FetchMetrics, ReloadMetrics};
use self::reload::{Reloader, Told};
use self::rollout::{Journal, Known, Rollout};
use crate::config::{self, Config, Faults, Inputs};

/// Why a gateway did not start. The exit code follows from the variant.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(Faults),
    /// A file, a port or a folder that could not be had; the message says what to do.
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
}

impl From<anyhow::Error> for StartError {
    fn from(error: anyhow::Error) -> Self {
        Self::Unavailable(error)
    }
}

/// A running gateway with its console and store.
pub struct Running {
    gateway: Gateway,
    console: Console,
    telemetry: Telemetry,
    audit: Auditor,
    service: String,
    live: watch::Receiver<Arc<LiveView>>,
    reloader: Reloader,
    rollout: Rollout,
    weighing: JoinHandle<()>,
    fleet: Option<Arc<Fleet>>,
    pump: pump::Pump,
    watching: JoinHandle<()>,
    taking_over: JoinHandle<()>,
    fetching: JoinHandle<()>,
    drain_timeout: Duration,
    draining: watch::Sender<bool>,
}

/// Loads the config of `inputs` and starts everything on the current runtime.
///
/// Nothing is listened on before the config is whole and the store is open.
pub async fn start(mut inputs: Inputs) -> Result<Running, StartError> {
    let mut config = config::load(&inputs).map_err(StartError::Config)?;
    log::start(config.log.format, &config.log.level);
    let fetched = fetch::first(config.sources.urls().map(str::to_owned).collect()).await;
    if !fetched.is_empty() {
        match config::load(&Inputs { fetched: fetched.clone(), ..inputs.clone() }) {
            Ok(whole) => (config, inputs.fetched) = (whole, fetched),
            // The config is right without it: what was fetched is not, and is tried again.
            Err(faults) => tracing::error!("what was fetched cannot be used: {faults}"),
        }
    }
    let clock = Clock::start();
    let names = Arc::new(Names::new());
    let dir = config.store.dir.clone();
    let telemetry = open_store(&config, &names).await?;
    let key = key::load(&dir, inputs.variable(key::VARIABLE))
        .map_err(|error| anyhow::anyhow!("failed to get the installation's key: {error}"))?;
    let audit = Auditor::start(dir).await;
    let in_force = ConfigText::of(&config, &key);
    let ground = Ground { names: Arc::clone(&names), pseudonym: pseudonym(&key), key };
    let Known { mut standings, was_closed, is_known } = rollout::known(&audit).await;
    let brought_back = standings.bring_back(&config.rollout, clock.unix_ms(clock.now()));
    let compiled = compile::compile(&config, &ground, &standings, None)?;
    let options = GatewayOptions { addr: config.listen.addr, workers: workers(&config) };
    let (gateway, evidence) = Gateway::start(options, compiled.snapshot, clock)
        .map_err(|error| anyhow::anyhow!("failed to start the gateway: {error}"))?;

    let (book, changed) =
        Book::open(gateway.publisher(), &compiled.rules, standings, &config.rollout, clock);
    names.put_in_force(compiled.rules.iter().map(|rule| rule.id));
    let counters = Arc::new(GatewayMetrics::new(&gateway, Arc::clone(&names), clock));
    let reload_metrics = ReloadMetrics::default();
    let fleet = join_fleet(&config, rollout::board(&book.standings(), book.now_unix_ms()))?;
    let (taken_over, take_overs) = mpsc::channel(1);
    let parts = rollout::Parts {
        book: book.clone(),
        names: Arc::clone(&names),
        rollout: config.rollout.clone(),
        gates: config.gates.clone(),
        tick: tick_length(config.store.telemetry.tick)?,
        flush_every: config.store.telemetry.flush_every,
        journal: Journal::open(audit.clone(), is_known),
        shared: rollout::Shared::of(fleet.clone()),
        brought_back,
        changed,
        was_closed,
        taken_over,
    };
    let (rollout, weighing) = Rollout::start(parts, telemetry.reader().clone());
    let pump = pump::Pump::start(pump::Parts {
        evidence,
        findings: gateway.findings(),
        telemetry: telemetry.clone(),
        rollout: rollout.clone(),
        counters: Arc::clone(&counters),
        publisher: gateway.publisher(),
        clock,
        about: pump::About::of(&config, gateway.addr()),
        rules: compiled.rules.clone(),
        flush_every: config.store.telemetry.flush_every.as_duration(),
    });
    let live = pump.live();
    let fetch_metrics = FetchMetrics::default();
    let mut registry =
        metrics::registry(counters, (&telemetry, &audit), &pump, &reload_metrics, &fetch_metrics);
    let alert_metrics = AlertMetrics::default();
    alert_metrics.register(&mut registry);
    if let Some(fleet) = &fleet {
        metrics::share(&mut registry, fleet.health());
    }
    let registry = Arc::new(registry);
    let (intake, taken_in) = watch::channel(alerts::intake(&config)?);
    let (draining, draining_seen) = watch::channel(false);
    let publisher = gateway.publisher();
    let ready = readiness(
        publisher.clone(),
        (telemetry.clone(), audit.clone()),
        (rollout.clone(), fleet.as_deref()),
        clock,
        draining_seen,
    );
    let console_inputs = ConsoleInputs {
        live: live.clone(),
        telemetry: Some(telemetry.clone()),
        registry: Arc::clone(&registry) as Arc<Registry>,
        ready,
        alerts: AlertInputs {
            intake: taken_in,
            sink: Arc::new(alerts::Demoter::new(book.clone(), rollout.clone(), audit.clone())),
            metrics: alert_metrics,
        },
        control: Arc::new(rollout.clone()),
        ledger: {
            let audit = audit.clone();
            Arc::new(move || audit.ledger().map(|ledger| ledger.reader().clone()))
        },
    };
    let console = Console::start(config.console.addr, console_inputs)
        .await
        .map_err(|error| anyhow::anyhow!("failed to start the console: {error}"))?;

    let reloader = Reloader::new(
        inputs,
        &config,
        ground,
        publisher,
        (book, compiled.health),
        Told { changes: pump.control(), intake, rollout: rollout.clone(), audit: audit.clone() },
        reload_metrics,
    );
    let watching = tokio::spawn(reloader.clone().watch_files());
    let taking_over = tokio::spawn(reloader.clone().follow_take_overs(take_overs));
    let fetching = tokio::spawn(fetch::run(reloader.clone(), fetch_metrics));
    audit.record(audit::started(&config.service.name, &in_force));
    Ok(Running {
        gateway,
        console,
        telemetry,
        audit,
        service: config.service.name.clone(),
        live,
        reloader,
        rollout,
        weighing,
        fleet,
        pump,
        watching,
        taking_over,
        fetching,
        drain_timeout: config.listen.drain_timeout.as_duration(),
        draining,
    })
}

impl Running {
    /// Where clients reach the service.
    pub fn traffic(&self) -> SocketAddr {
        self.gateway.addr()
    }

    /// Where the console is.
    pub fn console(&self) -> SocketAddr {
        self.console.addr()
    }

    /// What happens right now, published once a second.
    pub fn live(&self) -> watch::Receiver<Arc<LiveView>> {
        self.live.clone()
    }

    /// Where the rules stand, whenever that changes.
    pub fn rules(&self) -> watch::Receiver<Arc<Vec<RuleStanding>>> {
        self.rollout.view()
    }

    /// The live view once it has counted everything up to now: two turns of the second hand.
    pub async fn settled(&self) -> Arc<LiveView> {
        let mut live = self.live.clone();
        live.mark_unchanged();
        for _ in 0..2 {
            if live.changed().await.is_err() {
                break;
            }
        }
        live.borrow().clone()
    }

    /// Reads the config again, as SIGHUP does. A bad one changes nothing; the fault is logged
    /// and returned.
    pub async fn reload(&self) -> Result<(), String> {
        self.reloader.reload().await
    }

    /// Drains: readiness goes first, then no connection is accepted, requests in flight finish
    /// within the drain timeout, the last evidence is written, the console closes.
    pub async fn stop(self) {
        self.draining.send_replace(true);
        self.watching.abort();
        self.fetching.abort();
        self.taking_over.abort();
        self.reloader.stop();
        let (gateway, within) = (self.gateway, self.drain_timeout);
        let drained = tokio::task::spawn_blocking(move || gateway.drain(within)).await;
        if let Err(error) = drained {
            tracing::error!(%error, "draining ended early");
        }
        self.pump.stop().await;
        self.rollout.stop().await;
        if let Err(error) = self.weighing.await {
            tracing::error!(%error, "the rollout did not end in order");
        }
        if let Some(fleet) = self.fleet.and_then(Arc::into_inner) {
            fleet.close().await;
        }
        self.console.shutdown().await;
        match self.telemetry.close().await {
            // Last: a process that is killed before this has not ended in order.
            Ok(()) => self.audit.record(audit::stopped(&self.service)),
            // Nor has one whose last evidence is gone: the next would take its minutes for quiet.
            Err(error) => tracing::error!(%error, "the last telemetry was not written"),
        }
        self.audit.stop().await;
    }
}

async fn open_store(config: &Config, names: &Arc<Names>) -> anyhow::Result<Telemetry> {
    let (dir, settings) = (config.store.dir.clone(), config.store.telemetry.clone());
    let names = Arc::clone(names);
    tokio::task::spawn_blocking(move || Telemetry::open(&dir, settings, names))
        .await?
        .map_err(|error| anyhow::anyhow!("failed to open the store: {error}"))
}

/// Joins the fleet that the config names, with the modes that are known here.
fn join_fleet(config: &Config, known: ModeBoard) -> anyhow::Result<Option<Arc<Fleet>>> {
    let snapshot = config.store.dir.join("modes.snapshot");
    let options = config.modes.fleet_options(&config.service, &config.sources, &snapshot);
    let Some(mut options) = options else { return Ok(None) };
    if options.url.is_tls() {
        let client = tls::client(config.modes.redis_ca.as_deref(), &[]);
        options.tls = Some(client.context("the modes cannot be shared over TLS")?);
    }
    Ok(Some(Arc::new(Fleet::start(options, known))))
}

/// How long a tick of evidence is. Settings have been checked: it is at most a minute.
fn tick_length(tick: Period) -> anyhow::Result<TickLength> {
    let ms = u32::try_from(tick.as_duration().as_millis())?;
    TickLength::from_ms(ms).context("a tick of evidence has no length")
}

/// What `Via` calls this installation: eight digits that its key decides.
fn pseudonym(key: &seaworthy_policy::registry::InstallKey) -> Arc<str> {
    let digits: String = key.derive("via")[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("seaworthy-{digits}").into()
}

/// One worker a core where the config says nothing.
fn workers(config: &Config) -> usize {
    match config.listen.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

/// What `/readyz` asks, without waiting for anything.
fn readiness(
    publisher: Publisher,
    (telemetry, audit): (Telemetry, Auditor),
    (rollout, fleet): (Rollout, Option<&Fleet>),
    clock: Clock,
    draining: watch::Receiver<bool>,
) -> Arc<dyn Fn() -> Readiness + Send + Sync> {
    let fleet = fleet.map(Fleet::health);
    Arc::new(move || {
        let snapshot = publisher.snapshot();
        let upstreams = &snapshot.upstreams;
        let available = upstreams
            .list
            .iter()
            .filter(|upstream| upstream.is_healthy() && !upstream.is_ejected(clock.now()))
            .count();
        let (health, ledger) = (telemetry.health(), audit.health());
        let check = |name, ok, detail: String| ReadyCheck { name, ok, detail };
        let mut checks = vec![
            check(
                "serving",
                !*draining.borrow(),
                if *draining.borrow() { "draining" } else { "accepting requests" }.to_owned(),
            ),
            check("config", true, format!("generation {} is in force", snapshot.config + 1)),
            check(
                "upstream",
                available > 0,
                format!("{available} of {} can be asked", upstreams.list.len()),
            ),
            check(
                "store",
                health.writable,
                health.last_error.unwrap_or_else(|| "takes writes".to_owned()),
            ),
            check(
                "ledger",
                ledger.writable,
                ledger.last_error.unwrap_or_else(|| "takes writes".to_owned()),
            ),
        ];
        let is_weighed = rollout.is_running();
        let detail =
            if is_weighed { "weighs evidence" } else { "has ended: modes stay as they are" };
        checks.push(check("rollout", is_weighed, detail.to_owned()));
        // A partition stops nothing: the last known modes stand, and this says so.
        checks.extend(fleet.as_ref().map(|fleet| {
            let health = fleet.borrow();
            let detail = match &health.state {
                FleetState::Connected => "agrees with the fleet".to_owned(),
                FleetState::Starting => "not asked yet".to_owned(),
                FleetState::Unreachable { reason } | FleetState::Unusable { reason } => {
                    format!("the modes are those of {}: {reason}", health.belief.word())
                }
            };
            check("modes", true, detail)
        }));
        Readiness { checks }
    })
}
