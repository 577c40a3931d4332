//! One lane of a client: a connection on which its requests follow each other at their pace.

use std::time::Duration;

use http::{StatusCode, header};
use tokio::sync::watch;
use tokio::time::{self, Instant};

use super::ClientsReport;
use super::connection::{Answer, Line};
use super::script::Script;
use crate::random::Random;

/// How long an answer is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// The longest that a patient client stays away when it is told to.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

pub(super) struct Lane {
    pub(super) line: Line,
    pub(super) pace: Pace,
    /// Whether it heeds `Retry-After`.
    pub(super) patient: bool,
    pub(super) script: Box<dyn Script>,
    pub(super) random: Random,
    /// The client's position in the report.
    pub(super) client: usize,
    pub(super) report: watch::Sender<ClientsReport>,
}

impl Lane {
    /// Sends requests until it is aborted.
    pub(super) async fn run(mut self) {
        let start = Instant::now();
        loop {
            time::sleep_until(start + self.pace.next(start.elapsed())).await;
            let request = self.script.next(&mut self.random);
            let answer = match time::timeout(ANSWER_WAIT, self.line.exchange(request)).await {
                Ok(Ok(answer)) => Some(answer),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a synthetic client got no answer");
                    None
                }
                Err(_) => None,
            };
            if let Some(answer) = &answer {
                self.script.learn(answer);
                if let Some(wait) = retry_after(answer).filter(|_| self.patient) {
                    self.pace.hold_until(start.elapsed() + wait);
                }
            }
            let status = answer.map(|answer| answer.status);
            self.report.send_modify(|report| report.count(self.client, status));
        }
    }
}

/// What a 429 or 503 asks for, in whole seconds.
fn retry_after(answer: &Answer) -> Option<Duration> {
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let seconds = answer.headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
            Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
        }
        _ => None,
    }
}

/// When requests are due, as times since the lane's start. It never gets ahead of its rate: a
/// burst is due when its last request would have been. What it missed while an answer took long,
/// it makes up for by one step at most.
pub(super) struct Pace {
    /// From one burst to the next.
    step: Duration,
    /// Requests in a burst; 1 is an even pace.
    burst: u32,
    /// Requests left of the burst under way.
    left: u32,
    due: Duration,
}

impl Pace {
    /// A request every `interval`, from `first` on.
    pub(super) fn even(interval: Duration, first: Duration) -> Self {
        Self { step: interval, burst: 1, left: 1, due: first }
    }

    /// About every `every`, as many requests at once as one each `interval` would have been.
    pub(super) fn bursts(interval: Duration, every: Duration) -> Self {
        let burst = (every.as_secs_f64() / interval.as_secs_f64()).floor().max(1.0) as u32;
        let step = interval * burst;
        Self { step, burst, left: burst, due: step }
    }

    /// When the next request is due, asked at `now`. It can be in the past.
    fn next(&mut self, now: Duration) -> Duration {
        if self.left == 0 {
            self.due = (self.due + self.step).max(now.saturating_sub(self.step));
            self.left = self.burst;
        }
        self.left -= 1;
        self.due
    }

    /// Nothing is due before `time`.
    fn hold_until(&mut self, time: Duration) {
        self.due = self.due.max(time.saturating_sub(self.step));
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The times at which requests are sent when each answer takes `answer_time`.
    fn sent(mut pace: Pace, answer_time: Duration, until: Duration) -> Vec<Duration> {
        let (mut now, mut times) = (Duration::ZERO, Vec::new());
        loop {
            now = pace.next(now).max(now);
            if now > until {
                return times;
            }
            times.push(now);
            now += answer_time;
        }
    }

    #[test]
    fn a_rate_is_kept_and_never_outpaced() {
        let interval = Duration::from_millis(200);
        let millis = Duration::from_millis;
        let cases = [
            ("even", Pace::even(interval, Duration::ZERO), millis(1), 56),
            ("even, later", Pace::even(interval, SECOND), millis(1), 51),
            ("even, slow answers", Pace::even(interval, Duration::ZERO), millis(150), 56),
            ("even, too slow answers", Pace::even(interval, Duration::ZERO), millis(400), 28),
            ("bursts", Pace::bursts(interval, 2 * SECOND), millis(1), 50),
            ("bursts of less than one", Pace::bursts(interval, millis(50)), millis(1), 55),
        ];
        for (name, pace, answer_time, expected) in cases {
            let times = sent(pace, answer_time, 11 * SECOND);
            assert_eq!(times.len(), expected, "{name}");
            for (earlier, time) in times.iter().enumerate() {
                let allowed = time.as_millis() / interval.as_millis();
                assert!(earlier as u128 <= allowed, "{name}: {earlier} before {time:?}");
            }
        }
    }

    #[test]
    fn a_burst_is_sent_without_a_pause() {
        let times = sent(
            Pace::bursts(Duration::from_millis(100), 2 * SECOND),
            Duration::from_millis(1),
            3 * SECOND,
        );
        assert_eq!(times.first(), Some(&(2 * SECOND)));
        assert_eq!(times.last(), Some(&(2 * SECOND + Duration::from_millis(19))));
        assert_eq!(times.len(), 20);
    }

    #[test]
    fn what_a_stall_missed_is_not_made_up_for() {
        let mut pace = Pace::even(SECOND, Duration::ZERO);
        assert_eq!(pace.next(Duration::ZERO), Duration::ZERO);
        assert_eq!(pace.next(60 * SECOND), 59 * SECOND);
        assert_eq!(pace.next(60 * SECOND), 60 * SECOND);
        assert_eq!(pace.next(60 * SECOND), 61 * SECOND);
    }

    #[test]
    fn a_client_that_is_told_to_wait_waits() {
        let mut pace = Pace::even(SECOND, Duration::ZERO);
        pace.next(Duration::ZERO);
        pace.hold_until(30 * SECOND);
        assert_eq!(pace.next(Duration::ZERO), 30 * SECOND);
        assert_eq!(pace.next(30 * SECOND), 31 * SECOND);
    }
}
