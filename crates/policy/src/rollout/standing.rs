//! Where a rule stands: its present version, and the one that is to take its place.
//!
//! 1. What is enforced outlasts an edit of its settings. The edited ones are judged beside it, from
//!    `warn` up, and take its place once they are enforced for as many, or once it falls.
//! 2. Epochs and numbers of versions are the rule's, whichever version they are given to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Event, PolicyHash, RolloutConfig, RuleState};
use crate::evidence::Lane;
use crate::mode::{Mode, ModeSetting};

/// Where a rule stands, with the version that is to take its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    pub current: RuleState,
    pub next: Option<RuleState>,
    /// What `current` judges by, to be built again after a restart.
    pub settings: serde_json::Value,
    /// What the file says of the rule's mode; `None` where nobody has asked it yet.
    #[serde(default)]
    pub setting: Option<ModeSetting>,
    /// Counts the changes of all of this, so that what is written late undoes nothing.
    #[serde(default)]
    pub revision: u64,
    /// The newest number of a version that was given, so that one which was taken back leaves its
    /// number to no other. Standings from before it was counted have 0.
    #[serde(default)]
    pub versions: u32,
}

impl Standing {
    pub fn new(policy: PolicyHash, settings: serde_json::Value, now_unix_ms: i64) -> Self {
        let current = RuleState::new(policy, now_unix_ms);
        let versions = current.version;
        Self { current, next: None, settings, setting: None, revision: 0, versions }
    }

    /// The epoch of the newest change, whichever version it was of.
    pub fn epoch(&self) -> u64 {
        self.next.as_ref().map_or(0, |next| next.epoch).max(self.current.epoch)
    }

    /// A version as the next change finds it: with the epoch of the rule, so that the epochs of all
    /// changes of the rule have one order.
    pub fn before(&self, lane: Lane) -> Option<RuleState> {
        let epoch = self.epoch();
        self.lane(lane).map(|state| RuleState { epoch, ..state.clone() })
    }

    /// The same rule with the numbers of a change of one of its versions, where that change is
    /// written down and not made yet: whatever happens to the rule meanwhile has later ones.
    #[must_use]
    pub fn reserved(&self, lane: Lane) -> Self {
        let mut standing = self.clone();
        let epoch = self.epoch().saturating_add(1);
        match (lane, &mut standing.next) {
            (Lane::Next, Some(next)) => next.epoch = epoch,
            (Lane::Next, None) | (Lane::Current, _) => standing.current.epoch = epoch,
        }
        standing.revision = self.revision.saturating_add(1);
        standing
    }

    /// The newest number of a version that was given.
    fn newest_version(&self) -> u32 {
        let next = self.next.as_ref().map_or(0, |next| next.version);
        self.versions.max(self.current.version).max(next)
    }

    /// Whether `current` stays in force beside the settings of `policy`.
    pub fn outlasts(&self, policy: PolicyHash) -> bool {
        self.current.policy != policy && matches!(self.current.mode, Mode::Enforce(_))
    }

    /// The version that judges by `policy`.
    pub fn of(&self, policy: PolicyHash) -> Option<&RuleState> {
        [Some(&self.current), self.next.as_ref()]
            .into_iter()
            .flatten()
            .find(|state| state.policy == policy)
    }

    pub fn lane(&self, lane: Lane) -> Option<&RuleState> {
        match lane {
            Lane::Current => Some(&self.current),
            Lane::Next => self.next.as_ref(),
        }
    }

    /// The same rule, after `event` on one of its versions. A next version that is enforced for as
    /// many as the present one takes its place. `None` where there is no such version.
    #[must_use]
    pub fn after(
        &self,
        lane: Lane,
        event: &Event,
        config: &RolloutConfig,
        now_unix_ms: i64,
    ) -> Option<Self> {
        let state = self.before(lane)?.after(event, config, now_unix_ms);
        let mut standing = self.clone();
        match lane {
            Lane::Current => {
                standing.current = state;
                let is_enforced = matches!(standing.current.mode, Mode::Enforce(_));
                // What had kept the next version waiting is gone.
                if let Some(mut next) = standing.next.take_if(|_| !is_enforced) {
                    let epoch = standing.current.epoch.max(next.epoch);
                    let hold = standing.current.hold.clone().or(next.hold.clone());
                    // In this lane its window holds what the other version said until now.
                    next.count_attempt(config);
                    next.begin_window(config, now_unix_ms);
                    standing.current = RuleState { epoch, hold, ..next };
                }
            }
            Lane::Next => {
                let share = |mode| match mode {
                    Mode::Enforce(share) => Some(share),
                    Mode::Off | Mode::Warn => None,
                };
                if share(state.mode) >= share(self.current.mode) && share(state.mode).is_some() {
                    let epoch = self.current.epoch.max(state.epoch);
                    standing.current = RuleState { epoch, ..state };
                    standing.next = None;
                } else {
                    standing.next = Some(state);
                }
            }
        }
        Some(standing)
    }

