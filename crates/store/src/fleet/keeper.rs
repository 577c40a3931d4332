//! The task that keeps the board: it alone talks to Redis, and it decides nothing that is not
//! decided by comparing entries.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom as _, SystemRandom};
use seaworthy_policy::modes::{Cause, ModeBoard, ModeEntry, RULES_MAX, Taken, check_rule};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::health::{Belief, FleetHealth, FleetState};
use super::link::{Answer, Change, Holder, Link, LinkError, Place, Push, Raw};
use super::snapshot::{self, Snapshot, Writer};
use super::{FleetError, FleetOptions, FleetView, Published};

/// How soon it is tried again where Redis could not be had, or the refresh where that is sooner.
/// A demotion that is held back waits for this, and a fleet of ten asks twenty times a second.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Entries that one script writes: at most 150 KiB, and about a millisecond of Redis's time.
const CHANGES_MAX: usize = 64;

/// How often what was meanwhile written by others is looked at before the next refresh does it.
const ROUNDS_MAX: usize = 4;

/// How old the snapshot's time may be while nothing changes.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);

/// A publication, and who waits for what becomes of it.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) rule: String,
    pub(super) entry: ModeEntry,
    pub(super) answer: oneshot::Sender<Result<Published, FleetError>>,
}

pub(super) struct Watches {
    pub(super) view: watch::Receiver<FleetView>,
    pub(super) health: watch::Receiver<FleetHealth>,
    pub(super) leads: watch::Receiver<bool>,
}

/// What Redis has for a rule, as far as this gateway knows.
struct Seen {
    raw: Raw,
    /// `None` where it is no entry.
    entry: Option<ModeEntry>,
}

pub(super) struct Keeper {
    place: Arc<Place>,
    refresh: Duration,
    lease: Duration,
    /// Tells the holder of the lease from all others.
    token: String,
    asks: mpsc::Receiver<Ask>,

    board: ModeBoard,
    /// How old the snapshot was that the board began with.
    snapshot_us: Option<i64>,
    seen: BTreeMap<String, Seen>,
    /// The newest entry of each rule that was made here, until Redis has had it.
    untold: BTreeMap<String, ModeEntry>,
    link: Option<Link>,
    opened_at: Instant,
    health: FleetHealth,

    refresh_at: Instant,
    lease_at: Instant,
    /// Until when this gateway leads.
    leads_until: Option<Instant>,
    snapshot_at: Instant,

    writer: Writer,
    view: watch::Sender<FleetView>,
    published_health: watch::Sender<FleetHealth>,
    leads: watch::Sender<bool>,
}

enum Event {
    Asks,
    Heard(Push),
    Refresh,
    Lease,
    LeaseEnds,
    SnapshotWritten(Option<String>),
    Closed,
}

impl Keeper {
    pub(super) fn new(
        options: FleetOptions,
        known: ModeBoard,
        asks: mpsc::Receiver<Ask>,
    ) -> (Self, Watches) {
        let FleetOptions { url, password, tls, prefix, snapshot: path, refresh, timeout, lease } =
            options;
        let place = Arc::new(Place { url, password, tls, prefix, timeout });
        let mut untold: BTreeMap<_, _> =
            known.iter().map(|(rule, entry)| (rule.to_owned(), entry.clone())).collect();
        let mut board = known;
        let (mut snapshot_us, mut fault) = (None, None);
        match snapshot::read(&path, &place.prefix) {
            Ok(Some(snapshot)) => {
                untold.retain(|rule, known| {
                    !snapshot.modes.get(rule).is_some_and(|entry| entry.says_the_same(known))
                });
                untold.extend(snapshot.untold);
                board.merge(&snapshot.modes);
                snapshot_us = Some(snapshot.synced_us);
            }
            Ok(None) => {}
            Err(error) => {
                let text = format!("failed to read {}: {error}", path.display());
                fault = Some(Cause::new(&text));
            }
        }
        let first = FleetView {
            board: Arc::new(board.clone()),
            belief: Belief::default(),
            untold: Arc::new(names(&untold)),
        };
        let (view, view_receiver) = watch::channel(first);
        let (published_health, health_receiver) = watch::channel(FleetHealth::default());
        let (leads, leads_receiver) = watch::channel(false);
        let now = Instant::now();
        let mut keeper = Self {
            place,
            refresh,
            lease,
            token: token(),
            asks,
            board,
            snapshot_us,
            seen: BTreeMap::new(),
            untold,
            link: None,
            opened_at: now,
            health: FleetHealth { snapshot_fault: fault, ..FleetHealth::default() },
            refresh_at: now,
            lease_at: now,
            leads_until: None,
            snapshot_at: now,
            writer: Writer::start(path),
            view,
            published_health,
            leads,
        };
        keeper.tell();
        let watches =
            Watches { view: view_receiver, health: health_receiver, leads: leads_receiver };
        (keeper, watches)
    }

