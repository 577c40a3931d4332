//! What the rollups say of a span of time: of the traffic, of each route, of each rule.
//!
//! All of it is exact but the quantiles, which are estimated from the buckets of
//! [`LatencyHistogram`].

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

use super::TelemetryReader;
use super::batch::Minute;
use super::histogram::{LATENCY_BUCKETS, LatencyHistogram};
use crate::error::StoreError;

/// The columns of a rollup's histogram, in the order of its buckets.
pub(super) const LATENCY_COLUMNS: [&str; LATENCY_BUCKETS] = [
    "to_50us",
    "to_100us",
    "to_250us",
    "to_500us",
    "to_1ms",
    "to_2500us",
    "to_5ms",
    "to_10ms",
    "to_25ms",
    "to_50ms",
    "to_75ms",
    "to_100ms",
    "to_250ms",
    "to_500ms",
    "to_750ms",
    "to_1s",
    "to_2500ms",
    "to_5s",
    "to_7500ms",
    "to_10s",
    "over_10s",
];

/// A span of time in Unix milliseconds: all minutes that it touches, `until` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    pub since_unix_ms: i64,
    pub until_unix_ms: i64,
}

impl TimeRange {
    /// The first minute, and the one after the last.
    fn minutes(self) -> [i64; 2] {
        let until = Minute::of_unix_ms(self.until_unix_ms.saturating_sub(1));
        [Minute::of_unix_ms(self.since_unix_ms).0, until.0 + 1]
    }
}

/// Requests over some time, for all of which [`Self::latency`] is one histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    pub requests: u64,
    pub errors_4xx: u64,
    pub errors_5xx: u64,
    /// Bytes of bodies.
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Microseconds from the complete head to the last byte of the answer; `None` where there
    /// were no requests.
    pub p50_us: Option<u64>,
    pub p90_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub latency: LatencyHistogram,
}

/// One point of a chart: `step_minutes` from `minute_unix_ms` on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrafficPoint {
    /// Unix milliseconds.
    pub minute_unix_ms: i64,
    /// Records that are missing here; above 0 the point is incomplete.
    pub records_dropped: u64,
    #[serde(flatten)]
    pub traffic: Traffic,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteSummary {
    pub route: String,
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// What the rules said, and whether all of it is here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RulesSummary {
    /// Records that are missing; above 0 the counts are no evidence of all the traffic.
    pub records_dropped: u64,
    /// By name; those that judged something.
    pub rules: Vec<RuleSummary>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleSummary {
    /// `rate_limit`, or `rate_limit@POST /api/traces`.
    pub rule: String,
    /// Requests that it judged.
    pub evaluated: u64,
    /// Of those: would have been denied.
    pub would_deny: u64,
    /// Of those: were denied.
    pub denied: u64,
    /// Of the would-denies: those whose request was answered with 2xx or 3xx, or switched
    /// protocols.
    pub harm: u64,
}

impl TelemetryReader {
    /// The traffic of a span, oldest first, one point for each `step_minutes` in which
    /// something happened.
    pub fn rollups(
        &self,
        range: TimeRange,
        step_minutes: NonZeroU32,
    ) -> Result<Vec<TrafficPoint>, StoreError> {
        let step = i64::from(step_minutes.get());
        let [since, until] = range.minutes();
        let mut points = BTreeMap::<i64, TrafficPoint>::new();
        self.readers.read(|connection| {
            let sql = traffic_sql("minute - minute % ?3", "");
            let mut query = connection.prepare_cached(&sql)?;
            let mut rows = query.query([since, until, step])?;
            while let Some(row) = rows.next()? {
                points.entry(row.get(0)?).or_default().traffic = traffic(row)?;
            }
            let mut query = connection.prepare_cached(
                "SELECT minute - minute % ?3, sum(records) FROM dropped_record \
                 WHERE minute >= ?1 AND minute < ?2 GROUP BY 1",
            )?;
            let mut rows = query.query([since, until, step])?;
            while let Some(row) = rows.next()? {
                points.entry(row.get(0)?).or_default().records_dropped = unsigned(row, 1)?;
            }
            Ok(())
        })?;
        let at = |(minute, point)| TrafficPoint { minute_unix_ms: minute * Minute::MS, ..point };
        Ok(points.into_iter().map(at).collect())
    }

    /// The traffic of each route, by name; those that had some.
    pub fn routes_summary(&self, range: TimeRange) -> Result<Vec<RouteSummary>, StoreError> {
        let sql = traffic_sql("route.name", "JOIN route ON route.id = route_id");
        self.readers.read(|connection| {
            connection
                .prepare_cached(&sql)?
                .query_map(range.minutes(), |row| {
                    Ok(RouteSummary { route: row.get(0)?, traffic: traffic(row)? })
                })?
                .collect()
        })
    }

    /// What each rule said, by name.
    pub fn rules_summary(&self, range: TimeRange) -> Result<RulesSummary, StoreError> {
        self.readers.read(|connection| {
            let rules = connection
                .prepare_cached(
                    "SELECT rule.name, sum(evaluated), sum(would_deny), sum(denied), sum(harm) \
                     FROM rule_rollup JOIN rule ON rule.id = rule_id \
                     WHERE minute >= ?1 AND minute < ?2 GROUP BY rule.name ORDER BY rule.name",
                )?
                .query_map(range.minutes(), |row| {
                    Ok(RuleSummary {
                        rule: row.get(0)?,
                        evaluated: unsigned(row, 1)?,
                        would_deny: unsigned(row, 2)?,
                        denied: unsigned(row, 3)?,
                        harm: unsigned(row, 4)?,
                    })
                })?
                .collect::<Result<_, _>>()?;
            Ok(RulesSummary { records_dropped: records_dropped(connection, range)?, rules })
        })
    }
}

fn records_dropped(connection: &Connection, range: TimeRange) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(
            "SELECT coalesce(sum(records), 0) FROM dropped_record \
             WHERE minute >= ?1 AND minute < ?2",
        )?
        .query_row(range.minutes(), |row| unsigned(row, 0))
}

