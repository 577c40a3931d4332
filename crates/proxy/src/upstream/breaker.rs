//! A circuit breaker for one upstream: after so many failures in a row it is left alone for a
//! while, then a single request tries it.
//!
//! 1. Closed: requests pass. `failures` in a row open it.
//! 2. Open: no request passes until its time is over. The time doubles with each opening in a
//!    row, up to a maximum.
//! 3. Half open: one request passes. Its success closes the breaker, its failure opens it again.
//! 4. Only failures below HTTP count (no connection, a reset, nonsense): a service that answers
//!    500 is broken for some requests, and ejecting it would break the others.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use seaworthy_policy::Moment;

/// When an upstream is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionPolicy {
    /// Failures in a row; 0 never ejects.
    pub failures: u32,
    /// The first time.
    pub period: Duration,
    pub period_max: Duration,
}

/// Shared by all workers. Races between them can let a second probe through, never lose one.
#[derive(Debug)]
pub(crate) struct Breaker {
    policy: EjectionPolicy,
    failures_in_row: AtomicU32,
    openings_in_row: AtomicU32,
    openings: AtomicU64,
    /// Nanoseconds; 0 is closed.
    open_until: AtomicU64,
}

impl Breaker {
    pub(crate) const fn new(policy: EjectionPolicy) -> Self {
        Self {
            policy,
            failures_in_row: AtomicU32::new(0),
            openings_in_row: AtomicU32::new(0),
            openings: AtomicU64::new(0),
            open_until: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_open(&self, now: Moment) -> bool {
        now.as_nanos() < self.open_until.load(Relaxed)
    }

    pub(crate) fn ejections(&self) -> u64 {
        self.openings.load(Relaxed)
    }

    /// Asks to send a request. In the half-open state the first to ask is the probe: until it
    /// has come back, or a period has passed, the others are told no.
    pub(crate) fn admits(&self, now: Moment) -> bool {
        let until = self.open_until.load(Relaxed);
        if until == 0 {
            return true;
        }
        if now.as_nanos() < until {
            return false;
        }
        let next = now.after(self.policy.period).as_nanos();
        self.open_until.compare_exchange(until, next, Relaxed, Relaxed).is_ok()
    }

    pub(crate) fn succeeded(&self) {
        // Loads before stores: the cache line stays shared while all is well.
        if self.failures_in_row.load(Relaxed) != 0 {
            self.failures_in_row.store(0, Relaxed);
        }
        if self.open_until.load(Relaxed) != 0 {
            self.open_until.store(0, Relaxed);
            self.openings_in_row.store(0, Relaxed);
        }
    }

    /// Returns whether this failure opened the breaker.
    pub(crate) fn failed(&self, now: Moment) -> bool {
        let failures = self.failures_in_row.fetch_add(1, Relaxed) + 1;
        let was_open = self.open_until.load(Relaxed) != 0;
        if self.policy.failures == 0 || (failures < self.policy.failures && !was_open) {
            return false;
        }
        let doublings = self.openings_in_row.fetch_add(1, Relaxed).min(16);
        let period = self.policy.period.saturating_mul(1 << doublings).min(self.policy.period_max);
        self.open_until.store(now.after(period).as_nanos().max(1), Relaxed);
        self.failures_in_row.store(0, Relaxed);
        self.openings.fetch_add(1, Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(EjectionPolicy {
            failures: 3,
            period: Duration::from_secs(1),
            period_max: Duration::from_secs(3),
        })
    }

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(1 + millis * 1_000_000)
    }

    #[test]
    fn it_opens_probes_and_closes() {
        let breaker = breaker();
        assert!(!breaker.failed(at(0)) && !breaker.failed(at(0)));
        assert!(breaker.admits(at(0)), "two failures are not three");
        assert!(breaker.failed(at(0)));
        assert!(!breaker.admits(at(999)) && breaker.is_open(at(999)));
        assert!(breaker.admits(at(1000)), "the probe");
        assert!(!breaker.admits(at(1000)), "one probe at a time");
        assert!(breaker.failed(at(1100)), "the probe failed");
        assert!(!breaker.admits(at(3000)), "the period has doubled");
        assert!(breaker.admits(at(3200)));
        breaker.succeeded();
        assert!(breaker.admits(at(3200)) && breaker.admits(at(3200)));
        assert_eq!(breaker.ejections(), 2);
    }

    #[test]
    fn a_success_between_failures_starts_the_count_afresh() {
        let breaker = breaker();
        for n in 0..10 {
            assert!(!breaker.failed(at(n)) && !breaker.failed(at(n)));
            breaker.succeeded();
        }
        assert!(breaker.admits(at(10)));
    }

    #[test]
    fn the_period_has_a_maximum_and_zero_failures_never_eject() {
        let breaker = breaker();
        let mut now = 0;
        for _ in 0..20 {
            while !breaker.failed(at(now)) {}
            now += 3000;
            assert!(breaker.admits(at(now)));
        }
        let never = Breaker::new(EjectionPolicy { failures: 0, ..breaker.policy });
        assert!(!(0..100).any(|_| never.failed(at(0))));
    }
}
