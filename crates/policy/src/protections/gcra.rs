//! The generic cell rate algorithm over a bounded table of keys that all workers share without
//! a lock.
//!
//! A key's whole state is one number, its theoretical arrival time (TAT): the moment at which
//! its bucket would be full again. The table is set-associative: a key hashes to one cache line
//! of four places; where all four are taken by others, the one nearest to full is forgotten.
//! Forgetting lets a key start afresh; it can never deny a request that should pass.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::Moment;

/// So many requests in a window, `burst` of them at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    /// Nanoseconds that one request costs.
    interval: u64,
    /// Nanoseconds of credit that can be saved up: `burst × interval`.
    tolerance: u64,
}

impl Quota {
    /// `count` and `burst` are at least 1.
    pub(crate) fn new(count: u32, window: Duration, burst: u32) -> Self {
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let interval = (window / u64::from(count.max(1))).max(1);
        Self { interval, tolerance: interval.saturating_mul(u64::from(burst.max(1))) }
    }
}

/// What a charge came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// Paid. This many more would pass at once; all of the burst is back after `full_in`.
    Conforming { remaining: u64, full_in: Duration },
    /// Not paid, nothing taken. The same request would pass after this wait.
    Exceeding { wait: Duration },
}

/// TATs by key.
pub(crate) struct GcraTable {
    sets: Box<[Set]>,
    hasher: SipHasher13,
}

const WAYS: usize = 4;

/// One cache line. Tag 0 marks a free place.
#[repr(align(64))]
#[derive(Default)]
struct Set {
    tags: [AtomicU64; WAYS],
    tats: [AtomicU64; WAYS],
}

impl GcraTable {
    /// A table for at least `keys` keys; 16 bytes each.
    pub(crate) fn new(keys: usize, key: &[u8; 16]) -> Self {
        let sets = (keys.max(WAYS) / WAYS).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            hasher: SipHasher13::new_with_key(key),
        }
    }

    /// Charges one request to `key`.
    ///
    /// Two workers that charge a key for the very first time at the same instant may both find
    /// it absent; one of the two charges is then lost. Later charges are exact.
    pub(crate) fn charge(&self, key: &[u8], quota: Quota, now: Moment) -> Charge {
        let mut hasher = self.hasher;
        hasher.write(key);
        let tag = hasher.finish().max(1);
        let set = &self.sets[(tag as usize) & (self.sets.len() - 1)];
        // TATs count from one tolerance before the clock's origin, so that 0 is "long ago".
        let now = now.as_nanos().saturating_add(quota.tolerance);
        let place = set.find(tag).unwrap_or_else(|| set.claim(tag));
        let tat = &set.tats[place];
        let mut seen = tat.load(Relaxed);
        loop {
            let next = seen.max(now).saturating_add(quota.interval);
            let ahead = next - now;
            if ahead > quota.tolerance {
                return Charge::Exceeding { wait: Duration::from_nanos(ahead - quota.tolerance) };
            }
            match tat.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                Ok(_) => {
                    return Charge::Conforming {
                        remaining: (quota.tolerance - ahead) / quota.interval,
                        full_in: Duration::from_nanos(ahead),
                    };
                }
                Err(newer) => seen = newer,
            }
        }
    }
}

impl Set {
    fn find(&self, tag: u64) -> Option<usize> {
        self.tags.iter().position(|place| place.load(Relaxed) == tag)
    }

    /// Takes a free place, else the one whose TAT is least: it is full or nearest to it.
    fn claim(&self, tag: u64) -> usize {
        let mut victim = 0;
        let mut least = u64::MAX;
        for place in 0..WAYS {
            let free = self.tags[place].load(Relaxed) == 0;
            let tat = if free { 0 } else { self.tats[place].load(Relaxed) };
            if tat < least {
                (victim, least) = (place, tat);
            }
        }
        self.tats[victim].store(0, Relaxed);
        self.tags[victim].store(tag, Relaxed);
        victim
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn table(keys: usize) -> GcraTable {
        GcraTable::new(keys, &[3; 16])
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let (table, quota) = (table(64), Quota::new(60, Duration::from_secs(60), 5));
        for left in (0..5).rev() {
            let charge = table.charge(b"a", quota, at(0));
            assert!(matches!(charge, Charge::Conforming { remaining, .. } if remaining == left));
        }
        let wait = Duration::from_secs(1);
        assert_eq!(table.charge(b"a", quota, at(0)), Charge::Exceeding { wait });
        assert!(matches!(table.charge(b"b", quota, at(0)), Charge::Conforming { .. }));
        assert!(matches!(table.charge(b"a", quota, at(1000)), Charge::Conforming { .. }));
        assert!(matches!(table.charge(b"a", quota, at(1000)), Charge::Exceeding { .. }));
    }

    #[test]
    fn a_full_table_forgets_and_never_denies_a_newcomer() {
        let (table, quota) = (table(4), Quota::new(1, Duration::from_secs(60), 1));
        for key in 0u32..1000 {
            let charge = table.charge(&key.to_be_bytes(), quota, at(u64::from(key)));
            assert!(matches!(charge, Charge::Conforming { .. }), "{key}");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate(
            count in 1u32..50, burst in 1u32..20, gaps in proptest::collection::vec(0u64..500, 1..200),
        ) {
            let (table, quota) = (table(64), Quota::new(count, Duration::from_secs(1), burst));
            let (mut now, mut passed) = (0, 0u64);
            for gap in gaps {
                now += gap;
                if matches!(table.charge(b"k", quota, at(now)), Charge::Conforming { .. }) {
                    passed += 1;
                }
                // One more than the exact figure: the interval is rounded down to nanoseconds.
                prop_assert!(passed <= u64::from(burst) + now * u64::from(count) / 1000 + 1);
            }
        }

        #[test]
        fn waiting_as_told_is_enough(count in 1u32..50, burst in 1u32..20, tries in 1usize..60) {
            let (table, quota) = (table(64), Quota::new(count, Duration::from_secs(1), burst));
            let mut now = at(0);
            for _ in 0..tries {
                if let Charge::Exceeding { wait } = table.charge(b"k", quota, now) {
                    now = now.after(wait);
                    let again = table.charge(b"k", quota, now);
                    let passes = matches!(again, Charge::Conforming { .. });
                    prop_assert!(passes);
                }
            }
        }
    }
}