/// A group, then what [`traffic`] reads.
fn traffic_sql(group: &str, join: &str) -> String {
    let buckets: String = LATENCY_COLUMNS.iter().map(|name| format!(", sum({name})")).collect();
    format!(
        "SELECT {group}, sum(requests), sum(requests) FILTER (WHERE status_class = 4), \
         sum(requests) FILTER (WHERE status_class = 5), sum(request_bytes), sum(response_bytes), \
         sum(duration_us_sum), max(duration_us_max){buckets} \
         FROM rollup {join} WHERE minute >= ?1 AND minute < ?2 GROUP BY 1 ORDER BY 1"
    )
}

fn traffic(row: &Row<'_>) -> rusqlite::Result<Traffic> {
    let mut latency = LatencyHistogram {
        sum_us: unsigned(row, 6)?,
        max_us: row.get(7)?,
        ..LatencyHistogram::default()
    };
    for (bucket, count) in latency.counts.iter_mut().enumerate() {
        *count = unsigned(row, 8 + bucket)?;
    }
    Ok(Traffic {
        requests: unsigned(row, 1)?,
        errors_4xx: unsigned(row, 2)?,
        errors_5xx: unsigned(row, 3)?,
        request_bytes: unsigned(row, 4)?,
        response_bytes: unsigned(row, 5)?,
        p50_us: latency.quantile_us(0.5),
        p90_us: latency.quantile_us(0.9),
        p99_us: latency.quantile_us(0.99),
        latency,
    })
}

/// A count; the sum of nothing is 0.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let count: Option<i64> = row.get(column)?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::histogram::LATENCY_BOUNDS_US;
    use super::*;

    #[test]
    fn each_column_is_called_after_the_bound_of_its_bucket() {
        for (bound, column) in LATENCY_BOUNDS_US.into_iter().zip(LATENCY_COLUMNS) {
            let text = column.strip_prefix("to_").unwrap();
            let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
            let number: u32 = text.strip_suffix(unit).unwrap().parse().unwrap();
            let us = match unit {
                "us" => 1,
                "ms" => 1000,
                "s" => 1_000_000,
                other => panic!("{other} is no unit"),
            };
            assert_eq!(number * us, bound, "{column}");
        }
    }

    #[test]
    fn a_range_is_all_minutes_that_it_touches() {
        let minutes =
            |since_unix_ms, until_unix_ms| TimeRange { since_unix_ms, until_unix_ms }.minutes();
        assert_eq!(minutes(0, 60_000), [0, 1]);
        assert_eq!(minutes(59_999, 60_001), [0, 2]);
        assert_eq!(minutes(60_000, 60_000), [1, 1]);
        assert_eq!(minutes(i64::MIN, i64::MAX)[1], i64::MAX / 60_000 + 1);
    }
}
