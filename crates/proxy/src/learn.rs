//! Which requests are learned from: a few a second, spread over what arrives.
//!
//! A worker saves up draws while there is little to draw from, up to those of one window of the
//! rate. So all requests of a quiet service are drawn, and of a busy one those that come next when
//! a draw has been earned, whatever they are.

use std::cell::Cell;
use std::time::Duration;

use seaworthy_policy::Moment;

/// How many requests a worker learns from, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// A draw is earned this often.
    pub interval: Duration,
    /// Draws that are saved up; at least 1.
    pub burst: u32,
}

/// The draws of one worker.
#[derive(Debug, Default)]
pub(crate) struct Draws {
    /// When all of those that are used will have been earned.
    earned_at: Cell<Option<Moment>>,
}

impl Draws {
    /// Whether the request that is here at `now` is learned from.
    pub(crate) fn draw(&self, sampling: Sampling, now: Moment) -> bool {
        let Sampling { interval, burst } = sampling;
        let earned_at = self.earned_at.get().unwrap_or(now).max(now);
        let ahead = earned_at.since(now);
        // So far ahead are only the draws of a slower rate, before a reload.
        let earned_at = if ahead > interval * burst { now } else { earned_at };
        let drawn = earned_at.since(now) <= interval * (burst - 1);
        if drawn {
            self.earned_at.set(Some(earned_at.after(interval)));
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_earned_saved_up_and_used() {
        let sampling = Sampling { interval: Duration::from_millis(200), burst: 5 };
        let draws = Draws::default();
        let count = |at_ms: u64, sampling| {
            let now = Moment::START.after(Duration::from_millis(at_ms));
            (0..100).filter(|_| draws.draw(sampling, now)).count()
        };
        for (at_ms, want) in [(0, 5), (100, 0), (200, 1), (399, 0), (900, 3), (60_000, 5)] {
            assert_eq!(count(at_ms, sampling), want, "at {at_ms} ms");
        }
        let slow = Sampling { interval: Duration::from_secs(86_400), burst: 1 };
        assert_eq!(count(70_000, slow), 1);
        assert_eq!(count(70_001, sampling), 5, "a reload does not wait for the slower rate");
    }
}
