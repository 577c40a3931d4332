//! Latency in fixed buckets, so that histograms of different minutes, gateways and versions add
//! up.
//!
//! The bounds from 5 ms up are those of the OpenTelemetry semantic conventions for
//! `http.server.request.duration`; the six below them are for what the conventions never meant
//! to see, a gateway's own answers and a fast service on the same machine.

use serde::Serialize;

/// Upper bounds of the buckets in microseconds, each inclusive. What is above the last falls
/// into one more bucket.
pub const LATENCY_BOUNDS_US: [u32; 20] = [
    50, 100, 250, 500, 1000, 2500, // below the conventions
    5000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000,
    5_000_000, 7_500_000, 10_000_000,
];

/// The buckets of [`LATENCY_BOUNDS_US`] and the one above them.
pub const LATENCY_BUCKETS: usize = LATENCY_BOUNDS_US.len() + 1;

/// How long things took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatencyHistogram {
    /// Observations in each bucket alone, not cumulated.
    pub counts: [u64; LATENCY_BUCKETS],
    /// The sum of all observations in microseconds.
    pub sum_us: u64,
    /// The longest observation in microseconds.
    pub max_us: u32,
}

impl LatencyHistogram {
    pub fn observe(&mut self, us: u32) {
        self.counts[bucket_of(us)] += 1;
        self.sum_us = self.sum_us.saturating_add(u64::from(us));
        self.max_us = self.max_us.max(us);
    }

    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Estimates the quantile `q` (0 to 1) in microseconds: the bucket is the one that holds
    /// the observation of that rank, the place within it is interpolated. `None` where nothing
    /// was observed.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((q * count as f64).ceil() as u64).clamp(1, count);
        let mut below = 0;
        for (bucket, in_bucket) in self.counts.into_iter().enumerate() {
            if below + in_bucket >= rank {
                let (lower, upper) = bounds_of(bucket);
                let upper = upper.unwrap_or(self.max_us).min(self.max_us).max(lower);
                let share = (rank - below) as f64 / in_bucket as f64;
                let estimate = f64::from(lower) + f64::from(upper - lower) * share;
                return Some(estimate.round() as u64);
            }
            below += in_bucket;
        }
        unreachable!("the rank is at most the count");
    }
}

fn bucket_of(us: u32) -> usize {
    LATENCY_BOUNDS_US.partition_point(|bound| *bound < us)
}

/// The exclusive lower and the inclusive upper bound, in microseconds.
fn bounds_of(bucket: usize) -> (u32, Option<u32>) {
    let lower = bucket.checked_sub(1).map_or(0, |below| LATENCY_BOUNDS_US[below]);
    (lower, LATENCY_BOUNDS_US.get(bucket).copied())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_that_it_closes() {
        for (us, bucket) in [(0, 0), (50, 0), (51, 1), (5000, 6), (10_000_000, 19)] {
            assert_eq!(bucket_of(us), bucket, "{us}");
        }
        assert_eq!(bucket_of(10_000_001), 20);
        assert_eq!(bucket_of(u32::MAX), 20);
        assert!(LATENCY_BOUNDS_US.is_sorted());
    }

    #[test]
    fn nothing_has_no_quantile_and_one_has_itself_as_the_last() {
        let mut one = LatencyHistogram::default();
        assert_eq!(one.quantile_us(0.5), None);
        one.observe(60_000_000);
        assert_eq!(one.quantile_us(1.0), Some(60_000_000));
    }

    proptest! {
        /// An estimate is in the bucket of the exact quantile (the observation of that rank),
        /// and never above the longest observation.
        #[test]
        fn an_estimate_lies_within_its_bucket(
            mut all in proptest::collection::vec(
                prop_oneof![0_u32..2000, 0_u32..20_000_000, Just(u32::MAX)], 1..200),
            q in 0.0..=1.0_f64,
        ) {
            let mut histogram = LatencyHistogram::default();
            all.iter().for_each(|us| histogram.observe(*us));
            all.sort_unstable();
            let rank = ((q * all.len() as f64).ceil() as usize).clamp(1, all.len());
            let (lower, upper) = bounds_of(bucket_of(all[rank - 1]));
            let estimate = histogram.quantile_us(q).unwrap();
            prop_assert!(estimate >= u64::from(lower));
            prop_assert!(estimate <= upper.map_or(u64::MAX, u64::from));
            prop_assert!(estimate <= u64::from(*all.last().unwrap()));
        }

        /// Observing in two histograms and adding them is observing in one.
        #[test]
        fn histograms_add_up(all in proptest::collection::vec(any::<u32>(), 0..100), cut in 0_usize..100) {
            let (mut left, mut right, mut whole) = <(LatencyHistogram, LatencyHistogram, LatencyHistogram)>::default();
            for (index, us) in all.iter().enumerate() {
                if index < cut { left.observe(*us) } else { right.observe(*us) }
                whole.observe(*us);
            }
            left.add(&right);
            prop_assert_eq!(left, whole);
        }
    }
}
