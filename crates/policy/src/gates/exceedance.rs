//! What harm rate and latency share: too few of a kind, shown by the e-value of `e_value.rs`.

use super::{Look, Numbers, Percentage, Verdict, wording};
use crate::statistics::Proportion;
use crate::statistics::binomial::upper_bound;
use crate::statistics::e_value::{Evidence, Mixture};

/// Level of the bound that is shown beside the e-value.
const SHOWN_ALPHA: f64 = 0.01;

pub(super) struct Exceedance {
    pub(super) verdict: Verdict,
    /// "E = 12.3 of 164 needed, at most 0.61 % with 99 % confidence"
    pub(super) standing: String,
    pub(super) waits_for: Option<String>,
    pub(super) numbers: Numbers,
}

pub(super) fn judge(
    p0: Percentage,
    look: &Look<'_>,
    counts: Proportion,
    unit: &str,
    per_minute: f64,
    ways_out: &str,
) -> Exceedance {
    let mixture = Mixture::new(p0.share());
    let Evidence { ln_below, ln_above, .. } = mixture.evidence(counts);
    let threshold = look.ln_threshold();
    let verdict = match () {
        () if counts.total() == 0 => Verdict::NoData,
        () if ln_below >= threshold => Verdict::Pass,
        () if ln_above >= threshold => Verdict::Fail,
        () => Verdict::Inconclusive,
    };
    let bound = upper_bound(counts, SHOWN_ALPHA);
    let waits_for = (verdict != Verdict::Pass).then(|| {
        let more = mixture.clean_needed(counts, threshold);
        wording::Wait { more, unit, per_minute, now: look.now, tick: look.tick, ways_out }.text()
    });
    let standing = format!(
        "E = {} of {} needed, at most {} with 99 % confidence",
        wording::e_value(ln_below),
        wording::e_value(threshold),
        wording::percent(bound),
    );
    let numbers = Numbers::of([
        ("hits", counts.hits() as f64),
        ("total", counts.total() as f64),
        ("p0", p0.share()),
        ("ln_e_value", ln_below),
        ("ln_e_value_against", ln_above),
        ("ln_e_value_needed", threshold),
        ("upper_bound_99", bound),
        ("alpha_spent", look.level),
    ]);
    Exceedance { verdict, standing, waits_for, numbers }
}
