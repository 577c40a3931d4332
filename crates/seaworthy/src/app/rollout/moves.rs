//! What moves a rule beside its alarms: its gates let it climb, an alert takes it down, and a window
//! that has lost something begins anew.
//!
//! 1. A promotion is written down before it is in force, and is in force only if nothing has happened
//!    to the rule in between.
//! 2. A window with a loss is no evidence. It begins anew once nothing has been lost for a while.

use seaworthy_policy::evidence::Lane;
use seaworthy_policy::gates::alarm::Alarm;
use seaworthy_policy::gates::{self, Reading, Verdict};
use seaworthy_policy::mode::ModeSetting;
use seaworthy_policy::rollout::receipt::RECEIPT_VERSION;
use seaworthy_policy::rollout::{Event, Proposal, Receipt, Weighed, propose};

use super::journal::Note;
use super::track::Track;
use super::{Engine, Happening, LANES, state_of};
use crate::app::book::{Changed, NotChanged, Reserved};

/// Whole ticks after the last loss until a window begins anew.
const TICKS_AFTER_LOSS: u64 = 30;

impl Engine {
    /// What is written of an alert's effect.
    pub(super) fn alerted(&mut self, happening: Happening) -> Note {
        let Happening { changed, lane, event, actor, delivery } = happening;
        self.book.heard(&changed.rule);
        self.made(&changed);
        let key = (changed.rule.clone(), lane);
        let (inputs, readings) = self.read(&key).unzip();
        let receipt = self.receipt(&key, &changed, event, &actor, inputs, readings, None);
        Note::alerted(changed, lane, receipt, &actor, delivery)
    }

    /// What follows a change that was made here: the fleet hears of it.
    pub(super) fn made(&mut self, changed: &Changed) {
        self.shared.publish(changed);
        self.took_over(changed);
    }

    /// Has the config compiled anew where a next version has taken the present one's place.
    pub(super) fn took_over(&self, changed: &Changed) {
        if changed.took_over() && self.taken_over.try_send(()).is_err() {
            tracing::debug!("the config is compiled anew already");
        }
    }

    /// Promotes every rule that its gates let climb.
    pub(super) async fn promote(&mut self) {
        if !self.journal.leads() || !self.shared.leads() {
            return;
        }
        let now_unix_ms = self.book.now_unix_ms();
        let standings = self.book.standings();
        for rule in self.book.rules() {
            if rule.setting != ModeSetting::Auto {
                continue;
            }
            let name = rule.name.to_string();
            let Some(standing) = standings.get(&name) else { continue };
            for lane in LANES {
                let Some(state) = state_of(&rule, standing, lane) else { continue };
                // What is to be replaced climbs no further.
                if lane == Lane::Current && standing.next.is_some() {
                    continue;
                }
                let key = (name.clone(), lane);
                let Some((inputs, readings)) = self.read(&key) else { continue };
                let weighed = weigh(&readings);
                let proposal = propose(&self.rollout, rule.setting, state, weighed, now_unix_ms);
                let Proposal::Promote { to } = proposal else { continue };
                let event = Event::Promoted { to };
                let is_of = (key, state.epoch);
                self.climb(is_of, event, (inputs, readings), now_unix_ms).await;
            }
        }
    }

    /// Writes a promotion down, then puts it in force, if nothing has happened in between.
    async fn climb(
        &mut self,
        (key, epoch): ((String, Lane), u64),
        event: Event,
        (inputs, readings): (gates::Inputs, Vec<Reading>),
        now_unix_ms: i64,
    ) {
        let (rule, lane) = (&key.0, key.1);
        let reserved = match self.book.reserve(rule, lane, event.clone(), epoch, now_unix_ms) {
            Ok(reserved) => reserved,
            Err(error) => return tracing::debug!(rule, %error, "not promoted"),
        };
        let changed = reserved.changed.clone();
        let (inputs, readings) = (Some(inputs), Some(readings));
        let receipt = self.receipt(&key, &changed, event, "gateway", inputs, readings, None);
        let note = Note::promoted(changed, receipt, "gateway", self.tracks.get(&key));
        if let Err(error) = self.journal.commit(note).await {
            self.book.release(&reserved);
            return tracing::error!(rule, %error, "a promotion waits for the ledger");
        }
        match self.make(&reserved) {
            Ok(changed) => {
                tracing::info!(rule, mode = %changed.mode(lane), "every gate passed");
            }
            // A demotion came first. It is written after this, and has the later epoch.
            Err(error) => tracing::warn!(rule, %error, "a promotion was overtaken"),
        }
    }

