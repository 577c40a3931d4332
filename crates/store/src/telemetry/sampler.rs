//! Which requests get a row of their own, and how many requests each row stands for.
//!
//! 1. Every request belongs to one stratum: failed (5xx, or the service failed), denied (by a
//!    protection, or refused as malformed), would-be denied, ordinary. The first that fits.
//! 2. A stratum keeps a uniform sample of the requests since the last drain (Vitter's
//!    reservoir, Algorithm R): each of its n requests is in it with the same probability.
//! 3. A drain may take as many rows as the budget has earned: `rows_per_second` for each second
//!    gone by, saved up for at most [`BURST_SECONDS`], so that a short burst is kept whole.
//! 4. Ordinary requests are sure of a quarter of that. The three notable strata share the rest
//!    equally; what one leaves, the others get; what all three leave, ordinary requests get.
//! 5. A stratum that gets fewer rows than its reservoir holds gives a uniform choice of them.
//! 6. A row of a stratum with n requests and r rows weighs n / r. So the weights of a stratum
//!    add up to n exactly, and for any part of it (a route, a client) the sum of weights is an
//!    unbiased estimate of its count, as each request is among the rows with probability r / n.
//! 7. Where the budget has not earned a row for each stratum, nothing is taken yet: the
//!    reservoirs go on, and the budget is never overdrawn.

use seaworthy_policy::record::{Ending, RequestRecord, Verdict};

use super::batch::SampledRow;
use super::config::{ROWS_PER_SECOND_MIN, TelemetryConfig};

/// How long an unused budget is saved up.
const BURST_SECONDS: u64 = 5;

/// Rows that a reservoir holds at most, whatever the budget: 7 MB each.
const RESERVOIR_MAX: u64 = 20_000;

const STRATA: usize = 4;
const ORDINARY: usize = 3;

#[derive(Debug)]
pub(super) struct Sampler {
    rows_per_second: u32,
    /// Rows that the budget has earned and not spent.
    earned: f64,
    capacity: usize,
    strata: [Reservoir; STRATA],
    random: SplitMix64,
}

#[derive(Debug, Default)]
struct Reservoir {
    /// Requests since the last drain.
    offered: u64,
    kept: Vec<RequestRecord>,
}

impl Sampler {
    pub(super) fn new(config: &TelemetryConfig, seed: u64) -> Self {
        let seconds = config.flush_every.as_duration().as_secs().max(BURST_SECONDS);
        let capacity = (u64::from(config.rows_per_second) * seconds).min(RESERVOIR_MAX) as usize;
        Self {
            rows_per_second: config.rows_per_second,
            earned: capacity as f64,
            capacity,
            strata: Default::default(),
            random: SplitMix64(seed),
        }
    }

    pub(super) fn offer(&mut self, record: &RequestRecord) {
        if self.rows_per_second < ROWS_PER_SECOND_MIN {
            return;
        }
        let reservoir = &mut self.strata[stratum_of(record)];
        reservoir.offered += 1;
        if reservoir.kept.len() < self.capacity {
            reservoir.kept.push(*record);
            return;
        }
        let place = self.random.below(reservoir.offered);
        if let Some(kept) = usize::try_from(place).ok().and_then(|i| reservoir.kept.get_mut(i)) {
            *kept = *record;
        }
    }

    /// Moves the rows that the budget allows into `rows`; `elapsed_ms` is since the last drain.
    pub(super) fn drain(&mut self, elapsed_ms: i64, rows: &mut Vec<SampledRow>) {
        let earned = elapsed_ms.max(0) as f64 / 1000.0 * f64::from(self.rows_per_second);
        self.earned = (self.earned + earned).min(self.capacity as f64);
        if self.earned < STRATA as f64 {
            return;
        }
        let shares = allot(self.earned as usize, self.strata.each_ref().map(|s| s.kept.len()));
        for (reservoir, share) in self.strata.iter_mut().zip(shares) {
            let weight = reservoir.offered as f64 / share as f64;
            for index in 0..share {
                let left = (reservoir.kept.len() - index) as u64;
                reservoir.kept.swap(index, index + self.random.below(left) as usize);
                rows.push(SampledRow { record: reservoir.kept[index], weight });
            }
            self.earned -= share as f64;
            reservoir.offered = 0;
            reservoir.kept.clear();
        }
    }
}

fn stratum_of(record: &RequestRecord) -> usize {
    if record.status >= 500 || record.ending == Ending::UpstreamFailed {
        0
    } else if matches!(record.ending, Ending::Denied | Ending::Refused)
        || record.verdicts.any(Verdict::Deny)
    {
        1
    } else if record.verdicts.any(Verdict::WouldDeny) {
        2
    } else {
        ORDINARY
    }
}

