//! What is on its way to the writer: counts that add up, and a sample of requests.
//!
//! Two batches merge into one, so a writer that is behind holds one batch that grows slowly
//! (the counts of a minute meet in one place), not a queue. Past [`Bounds`] the oldest request
//! rows are let go first; counts that find no room are noted as dropped records of their
//! minute, so that nobody takes the minute for complete.

use std::collections::btree_map::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::{Hash, Hasher};

use seaworthy_policy::evidence::{ClientCounts, ClientEvidence, Counts, Lane};
use seaworthy_policy::record::{MethodLabel, RequestRecord, RouteId, RuleId, Tenant};

use super::consumer_counts::{CONSUMERS_MAX, Consumers};
use super::histogram::LatencyHistogram;
use super::objections::Objections;
use super::shapes::Shapes;

/// Counts and rows, from [`Aggregator::flush`](super::Aggregator::flush) to
/// [`Telemetry::submit`](super::Telemetry::submit).
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) rollups: HashMap<(Minute, RollupKey), Rollup>,
    pub(super) rules: HashMap<(Minute, RuleId), Counts>,
    /// By the start of the tick, in Unix milliseconds.
    pub(super) evidence: HashMap<(i64, RuleId, Lane), EvidencePart>,
    /// Requests that are in no evidence, for each tick that they may have belonged to.
    pub(super) gaps: BTreeMap<i64, u64>,
    pub(super) consumers: Consumers,
    /// Requests that are in no rollup.
    pub(super) dropped: BTreeMap<Minute, u64>,
    pub(super) rows: Vec<SampledRow>,
    pub(super) shapes: Shapes,
    pub(super) objections: Objections,
}

/// Whole minutes since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Minute(pub(super) i64);

impl Minute {
    pub(super) const MS: i64 = 60_000;

    pub(super) fn of_unix_ms(ms: i64) -> Self {
        Self(ms.div_euclid(Self::MS))
    }
}

/// What the requests of one count have in common, besides the minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RollupKey {
    pub(super) route: RouteId,
    pub(super) method: MethodLabel,
    /// 1 to 5 as in `1xx` to `5xx`; 0 for what is no HTTP status.
    pub(super) status_class: u8,
    pub(super) tenant: Tenant,
}

impl Hash for RollupKey {
    /// One word and the tenant: half the cost of hashing field by field.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let word = u32::from(self.route.0) << 16
            | u32::from(self.method as u8) << 8
            | u32::from(self.status_class);
        state.write_u32(word);
        state.write(self.tenant.as_bytes());
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rollup {
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    /// One observation a request.
    pub(super) latency: LatencyHistogram,
}

impl Rollup {
    pub(super) fn count(&mut self, record: &RequestRecord) {
        self.request_bytes = self.request_bytes.saturating_add(record.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(record.response_bytes);
        self.latency.observe(record.duration_us);
    }

    fn add(&mut self, other: &Self) {
        self.request_bytes = self.request_bytes.saturating_add(other.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(other.response_bytes);
        self.latency.add(&other.latency);
    }
}

/// What is new of a rule in a tick, and all there is of its clients.
#[derive(Debug, Default)]
pub(super) struct EvidencePart {
    pub(super) fresh: Counts,
    pub(super) clients: Vec<ClientEvidence>,
    pub(super) other: ClientCounts,
}

impl EvidencePart {
    fn absorb(&mut self, newer: Self) {
        self.fresh.add(&newer.fresh);
        self.clients = newer.clients;
        self.other = newer.other;
    }
}

/// A request that stands for `weight` requests of its kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampledRow {
    pub(super) record: RequestRecord,
    pub(super) weight: f64,
}

/// What a batch may hold; about 30 MB at the defaults, and 50 MB more where each client has every
/// User-Agent, tenant, route and rule that is told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) rows: usize,
    pub(super) rollups: usize,
    pub(super) rules: usize,
    /// Clients on a day; those beyond it count together.
    pub(super) consumers: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { rows: 20_000, rollups: 50_000, rules: 50_000, consumers: CONSUMERS_MAX }
    }
}

