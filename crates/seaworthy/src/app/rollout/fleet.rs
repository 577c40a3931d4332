//! The engine's side of a fleet: what has changed here is published, and what has changed elsewhere
//! is taken up.
//!
//! 1. The mode of each of a rule's versions is shared, with the policy that it is of: that of the
//!    present one under the rule's name, that of the next one beside it. A gateway whose config says
//!    something else has no use for it until it says the same.
//! 2. What comes from elsewhere holds the rule here as it does there: for a while after a fall, until
//!    an operator releases it after an alert, and for as long as an operator says. The cause says
//!    which it is. What is held here and raised elsewhere has been released there, also where this
//!    gateway was away and has not heard of it; but of a hold that the fleet has never had it is told.
//! 3. Where a version has fallen elsewhere and its next one has taken its place, it falls here as
//!    well. An alert is about the rule: it demotes whatever version a gateway has.
//! 4. A version that a reload has brought here may be an old one elsewhere: what the fleet knows of it
//!    is taken up, and not the other way round. That a config has other settings is no news: whatever
//!    the fleet knows of those that others still have stays.
//! 5. Epochs are those of the board. A gateway counts its own changes besides, and the two are never
//!    compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use seaworthy_policy::evidence::Lane;
use seaworthy_policy::mode::{Mode, ModeSetting};
use seaworthy_policy::modes::{Cause, ModeBoard, ModeEntry, name_of, named};
use seaworthy_policy::rollout::{Event, Hold, PolicyHash, RuleState, Standing};
use seaworthy_store::fleet::{Fleet, FleetError, FleetView, Published};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Engine;
use super::journal::Note;
use super::track::LANES;
use crate::app::book::{Changed, Standings};

/// What the cause of an alert's demotion begins with.
const EMERGENCY: &str = "emergency: ";

/// What the cause of a fall begins with: it holds the rule for a while, here as there.
const FELL: &str = "fell: ";

/// What the words of what was done elsewhere begin with.
const OF_FLEET: &str = "in the fleet: ";

/// What the cause begins with where an operator has let go.
const RELEASED: &str = "released: ";

/// What the cause of an operator's hold begins with; behind it, the Unix milliseconds of its end, or
/// "released" where it has none, and a colon.
const HELD: &str = "held until ";

/// This gateway's part in a fleet; nothing where it is alone.
#[derive(Default)]
pub(crate) struct Shared {
    fleet: Option<Arc<Fleet>>,
    view: Option<watch::Receiver<FleetView>>,
    leads: Option<watch::Receiver<bool>>,
    /// What was taken up, and what was published.
    known: BTreeMap<String, ModeEntry>,
    /// The newest publication of each name, which the view says nothing of until it has ended.
    telling: BTreeMap<String, JoinHandle<()>>,
}

impl Shared {
    pub(crate) fn of(fleet: Option<Arc<Fleet>>) -> Self {
        let view = fleet.as_ref().map(|fleet| fleet.board());
        let leads = fleet.as_ref().map(|fleet| fleet.leads());
        Self { fleet, view, leads, known: BTreeMap::new(), telling: BTreeMap::new() }
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
        // A rule that is new here may be an old one elsewhere.
        let Some(before) = &changed.before else { return };
        let now_unix_ms = changed.now_unix_ms;
        for lane in LANES {
            let (Some(was), Some(is)) = (before.lane(lane), changed.after.lane(lane)) else {
                continue;
            };
            let is_same_policy = was.policy == is.policy;
            let was_held = was.held(now_unix_ms);
            let is_same = is_same_policy && place(was, was_held) == place(is, is.held(now_unix_ms));
            let is_new_here = !is_same_policy && !changed.took_over();
            let is_known = is_new_here && self.knows(&changed.rule, lane, is.policy);
            // The config says as much, and others may have the settings of before.
            let is_mere_edit = is_new_here
                && was.mode == is.mode
                && is.mode == Mode::Warn
                && was_held.is_none()
                && is.held(now_unix_ms).is_none();
            if !is_same && !is_known && !is_mere_edit {
                self.tell(&changed.rule, lane, is, was_held.is_some(), now_unix_ms);
            }
        }
    }

