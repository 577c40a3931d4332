//! Harm rate: would few enough requests be broken?
//!
//! 1. The trials are judged requests outside of the share (in `warn`: all), without those of
//!    waived clients; a hit is a would-deny that the service answered well.
//! 2. It passes when the e-value against "at least p0 of the requests are harmed" is `1/α` or more,
//!    and fails when that against "at most p0" is.
//! 3. What it waits for is the least number of further requests that would do, if none is harmed.

use serde::{Deserialize, Serialize};

use super::{Gate, Look, Percentage, Reading, Verdict, exceedance, wording};
use crate::statistics::Proportion;

/// `[gates.harm_rate]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The share of harmed requests that must be ruled out. Default: 0.5%, which 1,200 to 3,500
    /// requests can do.
    pub p0: Percentage,
}

impl Default for Config {
    fn default() -> Self {
        Self { p0: Percentage::thousandths(5) }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Requests that were judged, and those of them that were harmed.
    pub judged: Proportion,
}

pub(super) fn judge(config: &Config, look: &Look<'_>, input: &Input) -> Reading {
    let found = exceedance::judge(
        config.p0,
        look,
        input.judged,
        "request",
        look.pace.requests_per_minute,
        "raise p0, waive, or pin",
    );
    let p0 = wording::percent(config.p0.share());
    let (hits, total) = (wording::count(input.judged.hits()), wording::count(input.judged.total()));
    let standing = &found.standing;
    let sentence = match found.verdict {
        Verdict::NoData => "no request has been judged yet".to_owned(),
        Verdict::Pass => {
            format!("fewer than {p0} of requests would be broken: {hits} of {total} ({standing})")
        }
        Verdict::Fail => {
            format!("more than {p0} of requests would be broken: {hits} of {total} ({standing})")
        }
        _ => format!("{hits} of {total} requests would have been broken ({standing})"),
    };
    Reading {
        gate: Gate::HarmRate,
        verdict: found.verdict,
        sentence,
        waits_for: found.waits_for,
        numbers: found.numbers,
    }
}
