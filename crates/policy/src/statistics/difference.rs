//! E-values for two chances: is one below, above or within a line through the other?
//!
//! The evidence against a hypothesis is the likelihood of the counts under a mixture, divided by
//! the largest likelihood that any two chances of the hypothesis give them. The largest is at
//! least that of the true two, under which the mixture's ratio is a non-negative martingale that
//! starts at 1 ("universal inference": Wasserman, Ramdas and Balakrishnan, 2020). So it ever
//! reaches `1/α` with probability at most `α`, in whatever order the trials of both sides come
//! and whenever one looks. It needs the counts alone.

use super::beta::ln_beta;
use super::{Proportion, ln_sum};

/// The line `first = slope · second + margin`, with a positive slope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    pub slope: f64,
    pub margin: f64,
}

/// A hypothesis on two chances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hypothesis {
    /// The first is on the line or above it.
    AtLeast(Line),
    /// The first is on the line or below it.
    AtMost(Line),
}

/// The evidence against `hypothesis` for two equal chances, as the logarithm of an e-value.
///
/// The mixture puts half of its weight on small chances, of the order of `scale`, and spreads
/// the other half over all.
pub fn ln_equal(hypothesis: Hypothesis, scale: f64, first: Proportion, second: Proportion) -> f64 {
    let both = first.and(second);
    let (hits, misses) = (both.hits() as f64, both.misses() as f64);
    let under = |b: f64| ln_beta(0.5 + hits, b + misses) - ln_beta(0.5, b);
    let mixture = ln_sum(under(0.5), under(0.5 / scale)) - std::f64::consts::LN_2;
    mixture - ln_likelihood_max(hypothesis, first, second)
}

/// The evidence against `hypothesis` for any two other chances, as the logarithm of an e-value.
pub fn ln_different(hypothesis: Hypothesis, first: Proportion, second: Proportion) -> f64 {
    let alone = |counts: Proportion| {
        ln_beta(0.5 + counts.hits() as f64, 0.5 + counts.misses() as f64) - ln_beta(0.5, 0.5)
    };
    alone(first) + alone(second) - ln_likelihood_max(hypothesis, first, second)
}

/// The largest log-likelihood of the counts under two chances of the hypothesis.
fn ln_likelihood_max(hypothesis: Hypothesis, first: Proportion, second: Proportion) -> f64 {
    let (Hypothesis::AtLeast(line) | Hypothesis::AtMost(line)) = hypothesis;
    let on_line = line.slope * second.share() + line.margin;
    // With no trials on a side its chance is free, and may be where the other wants it.
    let (above, below) = (first.share() >= on_line, first.share() <= on_line);
    let is_inside = match hypothesis {
        Hypothesis::AtLeast(_) => above,
        Hypothesis::AtMost(_) => below,
    };
    if is_inside {
        return ln_likelihood(first, first.share()) + ln_likelihood(second, second.share());
    }
    ln_likelihood_max_on(line, first, second)
}

/// `hits ln p + misses ln (1 − p)`, where nothing times infinity is nothing.
fn ln_likelihood(counts: Proportion, chance: f64) -> f64 {
    let term = |count: u64, ln: f64| if count == 0 { 0.0 } else { count as f64 * ln };
    term(counts.hits(), libm::log(chance)) + term(counts.misses(), libm::log1p(-chance))
}