    /// Whether the fleet has a mode of this very policy.
    fn knows(&self, rule: &str, lane: Lane, policy: PolicyHash) -> bool {
        let Some(view) = &self.view else { return false };
        let board = &view.borrow().board;
        board.get(&name_of(rule, lane)).is_some_and(|entry| entry.policy_hash == policy.to_bytes())
    }

    /// Whether the fleet has never had what was said last of a version here.
    fn is_untold(&self, name: &str) -> bool {
        let is_waiting = self.telling.get(name).is_some_and(|telling| !telling.is_finished());
        let is_untold = |view: &watch::Receiver<FleetView>| view.borrow().untold.contains(name);
        is_waiting || self.view.as_ref().is_some_and(is_untold)
    }

    /// Says where a version of a rule stands here.
    fn tell(
        &mut self,
        rule: &str,
        lane: Lane,
        state: &RuleState,
        was_held: bool,
        now_unix_ms: i64,
    ) {
        let (Some(fleet), Some(view)) = (&self.fleet, &self.view) else { return };
        let rule = name_of(rule, lane);
        let cause = cause(state, state.held(now_unix_ms), was_held);
        let Some(epoch) = view.borrow().board.next_epoch(&rule) else {
            tracing::error!(rule, "the fleet counts no further; its mode stays here");
            return;
        };
        let entry = entry(state, epoch, &cause);
        self.known.insert(rule.clone(), entry.clone());
        let fleet = Arc::clone(fleet);
        let name = rule.clone();
        // It can wait for some timeouts. Whatever order these end in, epochs have one.
        let telling = tokio::spawn(async move {
            match fleet.publish(&rule, entry).await {
                Ok(Published::Taken) | Err(FleetError::Closed) => {}
                Ok(Published::Superseded { by }) => {
                    tracing::info!(rule, mode = %by.mode, "the fleet knows a later mode");
                }
                Err(error @ FleetError::Held { .. }) => tracing::debug!(rule, %error),
                Err(error) => tracing::error!(rule, %error, "the fleet is not told of a mode"),
            }
        });
        self.telling.insert(name, telling);
    }

    /// What the fleet knows and this gateway has not taken up, by the names of the board.
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

    /// Has an entry be news again, for when the config says something else.
    fn put_off(&mut self, name: &str) {
        self.known.remove(name);
    }
}

