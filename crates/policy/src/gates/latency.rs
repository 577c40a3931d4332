//! Latency: are few enough checks of the rule slower than its budget?
//!
//! 1. The trials are checks of this rule, a hit took longer than the budget. Whoever counts them
//!    reads `budget`; the gate sees counts.
//! 2. It passes and fails by the same e-value as the harm rate. A share that is exceeded is a
//!    number of hits, so that a quantile needs no distribution: "fewer than 1 % above 1 ms" is
//!    "the 99th percentile is below 1 ms".

use serde::{Deserialize, Serialize};

use super::{Gate, Look, Percentage, Reading, Verdict, exceedance, wording};
use crate::quantity::Period;
use crate::statistics::Proportion;

/// `[gates.latency]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a check may take. Default: 1ms, a tenth of what a fast service takes to answer.
    pub budget: Period,
    /// The share of slower checks that must be ruled out. Default: 1%.
    pub p0: Percentage,
}

impl Default for Config {
    fn default() -> Self {
        Self { budget: Period::millis(1), p0: Percentage::thousandths(10) }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Checks of the rule, and those of them that took longer than the budget.
    pub checks: Proportion,
}

pub(super) fn judge(config: &Config, look: &Look<'_>, input: &Input) -> Reading {
    let found = exceedance::judge(
        config.p0,
        look,
        input.checks,
        "check",
        look.pace.checks_per_minute,
        "raise p0 or the budget, or pin",
    );
    let (p0, budget) = (wording::percent(config.p0.share()), config.budget);
    let (hits, total) = (wording::count(input.checks.hits()), wording::count(input.checks.total()));
    let standing = &found.standing;
    let sentence = match found.verdict {
        Verdict::NoData => "no check has been timed yet".to_owned(),
        Verdict::Pass => {
            format!("fewer than {p0} of checks take over {budget}: {hits} of {total} ({standing})")
        }
        Verdict::Fail => {
            format!("more than {p0} of checks take over {budget}: {hits} of {total} ({standing})")
        }
        _ => format!("{hits} of {total} checks took over {budget} ({standing})"),
    };
    Reading {
        gate: Gate::Latency,
        verdict: found.verdict,
        sentence,
        waits_for: found.waits_for,
        numbers: found.numbers,
    }
}
