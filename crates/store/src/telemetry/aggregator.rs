//! Counts every request and samples some: the pure part of telemetry, called once a request.
//!
//! 1. A request counts in the minute in which it ended, so that a minute is final soon after it
//!    is over, however long a request took.
//! 2. Counts are exact. They are kept by minute × route × method × status class × tenant, and
//!    by minute × rule, and handed over as differences: a flush holds what came since the last.
//! 3. A minute tells [`TENANTS_MAX`] tenants apart, in the order they come; the requests of
//!    more count for the tenant `~other`, a name that no tenant can have.
//! 4. Harm is a would-deny whose request was then answered with 2xx or 3xx, or switched
//!    protocols (101): a real client would have been broken.
//! 5. Clients are counted by day, with what they called themselves and which rules objected
//!    (`consumer_counts.rs`).
//! 6. Records that the ring had no room for are noted for the minutes since the last flush.
//!
//! 7. What rules said is counted by tick, too ([`Ticks`]), as the evidence that moves modes.
//!
//! A counted request finds its counters with two hashes; it allocates nothing unless it is the
//! first of its kind in its minute.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use seaworthy_policy::evidence::TickEvidence;
use seaworthy_policy::learn::Shape;
use seaworthy_policy::names::Names;
use seaworthy_policy::quantity::Period;
use seaworthy_policy::record::{RequestRecord, Tenant};

use super::batch::{Batch, Minute, Rollup, RollupKey};
use super::config::TelemetryConfig;
use super::objections::{Objection, Objections};
use super::sampler::Sampler;
use super::shapes::Shapes;
use super::ticks::{FreshEvidence, Ticks};

/// Tenants that the rollups of one minute tell apart.
pub const TENANTS_MAX: usize = 256;

/// What the tenants above [`TENANTS_MAX`] are called together.
pub const TENANT_OTHER: &str = "~other";

/// Counters of one minute that tell tenants apart; past it new ones count for [`TENANT_OTHER`],
/// which bounds them by routes × methods × status classes.
const ROLLUPS_MAX: usize = 16_384;

/// Minutes that are open at once: the present one, the one before it, and what a set clock
/// makes of them.
const MINUTES_MAX: usize = 8;

/// See [`Telemetry::aggregator`](super::Telemetry::aggregator).
#[derive(Debug)]
pub struct Aggregator {
    minutes: Vec<OpenMinute>,
    ticks: Ticks,
    sampler: Sampler,
    shapes: Shapes,
    objections: Objections,
    flushed_unix_ms: i64,
}

#[derive(Debug)]
struct OpenMinute {
    minute: Minute,
    tenants: HashSet<Tenant>,
    /// Kept when they are flushed, at zero: the next request of the kind finds them again.
    rollups: HashMap<RollupKey, Rollup>,
}

impl Aggregator {
    /// `seed` chooses the sample; `now_unix_ms` is from when on the budget of rows is earned.
    pub fn new(config: &TelemetryConfig, names: Arc<Names>, seed: u64, now_unix_ms: i64) -> Self {
        Self {
            minutes: Vec::with_capacity(MINUTES_MAX),
            ticks: Ticks::new(names, millis(config.tick)),
            sampler: Sampler::new(config, seed),
            shapes: Shapes::default(),
            objections: Objections::default(),
            flushed_unix_ms: now_unix_ms,
        }
    }

    pub fn observe(&mut self, record: &RequestRecord) {
        let ended_ms = record.started_unix_ms.saturating_add(i64::from(record.duration_us / 1000));
        self.minute(Minute::of_unix_ms(ended_ms)).count(record);
        self.ticks.count(record, ended_ms);
        self.sampler.offer(record);
    }

    /// Counts a request of this shape, which is for `schema learn` alone.
    pub fn observe_shape(&mut self, shape: &Shape, now_unix_ms: i64) {
        self.shapes.observe(shape, now_unix_ms);
    }