/// The modes that this gateway knows by itself, to join a fleet with.
pub(crate) fn board(standings: &Standings, now_unix_ms: i64) -> ModeBoard {
    let mut board = ModeBoard::default();
    for (rule, standing) in standings.iter() {
        for lane in LANES {
            let Some(state) = standing.lane(lane) else { continue };
            let held = state.held(now_unix_ms);
            // Its config says the mode of a rule that nothing has moved.
            if state.mode == Mode::Warn && held.is_none() {
                continue;
            }
            let entry = entry(state, 1, &cause(state, held, false));
            if let Err(error) = board.take(&name_of(rule, lane), entry) {
                tracing::warn!(rule, %error, "its mode is not shared");
            }
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
        for (name, entry) in self.shared.news() {
            let (rule, told) = named(&name);
            let standings = self.book.standings();
            let Some(standing) = standings.get(rule) else {
                self.shared.put_off(&name);
                continue;
            };
            let policy = PolicyHash::new(entry.policy_hash);
            let is_of = |lane| standing.lane(lane).is_some_and(|state| state.policy == policy);
            match (told, is_of(Lane::Current), is_of(Lane::Next)) {
                (Lane::Current, true, _) => {
                    self.take_up(rule, Lane::Current, told, standing, &entry);
                }
                (_, _, true) => {
                    self.take_up(rule, Lane::Next, told, standing, &entry);
                    // There it has taken the place of what is the present version here.
                    if told == Lane::Current && is_demotion(&entry) {
                        self.step_aside(rule, policy, &entry);
                    }
                }
                // It has taken the present one's place here.
                (Lane::Next, true, false) => {}
                (Lane::Current, false, false) if is_alert(&entry) => {
                    self.take_up(rule, Lane::Current, told, standing, &entry);
                }
                (_, _, false) => {
                    tracing::debug!(rule, "the fleet's mode is of another policy");
                    self.shared.put_off(&name);
                }
            }
        }
        self.journal.write().await;
    }

    /// Takes up an entry of the fleet that is `told` of one version of `rule`, for one that is here.
    fn take_up(
        &mut self,
        rule: &str,
        lane: Lane,
        told: Lane,
        standing: &Standing,
        entry: &ModeEntry,
    ) {
        let Some(state) = standing.lane(lane) else { return };
        let is_unheard = self.is_unheard(rule, state);
        let events = self.events(rule, state, entry);
        let raises = |event: &Event| matches!(event, Event::Adopted { mode: Mode::Enforce(_), .. });
        if events.iter().any(raises) {
            // What is pinned by this file is not raised from elsewhere.
            let rules = self.book.rules();
            let known = rules.iter().find(|known| known.name.to_string() == rule);
            if known.map(|known| known.setting) != Some(ModeSetting::Auto) {
                self.shared.put_off(&name_of(rule, told));
                return;
            }
            if is_unheard {
                tracing::warn!(rule, "held here, and enforced in the fleet: it is told so");
                if let Some(state) = standing.lane(told) {
                    self.shared.tell(rule, told, state, false, self.book.now_unix_ms());
                }
                return;
            }
        }
        for event in events {
            self.put_in_force(rule, lane, &event);
        }
    }

    /// Takes the present version of `rule` back, where the one of `policy` is beside it still.
    fn step_aside(&mut self, rule: &str, policy: PolicyHash, entry: &ModeEntry) {
        let standings = self.book.standings();
        let Some(standing) = standings.get(rule) else { return };
        if standing.next.as_ref().is_none_or(|next| next.policy != policy) {
            return;
        }
        let fallen = ModeEntry { mode: Mode::Warn, ..entry.clone() };
        for event in self.events(rule, &standing.current, &fallen) {
            self.put_in_force(rule, Lane::Current, &event);
        }
    }

    /// What an entry of the fleet is to a version in `state`. Nobody can have let go of a hold that
    /// the fleet has never had.
    fn events(&self, rule: &str, state: &RuleState, entry: &ModeEntry) -> Vec<Event> {
        let mut events = events(state, entry, self.book.now_unix_ms());
        if self.is_unheard(rule, state) {
            events.retain(|event| !matches!(event, Event::Released { .. }));
        }
        events
    }

    /// Whether a version is held by what was done here and the fleet has never had. A fall is none:
    /// whoever chooses a mode does not ask about it.
    fn is_unheard(&self, rule: &str, state: &RuleState) -> bool {
        let is_ours = |hold: &Hold| !hold.after_fall && !hold.reason.starts_with(OF_FLEET);
        // A hold is of all versions, also of one that has inherited it.
        let is_untold = || LANES.iter().any(|lane| self.shared.is_untold(&name_of(rule, *lane)));
        state.held(self.book.now_unix_ms()).is_some_and(is_ours) && is_untold()
    }

    fn put_in_force(&mut self, rule: &str, lane: Lane, event: &Event) {
        match self.book.change(rule, lane, event) {
            Ok(changed) => {
                tracing::info!(rule, mode = %changed.mode(lane), "taken up from the fleet");
                self.took_over(&changed);
                let track = self.tracks.get(&(rule.to_owned(), lane));
                self.journal.note(vec![Note::adopted(changed, lane, track)]);
            }
            Err(error) => tracing::debug!(rule, %error, "not taken up"),
        }
    }
}

/// Whether an entry says that an alert has demoted its rule.
fn is_alert(entry: &ModeEntry) -> bool {
    entry.cause.as_str().starts_with(EMERGENCY)
}

/// Whether an entry denies nobody, or nobody by the version that it was about before.
fn is_demotion(entry: &ModeEntry) -> bool {
    !matches!(entry.mode, Mode::Enforce(_)) || entry.cause.as_str().starts_with(FELL)
}

/// The words of an entry: why, and what it does to those who take it up.
fn cause(state: &RuleState, held: Option<&Hold>, was_held: bool) -> String {
    let why = &state.why;
    match held {
        Some(Hold { emergency: true, .. }) => format!("{EMERGENCY}{why}"),
        Some(Hold { after_fall: true, .. }) => format!("{FELL}{why}"),
        Some(Hold { until_unix_ms: Some(until), reason, .. }) => format!("{HELD}{until}: {reason}"),
        Some(Hold { until_unix_ms: None, reason, .. }) => format!("{HELD}released: {reason}"),
        None if was_held => format!("{RELEASED}{why}"),
        None => why.clone(),
    }
}

/// What all of a fleet have to agree about: the mode, and what holds it, a fall for a while that
/// each of them counts by itself.
fn place(state: &RuleState, held: Option<&Hold>) -> (Mode, Option<(bool, bool, Option<i64>)>) {
    let held = held.map(|hold| {
        let until_unix_ms = hold.until_unix_ms.filter(|_| !hold.after_fall);
        (hold.emergency, hold.after_fall, until_unix_ms)
    });
    (state.mode, held)
}

/// What an entry of the fleet is to a rule in `state`, in its order; nothing where it is there
/// already.
fn events(state: &RuleState, entry: &ModeEntry, now_unix_ms: i64) -> Vec<Event> {
    let cause = entry.cause.as_str();
    let of_fleet = |words: &str| format!("{OF_FLEET}{words}");
    let held = state.held(now_unix_ms);
    if let Some(alert) = cause.strip_prefix(EMERGENCY) {
        let is_there = state.hold.as_ref().is_some_and(|hold| hold.emergency);
        let alerted = Event::Alerted { alert: of_fleet(alert) };
        return if is_there { Vec::new() } else { vec![alerted] };
    }
    let mut events = Vec::new();
    // An entry that says nothing of a hold is of a rule that is held no more, however that came. A
    // fall lets go of nothing.
    let keeps = cause.starts_with(HELD) || cause.starts_with(FELL);
    let is_over = !keeps && held.is_some_and(|hold| !hold.after_fall);
    let released = cause.strip_prefix(RELEASED).filter(|_| state.hold.is_some());
    if let Some(reason) = released.or(is_over.then_some(cause)) {
        events.push(Event::Released { reason: of_fleet(reason) });
    }
    let is_enforced = matches!(entry.mode, Mode::Enforce(_));
    let is_there = state.mode == entry.mode;
    // What is held until somebody releases it has no use for the hold of a fall.
    let has_fallen =
        is_there && held.is_some_and(|hold| hold.after_fall || hold.until_unix_ms.is_none());
    match cause.strip_prefix(FELL) {
        // One that is enforced has taken the place of what fell.
        Some(why) if !is_enforced && !has_fallen => {
            events.push(Event::Fell { cause: of_fleet(why) });
        }
        _ if !is_there => {
            events.push(Event::Adopted { mode: entry.mode, why: of_fleet(cause) });
        }
        _ => {}
    }
    if let Some((until, reason)) = cause.strip_prefix(HELD).and_then(|rest| rest.split_once(": ")) {
        let until_unix_ms = until.parse().ok();
        let is_past = until_unix_ms.is_some_and(|until: i64| until <= now_unix_ms);
        let is_there = held.is_some_and(|hold| {
            hold.emergency || !hold.after_fall && hold.until_unix_ms == until_unix_ms
        });
        if !is_there && !is_past {
            events.push(Event::Held { until_unix_ms, reason: of_fleet(reason) });
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use seaworthy_policy::mode::Share;
    use seaworthy_policy::rollout::RolloutConfig;

    use super::*;

    const NOW: i64 = 1_793_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn after(state: &RuleState, event: &Event) -> RuleState {
        state.after(event, &RolloutConfig::default(), NOW)
    }

    /// Where somebody stands who hears that `event` has made `here` of `before`.
    fn heard(before: &RuleState, here: &RuleState, there: &RuleState, now: i64) -> RuleState {
        let cause = cause(here, here.held(now), before.held(now).is_some());
        let told = entry(here, 1, &cause);
        let after =
            |state: RuleState, event: &Event| state.after(event, &RolloutConfig::default(), now);
        let taken_up = events(there, &told, now).iter().fold(there.clone(), after);
        assert_eq!(events(&taken_up, &told, now), [], "it is there: {cause}");
        taken_up
    }

    #[test]
    fn whoever_hears_of_a_change_stands_where_it_was_made() {
        let text = |text: &str| text.to_owned();
        let set = |mode| Event::Set { mode, reason: text("ada: a test") };
        let held = |until_unix_ms| Event::Held { until_unix_ms, reason: text("ada: the sale: on") };
        let moves = [
            Event::Fell { cause: text("denials rose") },
            Event::Alerted { alert: text("ErrorsHigh fires") },
            set(Mode::Off),
            set(Mode::Warn),
            set(Mode::Enforce(Share::ALL)),
            held(None),
            held(Some(NOW + HOUR)),
            held(Some(NOW + 1000 * HOUR)),
            Event::Released { reason: text("ada: it is over") },
        ];
        let first = RuleState::new(PolicyHash::new([1; 32]), NOW - HOUR);
        let mut states = vec![first.clone()];
        for one in &moves {
            states.push(after(&first, one));
            states.extend(moves.iter().map(|other| after(&after(&first, one), other)));
        }
        for before in &states {
            for event in &moves {
                let here = after(before, event);
                let place = |state: &RuleState| place(state, state.held(NOW));
                if place(&here) == place(before) {
                    continue;
                }
                let taken_up = heard(before, &here, before, NOW);
                assert_eq!(place(&taken_up), place(&here), "{event:?} of {before:?}");
            }
        }
    }

    /// What a fall has held is a hold no more once its time is over, here and there.
    #[test]
    fn a_rule_that_has_fallen_climbs_and_falls_again_everywhere() {
        let later = NOW + 1000 * HOUR;
        let promoted = Event::Promoted { to: Share::from_basis_points(1000).unwrap() };
        let fell = Event::Fell { cause: "denials rose".to_owned() };
        let first = RuleState::new(PolicyHash::new([1; 32]), NOW - HOUR);
        let fallen = after(&first, &fell);
        assert!(fallen.held(NOW).is_some() && fallen.held(later).is_none());
        for (event, mode, is_held) in [(&promoted, "enforce 10%", false), (&fell, "warn", true)] {
            let here = fallen.after(event, &RolloutConfig::default(), later);
            let there = heard(&fallen, &here, &fallen, later);
            assert_eq!(there.mode.to_string(), mode, "{there:?}");
            assert_eq!(there.held(later).is_some(), is_held, "{there:?}");
        }
        let standing = |current| {
            let settings = serde_json::Value::Null;
            let new = Standing::new(first.policy, settings, NOW);
            Standings::new([("csrf".to_owned(), Standing { current, ..new })])
        };
        assert!(board(&standing(fallen.clone()), later).is_empty(), "nothing moves it any more");
        let climbed = fallen.after(&promoted, &RolloutConfig::default(), later);
        let known = board(&standing(climbed), later);
        let entry = known.get("csrf").unwrap();
        assert!(!entry.cause.as_str().starts_with(FELL), "{entry:?}");
    }

    #[test]
    fn a_hold_that_is_over_takes_the_place_of_none() {
        let reason = "ada: the sale".to_owned();
        let hold = Event::Held { until_unix_ms: Some(NOW + HOUR), reason };
        let first = RuleState::new(PolicyHash::new([1; 32]), NOW - HOUR);
        let held = after(&first, &hold);
        let told = entry(&held, 1, &cause(&held, held.held(NOW), false));
        let fallen = after(&first, &Event::Fell { cause: "denials rose".to_owned() });
        for (there, now, count) in
            [(&first, NOW, 1), (&first, NOW + HOUR, 0), (&fallen, NOW, 1), (&fallen, NOW + HOUR, 0)]
        {
            assert_eq!(events(there, &told, now).len(), count, "{there:?} at {now}");
        }
    }

    /// One that was away hears of the newest change alone.
    #[test]
    fn whoever_missed_a_release_lets_go_with_what_came_after() {
        let text = |text: &str| text.to_owned();
        let holds = [
            Event::Alerted { alert: text("ErrorsHigh fires") },
            Event::Held { until_unix_ms: None, reason: text("ada: the sale") },
        ];
        let modes = [Mode::Enforce(Share::ALL), Mode::Warn, Mode::Off];
        let first = RuleState::new(PolicyHash::new([1; 32]), NOW - HOUR);
        for hold in &holds {
            let held = after(&first, hold);
            let free = after(&held, &Event::Released { reason: text("ada: it is over") });
            for mode in modes {
                let moved = after(&free, &Event::Set { mode, reason: text("ada: a test") });
                let there = heard(&free, &moved, &held, NOW);
                assert_eq!((there.mode, there.held(NOW)), (mode, None), "{hold:?}");
            }
            let fallen = after(&free, &Event::Fell { cause: text("denials rose") });
            let there = heard(&free, &fallen, &held, NOW);
            assert_eq!(there.hold, held.hold, "a fall lets go of nothing");
        }
    }
}
