//! The rollout of a rule: which step it stands on, and what moves it.
//!
//! 1. A rule with `mode = "auto"` starts in `warn` and climbs the configured steps one by one. It
//!    is promoted when every gate passes on evidence that was collected on the present step, nobody
//!    holds it, no freeze covers the time, and, where the config asks for it, somebody approved.
//! 2. It falls in one step to `warn`: when an alarm goes off, when an alert names it, or when an
//!    operator says so. A fall holds it for a while.
//! 3. An emergency (an alert) holds it until an operator clears it, and overrides a mode that the
//!    file pins.
//! 4. Each try to reach a step is an attempt: the first, and another after each fall, each change
//!    of its policy and each window that had to be begun anew. Attempt `k` has to be convinced by
//!    so much more, see the gates.
//! 5. Evidence counts from a little after a change: until every worker has the new mode and the
//!    records of the old one are counted.
//! 6. Epochs count the changes of a rule, whichever of its versions they are of; versions count the
//!    policies that it was ever judged by. Neither number is given twice.
//! 7. The clock may have been set back since a state was written. What lies further ahead than a
//!    change made now would put it is brought back, or the rule would wait for a time that was never
//!    meant.
//!
//! Everything here is pure: a state and an event make the next state, so that a receipt can be
//! checked by anyone who has it.

pub mod freeze;
pub mod receipt;
mod standing;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use self::freeze::Freeze;
pub use self::receipt::Receipt;
pub use self::standing::Standing;
use crate::mode::{Mode, ModeSetting, Share};
use crate::quantity::{Period, serde_as_text};

/// `[rollout]` of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// The shares of the clients that a rule climbs to, the last one all of them. Default: 10 %,
    /// 50 %, 100 %.
    pub steps: Vec<Share>,
    /// Who moves a rule up. Default: `auto`, the gates alone. With `manual` somebody has to
    /// approve each step that the gates would allow.
    pub approval: Approval,
    /// How long a rule that fell stays in `warn` whatever the gates say. Default: 6 hours.
    pub hold_after_fall: Period,
    /// How long after a change of mode evidence does not count. Default: 10 seconds, twice the
    /// time within which all of a fleet have the new mode.
    pub settle: Period,
    /// When nothing is promoted. Falls are not held up. Default: never.
    pub freeze: Vec<Freeze>,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        let share = |basis_points| Share::from_basis_points(basis_points).expect("at most 10000");
        Self {
            steps: vec![share(1000), share(5000), Share::ALL],
            approval: Approval::Auto,
            hold_after_fall: Period::secs(6 * 3600),
            settle: Period::secs(10),
            freeze: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    #[default]
    Auto,
    Manual,
}

/// A setting that is well-formed and still makes no sense. Fits after "`rollout.<key>`: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RolloutConfigError {
    /// Below `[rollout]`.
    pub key: &'static str,
    pub message: String,
}

/// Steps of a rollout, at most.
const STEPS_MAX: usize = 16;

/// Freezes, at most.
const FREEZES_MAX: usize = 64;

impl RolloutConfig {
    /// Every fault at once; none where the settings make sense.
    pub fn faults(&self) -> Vec<RolloutConfigError> {
        let mut faults = Vec::new();
        let mut fault = |key, message: String| faults.push(RolloutConfigError { key, message });
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            let count = self.steps.len();
            fault("steps", format!("expected 1 to {STEPS_MAX} steps, not {count}"));
        } else if self.steps[0].basis_points() == 0
            || !self.steps.is_sorted_by(|one, next| one < next)
            || self.steps.last() != Some(&Share::ALL)
        {
            let message = "expected growing shares above 0%, the last one \"100%\"";
            fault("steps", message.to_owned());
        }
        let within = |period: Period, least: u64, most: u64| {
            (least..=most).contains(&period.as_duration().as_secs())
        };
        if !within(self.hold_after_fall, 1, 90 * 24 * 3600) {
            fault("hold_after_fall", "expected \"1s\" to \"90d\"".to_owned());
        }
        if !within(self.settle, 1, 3600) {
            fault("settle", "expected \"1s\" to \"1h\"".to_owned());
        }
        if self.freeze.len() > FREEZES_MAX {
            fault("freeze", format!("expected at most {FREEZES_MAX} windows"));
        }
        for freeze in &self.freeze {
            if let Err(message) = freeze.check() {
                fault("freeze", message);
            }
        }
        faults
    }

    /// The step above `mode`; `None` where there is none.
    pub fn above(&self, mode: Mode) -> Option<Share> {
        let share = match mode {
            Mode::Off => return None,
            Mode::Warn => None,
            Mode::Enforce(share) => Some(share),
        };
        self.steps.iter().copied().find(|step| Some(*step) > share)
    }

    /// Until when nothing is promoted, and why, at `unix_s`.
    pub fn frozen(&self, unix_s: i64) -> Option<&Freeze> {
        self.freeze.iter().find(|freeze| freeze.covers(unix_s))
    }
}