    /// Keeps why a rule spoke against a request, for `requests --explain` alone.
    pub fn observe_objection(&mut self, objection: Objection) {
        self.objections.observe(objection);
    }

    /// Hands over what came since the last flush. `records_dropped` is how many records the
    /// ring had no room for in that time.
    pub fn flush(&mut self, now_unix_ms: i64, records_dropped: u64) -> Batch {
        let shapes = std::mem::take(&mut self.shapes);
        let objections = std::mem::take(&mut self.objections);
        let mut batch = Batch { shapes, objections, ..Batch::default() };
        for open in &mut self.minutes {
            open.drain(&mut batch);
        }
        self.ticks.flush(&mut batch, self.flushed_unix_ms, now_unix_ms, records_dropped);
        let now = Minute::of_unix_ms(now_unix_ms);
        self.minutes.retain(|open| (now.0 - 1..=now.0 + 1).contains(&open.minute.0));
        self.sampler.drain(now_unix_ms.saturating_sub(self.flushed_unix_ms), &mut batch.rows);

        // Which of the minutes lost how many is not known, so each gets its part, rounded up.
        let first = Minute::of_unix_ms(self.flushed_unix_ms).0.clamp(now.0 - 2, now.0);
        let minutes = now.0 - first + 1;
        for minute in first..=now.0 {
            batch.note_dropped(Minute(minute), records_dropped.div_ceil(minutes as u64));
        }
        self.flushed_unix_ms = now_unix_ms;
        batch
    }

    /// The evidence of the ticks that the last flush closed, oldest first.
    pub fn closed(&mut self) -> Vec<TickEvidence> {
        self.ticks.closed()
    }

    /// The evidence that the last flush has brought, whether or not its tick is closed.
    pub fn fresh(&mut self) -> Vec<FreshEvidence> {
        self.ticks.fresh()
    }

    fn minute(&mut self, minute: Minute) -> &mut OpenMinute {
        let found = self.minutes.iter().rposition(|open| open.minute == minute);
        let index = found.unwrap_or_else(|| {
            if self.minutes.len() < MINUTES_MAX {
                self.minutes.push(OpenMinute::new(minute));
            }
            self.minutes.len() - 1
        });
        &mut self.minutes[index]
    }
}

impl OpenMinute {
    fn new(minute: Minute) -> Self {
        Self { minute, tenants: HashSet::new(), rollups: HashMap::new() }
    }

    fn count(&mut self, record: &RequestRecord) {
        let key = RollupKey {
            route: record.route,
            method: record.method,
            status_class: status_class(record.status),
            tenant: record.tenant,
        };
        match self.rollups.get_mut(&key) {
            Some(rollup) => rollup.count(record),
            None => self.admit(key).count(record),
        }
    }

    /// Makes room for the first request of its kind.
    fn admit(&mut self, mut key: RollupKey) -> &mut Rollup {
        let known = self.tenants.contains(&key.tenant);
        if self.rollups.len() >= ROLLUPS_MAX || (!known && self.tenants.len() >= TENANTS_MAX) {
            key.tenant = Tenant::from(TENANT_OTHER).expect("a short name");
        } else if !known {
            self.tenants.insert(key.tenant);
        }
        self.rollups.entry(key).or_default()
    }

    fn drain(&mut self, batch: &mut Batch) {
        for (key, rollup) in &mut self.rollups {
            if *rollup != Rollup::default() {
                batch.rollups.insert((self.minute, *key), std::mem::take(rollup));
            }
        }
    }
}

fn millis(period: Period) -> i64 {
    i64::try_from(period.as_duration().as_millis()).unwrap_or(i64::MAX)
}

