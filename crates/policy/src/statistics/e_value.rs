//! E-values for one chance: is the chance of a hit below, above, or other than `p0`?
//!
//! The alternative is a mixture of all chances with the weight Beta(½, ½), truncated to the side
//! in question. For any fixed chance `p < p0` the likelihood ratio against `p0` multiplies by a
//! factor whose mean under a true chance `q ≥ p0` is
//! `1 + (q − p0)(p − p0) / (p0 (1 − p0)) ≤ 1`: it is a non-negative supermartingale that starts at
//! 1, and so is every mixture of such ratios. By Ville's inequality it ever reaches `1/α` with
//! probability at most `α`, however often one looks and whenever one stops. It is enough that the
//! chance of a hit, given everything before, is never below `p0`; the trials need not be alike.

use super::Proportion;
use super::beta::{Tails, tails};

/// The mixtures against one `p0`.
#[derive(Clone, Copy, Debug)]
pub struct Mixture {
    p0: f64,
    /// The tails before the first trial, at Beta(½, ½).
    start: Tails,
}

/// What the counts say, as logarithms of e-values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Against "the chance is at least p0".
    pub ln_below: f64,
    /// Against "the chance is at most p0".
    pub ln_above: f64,
    /// Against "the chance is p0".
    pub ln_other: f64,
}

/// More clean trials than this are never awaited.
pub const CLEAN_MAX: u64 = 1_000_000_000_000;

impl Mixture {
    /// Needs `0 < p0 < 1`.
    pub fn new(p0: f64) -> Self {
        Self { p0, start: tails(p0, 0.5, 0.5) }
    }

    pub fn evidence(&self, counts: Proportion) -> Evidence {
        let now = tails(self.p0, counts.hits() as f64 + 0.5, counts.misses() as f64 + 0.5);
        let start = &self.start;
        Evidence {
            ln_below: (now.ln_lower - now.ln_kernel) - (start.ln_lower - start.ln_kernel),
            ln_above: (now.ln_upper - now.ln_kernel) - (start.ln_upper - start.ln_kernel),
            ln_other: start.ln_kernel - now.ln_kernel,
        }
    }