/// The same on the line itself: the log-likelihood is concave along it, so its slope has one root.
fn ln_likelihood_max_on(line: Line, first: Proportion, second: Proportion) -> f64 {
    let Line { slope, margin } = line;
    let (mut low, mut high) = ((-margin / slope).max(0.0), ((1.0 - margin) / slope).min(1.0));
    let value = |at: f64| {
        ln_likelihood(first, (slope * at + margin).clamp(0.0, 1.0)) + ln_likelihood(second, at)
    };
    // The first and second derivative of the log-likelihood of one side.
    let bend = |counts: Proportion, chance: f64| {
        let up = if counts.hits() == 0 { 0.0 } else { counts.hits() as f64 / chance };
        let down = if counts.misses() == 0 { 0.0 } else { counts.misses() as f64 / (1.0 - chance) };
        (up - down, -(up / chance.max(f64::MIN_POSITIVE) + down / (1.0 - chance)))
    };
    let ends = (low, high);
    let mut at = first.and(second).share().clamp(low, high);
    for _ in 0..100 {
        let (first_1, first_2) = bend(first, (slope * at + margin).clamp(0.0, 1.0));
        let (second_1, second_2) = bend(second, at);
        let gradient = slope * first_1 + second_1;
        if gradient > 0.0 {
            low = at;
        } else if gradient < 0.0 {
            high = at;
        } else {
            break;
        }
        let next = at - gradient / (slope * slope * first_2 + second_2);
        // At an end of the line a likelihood can fall off without bound; there Newton's steps are
        // as small as the distance to it, and no sign of having arrived. Halving leaves it behind.
        let room = (at - ends.0).min(ends.1 - at);
        let has_arrived = room > 0.0 && (next - at).abs() <= 1e-12 * room;
        let next = if next > low && next < high { next } else { 0.5 * (low + high) };
        if has_arrived || high - low <= 1e-15 * high {
            break;
        }
        at = next;
    }
    value(at).max(value(low)).max(value(high))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::draws::Draws;

    fn counts(hits: u64, total: u64) -> Proportion {
        Proportion::new(hits, total).unwrap()
    }

    const MARGIN: Line = Line { slope: 1.0, margin: 0.001 };

    /// Reference values by ternary search with 30 digits.
    #[test]
    fn the_largest_likelihood_on_a_line_has_the_known_values() {
        for (first, second, slope, margin, value) in [
            ((3, 1000), (20, 9000), 1.0, 0.001, -162.592_959_705_179_83),
            ((0, 10_000), (0, 90_000), 1.0, 0.001, -10.005_003_335_835_335),
            ((12, 2000), (90, 18_000), 1.0, 0.001, -639.979_064_549_269_7),
            ((40, 1000), (20, 9000), 1.0, 0.001, -361.272_057_868_583),
            ((4, 800), (60, 9000), 1.5, 0.005, -389.044_129_812_207_9),
        ] {
            let line = Line { slope, margin };
            let found =
                ln_likelihood_max_on(line, counts(first.0, first.1), counts(second.0, second.1));
            assert!((found - value).abs() < 1e-9, "{first:?} {second:?}: {found}");
        }
    }

    proptest! {
        #[test]
        fn no_two_chances_of_the_hypothesis_are_likelier(
            first_total in 1u64..3000, second_total in 1u64..3000,
            first_share in 0.0f64..1.0, second_share in 0.0f64..1.0,
            slope in 0.3f64..3.0, margin in -0.2f64..0.2,
            chances in prop::collection::vec((0.0f64..1.0, 0.0f64..1.0), 20),
        ) {
            let part = |total: u64, share: f64| counts((share * total as f64) as u64, total);
            let (first, second) = (part(first_total, first_share), part(second_total, second_share));
            let line = Line { slope, margin };
            for (one, two) in chances {
                let likelihood = ln_likelihood(first, one) + ln_likelihood(second, two);
                let hypothesis = if one >= slope * two + margin {
                    Hypothesis::AtLeast(line)
                } else {
                    Hypothesis::AtMost(line)
                };
                let most = ln_likelihood_max(hypothesis, first, second);
                prop_assert!(most.is_finite());
                prop_assert!(most >= likelihood - 1e-7, "{hypothesis:?}: {most} < {likelihood}");
            }
        }
    }

    /// Two sides that differ by just the margin, looked at thirty times.
    #[test]
    fn a_difference_of_the_margin_passes_at_most_alpha_of_the_time() {
        let (alpha, runs) = (0.05, 2000);
        let line = Line { slope: 1.0, margin: 0.02 };
        let share_of = |chances: (f64, f64), evidence: &dyn Fn(Proportion, Proportion) -> f64| {
            let mut draws = Draws(11);
            let passed = (0..runs).filter(|_| {
                let (mut first, mut second) = (Proportion::NONE, Proportion::NONE);
                (0..30).any(|_| {
                    first = first.and(counts(draws.binomial(40, chances.0), 40));
                    second = second.and(counts(draws.binomial(160, chances.1), 160));
                    evidence(first, second) >= -libm::log(alpha)
                })
            });
            passed.count() as f64 / f64::from(runs)
        };
        let worse =
            |one: Proportion, two: Proportion| ln_equal(Hypothesis::AtLeast(line), 0.02, one, two);
        let better =
            |one: Proportion, two: Proportion| ln_different(Hypothesis::AtMost(line), one, two);
        for base in [0.002, 0.05] {
            let null = (base + 0.02, base);
            let share = share_of(null, &worse);
            assert!(share <= alpha, "base {base}: shown to be fine {share}");
            let share = share_of(null, &better);
            assert!(share <= alpha, "base {base}: shown to be worse {share}");
        }
        assert!(share_of((0.002, 0.002), &worse) > 0.9, "equal sides are found equal");
        assert!(share_of((0.2, 0.01), &better) > 0.99, "a large difference is found");
    }

    #[test]
    fn sides_without_trials_say_little() {
        let at_least = Hypothesis::AtLeast(MARGIN);
        assert_eq!(ln_equal(at_least, 0.001, Proportion::NONE, Proportion::NONE), 0.0);
        assert!(ln_equal(at_least, 0.001, Proportion::NONE, counts(3, 1000)) < 0.0);
        assert!(ln_different(Hypothesis::AtMost(MARGIN), counts(5, 9), Proportion::NONE) < 0.0);
    }
}