/// Identifies the settings of a rule: SHA-256 over what it judges by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyHash([u8; 32]);

impl PolicyHash {
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Of several parts, each with its length before it.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Self(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Fits after "failed to read the policy hash: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits")]
pub struct PolicyHashError;

impl std::str::FromStr for PolicyHash {
    type Err = PolicyHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(PolicyHashError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| PolicyHashError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| PolicyHashError)?;
        }
        Ok(Self(bytes))
    }
}

serde_as_text!(PolicyHash);

/// Where one version of a rule stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleState {
    /// Counts the policies that the rule has had, from 1.
    pub version: u32,
    pub policy: PolicyHash,
    pub mode: Mode,
    /// Grows with each change of the rule, see [`Standing::epoch`]; the later change wins everywhere.
    pub epoch: u64,
    /// When the mode was last changed.
    pub since_unix_ms: i64,
    /// From when on evidence counts.
    pub window_unix_ms: i64,
    /// Why it stands where it stands.
    pub why: String,
    /// Tries to reach each step, by its basis points.
    pub attempts: BTreeMap<u16, u32>,
    pub hold: Option<Hold>,
    /// The step that somebody has approved.
    pub approved: Option<Share>,
}

/// Keeps a rule where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// `None`: until an operator clears it.
    pub until_unix_ms: Option<i64>,
    pub reason: String,
    /// An alert's: it overrides a mode that the file pins.
    pub emergency: bool,
    /// That of a fall, which whoever chooses a mode does not ask about.
    #[serde(default)]
    pub after_fall: bool,
}

impl Hold {
    pub const fn is_over(&self, now_unix_ms: i64) -> bool {
        matches!(self.until_unix_ms, Some(until) if until <= now_unix_ms)
    }
}

/// Characters of a reason that are kept.
pub const REASON_CHARS_MAX: usize = 500;

/// What happened to a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// Every gate passed.
    Promoted { to: Share },
    /// Evidence went bad: an alarm's sentence.
    Fell { cause: String },
    /// An alert named it.
    Alerted { alert: String },
    /// An operator chose a mode.
    Set { mode: Mode, reason: String },
    /// Another gateway of the fleet has moved it.
    Adopted { mode: Mode, why: String },
    /// An operator keeps it where it is.
    Held { until_unix_ms: Option<i64>, reason: String },
    /// An operator lets go of it, and of an emergency.
    Released { reason: String },
    /// An operator approved the next step.
    Approved { to: Share, reason: String },
    /// Its settings are others.
    PolicyChanged { policy: PolicyHash },
    /// Evidence was lost, or a waiver changed whose counts: what was seen does not count any more.
    WindowRestarted { reason: String },
}

impl Event {
    /// In the words of whoever made it happen; `None` where the gates did, or the config.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Promoted { .. } | Self::PolicyChanged { .. } => None,
            Self::Fell { cause: reason }
            | Self::Alerted { alert: reason }
            | Self::Set { reason, .. }
            | Self::Adopted { why: reason, .. }
            | Self::Held { reason, .. }
            | Self::Released { reason }
            | Self::Approved { reason, .. }
            | Self::WindowRestarted { reason } => Some(reason),
        }
    }
}

impl RuleState {
    /// A rule that nothing has happened to. Its mode is that of a rule whose mode evidence moves,
    /// whatever the file pins: who takes the pin out starts from the bottom.
    pub fn new(policy: PolicyHash, now_unix_ms: i64) -> Self {
        Self {
            version: 1,
            policy,
            mode: ModeSetting::Auto.initial(),
            epoch: 1,
            since_unix_ms: now_unix_ms,
            window_unix_ms: now_unix_ms,
            why: "new: it collects evidence".to_owned(),
            attempts: BTreeMap::new(),
            hold: None,
            approved: None,
        }
    }

    /// What is in force: an emergency overrides what the file pins.
    pub fn in_force(&self, setting: ModeSetting) -> Mode {
        match (setting, &self.hold) {
            (ModeSetting::Pinned(Mode::Enforce(_)), Some(hold)) if hold.emergency => Mode::Warn,
            (ModeSetting::Pinned(mode), _) => mode,
            (ModeSetting::Auto, _) => self.mode,
        }
    }

