//! The engine of the rollout: takes up evidence, asks the gates, moves modes, writes down why.
//!
//! 1. One task decides. What an alert changes takes effect through the [`Book`] at once, and is
//!    written down by this task. An operator waits for it, and so, after a start, until the evidence
//!    of before has been read.
//! 2. A promotion is in the ledger before it is in force; a fall is in force before it is in the
//!    ledger. What could not be written is kept and tried again.
//! 3. Only whole ticks count. Those in which the process was not there are no evidence, and the
//!    soak begins anew; where it ended without closing its files, so do the windows.
//! 4. In a fleet only the one that leads promotes; each of them falls by itself.

mod commands;
mod falls;
mod fleet;
mod journal;
mod moves;
mod offline;
mod replay;
mod track;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seaworthy_console::control::{self, Done, Refused, RuleStanding};
use seaworthy_policy::client::ClientKey;
use seaworthy_policy::evidence::{Lane, TickEvidence};
use seaworthy_policy::gates::minute::{Minute, Name, TickLength};
use seaworthy_policy::gates::{self, GatesConfig, Reading};
use seaworthy_policy::mode::Mode;
use seaworthy_policy::names::Names;
use seaworthy_policy::quantity::Period;
use seaworthy_policy::record::RouteId;
use seaworthy_policy::rollout::{Event, RolloutConfig, RuleState, Standing};
use seaworthy_store::telemetry::{FreshEvidence, TelemetryReader};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub(super) use self::fleet::{Shared, board};
pub(super) use self::journal::Journal;
use self::journal::Note;
pub(super) use self::offline::{Offline, OfflineError};
pub(super) use self::replay::{Known, known};
use self::track::{Clients, Kept, LANES, Of, Scale, Tables, Track};
use super::book::{Book, Changed};
use super::compile::Rule;

/// What the pump hands over with each flush.
pub(super) struct Flushed {
    pub(super) now_unix_ms: i64,
    pub(super) closed: Vec<TickEvidence>,
    pub(super) fresh: Vec<FreshEvidence>,
    /// Flushes before this one that did not reach the engine.
    pub(super) lost: u64,
}

/// What an alert has done to a version of a rule, at once.
pub(super) struct Happening {
    pub(super) changed: Changed,
    pub(super) lane: Lane,
    pub(super) event: Event,
    pub(super) actor: String,
    /// What tells this alert from others, with the last of its effects: what is written before it is
    /// written again where the sender comes again.
    pub(super) delivery: Option<[u8; 32]>,
}

/// What the engine is told.
enum Message {
    Flushed(Flushed),
    Asked(control::Request, oneshot::Sender<Result<Done, Refused>>),
    /// Already in force; to be written down.
    Happened(Vec<Happening>, oneshot::Sender<bool>),
    /// A config was put in force.
    Config {
        rollout: RolloutConfig,
        gates: GatesConfig,
        changed: Vec<Changed>,
    },
    Stop(oneshot::Sender<()>),
}

/// The running engine.
#[derive(Clone)]
pub(super) struct Rollout {
    messages: mpsc::Sender<Message>,
    view: watch::Receiver<Arc<Vec<RuleStanding>>>,
    /// Flushes that found no room.
    lost: Arc<AtomicU64>,
    /// The audit log that its moves are in.
    log: Option<Arc<str>>,
}

/// What the engine is started with.
pub(super) struct Parts {
    pub(super) book: Book,
    pub(super) names: Arc<Names>,
    pub(super) rollout: RolloutConfig,
    pub(super) gates: GatesConfig,
    pub(super) tick: TickLength,
    pub(super) flush_every: Period,
    pub(super) journal: Journal,
    /// What was written by a clock that was ahead, and is brought back.
    pub(super) brought_back: Vec<Changed>,
    /// What the start has changed already.
    pub(super) changed: Vec<Changed>,
    /// Whether the process before this one closed its files.
    pub(super) was_closed: bool,
    pub(super) shared: Shared,
    /// Told when a rule's next version has taken its place, so that the config is compiled anew.
    pub(super) taken_over: mpsc::Sender<()>,
}

/// Messages that wait; the pump waits no longer than it takes to find that there is no room.
const MESSAGES: usize = 1024;

