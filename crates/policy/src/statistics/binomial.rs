//! Tails of the binomial distribution, and the bounds of Clopper and Pearson.
//!
//! The bounds are for reading. They hold at one look that was fixed beforehand; nothing here
//! decides by them, since gates are read at any time.

use super::Proportion;
use super::beta::tails;

/// `ln P(X ≤ hits)` where X counts the successes of `total` trials with `0 < chance < 1`.
pub fn ln_at_most(counts: Proportion, chance: f64) -> f64 {
    if counts.misses() == 0 {
        return 0.0;
    }
    tails(chance, counts.hits() as f64 + 1.0, counts.misses() as f64).ln_upper
}

/// `ln P(X ≥ hits)` where X counts the successes of `total` trials with `0 < chance < 1`.
pub fn ln_at_least(counts: Proportion, chance: f64) -> f64 {
    if counts.hits() == 0 {
        return 0.0;
    }
    tails(chance, counts.hits() as f64, counts.misses() as f64 + 1.0).ln_lower
}

/// Clopper and Pearson's upper bound of the chance: with any larger one, at most `hits` would be
/// seen with probability `alpha` or less.
pub fn upper_bound(counts: Proportion, alpha: f64) -> f64 {
    if counts.misses() == 0 {
        return 1.0;
    }
    let ln_alpha = libm::log(alpha);
    let total = counts.total() as f64;
    if counts.hits() == 0 {
        return -libm::expm1(ln_alpha / total);
    }
    let (a, b) = (counts.hits() as f64 + 1.0, counts.misses() as f64);
    // The logarithm of the tail falls, and ever faster: Newton's method overshoots once and then
    // closes in from above. The bracket is for rounding.
    let (mut low, mut high) = (counts.share(), 1.0);
    // It starts from a normal approximation with a rough quantile for `alpha`.
    let z = (libm::sqrt(-2.0 * ln_alpha) - 0.7).max(0.0);
    let mut at = (a + 0.5 * z * z + z * libm::sqrt(a)) / (total + 1.0 + z * z);
    at = at.clamp(a / (total + 1.0), 0.5 * (1.0 + counts.share()));
    for _ in 0..60 {
        let found = tails(at, a, b);
        let excess = found.ln_upper - ln_alpha;
        if excess > 0.0 {
            low = at;
        } else {
            high = at;
        }
        let slope = -libm::exp(found.ln_kernel - found.ln_upper) / (at * (1.0 - at));
        let next = at - excess / slope;
        let next = if next > low && next < high { next } else { 0.5 * (low + high) };
        if (next - at).abs() <= 1e-12 * at {
            return next;
        }
        at = next;
    }
    at
}

/// Clopper and Pearson's lower bound of the chance.
pub fn lower_bound(counts: Proportion, alpha: f64) -> f64 {
    let mirrored = Proportion::new(counts.misses(), counts.total())
        .expect("misses are at most the total, which is within the bound");
    1.0 - upper_bound(mirrored, alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(hits: u64, total: u64) -> Proportion {
        Proportion::new(hits, total).unwrap()
    }

    #[test]
    fn upper_bounds_have_the_known_values() {
        for (total, hits, alpha, bound) in [
            (1115, 0, 0.01, 0.004_121_679_941_028_566),
            (10, 3, 0.05, 0.606_624_216_105_413_4),
            (100, 1, 0.05, 0.046_559_811_453_538_95),
            (3372, 5, 0.01, 0.003_882_778_841_981_762),
            (20, 19, 0.05, 0.997_438_621_223_469_7),
            (5000, 60, 0.01, 0.016_091_645_490_571_325),
            (1, 0, 0.05, 0.95),
            (7, 7, 0.05, 1.0),
        ] {
            let found = upper_bound(counts(hits, total), alpha);
            assert!((found / bound - 1.0).abs() < 1e-11, "{hits} of {total}: {found}");
            let mirrored = lower_bound(counts(total - hits, total), alpha);
            assert!((mirrored - (1.0 - bound)).abs() < 1e-11, "{hits} of {total}: {mirrored}");
        }
    }

    #[test]
    fn tails_are_sums_of_binomial_terms() {
        let (total, chance) = (12u64, 0.3f64);
        let mut term = (0..total).fold(1.0, |product, _| product * (1.0 - chance));
        let mut at_most = 0.0;
        for hits in 0..=total {
            at_most += term;
            let found = libm::exp(ln_at_most(counts(hits, total), chance));
            assert!((found - at_most).abs() < 1e-13, "{hits}: {found}");
            let at_least = libm::exp(ln_at_least(counts(hits, total), chance));
            assert!((at_least - (1.0 - at_most + term)).abs() < 1e-13, "{hits}: {at_least}");
            term *= (total - hits) as f64 / (hits + 1) as f64 * chance / (1.0 - chance);
        }
    }
}
