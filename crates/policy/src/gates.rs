//! Gates: the conditions on evidence that a rule must meet before it may take its next step.
//!
//! 1. A gate is a function of its settings and its input. The input is stored in the receipt of a
//!    move, and from it the same verdict comes out again, bit for bit, without any database.
//! 2. Gates are read every minute and acted on the first time that all of them pass. So each is
//!    valid at any look: it is an e-process, of which the chance to ever reach `1/α` is at most
//!    `α` where its hypothesis ("this rule harms too many") holds.
//! 3. Attempt k at a step spends `6α/(π²k²)`; over all attempts that is `α`.
//! 4. A promotion needs every gate at once, so that nothing is spent on there being several of
//!    them: a harmful rule must get past the very gate that it fails.
//! 5. What a gate decides by is its value now, not the largest it has had: the value now can be
//!    recomputed from the counts alone, and harm that comes late takes back a pass. The value now
//!    is never above the largest, so that the bound holds all the more.
//! 6. No gate passes on a window with drops or gaps. A failure stands: what was seen was there.
//! 7. Only [`Verdict::Pass`] advances; each other verdict says in a sentence what is missing.
//!
//! `docs/gates.md` has every formula and default.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::mode::Share;

pub mod alarm;
pub mod assignment;
pub mod calibration;
pub mod clients;
pub mod completeness;
pub mod config;
pub mod coverage;
pub mod errors;
mod exceedance;
mod forecast;
pub mod harm_rate;
pub mod latency;
pub mod minute;
mod percentage;
pub mod soak;
pub mod window;
mod wording;

pub use config::GatesConfig;
pub use percentage::{Percentage, PercentageError};

use minute::{Minute, TickLength};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    HarmRate,
    Clients,
    Coverage,
    Latency,
    Errors,
    Assignment,
    Soak,
    Calibration,
}

impl Gate {
    pub const fn word(self) -> &'static str {
        match self {
            Self::HarmRate => "harm_rate",
            Self::Clients => "clients",
            Self::Coverage => "coverage",
            Self::Latency => "latency",
            Self::Errors => "errors",
            Self::Assignment => "assignment",
            Self::Soak => "soak",
            Self::Calibration => "calibration",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Shown; the only verdict that advances.
    Pass,
    /// The opposite is shown.
    Fail,
    /// Neither is shown yet, or what was seen is not whole.
    Inconclusive,
    /// There is nothing to judge.
    NoData,
    /// What there is to judge is too old.
    Stale,
}

impl Verdict {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::NoData => "no_data",
            Self::Stale => "stale",
        }
    }
}

/// What one gate says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    pub gate: Gate,
    pub verdict: Verdict,
    /// One plain sentence, without a full stop.
    pub sentence: String,
    /// What it takes to pass, where that can be said: "412 more requests, about 38 minutes at
    /// this traffic".
    pub waits_for: Option<String>,
    pub numbers: Numbers,
}

/// The numbers behind a reading by name, each finite. In the order of the names, which is the
/// order of canonical JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Numbers(BTreeMap<Cow<'static, str>, f64>);

impl Numbers {
    fn of<const N: usize>(numbers: [(&'static str, f64); N]) -> Self {
        // JSON has no infinity: what is beyond all numbers is written as the last of them.
        let finite = |value: f64| value.clamp(f64::MIN, f64::MAX);
        Self(numbers.map(|(name, value)| (Cow::Borrowed(name), finite(value))).into())
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }
}

/// Everything that the gates of one rule need. It is stored in a receipt as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// How long a minute is: 60,000 ms, but for a demonstration.
    pub tick_ms: TickLength,
    /// The minute of this look.
    pub now: Minute,
    /// The first minute that counts: samples until the change was in force everywhere do not.
    pub first: Minute,
    /// The newest minute that was taken up.
    pub newest: Option<Minute>,
    /// The step that the rule is on, in basis points of the clients; 0 is `warn`.
    #[serde(with = "basis_points")]
    pub step: Share,
    /// Which attempt at the next step this is, from 1.
    pub attempt: u32,
    pub pace: Pace,
    pub completeness: completeness::Input,
    pub harm_rate: harm_rate::Input,
    pub clients: clients::Input,
    pub coverage: coverage::Input,
    pub latency: latency::Input,
    pub errors: errors::Input,
    pub assignment: assignment::Input,
    pub soak: soak::Input,
    pub calibration: calibration::Input,
}

mod basis_points {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::Share;

