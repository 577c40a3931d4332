//! How many more trials a comparison needs, should both sides go on as they have been.

use crate::statistics::Proportion;

/// More than this many times what has been seen is no forecast.
const FACTOR_MAX: f64 = 1e6;

/// About how many trials are needed besides the `total` that have been seen; found to within a
/// fiftieth. `evidence` gives the evidence for counts that have grown by a factor; `None` ends the
/// search without an answer.
pub(super) fn more_needed(
    total: u64,
    ln_threshold: f64,
    evidence: impl Fn(f64) -> Option<f64>,
) -> Option<u64> {
    let (mut low, mut high) = (1.0, 2.0);
    while evidence(high)? < ln_threshold {
        (low, high) = (high, 4.0 * high);
        if high > FACTOR_MAX {
            return None;
        }
    }
    while high - low > 0.02 * low {
        let middle = libm::sqrt(low * high);
        if evidence(middle)? < ln_threshold {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(libm::ceil(total as f64 * (high - 1.0)) as u64)
}

/// The counts with `factor` times the hits and misses; `None` beyond what counts can hold.
pub(super) fn grown(counts: Proportion, factor: f64) -> Option<Proportion> {
    let grow = |count: u64| libm::round(count as f64 * factor) as u64;
    let hits = grow(counts.hits());
    Proportion::new(hits, hits.saturating_add(grow(counts.misses()))).ok()
}
