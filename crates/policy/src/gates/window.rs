//! The evidence of one attempt, taken up minute by minute.
//!
//! 1. A window begins with an attempt and holds what the gates need of it, not the minutes: taking
//!    up a minute costs what that minute holds, and a look costs the same after a week as after an
//!    hour.
//! 2. Minutes come in order, each once, and only whole ones. One that is missing is counted as a
//!    gap when a later one comes, and is never made up.
//! 3. Waived clients count in no gate.
//! 4. The harm of clients in the share cannot be seen, since their denials never reach the
//!    service: harm rate and clients judge those outside of it.

use super::clients::{InputError, Waiver};
use super::minute::{CLIENTS_MAX, Minute, RuleMinute, Standing, TickLength};
use super::{
    Inputs, Pace, assignment, calibration, clients, completeness, coverage, errors, harm_rate,
    latency, soak,
};
use crate::mode::Share;
use crate::statistics::Proportion;

#[derive(Clone, Debug)]
pub struct Window {
    inputs: Inputs,
    seen: assignment::Seen,
}

/// What a window begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// How long a minute is.
    pub tick: TickLength,
    /// The first minute that counts: once the change is in force everywhere.
    pub first: Minute,
    /// The step that the rule is on; 0 is `warn`.
    pub step: Share,
    /// Which attempt at the next step this is, from 1.
    pub attempt: u32,
    pub waivers: Vec<Waiver>,
    /// What `warn` predicted: see [`calibration::Input::predicted`].
    pub predicted: Proportion,
    /// See [`errors::Input::control_before`].
    pub control_before: Proportion,
}

/// Fits after "failed to take up the minute: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MinuteError {
    #[error("minute {} was taken up already: the newest is {}", .minute.0, .newest.0)]
    NotNewer { minute: Minute, newest: Minute },
    #[error("minute {} is before the window, which begins with {}", .minute.0, .first.0)]
    BeforeWindow { minute: Minute, first: Minute },
    #[error("expected at most {CLIENTS_MAX} clients in a minute, not {0}")]
    TooManyClients(usize),
}

impl Window {
    /// Fails on more than [`clients::WAIVERS_MAX`] waivers.
    pub fn begin(start: Start) -> Result<Self, InputError> {
        let inputs = Inputs {
            tick_ms: start.tick,
            now: start.first,
            first: start.first,
            newest: None,
            step: start.step,
            attempt: start.attempt,
            pace: Pace::default(),
            completeness: completeness::Input::default(),
            harm_rate: harm_rate::Input::default(),
            clients: clients::Input::new(start.waivers)?,
            coverage: coverage::Input::default(),
            latency: latency::Input::default(),
            errors: errors::Input {
                control_before: start.control_before,
                ..errors::Input::default()
            },
            assignment: assignment::Input::default(),
            soak: soak::Input::default(),
            calibration: calibration::Input {
                predicted: start.predicted,
                ..calibration::Input::default()
            },
        };
        Ok(Self { inputs, seen: assignment::Seen::default() })
    }

    /// Takes up a minute; on an error nothing of it is.
    pub fn observe(&mut self, minute: &RuleMinute<'_>) -> Result<(), MinuteError> {
        let inputs = &mut self.inputs;
        let at = minute.minute;
        if at < inputs.first {
            return Err(MinuteError::BeforeWindow { minute: at, first: inputs.first });
        }
        if let Some(newest) = inputs.newest.filter(|newest| at <= *newest) {
            return Err(MinuteError::NotNewer { minute: at, newest });
        }
        if minute.clients.len() > CLIENTS_MAX {
            return Err(MinuteError::TooManyClients(minute.clients.len()));
        }
        let missing = match inputs.newest {
            Some(newest) => at.since(newest) - 1,
            None => at.since(inputs.first),
        };
        inputs.newest = Some(at);
        inputs.completeness.observe(at, minute.dropped, missing);
        inputs.soak.observe(at, minute.is_red, minute.dropped, missing);

        let counted =
            minute.clients.iter().filter(|part| !inputs.clients.is_waived(&part.client, at));
        let shadow: Vec<_> = counted
            .filter(|part| part.standing != Standing::Enforced)
            .map(|part| (part.client, part.judged))
            .collect();
        let judged = shadow.iter().fold(minute.other, |sum, (_, judged)| sum.and(*judged));
        inputs.harm_rate.judged = inputs.harm_rate.judged.and(judged);
        let units = inputs.clients.observe(shadow.into_iter(), minute.other);
        inputs.latency.checks = inputs.latency.checks.and(minute.checks);
        inputs.errors.enforced = inputs.errors.enforced.and(minute.enforced_5xx);
        inputs.errors.control = inputs.errors.control.and(minute.control_5xx);
        inputs.calibration.denied = inputs.calibration.denied.and(minute.denied);
        for part in minute.clients {
            if part.standing != Standing::Unidentified && part.judged.total() > 0 {
                let is_enforced = part.standing == Standing::Enforced;
                self.seen.observe(&mut inputs.assignment, &part.client, is_enforced);
            }
        }
        inputs.pace.observe(
            judged.total(),
            units,
            minute.checks.total(),
            minute.enforced_5xx.total(),
        );
        Ok(())
    }

    /// The newest minute in which records were lost, or before which minutes were missing.
    pub const fn lost(&self) -> Option<Minute> {
        self.inputs.completeness.last
    }

    /// Judges as the attempt `attempt` from now on: each spends a part of α.
    pub const fn attempt(&mut self, attempt: u32) {
        self.inputs.attempt = attempt;
    }

    /// What the gates are told at `now`, with the coverage that its owner knows.
    pub fn inputs(&mut self, now: Minute, coverage: coverage::Input) -> &Inputs {
        self.inputs.now = now;
        self.inputs.coverage = coverage;
        &self.inputs
    }
}

#[cfg(test)]
mod tests;