    /// The least number of further trials, all without a hit, after which `ln_below` is at least
    /// `ln_threshold`; `None` where more than [`CLEAN_MAX`] would be needed.
    pub fn clean_needed(&self, counts: Proportion, ln_threshold: f64) -> Option<u64> {
        let missing = |more: u64| ln_threshold - self.evidence(counts.and_clean(more)).ln_below;
        let (mut low, mut low_missing) = (0u64, missing(0));
        if low_missing <= 0.0 {
            return Some(0);
        }
        // The evidence grows with every clean trial, by at most this and ever faster: it is convex.
        // So the first step cannot pass the answer, and a chord drawn on cannot fall short of it.
        let mut slope = -libm::log1p(-self.p0);
        let (mut high, mut high_missing) = loop {
            let step = (libm::ceil(low_missing / slope) as u64).max(1);
            let at = low.saturating_add(step).min(CLEAN_MAX);
            let at_missing = missing(at);
            if at_missing <= 0.0 {
                break (at, at_missing);
            }
            if at == CLEAN_MAX {
                return None;
            }
            slope = ((low_missing - at_missing) / (at - low) as f64).max(f64::MIN_POSITIVE);
            (low, low_missing) = (at, at_missing);
        };
        // A chord across the answer points at or below it. Every third turn halves instead, which
        // bounds the number of turns.
        for turn in 1u32.. {
            let width = high - low;
            if width <= 1 {
                break;
            }
            let ahead = if turn.is_multiple_of(3) {
                width / 2
            } else {
                (width as f64 * (low_missing / (low_missing - high_missing))) as u64
            };
            let at = low + ahead.clamp(1, width - 1);
            let at_missing = missing(at);
            if at_missing <= 0.0 {
                (high, high_missing) = (at, at_missing);
            } else {
                (low, low_missing) = (at, at_missing);
            }
        }
        Some(high)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::draws::Draws;

    fn counts(hits: u64, total: u64) -> Proportion {
        Proportion::new(hits, total).unwrap()
    }

    fn least(p0: f64, alpha: f64, hits: u64) -> u64 {
        let more = Mixture::new(p0).clean_needed(counts(hits, hits), -libm::log(alpha));
        hits + more.unwrap()
    }

    #[test]
    fn the_least_numbers_are_the_published_ones() {
        for (alpha, known) in [(0.05, [756, 1329, 1769, 2877]), (0.01, [1115, 1728, 2198, 3372])] {
            let found = [0, 1, 2, 5].map(|hits| least(0.005, alpha, hits));
            assert_eq!(found, known, "alpha = {alpha}");
        }
    }

    /// Reference values by quadrature with 30 digits.
    #[test]
    fn evidence_has_the_known_values() {
        for (p0, total, hits, ln_e) in [
            (0.005, 100, 0, 0.345_018_356_829_656_5),
            (0.005, 100, 3, -1.832_790_309_675_742_5),
            (0.005, 10_000, 50, -2.443_932_777_356_184),
            (0.005, 1_000_000, 4000, 103.894_488_394_369_78),
            (0.005, 1_000_000, 5200, -6.095_597_874_677_33),
            (0.01, 500, 0, 4.096_223_718_372_54),
            (0.001, 20_000, 40, -3.755_502_104_503_646),
            (0.5, 10, 0, 5.888_305_216_397_98),
            (0.5, 10, 7, -2.171_816_364_984_133),
        ] {
            let found = Mixture::new(p0).evidence(counts(hits, total)).ln_below;
            assert!((found - ln_e).abs() < 1e-10, "{hits} of {total} at {p0}: {found}");
        }
    }

    #[test]
    fn nothing_seen_says_nothing() {
        for p0 in [1e-6, 0.005, 0.5, 0.99] {
            let nothing = Evidence { ln_below: 0.0, ln_above: 0.0, ln_other: 0.0 };
            assert_eq!(Mixture::new(p0).evidence(Proportion::NONE), nothing);
        }
    }

    proptest! {
        /// What makes it an e-value: under p0 the next value is the present one on average. It is
        /// below that for any larger chance.
        #[test]
        fn the_next_value_is_fair_at_p0(
            p0 in 1e-4f64..0.6, total in 0u64..5000, share in 0.0f64..0.05,
        ) {
            let hits = (share * total as f64) as u64;
            let mixture = Mixture::new(p0);
            let now = mixture.evidence(counts(hits, total));
            let hit = mixture.evidence(counts(hits + 1, total + 1));
            let miss = mixture.evidence(counts(hits, total + 1));
            let mean = |q: f64, now: f64, hit: f64, miss: f64| {
                q * libm::exp(hit - now) + (1.0 - q) * libm::exp(miss - now)
            };
            let below = |q| mean(q, now.ln_below, hit.ln_below, miss.ln_below);
            prop_assert!((below(p0) - 1.0).abs() < 1e-9, "{}", below(p0));
            prop_assert!(below((1.5 * p0).min(1.0)) <= 1.0 + 1e-9);
            let above = |q| mean(q, now.ln_above, hit.ln_above, miss.ln_above);
            prop_assert!((above(p0) - 1.0).abs() < 1e-9, "{}", above(p0));
            prop_assert!(above(0.5 * p0) <= 1.0 + 1e-9);
            let other = mean(p0, now.ln_other, hit.ln_other, miss.ln_other);
            prop_assert!((other - 1.0).abs() < 1e-9, "{other}");
        }

        #[test]
        fn what_is_needed_is_the_least(
            p0 in 1e-4f64..0.3, hits in 0u64..60, clean in 0u64..3000, alpha in 1e-6f64..0.2,
        ) {
            let mixture = Mixture::new(p0);
            let seen = counts(hits, hits + clean);
            let threshold = -libm::log(alpha);
            let more = mixture.clean_needed(seen, threshold).unwrap();
            let after = |more| mixture.evidence(seen.and_clean(more)).ln_below;
            prop_assert!(after(more) >= threshold);
            prop_assert!(more == 0 || after(more - 1) < threshold);
        }
    }

    /// A clean request raises the evidence and a hit lowers it, so that a look after every single
    /// request first passes at the end of a clean run: exactly where the least number for the
    /// hits so far is reached. A run is simulated from hit to hit.
    fn passes(chance: f64, horizon: u64, least: &[u64], draws: &mut Draws) -> bool {
        let mut total = 0;
        for least in least {
            let next_hit = total + draws.trials_to_success(chance);
            if *least < next_hit {
                return *least <= horizon;
            }
            if next_hit > horizon {
                return false;
            }
            total = next_hit;
        }
        panic!("the table of least numbers is too short");
    }

    #[test]
    fn a_chance_of_p0_passes_at_most_alpha_of_the_time_however_often_one_looks() {
        let (p0, runs, horizon) = (0.005, 4000, 100_000);
        for alpha in [0.01, 0.05] {
            let least: Vec<u64> = (0..700).map(|hits| least(p0, alpha, hits)).collect();
            for (chance, bound) in [(p0, alpha), (1.2 * p0, alpha / 2.0), (2.0 * p0, alpha / 10.0)]
            {
                let mut draws = Draws(7);
                let horizon = (horizon as f64 * p0 / chance) as u64;
                let passed =
                    (0..runs).filter(|_| passes(chance, horizon, &least, &mut draws)).count();
                let share = passed as f64 / f64::from(runs);
                // Three deviations of what is drawn; the exact chance is the next test's.
                let bound = bound + 3.0 * libm::sqrt(bound / f64::from(runs));
                assert!(share <= bound, "chance {chance}, alpha {alpha}: {share} passed");
            }
        }
    }

    /// The chance to have passed at any of the first twenty thousand requests, without drawing:
    /// the distribution of the hits of all that have not passed yet, request by request.
    #[test]
    fn the_exact_chance_to_pass_at_p0_is_below_alpha_and_not_far_below() {
        let p0 = 0.005;
        for alpha in [0.01, 0.05] {
            let least: Vec<u64> = (0..200).map(|hits| least(p0, alpha, hits)).collect();
            let mut open = vec![0.0; least.len()];
            open[0] = 1.0;
            let mut passed = 0.0;
            for total in 1..=20_000 {
                for hits in (1..open.len()).rev() {
                    open[hits] = open[hits] * (1.0 - p0) + open[hits - 1] * p0;
                }
                open[0] *= 1.0 - p0;
                if let Ok(hits) = least.binary_search(&total) {
                    passed += std::mem::take(&mut open[hits]);
                }
            }
            assert!(passed <= alpha, "alpha {alpha}: {passed}");
            assert!(passed > 0.8 * alpha, "alpha {alpha}: {passed}");
        }
    }

    /// The shortcut of the simulation is the same as looking after every request.
    #[test]
    fn the_least_numbers_are_where_a_look_after_every_request_first_passes() {
        let (p0, alpha, horizon) = (0.05, 0.05, 400);
        let least: Vec<u64> = (0..100).map(|hits| least(p0, alpha, hits)).collect();
        let mixture = Mixture::new(p0);
        for seed in 0..40 {
            let mut draws = Draws(seed);
            let mut hits_at = vec![draws.trials_to_success(p0 / 2.0)];
            while hits_at.last().is_some_and(|last| *last <= horizon) {
                let next = hits_at.last().unwrap() + draws.trials_to_success(p0 / 2.0);
                hits_at.push(next);
            }
            let first = (1..=horizon).find(|total| {
                let hits = hits_at.iter().filter(|at| *at <= total).count() as u64;
                mixture.evidence(counts(hits, *total)).ln_below >= -libm::log(alpha)
            });
            assert_eq!(
                first.is_some(),
                passes(p0 / 2.0, horizon, &least, &mut Draws(seed)),
                "seed {seed}: {first:?}"
            );
        }
    }

    #[test]
    fn a_harmless_rule_passes_soon() {
        let (p0, alpha) = (0.005, 0.01);
        let least: Vec<u64> = (0..100).map(|hits| least(p0, alpha, hits)).collect();
        let mut draws = Draws(3);
        let passed = (0..1000).filter(|_| passes(p0 / 10.0, 5000, &least, &mut draws)).count();
        assert!(passed >= 990, "{passed} of 1000 at a tenth of p0 within 5000 requests");
    }
}
