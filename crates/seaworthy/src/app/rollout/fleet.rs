//! The engine's side of a fleet: what has changed here is published, and what has changed elsewhere
//! is taken up.
//!
//! 1. The mode of a rule's present version is shared, with the policy that it is of. A gateway with
//!    another config has no use for it.
//! 2. A demotion that comes from elsewhere holds the rule here as it does there: for a while after a
//!    fall, and until an operator releases it after an alert. The cause says which it is.
//! 3. Epochs are those of the board. A gateway counts its own changes besides, and the two are never
//!    compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use seaworthy_policy::evidence::Lane;
use seaworthy_policy::mode::{Mode, ModeSetting};
use seaworthy_policy::modes::{Cause, ModeBoard, ModeEntry};
use seaworthy_policy::rollout::{Event, PolicyHash, RuleState, Standing};
use seaworthy_store::fleet::{Fleet, FleetError, FleetView, Published};
use tokio::sync::watch;

use super::Engine;
use super::journal::Note;
use crate::app::book::{Changed, Standings};

/// What the cause of an alert's demotion begins with.
const EMERGENCY: &str = "emergency: ";

/// What the cause of a fall begins with: it holds the rule for a while, here as there.
const FELL: &str = "fell: ";

/// What the cause begins with where an operator has let go.
const RELEASED: &str = "released: ";

/// This gateway's part in a fleet; nothing where it is alone.
#[derive(Default)]
pub(crate) struct Shared {
    fleet: Option<Arc<Fleet>>,
    view: Option<watch::Receiver<FleetView>>,
    leads: Option<watch::Receiver<bool>>,
    /// What was taken up, and what was published.
    known: BTreeMap<String, ModeEntry>,
}

impl Shared {
    pub(crate) fn of(fleet: Option<Arc<Fleet>>) -> Self {
        let view = fleet.as_ref().map(|fleet| fleet.board());
        let leads = fleet.as_ref().map(|fleet| fleet.leads());
        Self { fleet, view, leads, known: BTreeMap::new() }
    }

    /// Whether this gateway promotes.
    pub(super) fn leads(&self) -> bool {
        self.leads.as_ref().is_none_or(|leads| *leads.borrow())
    }

    /// Ends when the fleet knows something new.
    pub(super) async fn changed(&mut self) {
        let is_news = match &mut self.view {
            Some(view) => view.changed().await.is_ok(),
            None => false,
        };
        if !is_news {
            std::future::pending().await
        }
    }

    /// Tells the fleet of a change that is in force here.
    pub(super) fn publish(&mut self, changed: &Changed) {
        let state = &changed.after.current;
        // A rule that is new here may be an old one elsewhere.
        let Some(before) = changed.before.as_ref().map(|before| &before.current) else { return };
        let is_held = |state: &RuleState| state.hold.as_ref().is_some_and(|hold| hold.emergency);
        let is_same = before.mode == state.mode
            && before.policy == state.policy
            && is_held(before) == is_held(state);
        if !is_same {
            self.tell(&changed.rule, state, is_held(before));
        }
    }

    /// Says again where a rule stands here.
    fn insist(&mut self, rule: &str, standing: &Standing) {
        self.tell(rule, &standing.current, false);
    }

    fn tell(&mut self, rule: &str, state: &RuleState, was_held: bool) {
        let (Some(fleet), Some(view)) = (&self.fleet, &self.view) else { return };
        let is_held = state.hold.as_ref().is_some_and(|hold| hold.emergency);
        let cause = match (was_held, is_held) {
            (_, true) => format!("{EMERGENCY}{}", state.why),
            (true, false) => format!("{RELEASED}{}", state.why),
            (false, false) if state.hold.as_ref().is_some_and(|hold| hold.after_fall) => {
                format!("{FELL}{}", state.why)
            }
            (false, false) => state.why.clone(),
        };
        let Some(epoch) = view.borrow().board.next_epoch(rule) else {
            tracing::error!(rule, "the fleet counts no further; its mode stays here");
            return;
        };
        let entry = entry(state, epoch, &cause);
        self.known.insert(rule.to_owned(), entry.clone());
        let (fleet, rule) = (Arc::clone(fleet), rule.to_owned());
        // It can wait for some timeouts. Whatever order these end in, epochs have one.
        tokio::spawn(async move {
            match fleet.publish(&rule, entry).await {
                Ok(Published::Taken) | Err(FleetError::Closed) => {}
                Ok(Published::Superseded { by }) => {
                    tracing::info!(rule, mode = %by.mode, "the fleet knows a later mode");
                }
                Err(error @ FleetError::Held { .. }) => tracing::debug!(rule, %error),
                Err(error) => tracing::error!(rule, %error, "the fleet is not told of a mode"),
            }
        });
    }

