//! Soak: has the last while been uneventful, and is what we see fresh?
//!
//! 1. It is freshness, not proof: a number of consecutive green minutes since the last change.
//! 2. A minute is green when it is complete and nothing spoke against the change in it. A minute
//!    without traffic is green: that there is enough traffic is for the other gates to say.
//! 3. A red minute, an incomplete one, and one of which nothing is known begin the count anew.
//! 4. It is stale when the newest complete minute is older than `stale_after_minutes`: then nothing
//!    says that the service is still well.

use serde::{Deserialize, Serialize};

use super::minute::Minute;
use super::{Gate, Look, Numbers, Reading, Verdict, wording};

/// `[gates.soak]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Consecutive green minutes since the last change. Default: 30.
    pub green_minutes: u32,
    /// How old the newest complete minute may be. Default: 5.
    pub stale_after_minutes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { green_minutes: 30, stale_after_minutes: 5 }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Consecutive green minutes up to the newest complete one.
    pub green_minutes: u32,
    pub newest_complete: Option<Minute>,
    /// The last minute that began the count anew, and why.
    pub last_break: Option<Break>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Break {
    pub minute: Minute,
    pub cause: BreakCause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakCause {
    Red,
    Incomplete,
}

impl Input {
    /// Takes up a minute. `missing_minutes` are those right before it of which nothing is known.
    pub(super) fn observe(
        &mut self,
        minute: Minute,
        is_red: bool,
        dropped: u64,
        missing_minutes: u64,
    ) {
        if missing_minutes > 0 {
            self.green_minutes = 0;
            let before = Minute(minute.0 - 1);
            self.last_break = Some(Break { minute: before, cause: BreakCause::Incomplete });
        }
        if is_red || dropped > 0 {
            let cause = if is_red { BreakCause::Red } else { BreakCause::Incomplete };
            self.green_minutes = 0;
            self.last_break = Some(Break { minute, cause });
        } else {
            self.green_minutes = self.green_minutes.saturating_add(1);
        }
        if dropped == 0 {
            self.newest_complete = Some(minute);
        }
    }
}

pub(super) fn judge(config: &Config, look: &Look<'_>, input: &Input) -> Reading {
    let needed = config.green_minutes;
    let age = input.newest_complete.map(|newest| look.now.since(newest));
    let verdict = match age {
        None => Verdict::NoData,
        Some(age) if age > u64::from(config.stale_after_minutes) => Verdict::Stale,
        Some(_) if input.green_minutes >= needed => Verdict::Pass,
        Some(_) => Verdict::Inconclusive,
    };
    let tick = wording::tick(look.tick);
    let green = wording::counted(input.green_minutes.into(), &format!("green {tick}"));
    let since = match input.last_break {
        None => "since the last change".to_owned(),
        Some(Break { minute, cause: BreakCause::Red }) => {
            format!("since the red one at {}", wording::time(minute, look.tick))
        }
        Some(Break { minute, cause: BreakCause::Incomplete }) => {
            format!("since the incomplete one at {}", wording::time(minute, look.tick))
        }
    };
    let sentence = match verdict {
        Verdict::NoData => format!("no {tick} is complete yet"),
        Verdict::Stale => format!(
            "the newest complete {tick} is {} old, {} allowed",
            wording::counted(age.unwrap_or(0), tick),
            config.stale_after_minutes
        ),
        _ => format!("{green} {since}, {needed} needed"),
    };
    let left = needed.saturating_sub(input.green_minutes);
    let waits_for = match verdict {
        Verdict::Pass => None,
        Verdict::Stale => Some("evidence to arrive again".to_owned()),
        _ => Some(wording::counted(left.into(), &format!("more green {tick}"))),
    };
    let numbers = Numbers::of([
        ("green_minutes", input.green_minutes.into()),
        ("green_minutes_needed", needed.into()),
        ("newest_complete_age_minutes", age.unwrap_or(0) as f64),
        ("stale_after_minutes", config.stale_after_minutes.into()),
    ]);
    Reading { gate: Gate::Soak, verdict, sentence, waits_for, numbers }
}