    pub(super) fn serialize<S: Serializer>(share: &Share, to: S) -> Result<S::Ok, S::Error> {
        share.basis_points().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Share, D::Error> {
        Share::from_basis_points(u16::deserialize(from)?)
            .ok_or_else(|| de::Error::custom("expected at most 10000 basis points"))
    }
}

/// How much comes in a minute, for saying how long a wait will be. No verdict depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// Complete minutes that it is the mean of; from 60 on, older ones count ever less.
    pub minutes: u32,
    pub requests_per_minute: f64,
    /// (client, minute) units.
    pub units_per_minute: f64,
    pub checks_per_minute: f64,
    /// Requests of the share that reached the service.
    pub enforced_per_minute: f64,
}

impl Pace {
    fn observe(&mut self, requests: u64, units: u64, checks: u64, enforced: u64) {
        self.minutes = (self.minutes + 1).min(60);
        let weight = 1.0 / f64::from(self.minutes);
        for (mean, count) in [
            (&mut self.requests_per_minute, requests),
            (&mut self.units_per_minute, units),
            (&mut self.checks_per_minute, checks),
            (&mut self.enforced_per_minute, enforced),
        ] {
            *mean += weight * (count as f64 - *mean);
        }
    }
}

/// What a gate sees besides its own settings and input.
#[derive(Clone, Copy, Debug)]
struct Look<'a> {
    now: Minute,
    tick: TickLength,
    step: Share,
    /// What this attempt may spend.
    level: f64,
    pace: &'a Pace,
}

impl Look<'_> {
    fn ln_threshold(&self) -> f64 {
        -libm::log(self.level)
    }
}

/// What attempt `attempt` (from 1) may spend of `alpha`: `6α/(π²k²)`.
pub fn level(alpha: f64, attempt: u32) -> f64 {
    let attempt = f64::from(attempt.max(1));
    6.0 * alpha / (PI * PI * attempt * attempt)
}

/// The readings of all gates that apply, in the order of [`Gate`].
///
/// In `warn` nothing is enforced, so that errors, assignment and calibration have nothing to
/// compare and are left out. They are also left out, but for the assignment, at a step whose share
/// by lot holds none of the clients that were seen: there is nobody to be harmed by it, and a
/// service with three clients could never leave it otherwise.
pub fn judge(config: &GatesConfig, inputs: &Inputs) -> Vec<Reading> {
    let look = Look {
        now: inputs.now,
        tick: inputs.tick_ms,
        step: inputs.step,
        level: level(config.alpha.share(), inputs.attempt),
        pace: &inputs.pace,
    };
    let is_enforced = inputs.step.basis_points() > 0;
    let is_empty = inputs.assignment.is_empty();
    let mut readings = Vec::with_capacity(8);
    readings.push(harm_rate::judge(&config.harm_rate, &look, &inputs.harm_rate));
    readings.push(clients::judge(&config.clients, &look, &inputs.clients));
    readings.push(coverage::judge(&config.coverage, &inputs.coverage));
    readings.push(latency::judge(&config.latency, &look, &inputs.latency));
    if is_enforced && !is_empty {
        readings.push(errors::judge(&config.errors, &look, &inputs.errors));
    }
    if is_enforced {
        readings.push(assignment::judge(&look, &inputs.assignment));
    }
    readings.push(soak::judge(&config.soak, &look, &inputs.soak));
    if is_enforced && !is_empty {
        readings.push(calibration::judge(&config.calibration, &look, &inputs.calibration));
    }
    for reading in &mut readings {
        inputs.completeness.temper(reading, inputs.tick_ms);
    }
    readings
}

/// Whether every reading passes: the condition of a promotion. Nothing to read is no pass.
pub fn all_pass(readings: &[Reading]) -> bool {
    !readings.is_empty() && readings.iter().all(|reading| reading.verdict == Verdict::Pass)
}

#[cfg(test)]
mod tests;