/// Minutes for which drops are told apart; more fall to the last of them.
const DROPPED_MINUTES_MAX: usize = 10_000;

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.rollups.is_empty()
            && self.rules.is_empty()
            && self.evidence.is_empty()
            && self.gaps.is_empty()
            && self.consumers.is_empty()
            && self.dropped.is_empty()
            && self.rows.is_empty()
            && self.shapes.is_empty()
            && self.objections.is_empty()
    }

    pub(super) fn note_dropped(&mut self, minute: Minute, records: u64) {
        note(&mut self.dropped, minute, records);
    }

    pub(super) fn note_gap(&mut self, tick: i64, records: u64) {
        note(&mut self.gaps, tick, records);
    }

    /// Takes in a batch that came after this one, and returns what there was no room for.
    pub(super) fn absorb(&mut self, newer: Self, bounds: Bounds) -> Overflow {
        if self.is_empty() {
            *self = newer;
            return Overflow::default();
        }
        let mut overflow = Overflow::default();
        for ((minute, key), rollup) in newer.rollups {
            let room = self.rollups.len() < bounds.rollups;
            match self.rollups.entry((minute, key)) {
                Entry::Occupied(mut there) => there.get_mut().add(&rollup),
                Entry::Vacant(free) if room => {
                    free.insert(rollup);
                }
                Entry::Vacant(_) => {
                    let records = rollup.latency.count();
                    self.note_dropped(minute, records);
                    overflow.records += records;
                }
            }
        }
        for (key, part) in newer.evidence {
            let room = self.evidence.len() < bounds.rules;
            match self.evidence.entry(key) {
                Entry::Occupied(mut there) => there.get_mut().absorb(part),
                Entry::Vacant(free) if room => {
                    free.insert(part);
                }
                // Its requests are lost to the rules as well, and counted there.
                Entry::Vacant(_) => self.note_gap(key.0, part.fresh.evaluated),
            }
        }
        for (tick, records) in newer.gaps {
            self.note_gap(tick, records);
        }
        for ((minute, rule), counts) in newer.rules {
            let room = self.rules.len() < bounds.rules;
            match self.rules.entry((minute, rule)) {
                Entry::Occupied(mut there) => there.get_mut().add(&counts),
                Entry::Vacant(free) if room => {
                    free.insert(counts);
                }
                Entry::Vacant(_) => {
                    self.note_dropped(minute, counts.evaluated);
                    overflow.records += counts.evaluated;
                }
            }
        }
        self.consumers.absorb(newer.consumers, bounds.consumers);
        for (minute, records) in newer.dropped {
            self.note_dropped(minute, records);
        }
        self.shapes.absorb(newer.shapes);
        self.objections.absorb(newer.objections);
        self.rows.extend(newer.rows);
        let excess = self.rows.len().saturating_sub(bounds.rows);
        self.rows.drain(..excess);
        overflow.rows = excess as u64;
        overflow
    }
}

fn note<K: Ord + Copy>(dropped: &mut BTreeMap<K, u64>, at: K, records: u64) {
    if records == 0 {
        return;
    }
    let full = dropped.len() >= DROPPED_MINUTES_MAX && !dropped.contains_key(&at);
    let last = dropped.last_key_value().map(|(at, _)| *at);
    *dropped.entry(last.filter(|_| full).unwrap_or(at)).or_default() += records;
}

/// What was let go for want of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Overflow {
    pub(super) rows: u64,
    /// Requests whose counts are lost; they are noted in [`Batch::dropped`] as well.
    pub(super) records: u64,
}

#[cfg(test)]
mod tests {
    use super::super::fixture::record;
    use super::*;

    fn batch(minute: i64, tenant: &str, requests: u32) -> Batch {
        let mut batch = Batch::default();
        let key = RollupKey {
            route: RouteId(1),
            method: MethodLabel::Get,
            status_class: 2,
            tenant: Tenant::from(tenant).unwrap(),
        };
        for _ in 0..requests {
            let record = record();
            batch.rollups.entry((Minute(minute), key)).or_default().count(&record);
            batch.rows.push(SampledRow { record, weight: 1.0 });
            batch.rules.entry((Minute(minute), RuleId(0))).or_default().evaluated += 1;
        }
        batch
    }

    fn requests(batch: &Batch) -> u64 {
        batch.rollups.values().map(|rollup| rollup.latency.count()).sum()
    }

    #[test]
    fn counts_of_one_minute_meet_in_one_place() {
        let mut held = batch(7, "acme", 3);
        for _ in 0..10 {
            assert_eq!(held.absorb(batch(7, "acme", 2), Bounds::default()), Overflow::default());
        }
        assert_eq!((held.rollups.len(), held.rules.len()), (1, 1));
        assert_eq!((requests(&held), held.rows.len()), (23, 23));
        assert_eq!(held.rules[&(Minute(7), RuleId(0))].evaluated, 23);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_marks_its_minute() {
        let bounds = Bounds { rows: 4, rollups: 1, rules: 1, consumers: 1 };
        let mut held = batch(7, "acme", 3);
        let overflow = held.absorb(batch(8, "acme", 2), bounds);
        // Two requests whose rollup, and whose rule, found no room; the oldest row went.
        assert_eq!(overflow, Overflow { rows: 1, records: 4 });
        assert_eq!(held.dropped, BTreeMap::from([(Minute(8), 4)]));
        assert_eq!((requests(&held), held.rows.len()), (3, 4));
    }

    #[test]
    fn the_note_of_what_was_dropped_is_bounded_and_loses_no_count() {
        let mut held = Batch::default();
        for minute in 0..2 * DROPPED_MINUTES_MAX as i64 {
            held.note_dropped(Minute(minute), 1);
        }
        assert_eq!(held.dropped.len(), DROPPED_MINUTES_MAX);
        assert_eq!(held.dropped.values().sum::<u64>(), 2 * DROPPED_MINUTES_MAX as u64);
    }
}
