//! `[learn]`: whether it is written down what requests are like, to learn a schema from.

use std::time::Duration;

use seaworthy_policy::quantity::Rate;
use seaworthy_proxy::Sampling;
use serde::{Deserialize, Serialize};

use super::check::Checks;

/// `[learn]` of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Learn {
    /// Off by default: the bodies of the requests that are drawn are read, and whether they may be
    /// is the operator's to say. No value is kept of them.
    pub enabled: bool,
    /// Requests that each worker draws. 5 a second are 400 000 a day: an operation that is one in
    /// ten thousand has its samples by then.
    pub sample: Rate,
}

impl Default for Learn {
    fn default() -> Self {
        Self { enabled: false, sample: Rate::per_second(5) }
    }
}

/// More would learn nothing more, and the ring between a worker and the store has an end.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Draws that a worker saves up.
const BURST_MAX: u32 = 1000;

impl Learn {
    /// What the data plane is told; None where nothing is learned.
    pub fn sampling(&self) -> Option<Sampling> {
        let burst = self.sample.count().min(BURST_MAX);
        self.enabled.then(|| Sampling { interval: self.interval(), burst })
    }

    fn interval(&self) -> Duration {
        self.sample.window() / self.sample.count()
    }

    pub(crate) fn check(&self, checks: &mut Checks<'_>) {
        checks.require(
            self.interval() >= INTERVAL_MIN,
            "sample",
            "expected at most \"1000/s\", such as \"5/s\" or \"100/min\"",
        );
    }
}