/// 1 to 5 as in `1xx` to `5xx`; 0 for what is no HTTP status.
fn status_class(status: u16) -> u8 {
    match status {
        100..=199 => 1,
        200..=299 => 2,
        300..=399 => 3,
        400..=499 => 4,
        500..=599 => 5,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use seaworthy_policy::evidence::Counts;
    use seaworthy_policy::names::RuleName;
    use seaworthy_policy::record::{RouteId, RuleId, Verdict, Verdicts};

    use super::super::batch::Bounds;
    use super::super::fixture::{NOON_MS, record, would_be_denied};
    use super::*;

    const NOON: Minute = Minute(NOON_MS / Minute::MS);

    fn aggregator() -> Aggregator {
        Aggregator::new(&TelemetryConfig::default(), Arc::new(Names::new()), 1, NOON_MS)
    }

    fn requests(batch: &Batch) -> u64 {
        batch.rollups.values().map(|rollup| rollup.latency.count()).sum()
    }

    #[test]
    fn a_request_counts_in_the_minute_in_which_it_ended() {
        let mut aggregator = aggregator();
        aggregator.observe(&RequestRecord { duration_us: 59_999_000, ..record() });
        aggregator.observe(&RequestRecord { duration_us: 60_000_000, ..record() });
        let batch = aggregator.flush(NOON_MS + 61_000, 0);
        let mut minutes: Vec<_> = batch.rollups.keys().map(|(minute, _)| minute.0).collect();
        minutes.sort_unstable();
        assert_eq!(minutes, [NOON.0, NOON.0 + 1]);
    }

    #[test]
    fn a_flush_holds_what_came_since_the_last() {
        let mut aggregator = aggregator();
        aggregator.observe(&record());
        assert_eq!(requests(&aggregator.flush(NOON_MS + 1000, 0)), 1);
        assert!(aggregator.flush(NOON_MS + 2000, 0).is_empty());
        aggregator.observe(&record());
        aggregator.observe(&record());
        assert_eq!(requests(&aggregator.flush(NOON_MS + 3000, 0)), 2);
        assert!(aggregator.flush(NOON_MS + 300_000, 0).is_empty());
        assert!(aggregator.minutes.is_empty(), "closed minutes are forgotten");
    }

    #[test]
    fn tenants_above_the_cap_count_together_and_none_is_lost() {
        let mut aggregator = aggregator();
        for n in 0..TENANTS_MAX + 50 {
            let tenant = Tenant::from(&format!("t{n}")).unwrap();
            aggregator.observe(&RequestRecord { tenant, ..record() });
            // The cap is the minute's, not the flush's.
            if n == TENANTS_MAX - 1 {
                assert_eq!(requests(&aggregator.flush(NOON_MS + 1000, 0)), TENANTS_MAX as u64);
            }
        }
        let batch = aggregator.flush(NOON_MS + 2000, 0);
        let of: BTreeMap<_, _> = batch
            .rollups
            .iter()
            .map(|((_, key), rollup)| (key.tenant.as_str(), rollup.latency.count()))
            .collect();
        assert_eq!(of, BTreeMap::from([(TENANT_OTHER, 50)]));
    }

    #[test]
    fn counters_of_one_minute_are_bounded() {
        let mut aggregator = aggregator();
        let mut observed = 0;
        for tenant in 0..TENANTS_MAX {
            for route in 0..100 {
                let tenant = Tenant::from(&format!("t{tenant}")).unwrap();
                aggregator.observe(&RequestRecord { tenant, route: RouteId(route), ..record() });
                observed += 1;
            }
        }
        assert!(aggregator.minutes[0].rollups.len() <= ROLLUPS_MAX + 100);
        assert_eq!(requests(&aggregator.flush(NOON_MS + 1000, 0)), observed);
    }

    #[test]
    fn a_clock_that_runs_wild_opens_a_bounded_number_of_minutes() {
        let mut aggregator = aggregator();
        for n in 0..1000 {
            let started_unix_ms = i64::MIN / 2 + n * (i64::MAX / 1000);
            aggregator.observe(&RequestRecord { started_unix_ms, ..record() });
        }
        assert_eq!(aggregator.minutes.len(), MINUTES_MAX);
        assert_eq!(requests(&aggregator.flush(NOON_MS + 1000, 0)), 1000);
    }

    #[test]
    fn a_would_deny_harms_where_the_service_said_yes() {
        use seaworthy_policy::record::Ending::{Answered, ClientGone, Served};
        let cases = [
            (Served, 101, 1),
            (Served, 200, 1),
            (Served, 204, 1),
            (Served, 302, 1),
            (Served, 399, 1),
            (Served, 404, 0),
            (Served, 502, 0),
            (ClientGone, 200, 1),
            (ClientGone, 499, 0),
            // A report of a browser, which the gateway itself takes.
            (Answered, 204, 0),
        ];
        for (ending, status, harm) in cases {
            let mut aggregator = aggregator();
            aggregator.observe(&RequestRecord { ending, status, ..would_be_denied() });
            let batch = aggregator.flush(NOON_MS + 1000, 0);
            let counts = batch.rules[&(NOON, RuleId(0))];
            assert_eq!((counts.would_deny, counts.harm), (1, harm), "{status}");
        }
    }

    #[test]
    fn a_verdict_is_the_routes_own_rule_or_the_services() {
        let names = Arc::new(Names::new());
        let route = names.intern_route("POST /api/traces");
        let name = RuleName { protection: 0, route: Some(names.route(route)) };
        let own = names.intern_rule(name);
        let mut aggregator =
            Aggregator::new(&TelemetryConfig::default(), Arc::clone(&names), 1, NOON_MS);
        let mut verdicts = Verdicts::default();
        verdicts.set(0, Verdict::Deny);
        verdicts.set(1, Verdict::Allow);
        aggregator.observe(&RequestRecord { route, verdicts, ..record() });
        aggregator.observe(&RequestRecord { verdicts, ..record() });
        aggregator.observe(&RequestRecord { route: RouteId(77), verdicts, ..record() });
        let batch = aggregator.flush(NOON_MS + 1000, 0);
        let denied = |rule| batch.rules[&(NOON, rule)].denied;
        assert_eq!((denied(own), denied(RuleId(0))), (1, 2));
        let allowed = Counts { evaluated: 3, ..Counts::default() };
        assert_eq!(batch.rules[&(NOON, RuleId(1))], allowed);
    }

    #[test]
    fn drops_mark_every_minute_that_they_can_have_fallen_in() {
        let mut aggregator = aggregator();
        let dropped = |batch: Batch| batch.dropped.into_iter().collect::<Vec<_>>();
        assert_eq!(dropped(aggregator.flush(NOON_MS + 59_000, 7)), [(NOON, 7)]);
        let next = Minute(NOON.0 + 1);
        assert_eq!(dropped(aggregator.flush(NOON_MS + 61_000, 7)), [(NOON, 4), (next, 4)]);
        assert_eq!(dropped(aggregator.flush(NOON_MS, 1)), [(NOON, 1)], "the clock went back");
    }

    proptest! {
        /// However flushes fall, merging them gives what one flush would have, as long as records
        /// come in time.
        #[test]
        fn flushes_merge_into_the_whole(
            all in proptest::collection::vec((0_u16..3, 0_i64..180_000, any::<bool>()), 0..200),
        ) {
            let (mut parts, mut whole) = (aggregator(), aggregator());
            let mut merged = Batch::default();
            let mut all = all;
            all.sort_by_key(|(_, at_ms, _)| *at_ms);
            for (route, at_ms, flush) in all {
                let record = RequestRecord {
                    route: RouteId(route),
                    started_unix_ms: NOON_MS + at_ms,
                    ..would_be_denied()
                };
                parts.observe(&record);
                whole.observe(&record);
                if flush {
                    merged.absorb(parts.flush(NOON_MS + at_ms, 0), Bounds::default());
                }
            }
            merged.absorb(parts.flush(NOON_MS + 180_000, 0), Bounds::default());
            let whole = whole.flush(NOON_MS + 180_000, 0);
            prop_assert_eq!(merged.rollups, whole.rollups);
            prop_assert_eq!(merged.rules, whole.rules);
            prop_assert_eq!(merged.consumers, whole.consumers);
        }
    }
}