impl Rollout {
    /// `reader` has the evidence of before.
    pub(super) fn start(parts: Parts, reader: TelemetryReader) -> (Self, JoinHandle<()>) {
        let (send, receive) = mpsc::channel(MESSAGES);
        let (publish, view) = watch::channel(Arc::default());
        let log = parts.journal.log();
        let engine = Engine::new(parts, publish);
        let task = tokio::spawn(async move {
            let mut engine = engine;
            engine.adopt().await;
            engine.follow();
            engine.show();
            // To read the evidence of months takes a while; what the pump hands over waits.
            match tokio::task::spawn_blocking(move || engine.replayed(&reader)).await {
                Ok(engine) => engine.run(receive).await,
                Err(error) => tracing::error!(%error, "nobody weighs evidence"),
            }
        });
        (Self { messages: send, view, lost: Arc::default(), log }, task)
    }

    /// Where the rules stand, whenever that changes.
    pub(super) fn view(&self) -> watch::Receiver<Arc<Vec<RuleStanding>>> {
        self.view.clone()
    }

    /// Hands over evidence. Where the engine is so far behind that there is no room, it is gone,
    /// and the engine sees the gap.
    pub(super) fn flushed(&self, mut flushed: Flushed) {
        flushed.lost = self.lost.swap(0, Ordering::Relaxed);
        let lost = flushed.lost + 1;
        if self.messages.try_send(Message::Flushed(flushed)).is_err() {
            tracing::error!("the rollout is behind; evidence of a second is not weighed");
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Whether somebody weighs evidence.
    pub(super) fn is_running(&self) -> bool {
        !self.messages.is_closed()
    }

    /// A config was put in force. Blocks while the engine is behind.
    pub(super) fn config(&self, rollout: RolloutConfig, gates: GatesConfig, changed: Vec<Changed>) {
        let message = Message::Config { rollout, gates, changed };
        if self.messages.blocking_send(message).is_err() {
            tracing::debug!("nobody weighs evidence any more");
        }
    }

    /// Writes down what is in force already; whether it is durable when this returns.
    pub(super) async fn happened(&self, happenings: Vec<Happening>) -> bool {
        let (answer, written) = oneshot::channel();
        let sent = self.messages.send(Message::Happened(happenings, answer)).await;
        sent.is_ok() && written.await.unwrap_or(false)
    }

    /// Writes the last of it.
    pub(super) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.messages.send(Message::Stop(done)).await.is_err() || stopped.await.is_err() {
            tracing::error!("the rollout ended early");
        }
    }
}

impl control::Control for Rollout {
    fn standings(&self) -> Vec<RuleStanding> {
        self.view.borrow().to_vec()
    }

    fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }

    fn ask(&self, request: control::Request) -> control::Answer<'_, Result<Done, Refused>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let gone = || Refused::NotKept("the gateway is stopping".to_owned());
            let message = Message::Asked(request, answer);
            self.messages.send(message).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }
}

struct Engine {
    book: Book,
    names: Arc<Names>,
    rollout: RolloutConfig,
    gates: GatesConfig,
    scale: Scale,
    journal: Journal,
    shared: Shared,
    tracks: BTreeMap<(String, Lane), Track>,
    /// What was said of ticks that are still open, in lanes whose track has ended.
    tables: BTreeMap<(String, Lane), Tables>,
    clients: Clients,
    /// The newest tick that was taken up.
    newest: Option<Minute>,
    view: watch::Sender<Arc<Vec<RuleStanding>>>,
    taken_over: mpsc::Sender<()>,
}

/// A tick is whole so long after its end; see `Ticks`.
const LATE_MS: i64 = 2000;

/// When requests of a pair were.
#[derive(Clone, Copy)]
enum Visits {
    Tick(Minute),
    /// On a whole day, the last of them at this time.
    Day {
        last_unix_ms: i64,
    },
}

impl Engine {
    fn new(parts: Parts, view: watch::Sender<Arc<Vec<RuleStanding>>>) -> Self {
        let Parts {
            book,
            names,
            rollout,
            gates,
            tick,
            flush_every,
            mut journal,
            shared,
            brought_back,
            changed,
            was_closed,
            taken_over,
        } = parts;
        for one in &brought_back {
            tracing::warn!(rule = one.rule, "its state is from the future: the clock was ahead");
        }
        journal.note(brought_back.into_iter().map(Note::brought_back).collect());
        journal.note(changed.into_iter().map(Note::of_config).collect());
        let mut engine = Self {
            book,
            names,
            rollout,
            gates,
            scale: Scale { tick, flush_every },
            journal,
            shared,
            tracks: BTreeMap::new(),
            tables: BTreeMap::new(),
            clients: Clients::default(),
            newest: None,
            view,
            taken_over,
        };
        if !was_closed {
            engine
                .restart_windows("the gateway was killed: evidence of its last second may be gone");
        }
        engine.follow();
        engine.show();
        engine
    }

