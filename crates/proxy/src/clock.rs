use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use seaworthy_policy::Moment;

/// The one clock of the process: a monotonic reading, and the Unix time that belongs to it.
///
/// All workers copy the same clock, so that their moments compare and the shared state of a
/// protection sees one time line.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_unix: Duration,
}

impl Clock {
    /// Starts a clock; once for each process.
    pub fn start() -> Self {
        let start_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_unix }
    }

    pub fn now(&self) -> Moment {
        Moment::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Unix time in milliseconds at `moment`. It follows the monotonic clock, so records of one
    /// process are in order even where the system's time is set.
    pub fn unix_ms(&self, moment: Moment) -> i64 {
        let at = self.start_unix + Duration::from_nanos(moment.as_nanos());
        i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
    }

    /// The instant of `nanos` on this clock, for timers.
    pub(crate) fn instant(&self, nanos: u64) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + Duration::from_nanos(nanos))
    }
}