    /// Which try this is to reach `step`, from 1.
    pub fn attempt(&self, step: Share) -> u32 {
        self.attempts.get(&step.basis_points()).copied().unwrap_or(0).max(1)
    }

    /// Which try the next step of `config` is at, from 1; 1 where there is none.
    pub fn next_attempt(&self, config: &RolloutConfig) -> u32 {
        config.above(self.mode).map_or(1, |step| self.attempt(step))
    }

    /// The hold that keeps it where it is at `now`.
    pub fn held(&self, now_unix_ms: i64) -> Option<&Hold> {
        self.hold.as_ref().filter(|hold| !hold.is_over(now_unix_ms))
    }

    /// The state after `event`. It does not ask whether the event is allowed; [`propose`] does.
    #[must_use]
    pub fn after(&self, event: &Event, config: &RolloutConfig, now_unix_ms: i64) -> Self {
        let mut next = self.clone();
        match event {
            Event::Promoted { to } => {
                next.turn(Mode::Enforce(*to), config, now_unix_ms);
                next.why = format!("every gate passed for {to}");
                next.approved = None;
            }
            Event::Fell { cause } => {
                next.fall(config, now_unix_ms);
                next.why = clip(cause);
                let until = now_unix_ms.saturating_add(millis(config.hold_after_fall));
                // A fall does not shorten what an operator or an alert has said, nor they a fall.
                let is_longer = match next.held(now_unix_ms) {
                    Some(hold) => hold.until_unix_ms.is_some_and(|known| known < until),
                    None => true,
                };
                if is_longer {
                    next.hold = Some(Hold {
                        until_unix_ms: Some(until),
                        reason: clip(cause),
                        emergency: false,
                        after_fall: true,
                    });
                }
            }
            Event::Alerted { alert } => {
                next.fall(config, now_unix_ms);
                next.why = clip(alert);
                next.hold = Some(Hold {
                    until_unix_ms: None,
                    reason: clip(alert),
                    emergency: true,
                    after_fall: false,
                });
            }
            Event::Set { mode, reason } => {
                let is_first = next.attempts.is_empty();
                next.turn(*mode, config, now_unix_ms);
                if !is_first {
                    next.count_attempt(config);
                }
                next.why = clip(reason);
                next.hold = None;
                next.approved = None;
            }
            Event::Adopted { mode, why } => {
                next.hold = next.hold.filter(|hold| !hold.after_fall);
                next.turn(*mode, config, now_unix_ms);
                next.count_attempt(config);
                next.why = clip(why);
            }
            Event::Held { until_unix_ms, reason } => {
                let emergency = next.hold.as_ref().is_some_and(|hold| hold.emergency);
                // An emergency ends when it is released, and not by the clock.
                let until_unix_ms = until_unix_ms.filter(|_| !emergency);
                let reason = clip(reason);
                next.hold = Some(Hold { until_unix_ms, reason, emergency, after_fall: false });
            }
            Event::Released { reason } => {
                next.hold = None;
                next.why = clip(reason);
            }
            Event::Approved { to, .. } => next.approved = Some(*to),
            Event::PolicyChanged { policy } => {
                next.version = next.version.saturating_add(1);
                next.policy = *policy;
                next.count_attempt(config);
                next.begin_window(config, now_unix_ms);
                next.approved = None;
            }
            Event::WindowRestarted { .. } => {
                // Another window is another chance to be convinced, whatever the reason.
                next.count_attempt(config);
                // A change that is still settling goes on to settle.
                next.window_unix_ms = next.window_unix_ms.max(now_unix_ms);
            }
        }
        next.epoch = next.epoch.saturating_add(1);
        next
    }

    /// The state at `now`, where it was written by a clock that was ahead; `None` where it was not.
    /// An operator's hold stays: any time may have been meant.
    fn brought_back(&self, config: &RolloutConfig, now_unix_ms: i64) -> Option<Self> {
        let mut back = self.clone();
        back.since_unix_ms = self.since_unix_ms.min(now_unix_ms);
        let settled = now_unix_ms.saturating_add(millis(config.settle));
        if self.window_unix_ms > settled {
            back.window_unix_ms = settled;
            // It may have been looked at by that clock: another window is another chance.
            back.count_attempt(config);
        }
        let until = now_unix_ms.saturating_add(millis(config.hold_after_fall));
        if let Some(hold) = back.hold.as_mut().filter(|hold| hold.after_fall) {
            hold.until_unix_ms = hold.until_unix_ms.map(|known| known.min(until));
        }
        (back != *self).then(|| Self { epoch: self.epoch.saturating_add(1), ..back })
    }

