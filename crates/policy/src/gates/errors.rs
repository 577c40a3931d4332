//! Errors: does the service fail no more often for those against whom the rule is enforced?
//!
//! 1. The two sides are requests that reached the service: of clients in the share, and of
//!    identified clients outside of it, the control, in the same minutes. A hit is a 5xx.
//! 2. It passes when the e-value against "the share of 5xx is at least `margin` higher among the
//!    enforced" is `1/α` or more, and fails when that against "at most `margin` higher" is.
//! 3. At 100 % there is no control. Then the enforced are compared with the control of the step
//!    before, and the sentence says so; where there was none, there is no data.

use serde::{Deserialize, Serialize};

use super::{Gate, Look, Numbers, Percentage, Reading, Verdict, forecast, wording};
use crate::mode::Share;
use crate::statistics::Proportion;
use crate::statistics::difference::{Hypothesis, Line, ln_different, ln_equal};

/// `[gates.errors]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How much higher the share of 5xx may be among the enforced. Default: 0.1%.
    pub margin: Percentage,
}

impl Default for Config {
    fn default() -> Self {
        Self { margin: Percentage::thousandths(1) }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Requests of the share that reached the service; hits were answered with 5xx.
    pub enforced: Proportion,
    /// The same of identified clients outside of the share.
    pub control: Proportion,
    /// The control of the last step that had one; what 100 % is compared with.
    pub control_before: Proportion,
}

pub(super) fn judge(config: &Config, look: &Look<'_>, input: &Input) -> Reading {
    let is_all = look.step == Share::ALL;
    let (control, against) = if is_all {
        (input.control_before, "the control of the step before")
    } else {
        (input.control, "the control")
    };
    let margin = config.margin.share();
    let line = Line { slope: 1.0, margin };
    let worse = Hypothesis::AtLeast(line);
    let ln_not_worse = ln_equal(worse, margin, input.enforced, control);
    let ln_worse = ln_different(Hypothesis::AtMost(line), input.enforced, control);
    let threshold = look.ln_threshold();
    let verdict = match () {
        () if input.enforced.total() == 0 || control.total() == 0 => Verdict::NoData,
        () if ln_not_worse >= threshold => Verdict::Pass,
        () if ln_worse >= threshold => Verdict::Fail,
        () => Verdict::Inconclusive,
    };
    let side = |counts: Proportion| {
        let (hits, total) = (wording::count(counts.hits()), wording::count(counts.total()));
        format!("{} ({hits} of {total})", wording::percent(counts.share()))
    };
    let sides = format!("5xx {} enforced, {} in {against}", side(input.enforced), side(control));
    let by = wording::percent(margin);
    let standing =
        format!("E = {} of {} needed", wording::e_value(ln_not_worse), wording::e_value(threshold));
    let sentence = match verdict {
        Verdict::NoData if input.enforced.total() == 0 => {
            "no request of the share has reached the service yet".to_owned()
        }
        Verdict::NoData if is_all => {
            "at 100 % there is no control, and no step before it had one".to_owned()
        }
        Verdict::NoData => {
            "no identified client is outside of the share to compare with".to_owned()
        }
        Verdict::Pass => format!("enforcing does not add {by} of errors: {sides} ({standing})"),
        Verdict::Fail => format!("enforcing adds more than {by} of errors: {sides}"),
        _ => format!("whether enforcing adds {by} of errors is open: {sides} ({standing})"),
    };
    let how_many_more = || {
        let more = forecast::more_needed(input.enforced.total(), threshold, |factor| {
            let enforced = forecast::grown(input.enforced, factor)?;
            let control = if is_all { control } else { forecast::grown(control, factor)? };
            Some(ln_equal(worse, margin, enforced, control))
        });
        let wait = wording::Wait {
            more,
            unit: "enforced request",
            per_minute: look.pace.enforced_per_minute,
            now: look.now,
            tick: look.tick,
            ways_out: "raise the margin, or pin",
        };
        wait.text()
    };
    let waits_for = match verdict {
        Verdict::Pass => None,
        Verdict::Fail => Some("a look at what fails, and a new attempt".to_owned()),
        Verdict::NoData if input.enforced.total() == 0 => {
            Some("the first request of the share that reaches the service".to_owned())
        }
        Verdict::NoData if is_all => Some(
            "a control: a step below 100 %, where there are clients outside of the share"
                .to_owned(),
        ),
        Verdict::NoData => {
            Some("the first request of an identified client outside of the share".to_owned())
        }
        _ => Some(how_many_more()),
    };
    let numbers = Numbers::of([
        ("enforced_5xx", input.enforced.hits() as f64),
        ("enforced_total", input.enforced.total() as f64),
        ("control_5xx", control.hits() as f64),
        ("control_total", control.total() as f64),
        ("margin", margin),
        ("ln_e_value", ln_not_worse),
        ("ln_e_value_against", ln_worse),
        ("ln_e_value_needed", threshold),
        ("alpha_spent", look.level),
    ]);
    Reading { gate: Gate::Errors, verdict, sentence, waits_for, numbers }
}