    /// Puts in force what was reserved and is written down.
    pub(super) fn make(&mut self, reserved: &Reserved) -> Result<Changed, NotChanged> {
        let changed = self.book.make(reserved)?;
        self.made(&changed);
        // A reload came in between, and what it has written down of the rule is of before this.
        if changed.after.revision != reserved.changed.after.revision {
            self.journal.note(vec![Note::state(changed.clone())]);
        }
        Ok(changed)
    }

    /// Begins windows anew that have lost something, once nothing more is lost.
    pub(super) fn heal(&mut self) {
        let Some(newest) = self.newest else { return };
        let is_over =
            |track: &Track| track.lost().is_some_and(|lost| newest.since(lost) >= TICKS_AFTER_LOSS);
        let healed = self.tracks.iter().filter(|(_, track)| is_over(track));
        let healed: Vec<_> = healed.map(|(key, _)| key.clone()).collect();
        for (rule, lane) in healed {
            self.restart_window(&rule, lane, "records were lost in the window before");
        }
    }

    /// Has what the rules were like before their steps written down, for the process after this.
    pub(super) fn keep_befores(&mut self) {
        if !self.journal.leads() {
            return;
        }
        for ((rule, lane), track) in &self.tracks {
            if track.before != self.journal.before(rule, track.of.policy) {
                self.journal.note(vec![Note::before(rule, *lane, &track.before)]);
            }
        }
    }

    pub(super) fn restart_windows(&mut self, reason: &str) {
        for rule in self.book.rules() {
            for lane in LANES {
                self.restart_window(&rule.name.to_string(), lane, reason);
            }
        }
    }

    pub(super) fn restart_window(&mut self, rule: &str, lane: Lane, reason: &str) {
        let event = Event::WindowRestarted { reason: reason.to_owned() };
        match self.book.change(rule, lane, &event) {
            Ok(changed) => self.journal.note(vec![Note::state(changed)]),
            Err(NotChanged::Overtaken | NotChanged::NoSuchRule(_)) => {}
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a receipt is of all of this")]
    pub(super) fn receipt(
        &self,
        key: &(String, Lane),
        changed: &Changed,
        event: Event,
        actor: &str,
        inputs: Option<gates::Inputs>,
        readings: Option<Vec<Reading>>,
        alarm: Option<Alarm>,
    ) -> Option<Receipt> {
        let before = changed.before.as_ref()?.before(key.1)?;
        let after = before.after(&event, &self.rollout, changed.now_unix_ms);
        let rules = self.book.rules();
        let rule = rules.iter().find(|rule| rule.name.to_string() == key.0)?;
        let receipt = Receipt {
            v: RECEIPT_VERSION,
            program: format!("seaworthy {}", env!("CARGO_PKG_VERSION")),
            rule: key.0.clone(),
            lane: key.1,
            actor: actor.to_owned(),
            at_unix_ms: changed.now_unix_ms,
            event,
            before,
            after,
            setting: rule.setting,
            rollout: self.rollout.clone(),
            gates: self.gates.clone(),
            readings: readings.unwrap_or_default(),
            inputs,
            alarm,
            alpha_spent: None,
            clients_digest: None,
            digest: String::new(),
        };
        Some(receipt.seal())
    }
}

/// What the gates say, in numbers.
pub(super) fn weigh(readings: &[Reading]) -> Weighed<'_> {
    let passed = readings.iter().filter(|reading| reading.verdict == Verdict::Pass).count();
    Weighed { passed, of: readings.len(), alarm: None }
}