/// Divides `budget` (at least one for each stratum) by rule 4. No stratum gets more than it has
/// kept, and none that kept something gets nothing.
fn allot(budget: usize, kept: [usize; STRATA]) -> [usize; STRATA] {
    let mut shares = [0; STRATA];
    let mut notable_left = budget - kept[ORDINARY].min((budget / STRATA).max(1));
    let mut by_size = [0, 1, 2];
    by_size.sort_by_key(|stratum| kept[*stratum]);
    for (done, stratum) in by_size.into_iter().enumerate() {
        // The smallest first: what it leaves is shared by those after it.
        shares[stratum] = kept[stratum].min(notable_left / (by_size.len() - done));
        notable_left -= shares[stratum];
    }
    shares[ORDINARY] = kept[ORDINARY].min(budget - shares.iter().sum::<usize>());
    shares
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): a few
/// instructions, seeded, and good enough to choose rows by.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`, off by less than n / 2^64.
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seaworthy_policy::record::RouteId;

    use super::super::fixture::{denied, failed, record, would_be_denied};
    use super::*;

    fn config(rows_per_second: u32) -> TelemetryConfig {
        TelemetryConfig { rows_per_second, ..TelemetryConfig::default() }
    }

    fn drain(sampler: &mut Sampler, elapsed_ms: i64) -> Vec<SampledRow> {
        let mut rows = Vec::new();
        sampler.drain(elapsed_ms, &mut rows);
        rows
    }

    fn weight(rows: &[SampledRow], of: impl Fn(&RequestRecord) -> bool) -> f64 {
        rows.iter().filter(|row| of(&row.record)).map(|row| row.weight).sum()
    }

    #[test]
    fn under_the_budget_every_request_has_a_row_of_weight_one() {
        let mut sampler = Sampler::new(&config(200), 1);
        for _ in 0..30 {
            for _ in 0..150 {
                sampler.offer(&record());
            }
            sampler.offer(&failed());
            let rows = drain(&mut sampler, 1000);
            assert_eq!(rows.len(), 151);
            assert!(rows.iter().all(|row| row.weight == 1.0));
        }
    }

    #[test]
    fn in_a_flood_the_notable_ones_are_kept_whole() {
        let mut sampler = Sampler::new(&config(200), 1);
        drain(&mut sampler, 0);
        sampler.earned = 0.0;
        for n in 0..100_000 {
            sampler.offer(&record());
            match n % 10_000 {
                0 => sampler.offer(&failed()),
                1 => sampler.offer(&denied()),
                2 => sampler.offer(&would_be_denied()),
                _ => {}
            }
        }
        let rows = drain(&mut sampler, 1000);
        assert_eq!(rows.len(), 200);
        assert_eq!(weight(&rows, |r| r.status == 502), 10.0);
        assert_eq!(rows.iter().filter(|row| row.weight == 1.0).count(), 30);
        assert!((weight(&rows, |_| true) - 100_030.0).abs() < 1e-6);
    }

    #[test]
    fn nothing_is_kept_where_no_rows_are_wanted() {
        let mut sampler = Sampler::new(&config(0), 1);
        sampler.offer(&failed());
        assert!(drain(&mut sampler, 1000).is_empty());
    }

    /// A part of a stratum (here one route with 2 % of the requests) is estimated without bias:
    /// over many seeds the mean estimate is within four standard errors of the truth.
    #[test]
    fn the_estimate_of_a_part_is_unbiased() {
        const SEEDS: u64 = 2000;
        let (mut sum, mut sum_of_squares) = (0.0, 0.0);
        for seed in 0..SEEDS {
            let mut sampler = Sampler::new(&config(20), seed);
            sampler.earned = 0.0;
            for n in 0..1500_u32 {
                let route = RouteId(u16::from(n.is_multiple_of(50)));
                sampler.offer(&RequestRecord { route, ..record() });
                if n.is_multiple_of(3) {
                    sampler.offer(&RequestRecord { route, ..failed() });
                }
            }
            let rows = drain(&mut sampler, 1000);
            assert_eq!(rows.len(), 20);
            let estimate = weight(&rows, |r| r.route == RouteId(1) && r.status == 200);
            sum += estimate;
            sum_of_squares += estimate * estimate;
        }
        let mean = sum / SEEDS as f64;
        let variance = sum_of_squares / SEEDS as f64 - mean * mean;
        let standard_error = (variance / SEEDS as f64).sqrt();
        assert!((mean - 30.0).abs() < 4.0 * standard_error, "{mean} ± {standard_error}");
    }

    proptest! {
        /// The weights of each stratum add up to its requests, and the rows of any span of time
        /// stay within the budget, however the drains fall.
        #[test]
        fn weights_add_up_and_the_budget_holds(
            rate in 4_u32..50,
            seed: u64,
            seconds in proptest::collection::vec(
                (0_i64..3000, 0_usize..400, 0_usize..100, 0_usize..100, 0_usize..100), 1..20),
        ) {
            let mut sampler = Sampler::new(&config(rate), seed);
            let capacity = sampler.capacity;
            let (mut elapsed, mut taken) = (0, 0);
            let mut waiting = [0_usize; STRATA];
            for (elapsed_ms, ordinary, failures, denials, would_be) in seconds {
                let offers = [(failed(), failures), (denied(), denials),
                    (would_be_denied(), would_be), (record(), ordinary)];
                for (stratum, (record, count)) in offers.into_iter().enumerate() {
                    (0..count).for_each(|_| sampler.offer(&record));
                    waiting[stratum] += count;
                }
                let rows = drain(&mut sampler, elapsed_ms);
                elapsed += elapsed_ms;
                taken += rows.len();
                let budget = capacity as f64 + f64::from(rate) * elapsed as f64 / 1000.0;
                prop_assert!(taken as f64 <= budget + 1e-6, "{taken} of {budget}");
                if !rows.is_empty() {
                    for (stratum, count) in waiting.iter_mut().enumerate() {
                        let estimate = weight(&rows, |r| stratum_of(r) == stratum);
                        prop_assert!((estimate - *count as f64).abs() < 1e-6);
                        *count = 0;
                    }
                }
            }
        }

        /// Everything is given out where there is someone to take it, and nobody goes empty.
        #[test]
        fn a_budget_is_divided_without_rest(budget in 4_usize..1000, kept: [u8; STRATA]) {
            let kept = kept.map(usize::from);
            let shares = allot(budget, kept);
            prop_assert_eq!(shares.iter().sum::<usize>(), budget.min(kept.iter().sum()));
            for (share, kept) in shares.into_iter().zip(kept) {
                prop_assert!(share <= kept && (share > 0 || kept == 0));
            }
            prop_assert!(shares[ORDINARY] >= kept[ORDINARY].min(budget / STRATA));
        }
    }
}
