//! `[store.telemetry]` of the config.

use std::time::Duration;

use seaworthy_policy::quantity::{ByteSize, Period};
use serde::{Deserialize, Serialize};

/// How much of what the gateway saw is kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Request rows written per second, on average; 0 for none. Above it requests are sampled;
    /// the rollups count all of them all the same. Default: 200, which a page of requests
    /// cannot tell from all of them and a small disk does not feel.
    pub rows_per_second: u32,
    /// How long request rows are kept. Default: 7 days, to look into last week's incident.
    pub retention: Period,
    /// How long rollups are kept. Default: 90 days, a quarter to compare with.
    pub rollup_retention: Period,
    /// What all of it may take on disk; the oldest request rows go first, then the oldest
    /// rollups. Default: 1 GiB.
    pub size_max: ByteSize,
    /// How often what was counted is handed to the writer. Default: 1 second, which is also
    /// what a crash can lose.
    pub flush_every: Period,
    /// The time over which the evidence of a rule is added up. Default: 1 minute. A demonstration
    /// makes it shorter; a store keeps evidence of one length.
    pub tick: Period,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            rows_per_second: 200,
            retention: Period::secs(7 * 24 * 3600),
            rollup_retention: Period::secs(90 * 24 * 3600),
            size_max: ByteSize::mib(1024),
            flush_every: Period::secs(1),
            tick: Period::secs(60),
        }
    }
}

/// A setting that is well-formed and still makes no sense. Fits after "`<key>`: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TelemetryConfigError {
    /// Below `[store.telemetry]`.
    pub key: &'static str,
    pub message: &'static str,
}

/// The least that gives each kind of request (failed, denied, would-be denied, ordinary) a row.
pub(super) const ROWS_PER_SECOND_MIN: u32 = 4;
const ROWS_PER_SECOND_MAX: u32 = 10_000;
const SIZE_MIN: ByteSize = ByteSize::mib(8);

impl TelemetryConfig {
    /// Every fault at once; none where the settings make sense.
    pub fn faults(&self) -> Vec<TelemetryConfigError> {
        let within = |period: Period, min: u64, max: u64| {
            (Duration::from_millis(min)..=Duration::from_millis(max))
                .contains(&period.as_duration())
        };
        const DAY_MS: u64 = 24 * 3600 * 1000;
        let rows = self.rows_per_second;
        let checks = [
            (
                rows == 0 || (ROWS_PER_SECOND_MIN..=ROWS_PER_SECOND_MAX).contains(&rows),
                "rows_per_second",
                "expected 4 to 10000, or 0 for none",
            ),
            (
                within(self.retention, 60_000, 3650 * DAY_MS),
                "retention",
                "expected \"1m\" to \"3650d\"",
            ),
            (
                within(self.rollup_retention, 60_000, 3650 * DAY_MS),
                "rollup_retention",
                "expected \"1m\" to \"3650d\"",
            ),
            (self.size_max >= SIZE_MIN, "size_max", "expected at least \"8MiB\""),
            (
                within(self.tick, 1000, 60_000)
                    && 60_000 % self.tick.as_duration().as_millis() == 0,
                "tick",
                "expected \"1s\" to \"1m\", a whole part of a minute",
            ),
            (within(self.flush_every, 100, 60_000), "flush_every", "expected \"100ms\" to \"60s\""),
        ];
        checks
            .into_iter()
            .filter(|(fine, ..)| !fine)
            .map(|(_, key, message)| TelemetryConfigError { key, message })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense_and_nonsense_is_named() {
        assert_eq!(TelemetryConfig::default().faults(), []);
        let none = TelemetryConfig { rows_per_second: 0, ..TelemetryConfig::default() };
        assert_eq!(none.faults(), []);
        let nonsense = TelemetryConfig {
            rows_per_second: 3,
            retention: Period::secs(0),
            rollup_retention: Period::secs(59),
            size_max: ByteSize(1),
            tick: Period::secs(7),
            flush_every: Period::secs(3600),
        };
        let keys: Vec<_> = nonsense.faults().iter().map(|fault| fault.key).collect();
        assert_eq!(
            keys,
            ["rows_per_second", "retention", "rollup_retention", "size_max", "tick", "flush_every"]
        );
    }

    #[test]
    fn it_is_read_with_defaults_and_without_unknown_keys() {
        let read: TelemetryConfig =
            serde_json::from_str(r#"{"retention": "3d", "size_max": "64MiB"}"#).unwrap();
        assert_eq!(read.retention, Period::secs(3 * 24 * 3600));
        assert_eq!(read.rows_per_second, 200);
        assert!(serde_json::from_str::<TelemetryConfig>(r#"{"retain": "3d"}"#).is_err());
    }
}