    pub(super) async fn run(mut self) {
        let mut asks = Vec::with_capacity(CHANGES_MAX);
        loop {
            match self.next(&mut asks).await {
                Event::Asks => self.publish(asks.drain(..)).await,
                Event::Heard(Push::Message(text)) => self.hear(&text),
                Event::Heard(Push::Refused) => self.health.messages_refused += 1,
                Event::Heard(Push::Ended) => {
                    self.link = None;
                    // One that ends as soon as it is open is not opened again and again.
                    self.refresh_at = self.opened_at + RETRY_EVERY;
                }
                Event::Refresh => self.sync().await,
                Event::Lease => self.hold_lease().await,
                Event::LeaseEnds => self.leads_until = None,
                Event::SnapshotWritten(fault) => {
                    self.health.snapshot_fault = fault.as_deref().map(Cause::new);
                }
                Event::Closed => break,
            }
            self.tell();
        }
        self.end().await;
    }

    /// Waits for whatever comes first. Publications go before what Redis says.
    async fn next(&mut self, asks: &mut Vec<Ask>) -> Event {
        let heard = async {
            match &mut self.link {
                Some(link) => link.heard().await,
                None => pending().await,
            }
        };
        let lease_at = self.health.state.is_connected().then_some(self.lease_at);
        tokio::select! {
            biased;
            () = until(self.leads_until) => Event::LeaseEnds,
            count = self.asks.recv_many(asks, CHANGES_MAX) => {
                if count == 0 { Event::Closed } else { Event::Asks }
            }
            () = sleep_until(self.refresh_at) => Event::Refresh,
            () = until(lease_at) => Event::Lease,
            fault = self.writer.written() => Event::SnapshotWritten(fault),
            push = heard => Event::Heard(push),
        }
    }

    /// Puts entries on the board and tells the fleet.
    async fn publish(&mut self, asks: impl Iterator<Item = Ask>) {
        let mut taken = Vec::new();
        let mut superseded = Vec::new();
        for Ask { rule, entry, answer } in asks {
            match self.board.take(&rule, entry.clone()) {
                Ok(Taken::New | Taken::Same) => {
                    self.told_here(&rule, &entry);
                    taken.push((rule, entry, answer));
                }
                Ok(Taken::Superseded { by }) => {
                    self.told_here(&rule, &entry);
                    superseded.push((answer, by));
                }
                Err(error) => reply(answer, Err(error.into())),
            }
        }
        // Whoever reads the board sees them before Redis does, and before who asked has an answer.
        self.tell();
        for (answer, by) in superseded {
            reply(answer, Ok(Published::Superseded { by }));
        }
        if self.link.is_some() {
            if let Err(error) = self.push().await {
                self.failed(&error);
                if error.is_ended() {
                    self.sync().await;
                }
            }
        } else if self.health.state.is_connected() || self.refresh_at <= Instant::now() {
            self.sync().await;
        }
        for (rule, entry, answer) in taken {
            reply(answer, self.outcome(&rule, &entry));
        }
    }