    fn turn(&mut self, mode: Mode, config: &RolloutConfig, now_unix_ms: i64) {
        self.mode = mode;
        self.since_unix_ms = now_unix_ms;
        self.begin_window(config, now_unix_ms);
        if let Some(step) = config.above(mode) {
            self.attempts.entry(step.basis_points()).or_insert(1);
        }
    }

    /// Evidence counts once the change is in force everywhere.
    fn begin_window(&mut self, config: &RolloutConfig, now_unix_ms: i64) {
        self.window_unix_ms = now_unix_ms.saturating_add(millis(config.settle));
    }

    fn fall(&mut self, config: &RolloutConfig, now_unix_ms: i64) {
        if matches!(self.mode, Mode::Enforce(_)) {
            // Every step that it had reached, and the one it was to reach, has to be earned again.
            let reached = match self.mode {
                Mode::Enforce(share) => config.above(self.mode).unwrap_or(share),
                Mode::Off | Mode::Warn => return,
            };
            for step in config.steps.iter().filter(|step| **step <= reached) {
                *self.attempts.entry(step.basis_points()).or_insert(1) += 1;
            }
            self.turn(Mode::Warn, config, now_unix_ms);
        }
        self.approved = None;
    }

    /// Another try at every step that has been tried, and at the next.
    fn count_attempt(&mut self, config: &RolloutConfig) {
        if let Some(step) = config.above(self.mode) {
            self.attempts.entry(step.basis_points()).or_insert(1);
        }
        self.attempts.values_mut().for_each(|attempts| *attempts = attempts.saturating_add(1));
    }
}

/// What a rule should do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// Climb.
    Promote { to: Share },
    /// Fall, now.
    Fall { cause: String },
    /// Stay, for this reason.
    Stay(Stay),
}

/// Why a rule stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Stay {
    /// The file is the truth.
    Pinned,
    /// It is off.
    Off,
    /// It is enforced for everyone.
    Done,
    Held {
        until_unix_ms: Option<i64>,
        why: String,
    },
    /// The change is too young for its evidence to count.
    Settling {
        until_unix_ms: i64,
    },
    /// Not every gate passes.
    Gates {
        passed: usize,
        of: usize,
    },
    Frozen {
        window: String,
    },
    /// Every gate passes, and somebody has to say yes.
    Approval {
        to: Share,
    },
}

/// What the gates and the alarms say of a rule at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Weighed<'a> {
    /// Gates that pass, and how many there are; a rule without gates is not promoted.
    pub passed: usize,
    pub of: usize,
    /// The sentence of an alarm that went off.
    pub alarm: Option<&'a str>,
}

/// What a rule in `state` should do at `now`.
pub fn propose(
    config: &RolloutConfig,
    setting: ModeSetting,
    state: &RuleState,
    weighed: Weighed<'_>,
    now_unix_ms: i64,
) -> Proposal {
    if let ModeSetting::Pinned(_) = setting {
        return Proposal::Stay(Stay::Pinned);
    }
    if let (Some(cause), Mode::Enforce(_)) = (weighed.alarm, state.mode) {
        return Proposal::Fall { cause: clip(cause) };
    }
    let Some(to) = config.above(state.mode) else {
        let is_off = state.mode == Mode::Off;
        return Proposal::Stay(if is_off { Stay::Off } else { Stay::Done });
    };
    if let Some(hold) = state.held(now_unix_ms) {
        let (until_unix_ms, why) = (hold.until_unix_ms, hold.reason.clone());
        return Proposal::Stay(Stay::Held { until_unix_ms, why });
    }
    if now_unix_ms < state.window_unix_ms {
        return Proposal::Stay(Stay::Settling { until_unix_ms: state.window_unix_ms });
    }
    if weighed.of == 0 || weighed.passed < weighed.of {
        return Proposal::Stay(Stay::Gates { passed: weighed.passed, of: weighed.of });
    }
    if let Some(freeze) = config.frozen(now_unix_ms.div_euclid(1000)) {
        return Proposal::Stay(Stay::Frozen { window: freeze.to_string() });
    }
    if config.approval == Approval::Manual && state.approved != Some(to) {
        return Proposal::Stay(Stay::Approval { to });
    }
    Proposal::Promote { to }
}

fn millis(period: Period) -> i64 {
    i64::try_from(period.as_duration().as_millis()).unwrap_or(i64::MAX)
}

fn clip(text: &str) -> String {
    text.chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
