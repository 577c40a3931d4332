//! Calibration: is denied what `warn` predicted would be?
//!
//! 1. The prediction is the share of would-denies that `warn` saw; the outcome is the share of
//!    denials among requests of clients in the share. Count the prediction over the same clients,
//!    those that the step's share holds, wherever it can be: clients differ.
//! 2. They agree where the outcome is at most `factor` times the prediction plus `margin`, and at
//!    least the prediction divided by `factor`, less `margin`. A client that is denied comes back
//!    or goes away, so that the two are never quite the same.
//! 3. It passes when the e-values against both kinds of disagreement are `1/α` or more: either kind
//!    of disagreement must get past its own. It fails when the e-value against agreement is.
//! 4. Fewer denials than predicted hold the rule as well: then enforcing is not what was judged.

use serde::{Deserialize, Serialize};

use super::{Gate, Look, Numbers, Percentage, Reading, Verdict, forecast, wording};
use crate::statistics::Proportion;
use crate::statistics::difference::{Hypothesis, Line, ln_different, ln_equal};

/// `[gates.calibration]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many times more or less may be denied than predicted. Default: 2, a denied request
    /// that is sent once more.
    pub factor: f64,
    /// What may be denied more or less besides. Default: 0.5%.
    pub margin: Percentage,
}

impl Default for Config {
    fn default() -> Self {
        Self { factor: 2.0, margin: Percentage::thousandths(5) }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Requests that were judged in `warn`; hits would have been denied.
    pub predicted: Proportion,
    /// Requests of the share that were judged at this step; hits were denied.
    pub denied: Proportion,
}

pub(super) fn judge(config: &Config, look: &Look<'_>, input: &Input) -> Reading {
    let Input { predicted, denied } = *input;
    let (factor, margin) = (config.factor, config.margin.share());
    let most = Line { slope: factor, margin };
    let least = Line { slope: 1.0 / factor, margin: -margin };
    // With a margin above all predictions nothing can be denied too rarely.
    let can_be_less = least.slope + least.margin > 0.0;
    let agreement = |denied: Proportion| {
        let ln_not_more = ln_equal(Hypothesis::AtLeast(most), margin, denied, predicted);
        if !can_be_less {
            return ln_not_more;
        }
        ln_not_more.min(ln_equal(Hypothesis::AtMost(least), margin, denied, predicted))
    };
    let ln_agrees = agreement(denied);
    let ln_more = ln_different(Hypothesis::AtMost(most), denied, predicted);
    let ln_less = if can_be_less {
        ln_different(Hypothesis::AtLeast(least), denied, predicted)
    } else {
        f64::NEG_INFINITY
    };
    let threshold = look.ln_threshold();
    // Two ways to disagree, so that each may spend half.
    let ln_disagrees = ln_more.max(ln_less) - std::f64::consts::LN_2;
    let verdict = match () {
        () if predicted.total() == 0 || denied.total() == 0 => Verdict::NoData,
        () if ln_disagrees >= threshold => Verdict::Fail,
        () if ln_agrees >= threshold => Verdict::Pass,
        () => Verdict::Inconclusive,
    };
    let shares = format!(
        "{} of {} denied, {} predicted by warn",
        wording::percent(denied.share()),
        wording::counted(denied.total(), "enforced request"),
        wording::percent(predicted.share())
    );
    let standing =
        format!("E = {} of {} needed", wording::e_value(ln_agrees), wording::e_value(threshold));
    let sentence = match verdict {
        Verdict::NoData if predicted.total() == 0 => "warn has predicted nothing".to_owned(),
        Verdict::NoData => "no request of the share has been judged yet".to_owned(),
        Verdict::Pass => format!("enforcing denies what warn predicted: {shares} ({standing})"),
        Verdict::Fail if ln_more > ln_less => {
            format!("enforcing denies more than warn predicted: {shares}")
        }
        Verdict::Fail => format!("enforcing denies less than warn predicted: {shares}"),
        _ => format!("whether enforcing denies what warn predicted is open: {shares} ({standing})"),
    };
    let waits_for = match verdict {
        Verdict::Pass => None,
        Verdict::Fail => Some("a look at who is denied, and a new attempt".to_owned()),
        Verdict::NoData => Some("the first requests of both".to_owned()),
        _ => {
            let wait = wording::Wait {
                more: forecast::more_needed(denied.total(), threshold, |factor| {
                    forecast::grown(denied, factor).map(agreement)
                }),
                unit: "enforced request",
                per_minute: look.pace.enforced_per_minute,
                now: look.now,
                tick: look.tick,
                ways_out: "raise the margin, or pin",
            };
            Some(wait.text())
        }
    };
    let numbers = Numbers::of([
        ("denied", denied.hits() as f64),
        ("enforced_total", denied.total() as f64),
        ("would_deny", predicted.hits() as f64),
        ("warn_total", predicted.total() as f64),
        ("factor", factor),
        ("margin", margin),
        ("ln_e_value", ln_agrees),
        ("ln_e_value_against", ln_disagrees),
        ("ln_e_value_needed", threshold),
        ("alpha_spent", look.level),
    ]);
    Reading { gate: Gate::Calibration, verdict, sentence, waits_for, numbers }
}