    /// Notes an entry that was made here. There is one a rule, of the rules of the board.
    fn told_here(&mut self, rule: &str, entry: &ModeEntry) {
        let Self { untold, board, seen, .. } = self;
        untold.retain(|rule, _| board.get(rule).is_some());
        if seen.get(rule).and_then(|seen| seen.entry.as_ref()) == Some(entry) {
            untold.remove(rule);
        } else {
            untold.insert(rule.to_owned(), entry.clone());
        }
    }

    fn outcome(&self, rule: &str, entry: &ModeEntry) -> Result<Published, FleetError> {
        if let Some(by) = self.board.get(rule).filter(|by| by.supersedes(entry)) {
            return Ok(Published::Superseded { by: by.clone() });
        }
        let stored = self.seen.get(rule).and_then(|seen| seen.entry.as_ref());
        if stored == Some(entry) {
            return Ok(Published::Taken);
        }
        let reason = match &self.health.state {
            FleetState::Unreachable { reason } | FleetState::Unusable { reason } => reason.clone(),
            FleetState::Starting | FleetState::Connected => {
                Cause::new("others are writing the same rule")
            }
        };
        Err(FleetError::Held { reason })
    }

    /// Takes what another has published.
    fn hear(&mut self, text: &[u8]) {
        let mut parts = text.splitn(2, |byte| *byte == b'\n');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let raw = Raw::Text(value.to_vec());
        let rule = std::str::from_utf8(name).ok().filter(|rule| check_rule(rule).is_ok());
        match (rule, decode(&raw)) {
            (Some(rule), Some(entry)) => self.see(rule, raw, Some(entry)),
            _ => {
                tracing::debug!("a message on the channel of the modes is none");
                self.health.messages_refused += 1;
            }
        }
    }

    /// Makes this board and Redis's the same, as far as it can be done now.
    async fn sync(&mut self) {
        let was_open = self.link.is_some();
        let mut outcome = self.attempt().await;
        if let Err(error) = &outcome
            && was_open
            && error.is_ended()
        {
            // Redis was started again, or closed a connection that was idle: nothing is wrong yet.
            self.link = None;
            outcome = self.attempt().await;
        }
        match outcome {
            Ok(()) => {
                self.health.state = FleetState::Connected;
                self.refresh_at = Instant::now() + self.refresh;
            }
            Err(error) => self.failed(&error),
        }
    }

    async fn attempt(&mut self) -> Result<(), LinkError> {
        if self.link.is_none() {
            self.link = Some(Link::open(&self.place).await?);
            self.health.connections += 1;
            self.opened_at = Instant::now();
            self.lease_at = self.opened_at;
        }
        match self.pull().await {
            // Where nothing can be stored, those who listen are told all the same.
            Err(error) if error.leaves_messages() => self.push().await.and(Err(error)),
            Err(error) => Err(error),
            Ok(()) => self.push().await,
        }
    }