    /// What the fleet knows and this gateway has not taken up.
    fn news(&mut self) -> Vec<(String, ModeEntry)> {
        let Some(view) = &mut self.view else { return Vec::new() };
        let board = Arc::clone(&view.borrow_and_update().board);
        let mut news = Vec::new();
        for (rule, entry) in board.iter() {
            let is_known = self.known.get(rule).is_some_and(|known| !entry.supersedes(known));
            if !is_known {
                self.known.insert(rule.to_owned(), entry.clone());
                news.push((rule.to_owned(), entry.clone()));
            }
        }
        news
    }
}

/// The modes that this gateway knows by itself, to join a fleet with.
pub(crate) fn board(standings: &Standings) -> ModeBoard {
    let mut board = ModeBoard::default();
    for (rule, standing) in standings.iter() {
        let state = &standing.current;
        // Its config says the mode of a rule that nothing has moved.
        if state.mode == Mode::Warn && state.hold.is_none() {
            continue;
        }
        if let Err(error) = board.take(rule, entry(state, 1, &state.why)) {
            tracing::warn!(rule, %error, "its mode is not shared");
        }
    }
    board
}

fn entry(state: &RuleState, epoch: u64, cause: &str) -> ModeEntry {
    ModeEntry {
        mode: state.mode,
        epoch,
        policy_hash: state.policy.to_bytes(),
        version: state.version,
        since_us: state.since_unix_ms.saturating_mul(1000),
        cause: Cause::new(cause),
    }
}

impl Engine {
    /// Takes up what the rest of the fleet has done.
    pub(super) async fn adopt(&mut self) {
        for (rule, entry) in self.shared.news() {
            let policy = PolicyHash::new(entry.policy_hash);
            let standings = self.book.standings();
            let Some(standing) = standings.get(&rule) else { continue };
            let lane = match () {
                () if standing.current.policy == policy => Lane::Current,
                () if standing.next.as_ref().is_some_and(|next| next.policy == policy) => {
                    Lane::Next
                }
                () => {
                    tracing::debug!(rule, "the fleet's mode is of another policy");
                    continue;
                }
            };
            let Some(state) = standing.lane(lane) else { continue };
            let rules = self.book.rules();
            let setting = rules.iter().find(|known| known.name.to_string() == rule);
            let setting = setting.map(|known| known.setting);
            let Some(event) = event(state, &entry) else { continue };
            if let Event::Adopted { mode: Mode::Enforce(_), .. } = event {
                // What is held here, or pinned by this file, is not raised from elsewhere.
                if setting != Some(ModeSetting::Auto) {
                    continue;
                }
                let hold = state.held(self.book.now_unix_ms());
                if hold.is_some_and(|hold| !hold.after_fall) {
                    tracing::warn!(rule, "held here, and enforced in the fleet: it is told so");
                    self.shared.insist(&rule, standing);
                    continue;
                }
            }
            match self.book.change(&rule, lane, &event) {
                Ok(changed) => {
                    tracing::info!(rule, mode = %changed.mode(lane), "taken up from the fleet");
                    self.took_over(&changed);
                    self.journal.note(vec![Note::adopted(changed, lane)]);
                }
                Err(error) => tracing::debug!(rule, %error, "not taken up"),
            }
        }
        self.journal.write().await;
    }
}

/// What an entry of the fleet is to a rule in `state`; nothing where it is there already.
fn event(state: &RuleState, entry: &ModeEntry) -> Option<Event> {
    let cause = entry.cause.as_str();
    if let Some(alert) = cause.strip_prefix(EMERGENCY) {
        let is_there = state.hold.as_ref().is_some_and(|hold| hold.emergency);
        return (!is_there).then(|| Event::Alerted { alert: format!("in the fleet: {alert}") });
    }
    if let Some(reason) = cause.strip_prefix(RELEASED)
        && state.hold.is_some()
        && state.mode == entry.mode
    {
        return Some(Event::Released { reason: format!("in the fleet: {reason}") });
    }
    if state.mode == entry.mode {
        return None;
    }
    if let Some(why) = cause.strip_prefix(FELL) {
        return Some(Event::Fell { cause: format!("in the fleet: {why}") });
    }
    let why = format!("in the fleet: {cause}");
    Some(Event::Adopted { mode: entry.mode, why })
}
