//! Latencies in logarithmic buckets: counting is one increment, a quantile is off by 3 % at most.

/// Buckets per doubling, as a power of two: 16.
const STEPS_LOG2: u32 = 4;

/// Below 16 µs a bucket a microsecond, then 16 a doubling up to 2³² µs.
const BUCKETS: usize = ((32 - STEPS_LOG2 as usize) + 1) << STEPS_LOG2;

/// How many requests took how long. About 4 kB.
#[derive(Clone, Debug)]
pub(super) struct LatencyCounts {
    buckets: Box<[u64; BUCKETS]>,
}

impl Default for LatencyCounts {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]) }
    }
}

impl LatencyCounts {
    pub(super) fn count(&mut self, latency_us: u32) {
        self.buckets[bucket(latency_us)] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *sum += count;
        }
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill(0);
    }

    /// The latency that `quantile` (0 to 1) of the requests did not exceed: the middle of the
    /// bucket that holds it, in microseconds. `None` without requests.
    pub(super) fn quantile_us(&self, quantile: f64) -> Option<u32> {
        let total: u64 = self.buckets.iter().sum();
        // The nearest-rank definition: the smallest value with at least this many up to it.
        let rank = ((total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(middle_us(bucket));
            }
        }
        None
    }
}

fn bucket(latency_us: u32) -> usize {
    let shift = (u32::BITS - latency_us.leading_zeros()).saturating_sub(STEPS_LOG2 + 1);
    ((shift << STEPS_LOG2) + (latency_us >> shift)) as usize
}

fn middle_us(bucket: usize) -> u32 {
    let shift = (bucket >> STEPS_LOG2).saturating_sub(1);
    let low = ((bucket - (shift << STEPS_LOG2)) as u64) << shift;
    let middle = low + ((1u64 << shift) >> 1);
    u32::try_from(middle).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_within_three_percent_of_what_it_holds() {
        let mut last = 0;
        for latency_us in (0..40_000).chain((16..32).map(|n| 1 << n)).chain([u32::MAX]) {
            let bucket = bucket(latency_us);
            assert!(bucket < BUCKETS && bucket >= last, "{latency_us}: {bucket} after {last}");
            last = bucket;
            let off = middle_us(bucket).abs_diff(latency_us);
            assert!(f64::from(off) <= 0.0313 * f64::from(latency_us), "{latency_us}: off by {off}");
        }
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let mut counts = LatencyCounts::default();
        assert_eq!(counts.quantile_us(0.5), None);
        for latency_us in 1..=10 {
            counts.count(latency_us);
        }
        for (quantile, want_us) in [(0.0, 1), (0.1, 1), (0.5, 5), (0.51, 6), (0.99, 10), (1.0, 10)]
        {
            assert_eq!(counts.quantile_us(quantile), Some(want_us), "{quantile}");
        }
        counts.clear();
        assert_eq!(counts.quantile_us(0.5), None);
    }
}