    /// Tries to reach each step: one that was made is spent, whatever became of its version.
    fn tries(&self) -> BTreeMap<u16, u32> {
        let mut tries = self.current.attempts.clone();
        for (step, count) in self.next.iter().flat_map(|next| &next.attempts) {
            let spent = tries.entry(*step).or_insert(*count);
            *spent = (*spent).max(*count);
        }
        tries
    }

    /// The same rule, where the config has `policy` with `settings` now. `kept` says that what
    /// outlasts it is there to go on.
    #[must_use]
    pub fn with_policy(
        &self,
        policy: PolicyHash,
        settings: &serde_json::Value,
        kept: bool,
        config: &RolloutConfig,
        now_unix_ms: i64,
    ) -> Self {
        let mut standing = self.clone();
        let changed = Event::PolicyChanged { policy };
        if self.current.policy == policy {
            standing.versions = self.newest_version();
            standing.next = None;
            standing.current.attempts = self.tries();
            standing.settings.clone_from(settings);
        } else if self.outlasts(policy) && kept {
            if self.next.as_ref().is_none_or(|next| next.policy != policy) {
                // It starts from the bottom, and each step is another attempt.
                let mut next = RuleState::new(policy, now_unix_ms);
                next.version = self.newest_version();
                next.attempts = self.tries();
                // Who keeps the rule where it is keeps every version of it there.
                let versions = [self.next.as_ref(), Some(&self.current)].into_iter().flatten();
                next.hold = versions.filter_map(|one| one.held(now_unix_ms)).next().cloned();
                // Later than whatever was decided of the version that it replaces.
                next.epoch = self.epoch();
                let next = next.after(&changed, config, now_unix_ms);
                standing.versions = next.version;
                standing.next = Some(next);
            }
        } else {
            standing.next = None;
            standing.current.attempts = self.tries();
            // It has its number already where it was judged beside the present one.
            let beside = self.next.as_ref().filter(|next| next.policy == policy);
            let number =
                beside.map_or(self.newest_version(), |next| next.version.saturating_sub(1));
            standing.current.version = number;
            standing.current.epoch = self.epoch();
            standing.settings.clone_from(settings);
            if self.outlasts(policy) {
                let reason = "its settings are others, and those that had earned it are gone";
                let warn = Event::Set { mode: Mode::Warn, reason: reason.to_owned() };
                standing.current = standing.current.after(&warn, config, now_unix_ms);
                standing.current.hold.clone_from(&self.current.hold);
            }
            standing.current = standing.current.after(&changed, config, now_unix_ms);
            standing.versions = self.newest_version().max(standing.current.version);
        }
        standing
    }

    /// The same rule at `now`, where it was written by a clock that was ahead; `None` where it was
    /// not.
    #[must_use]
    pub fn brought_back(&self, config: &RolloutConfig, now_unix_ms: i64) -> Option<Self> {
        let current = self.current.brought_back(config, now_unix_ms);
        let next = self.next.as_ref().and_then(|next| next.brought_back(config, now_unix_ms));
        if current.is_none() && next.is_none() {
            return None;
        }
        let mut standing = self.clone();
        standing.current = current.unwrap_or(standing.current);
        standing.next = next.or(standing.next);
        Some(standing)
    }

    /// The same rule, where the file says `setting` of its mode now. What was judged while another
    /// mode was in force is no evidence: what a rule that was pinned to `enforce` has denied never
    /// reached the service, and looks as harmless as can be.
    #[must_use]
    pub fn with_setting(
        &self,
        setting: ModeSetting,
        config: &RolloutConfig,
        now_unix_ms: i64,
    ) -> Self {
        let mut standing = Self { setting: Some(setting), ..self.clone() };
        let Some(before) = self.setting.filter(|before| before.initial() != setting.initial())
        else {
            return standing;
        };
        let epoch = self.epoch().saturating_add(1);
        for state in [Some(&mut standing.current), standing.next.as_mut()].into_iter().flatten() {
            // What is enforced leaves its step when it is pinned, and begins a window by that.
            if matches!(state.mode, Mode::Enforce(_)) {
                continue;
            }
            // A rule that was pinned has tried nothing since.
            if before == ModeSetting::Auto {
                state.count_attempt(config);
            }
            state.begin_window(config, now_unix_ms);
            state.epoch = epoch;
        }
        standing
    }
}