    /// Reads everything that Redis has.
    async fn pull(&mut self) -> Result<(), LinkError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let look = link.read(self.board.iter().map(|(rule, _)| rule)).await?;
        if look.fields.is_empty() && !self.seen.is_empty() {
            tracing::warn!("{} has lost the modes; they are written to it again", self.place.url);
        }
        self.seen.clear();
        self.health.invalid = look.passed;
        self.health.crowded = 0;
        for (name, raw) in look.fields {
            let rule = std::str::from_utf8(&name).ok().filter(|rule| check_rule(rule).is_ok());
            let Some(rule) = rule else {
                self.health.invalid += 1;
                continue;
            };
            let entry = decode(&raw);
            self.health.invalid += u64::from(entry.is_none());
            self.see(rule, raw, entry);
        }
        self.health.synced_us = Some(now_us());
        Ok(())
    }

    /// Writes what Redis lacks, or has as of earlier.
    async fn push(&mut self) -> Result<(), LinkError> {
        let mut outcome = Ok(());
        for _ in 0..ROUNDS_MAX {
            let ahead: Vec<_> = self.ahead().collect();
            if ahead.is_empty() || outcome.is_err() {
                break;
            }
            for changes in ahead.chunks(CHANGES_MAX) {
                let Some(link) = &mut self.link else { return Ok(()) };
                let answers = match link.write(changes).await {
                    Err(error) if error.leaves_messages() => {
                        outcome = Err(error);
                        continue;
                    }
                    answers => answers?,
                };
                for (change, answer) in changes.iter().zip(answers) {
                    let raw = match answer {
                        Answer::Written => Some(Raw::Text(change.value.clone().into_bytes())),
                        Answer::Other(raw) => raw,
                    };
                    match raw {
                        Some(raw) => {
                            let entry = decode(&raw);
                            self.see(&change.rule, raw, entry);
                        }
                        None => drop(self.seen.remove(&change.rule)),
                    }
                }
            }
        }
        outcome
    }

    /// What Redis is to be told.
    fn ahead(&self) -> impl Iterator<Item = Change> {
        self.board.iter().filter(|(rule, entry)| self.is_ahead(rule, entry)).map(|(rule, entry)| {
            Change {
                rule: rule.to_owned(),
                seen: self.seen.get(rule).map(|seen| seen.raw.clone()),
                value: encode(entry),
            }
        })
    }

    fn is_ahead(&self, rule: &str, entry: &ModeEntry) -> bool {
        let stored = self.seen.get(rule).and_then(|seen| seen.entry.as_ref());
        stored.is_none_or(|stored| entry.supersedes(stored))
    }

    /// Notes what Redis has for `rule`, and takes it where it is the later one.
    fn see(&mut self, rule: &str, raw: Raw, entry: Option<ModeEntry>) {
        if entry.is_some() && self.untold.get(rule) == entry.as_ref() {
            self.untold.remove(rule);
        }
        if let Some(entry) = &entry
            && self.board.take(rule, entry.clone()).is_err()
        {
            // Its name and its epoch are in order, so the board is full.
            self.health.crowded += 1;
            return;
        }
        // As many as there are on the board, and as many more that are no entries.
        if self.seen.len() < 2 * RULES_MAX || self.seen.contains_key(rule) {
            self.seen.insert(rule.to_owned(), Seen { raw, entry });
        }
    }

    async fn hold_lease(&mut self) {
        let asked = Instant::now();
        self.lease_at = asked + self.lease / 4;
        let Some(link) = &mut self.link else { return };
        match link.lease(&self.token, self.lease).await {
            Ok(holder) => {
                // In Redis it lasts longer, by a fifth and by the time that the command took to
                // get there: clocks do not run alike.
                self.leads_until = (holder == Holder::We).then(|| asked + self.lease * 4 / 5);
                self.health.lease_fault = None;
            }
            Err(error) if error.is_answer() => {
                self.leads_until = None;
                self.health.lease_fault = Some(Cause::new(&error.to_string()));
                if error.is_read_only() {
                    self.link = None;
                    self.sync().await;
                    self.lease_at = asked + self.lease / 4;
                }
            }
            Err(error) => {
                self.failed(&error);
                if error.is_ended() {
                    self.sync().await;
                }
            }
        }
    }

    fn failed(&mut self, error: &LinkError) {
        let reason = Cause::new(&error.to_string());
        tracing::debug!(%reason, "the modes are not shared");
        self.refresh_at = Instant::now() + self.refresh;
        if !error.leaves_messages() {
            self.link = None;
            self.refresh_at = Instant::now() + RETRY_EVERY.min(self.refresh);
        }
        self.health.state = if error.is_answer() {
            FleetState::Unusable { reason }
        } else {
            FleetState::Unreachable { reason }
        };
    }

    fn belief(&self) -> Belief {
        if self.health.state.is_connected() {
            return Belief::Fresh;
        }
        match (self.health.synced_us, self.snapshot_us, self.changed_us()) {
            (Some(since_us), ..) => Belief::LastKnown { since_us },
            (None, Some(since_us), _) => Belief::Snapshot { since_us },
            (None, None, Some(since_us)) => Belief::LastKnown { since_us },
            (None, None, None) => Belief::ConfigDefault,
        }
    }

    /// When the board last changed.
    fn changed_us(&self) -> Option<i64> {
        self.board.iter().map(|(_, entry)| entry.since_us).max()
    }

    /// Publishes what has changed, to this process and to the disk.
    fn tell(&mut self) {
        let now = Instant::now();
        self.leads_until = self.leads_until.filter(|until| *until > now);
        let belief = self.belief();
        self.health.belief = belief;
        self.health.leads = self.leads_until.is_some();
        self.health.held =
            self.board.iter().filter(|(rule, entry)| self.is_ahead(rule, entry)).count();

        let (mut board_changed, mut told) = (false, false);
        self.view.send_if_modified(|view| {
            board_changed = *view.board != self.board;
            told = !view.untold.iter().eq(self.untold.keys());
            let changed = board_changed || told || view.belief != belief;
            if board_changed {
                view.board = Arc::new(self.board.clone());
            }
            if told {
                view.untold = Arc::new(names(&self.untold));
            }
            view.belief = belief;
            changed
        });
        self.leads.send_if_modified(|leads| {
            let changed = *leads != self.health.leads;
            *leads = self.health.leads;
            changed
        });
        self.published_health.send_if_modified(|health| {
            self.health.log_changes(health, &self.place.url);
            let changed = *health != self.health;
            health.clone_from(&self.health);
            changed
        });
        if board_changed || told || (belief == Belief::Fresh && now >= self.snapshot_at) {
            self.snapshot_at = now + SNAPSHOT_EVERY;
            self.save();
        }
    }

    fn save(&self) {
        let known_us = self.health.synced_us.or(self.snapshot_us).or_else(|| self.changed_us());
        self.writer.give(Snapshot {
            fleet: self.place.prefix.clone(),
            synced_us: known_us.unwrap_or_else(now_us),
            modes: self.board.clone(),
            untold: self.untold.clone(),
        });
    }

    async fn end(mut self) {
        if self.link.is_some()
            && self.health.held > 0
            && let Err(error) = self.push().await
        {
            self.failed(&error);
        }
        if self.health.leads
            && let Some(link) = &mut self.link
        {
            let released = link.release(&self.token).await;
            if let Err(error) = released {
                tracing::debug!(%error, "the lease is not given back; it ends by itself");
            }
        }
        self.leads_until = None;
        self.tell();
        self.save();
        if let Some(fault) = self.writer.close().await {
            tracing::warn!("failed to write the snapshot of the modes: {fault}");
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

/// Whoever asked may have stopped waiting.
fn reply(
    answer: oneshot::Sender<Result<Published, FleetError>>,
    outcome: Result<Published, FleetError>,
) {
    drop(answer.send(outcome));
}

fn names(entries: &BTreeMap<String, ModeEntry>) -> BTreeSet<String> {
    entries.keys().cloned().collect()
}

fn encode(entry: &ModeEntry) -> String {
    serde_json::to_string(entry).expect("it has text and numbers alone")
}

fn decode(raw: &Raw) -> Option<ModeEntry> {
    match raw {
        Raw::Text(text) => serde_json::from_slice(text).ok(),
        Raw::Long => None,
    }
}

fn token() -> String {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("the system has random bytes");
    format!("{:032x}", u128::from_be_bytes(bytes))
}

fn now_us() -> i64 {
    // A clock before 1970 or after the year 294 000 is none.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