    /// The engine with the evidence of the processes before this one.
    fn replayed(mut self, reader: &TelemetryReader) -> Self {
        if let Err(error) = self.replay(reader) {
            tracing::error!(%error, "the evidence of before cannot be read; it begins anew");
        }
        self.show();
        self
    }

    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                () = self.journal.due() => {
                    self.journal.write().await;
                    continue;
                }
                () = self.shared.changed() => {
                    self.adopt().await;
                    self.follow();
                    self.show();
                    continue;
                }
            };
            let mut seen = true;
            match message {
                None => return,
                Some(Message::Flushed(flushed)) => seen = self.take(flushed).await,
                Some(Message::Asked(request, answer)) => {
                    let done = self.command(request).await;
                    // Whoever has the answer and looks sees what was done.
                    self.follow();
                    self.show();
                    if answer.send(done).is_err() {
                        tracing::debug!("who asked for a change did not wait for the answer");
                    }
                }
                Some(Message::Happened(happenings, answer)) => {
                    let losses = self.journal.losses();
                    let notes = happenings.into_iter().map(|one| self.alerted(one)).collect();
                    self.journal.note(notes);
                    self.journal.write().await;
                    if answer.send(self.journal.is_written(losses)).is_err() {
                        tracing::debug!("who made it happen did not wait for the ledger");
                    }
                }
                Some(Message::Config { rollout, gates, changed }) => {
                    if self.gates.alarm != gates.alarm {
                        let (alarm, scale) = (&gates.alarm, &self.scale);
                        self.tracks.values_mut().for_each(|track| track.watch_by(alarm, scale));
                    }
                    (self.rollout, self.gates) = (rollout, gates);
                    changed.iter().for_each(|changed| self.shared.publish(changed));
                    self.journal.note(changed.into_iter().map(Note::of_config).collect());
                    self.journal.write().await;
                    // What was of another config may be of this one.
                    self.adopt().await;
                }
                Some(Message::Stop(done)) => {
                    self.keep_befores();
                    self.journal.write().await;
                    self.journal.close();
                    if done.send(()).is_err() {
                        tracing::debug!("nobody waited for the rollout's last word");
                    }
                    return;
                }
            }
            self.follow();
            if seen {
                self.show();
            }
        }
    }

    /// Takes up what the pump has handed over, and moves what has to be moved. Returns whether
    /// anything is to be seen of it.
    async fn take(&mut self, flushed: Flushed) -> bool {
        let names = self.names.rules();
        let mut fresh: BTreeMap<_, Vec<&FreshEvidence>> = BTreeMap::new();
        for one in &flushed.fresh {
            let name = names[usize::from(one.rule.0)].to_string();
            fresh.entry((name, one.lane)).or_default().push(one);
        }
        for (key, fresh) in fresh {
            if let Some(track) = self.tracks.get_mut(&key) {
                track.flushed(&fresh, &mut self.clients);
            }
        }
        let fell = self.fall().await;
        let whole = self.scale.minute(flushed.now_unix_ms - LATE_MS);
        let first = match self.newest {
            Some(newest) => Minute(newest.0 + 1),
            // The tick in which the process began is not whole.
            None => Minute(whole.0.max(1)),
        };
        let mut closed = flushed.closed.into_iter().peekable();
        for minute in (first.0..whole.0).map(Minute) {
            while closed.next_if(|tick| self.scale.minute(tick.start_unix_ms) < minute).is_some() {}
            let is_this = |tick: &TickEvidence| self.scale.minute(tick.start_unix_ms) == minute;
            let tick = closed.next_if(is_this).unwrap_or_default();
            self.tick(minute, &tick, flushed.lost);
        }
        if first < whole {
            self.newest = Some(Minute(whole.0 - 1));
            self.tables.retain(|_, tables| {
                tables.retain(|start_unix_ms, _| self.scale.minute(*start_unix_ms) >= whole);
                !tables.is_empty()
            });
            self.heal();
            self.promote().await;
        } else if self.newest.is_none() {
            self.newest = Some(whole);
        }
        fell || first < whole
    }

    /// Takes up one whole tick for all rules.
    fn tick(&mut self, minute: Minute, tick: &TickEvidence, lost: u64) {
        let names = self.names.rules();
        let mut evidence = BTreeMap::new();
        for (rule, lane, of_rule) in &tick.rules {
            evidence.insert((names[usize::from(rule.0)].to_string(), *lane), of_rule);
        }
        for (key, track) in &mut self.tracks {
            let evidence = evidence.get(key).copied();
            let dropped = tick.dropped + lost;
            track.tick(minute, evidence, dropped, (&self.scale, &mut self.clients));
        }
        let day = self.scale.day(minute);
        for (client, route, requests) in &tick.pairs {
            let requests = u32::try_from(*requests).unwrap_or(u32::MAX);
            self.visit(Visits::Tick(minute), day, *client, *route, requests);
        }
    }

    /// Counts requests of a pair for all rules that they concern.
    fn visit(
        &mut self,
        when: Visits,
        day: i64,
        client: Option<ClientKey>,
        route: RouteId,
        requests: u32,
    ) {
        let number = track::number(client);
        for track in self.tracks.values_mut().filter(|track| track.concerns(route)) {
            let is_counted = match when {
                Visits::Day { last_unix_ms } => last_unix_ms >= track.of.window_unix_ms,
                Visits::Tick(minute) => minute >= self.scale.first_whole(track.of.window_unix_ms),
            };
            track.pairs.observe(day, number, route, requests, is_counted);
        }
    }

    /// Begins a track for each version whose state is another than that of its track, and ends
    /// those of versions that are gone.
    fn follow(&mut self) {
        let standings = self.book.standings();
        let (rules, now_unix_ms) = (self.book.rules(), self.book.now_unix_ms());
        let mut known = Vec::with_capacity(rules.len());
        for rule in &rules {
            let name = rule.name.to_string();
            let Some(standing) = standings.get(&name) else { continue };
            for lane in LANES {
                let Some(state) = state_of(rule, standing, lane) else { continue };
                let key = (name.clone(), lane);
                known.push(key.clone());
                if let Some(track) = self.tracks.get_mut(&key)
                    && track.of == Of::state(state)
                    && !track.is_stale
                {
                    track.attempt(&self.rollout, state);
                    continue;
                }
                // A version that has taken the present one's place brings what it was like.
                let other = (name.clone(), Lane::Next);
                let came = self
                    .tracks
                    .get(&other)
                    .is_some_and(|track| lane == Lane::Current && track.of.policy == state.policy);
                let replaced = self.end(&key);
                let before = if came { self.end(&other) } else { replaced };
                // A tick's table is of its lane: what another version has been told is not new.
                let last = self.tables.remove(&key).unwrap_or_default();
                let kept = match before {
                    Some(track) if track.of.policy == state.policy => {
                        Kept { before: track.before, pairs: track.pairs, last }
                    }
                    // Another policy was judged by: what it was like says nothing of this one.
                    other => Kept {
                        before: self.journal.before(&name, state.policy).brought_back(now_unix_ms),
                        // Who calls what in a week is the same for every version of the rule.
                        pairs: other.map(|track| track.pairs).unwrap_or_else(|| {
                            let beside = self.tracks.get(&(name.clone(), Lane::Current));
                            beside.map(|track| track.pairs.clone()).unwrap_or_default()
                        }),
                        last,
                    },
                };
                let waivers = self.journal.waivers(&name, &self.scale);
                let route = rule.name.route.as_deref().map(|name| self.names.intern_route(name));
                let track = Track::begin(
                    (state, route),
                    &self.rollout,
                    &self.gates,
                    &self.scale,
                    waivers,
                    kept,
                );
                self.tracks.insert(key, track);
            }
        }
        let gone: Vec<_> = self.tracks.keys().filter(|key| !known.contains(key)).cloned().collect();
        for key in gone {
            self.end(&key);
        }
    }

    /// Ends a track. What its lane was told of the open ticks is kept.
    fn end(&mut self, key: &(String, Lane)) -> Option<Track> {
        let mut track = self.tracks.remove(key)?;
        self.tables.insert(key.clone(), std::mem::take(&mut track.last));
        Some(track)
    }

    /// What the gates say of a version now.
    fn read(&mut self, key: &(String, Lane)) -> Option<(gates::Inputs, Vec<Reading>)> {
        let now = Minute(self.newest?.0 + 1);
        let (clients, names) = (&self.clients, &self.names);
        let track = self.tracks.get_mut(key)?;
        let coverage = track
            .pairs
            .input(|number| clients.by_number(number), |route| Name::new(&names.route(route)).ok());
        let inputs = track.inputs(now, coverage).clone();
        let readings = gates::judge(&self.gates, &inputs);
        Some((inputs, readings))
    }

    /// Publishes where everything stands.
    fn show(&mut self) {
        let view = self.standings_now();
        self.view.send_replace(Arc::new(view));
    }
}

/// The state of a version that judges at present.
fn state_of<'s>(rule: &Rule, standing: &'s Standing, lane: Lane) -> Option<&'s RuleState> {
    let built = match lane {
        Lane::Current => &rule.current,
        Lane::Next => rule.next.as_ref()?,
    };
    let state = standing.of(built.policy)?;
    (state.mode != Mode::Off).then_some(state)
}
