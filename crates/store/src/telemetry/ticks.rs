//! Evidence by tick: what each rule said, exactly, and the clients it said it of.
//!
//! 1. A request counts in the tick in which it ended. One that is heard of when its tick is closed
//!    counts in the oldest that is open, so that none is lost and what is closed stays as it is.
//! 2. A tick is closed [`LATE_MS`] after its end.
//! 3. A rule tells at most [`CLIENTS_MAX`] clients apart, those with the most harm and denials, in
//!    whichever share they are. While a tick is open, [`OPEN_CLIENTS_MAX`] are held for all rules
//!    together, and as many more that a rule objects to; the requests of others count as exactly.
//! 4. The alarms are shown as many, those that the rule objected to most, whether they were denied
//!    anything or not and whatever the service said: a client is no other one once it is enforced.
//! 5. Records that are missing are noted for every tick that they may have belonged to, each time
//!    all of them: whoever reads a tick sees whether it is whole.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use seaworthy_policy::client::ClientKey;
use seaworthy_policy::evidence::{
    CLIENTS_MAX, ClientCounts, ClientEvidence, Counts, Lane, RuleEvidence, TickEvidence,
};
use seaworthy_policy::names::Names;
use seaworthy_policy::record::{Positions, RequestRecord, RouteId, RuleId, Tenant, Verdict};

use super::batch::{Batch, EvidencePart, Minute};
use super::consumer_counts::{CONSUMERS_MAX, Consumers};
use super::observations::{Observation, Observations, Seen};

/// Records reach the aggregator within some 50 ms; those judged off the path within a second.
const LATE_MS: i64 = 2000;

/// Clients of open ticks, counted once for each rule: some 12 MB.
const OPEN_CLIENTS_MAX: usize = 65_536;

/// Pairs of a client and a route in one tick; the requests of more are told without the client.
const PAIRS_MAX: usize = 16_384;

/// The present tick, the one before it, and what a clock that was set makes of them.
const TICKS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Ticks {
    names: Arc<Names>,
    length_ms: i64,
    open: Vec<Tick>,
    /// Where the first tick starts that is not closed.
    closed_until_ms: i64,
    closed: Vec<TickEvidence>,
    fresh: Vec<FreshEvidence>,
}

/// What a flush has brought of one version of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct FreshEvidence {
    pub start_unix_ms: i64,
    pub rule: RuleId,
    pub lane: Lane,
    /// What is new since the last flush.
    pub counts: Counts,
    /// The clients that the rule objects to most, with all there is of this tick.
    pub clients: Vec<ClientEvidence>,
}

#[derive(Debug)]
struct Tick {
    start_ms: i64,
    dropped: u64,
    observations: Observations,
    consumers: Consumers,
    rules: HashMap<(RuleId, Lane), OpenRule>,
    /// The entries of all `rules` together.
    clients: usize,
    pairs: HashMap<(Option<ClientKey>, RouteId), u64>,
}

#[derive(Debug, Default)]
struct OpenRule {
    total: Counts,
    /// The part of `total` that no flush has had.
    fresh: Counts,
    clients: HashMap<ClientKey, (Tenant, ClientCounts)>,
    other: ClientCounts,
}

impl Ticks {
    pub(super) fn new(names: Arc<Names>, length_ms: i64) -> Self {
        let (open, closed, fresh) = (Vec::new(), Vec::new(), Vec::new());
        Self { names, length_ms, open, closed_until_ms: i64::MIN, closed, fresh }
    }

    pub(super) fn count(&mut self, record: &RequestRecord, ended_ms: i64) {
        let names = Arc::clone(&self.names);
        let tick = self.tick(ended_ms);
        if tick.observations.is_full() {
            tick.take_apart(&names);
        }
        tick.observations.count(record, ended_ms);
    }

    /// Adds what came since the last flush to `batch`, and closes what is over. `dropped` records
    /// went missing since `since_ms`.
    pub(super) fn flush(&mut self, batch: &mut Batch, since_ms: i64, now_ms: i64, dropped: u64) {
        if dropped > 0 {
            let since = since_ms.max(now_ms - TICKS_MAX as i64 * self.length_ms / 2);
            let mut at = since - since.rem_euclid(self.length_ms);
            while at <= now_ms {
                self.tick(at).dropped += dropped;
                batch.note_gap(at.max(self.closed_until_ms), dropped);
                at += self.length_ms;
            }
        }
        self.fresh.clear();
        for tick in &mut self.open {
            tick.take_apart(&self.names);
            tick.hand_over(batch, &mut self.fresh);
        }
        let is_over = |tick: &Tick| tick.start_ms + self.length_ms + LATE_MS <= now_ms;
        let over: Vec<Tick> = self.open.extract_if(.., |tick| is_over(tick)).collect();
        for tick in over {
            self.closed_until_ms = self.closed_until_ms.max(tick.start_ms + self.length_ms);
            self.closed.push(tick.close());
        }
        self.closed.sort_by_key(|tick| tick.start_unix_ms);
    }

    /// The ticks that were closed since the last call, oldest first. One in which nothing happened
    /// is not among them.
    pub(super) fn closed(&mut self) -> Vec<TickEvidence> {
        std::mem::take(&mut self.closed)
    }

    /// What the flushes since the last call have brought.
    pub(super) fn fresh(&mut self) -> Vec<FreshEvidence> {
        std::mem::take(&mut self.fresh)
    }

    fn tick(&mut self, at_ms: i64) -> &mut Tick {
        let start = (at_ms - at_ms.rem_euclid(self.length_ms)).max(self.closed_until_ms);
        let found = self.open.iter().rposition(|tick| tick.start_ms == start);
        let index = found.unwrap_or_else(|| {
            if self.open.len() < TICKS_MAX {
                self.open.push(Tick::new(start));
            }
            self.open.len() - 1
        });
        &mut self.open[index]
    }
}

impl Tick {
    fn new(start_ms: i64) -> Self {
        Self {
            start_ms,
            dropped: 0,
            observations: Observations::default(),
            consumers: Consumers::default(),
            rules: HashMap::new(),
            clients: 0,
            pairs: HashMap::new(),
        }
    }

    /// Counts what was observed for all that it is counted for.
    fn take_apart(&mut self, names: &Names) {
        let mut observations = std::mem::take(&mut self.observations);
        // The same few rules again and again; finding one takes a lock and some text.
        let mut known = HashMap::new();
        for (observation, seen) in observations.drain() {
            let mut rule = |protection| {
                let key = (observation.settings, observation.route, protection);
                *known.entry(key).or_insert_with(|| names.rule_for(key.0, key.1, protection))
            };
            self.consumers.count(&observation, seen, &mut rule);
            self.visit(&observation, seen);
            for (protection, verdict) in observation.verdicts.judged() {
                if !observation.marks.next_enforced.contains(protection) {
                    let by = (rule(protection), Lane::Current);
                    self.judged(
                        by,
                        protection,
                        verdict,
                        observation.marks.enforced,
                        &observation,
                        seen,
                    );
                }
            }
            for (protection, verdict) in observation.marks.next.judged() {
                let (by, enforced) =
                    ((rule(protection), Lane::Next), observation.marks.next_enforced);
                self.judged(by, protection, verdict, enforced, &observation, seen);
            }
        }
        // With its memory, for what is observed next.
        self.observations = observations;
    }

    fn visit(&mut self, observation: &Observation, seen: Seen) {
        let full = self.pairs.len() >= PAIRS_MAX;
        let pair = (Some(observation.client), observation.route);
        match self.pairs.entry(pair) {
            Entry::Vacant(_) if full => {
                *self.pairs.entry((None, observation.route)).or_default() += seen.count;
            }
            place => *place.or_default() += seen.count,
        }
    }

    fn judged(
        &mut self,
        by: (RuleId, Lane),
        protection: usize,
        verdict: Verdict,
        enforced: Positions,
        observation: &Observation,
        seen: Seen,
    ) {
        let of = |applies: bool| if applies { seen.count } else { 0 };
        let slow = match by.1 {
            Lane::Current => observation.marks.slow,
            Lane::Next => observation.marks.next_slow,
        };
        let enforced = enforced.contains(protection);
        let failed = observation.failure && verdict != Verdict::Deny;
        let counts = Counts {
            evaluated: seen.count,
            would_deny: of(verdict == Verdict::WouldDeny),
            denied: of(verdict == Verdict::Deny),
            harm: of(verdict == Verdict::WouldDeny && observation.success),
            enforced: of(enforced),
            unidentified: of(!enforced && !observation.client.is_identified()),
            enforced_errors: of(failed && enforced),
            control_errors: of(failed && !enforced && observation.client.is_identified()),
            slow: of(slow.contains(protection)),
        };
        let rule = self.rules.entry(by).or_default();
        rule.total.add(&counts);
        rule.fresh.add(&counts);
        let theirs = ClientCounts::from(counts);
        match rule.clients.entry(observation.client) {
            Entry::Occupied(mut there) => {
                let (tenant, sum) = there.get_mut();
                *tenant = observation.tenant;
                sum.add(&theirs);
            }
            // Whoever is objected to is named even then: it is whom the gates ask for.
            Entry::Vacant(free)
                if self.clients < OPEN_CLIENTS_MAX
                    || counts.would_deny + counts.denied > 0
                        && self.clients < 2 * OPEN_CLIENTS_MAX =>
            {
                free.insert((observation.tenant, theirs));
                self.clients += 1;
            }
            Entry::Vacant(_) => rule.other.add(&theirs),
        }
    }

    /// What is new since the last time. Of the clients all there is of this tick, which takes the
    /// place of what was said of them before.
    fn hand_over(&mut self, batch: &mut Batch, fresh: &mut Vec<FreshEvidence>) {
        batch.consumers.absorb(std::mem::take(&mut self.consumers), CONSUMERS_MAX);
        let minute = Minute::of_unix_ms(self.start_ms);
        for (&(rule, lane), open) in &mut self.rules {
            if open.fresh.is_empty() {
                continue;
            }
            if lane == Lane::Current {
                batch.rules.entry((minute, rule)).or_default().add(&open.fresh);
            }
            let (clients, other) = open.top();
            fresh.push(FreshEvidence {
                start_unix_ms: self.start_ms,
                rule,
                lane,
                counts: open.fresh,
                clients: open.watched(),
            });
            let part = EvidencePart { fresh: std::mem::take(&mut open.fresh), clients, other };
            batch.evidence.insert((self.start_ms, rule, lane), part);
        }
    }

    fn close(self) -> TickEvidence {
        let mut rules: Vec<_> = self
            .rules
            .into_iter()
            .map(|((rule, lane), open)| {
                let (clients, other) = open.top();
                (rule, lane, RuleEvidence { counts: open.total, clients, other })
            })
            .collect();
        rules.sort_by_key(|(rule, lane, _)| (*rule, *lane));
        let pairs = self.pairs.into_iter().map(|((client, route), n)| (client, route, n)).collect();
        TickEvidence { start_unix_ms: self.start_ms, dropped: self.dropped, rules, pairs }
    }
}

impl OpenRule {
    /// The clients that are told apart, and the sum of the rest.
    fn top(&self) -> (Vec<ClientEvidence>, ClientCounts) {
        // What is denied to one client is harm to its like in the control.
        let mut clients = self.clients_by(|counts| counts.harm + counts.denied);
        let mut other = self.other;
        for one in clients.drain(CLIENTS_MAX.min(clients.len())..) {
            other.add(&one.counts);
        }
        (clients, other)
    }

    /// Rule 4.
    fn watched(&self) -> Vec<ClientEvidence> {
        let mut clients = self.clients_by(|counts| counts.would_deny + counts.denied);
        clients.truncate(CLIENTS_MAX);
        clients
    }

    /// All that are held: those with the highest `rank` first, then those with the most requests.
    fn clients_by(&self, rank: impl Fn(&ClientCounts) -> u64) -> Vec<ClientEvidence> {
        let named = |(client, (tenant, counts)): (&ClientKey, &(Tenant, ClientCounts))| {
            ClientEvidence { client: *client, tenant: *tenant, counts: *counts }
        };
        let mut clients: Vec<_> = self.clients.iter().map(named).collect();
        // The key last, so that the order is the same every time.
        clients.sort_unstable_by_key(|one| {
            let rank = std::cmp::Reverse((rank(&one.counts), one.counts.evaluated));
            (rank, one.client.to_bytes())
        });
        clients
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seaworthy_policy::record::{Ending, Marks, Verdicts};

    use super::super::fixture::{NOON_MS, denied, failed, record, would_be_denied};
    use super::*;

    const TICK_MS: i64 = 60_000;

    fn ticks() -> Ticks {
        Ticks::new(Arc::new(Names::new()), TICK_MS)
    }

    fn end_of(tick: i64) -> i64 {
        NOON_MS + (tick + 1) * TICK_MS + LATE_MS
    }

    fn positions(all: &[usize]) -> Positions {
        let mut positions = Positions::default();
        all.iter().for_each(|one| positions.insert(*one));
        positions
    }

    fn closed(records: &[RequestRecord]) -> TickEvidence {
        let mut ticks = ticks();
        for record in records {
            ticks.count(record, NOON_MS + 5);
        }
        ticks.flush(&mut Batch::default(), NOON_MS, end_of(0), 0);
        let mut closed = ticks.closed();
        assert_eq!(closed.len(), 1);
        closed.remove(0)
    }

    #[test]
    fn what_became_of_a_request_is_evidence() {
        let enforced = Marks { enforced: positions(&[0]), ..Marks::default() };
        let slow = Marks { slow: positions(&[0]), ..Marks::default() };
        let of = |marks, record: RequestRecord| RequestRecord { marks, ..record };
        let refused = RequestRecord { status: 404, ..would_be_denied() };
        for (name, record, want) in [
            ("allowed", record(), Counts { evaluated: 1, ..Counts::default() }),
            (
                "harm",
                would_be_denied(),
                Counts { evaluated: 1, would_deny: 1, harm: 1, ..Counts::default() },
            ),
            ("no harm", refused, Counts { evaluated: 1, would_deny: 1, ..Counts::default() }),
            (
                "denied",
                of(enforced, denied()),
                Counts { evaluated: 1, denied: 1, enforced: 1, ..Counts::default() },
            ),
            (
                "failed in the control",
                failed(),
                Counts { evaluated: 1, control_errors: 1, ..Counts::default() },
            ),
            (
                "failed where it is enforced",
                of(enforced, failed()),
                Counts { evaluated: 1, enforced: 1, enforced_errors: 1, ..Counts::default() },
            ),
            (
                "the service's own 500",
                RequestRecord { status: 500, ..record() },
                Counts { evaluated: 1, control_errors: 1, ..Counts::default() },
            ),
            ("slow", of(slow, record()), Counts { evaluated: 1, slow: 1, ..Counts::default() }),
        ] {
            let tick = closed(&[record]);
            let (rule, lane, evidence) = &tick.rules[0];
            assert_eq!((*rule, *lane, evidence.counts), (RuleId(0), Lane::Current, want), "{name}");
            // It is the request of one client, so that all of it is this client's.
            assert_eq!(evidence.clients[0].counts, ClientCounts::from(want), "{name}");
            assert_eq!(evidence.other, ClientCounts::default(), "{name}");
        }
    }

    #[test]
    fn versions_are_told_apart() {
        let mut next = Verdicts::default();
        next.set(0, Verdict::WouldDeny);
        let beside = Marks { next, ..Marks::default() };
        let instead = Marks { next_enforced: positions(&[0]), ..beside };
        for (name, marks, current, enforced) in
            [("beside", beside, 1, 0), ("instead", instead, 0, 1)]
        {
            let tick = closed(&[RequestRecord { marks, ..record() }]);
            let of = |lane| {
                let found = tick.rules.iter().find(|(_, its, _)| *its == lane);
                found.map(|(.., evidence)| evidence.counts).unwrap_or_default()
            };
            assert_eq!(of(Lane::Current).evaluated, current, "{name}");
            let want =
                Counts { evaluated: 1, would_deny: 1, harm: 1, enforced, ..Counts::default() };
            assert_eq!(of(Lane::Next), want, "{name}");
        }
    }

    #[test]
    fn clients_are_told_apart_by_harm_and_none_is_lost() {
        let client =
            |n, record: RequestRecord| RequestRecord { client: ClientKey::Bearer(n), ..record };
        let mut records: Vec<_> = (0..100_000).map(|n| client(n, record())).collect();
        records.extend((0..10).map(|n| client(99_990 + n / 6, would_be_denied())));
        records.extend((0..3).map(|n| client(1 + n, failed())));
        let tick = closed(&records);
        let (_, _, evidence) = &tick.rules[0];
        assert_eq!(evidence.clients.len(), CLIENTS_MAX);
        let sum = evidence.clients.iter().map(|one| one.counts.evaluated).sum::<u64>();
        assert_eq!(sum + evidence.other.evaluated, 100_013);
        assert_eq!(tick.pairs.len(), PAIRS_MAX + 1);
        assert_eq!(tick.pairs.iter().map(|(.., n)| n).sum::<u64>(), 100_013);
        // These two came when there was no room any more, and are named all the same: nothing that
        // a rule breaks is hidden among the others.
        let worst = evidence.clients[..2].iter().map(|one| (one.client, one.counts.harm));
        let bearer = ClientKey::Bearer;
        assert_eq!(worst.collect::<Vec<_>>(), [(bearer(99_990), 6), (bearer(99_991), 4)]);
        assert_eq!(evidence.other.harm, 0);
        let errors: u64 = evidence.clients.iter().map(|one| one.counts.control_errors).sum();
        assert_eq!(
            (errors + evidence.other.control_errors, evidence.counts.control_errors),
            (3, 3)
        );
    }

    #[test]
    fn the_worst_harmed_come_first() {
        let client =
            |n, record: RequestRecord| RequestRecord { client: ClientKey::Bearer(n), ..record };
        let mut records: Vec<_> = (0..200).map(|n| client(n, record())).collect();
        records.extend([7, 7, 9].map(|n| client(n, would_be_denied())));
        let tick = closed(&records);
        let first: Vec<_> =
            tick.rules[0].2.clients[..3].iter().map(|one| (one.client, one.counts.harm)).collect();
        let bearer = ClientKey::Bearer;
        assert_eq!(first, [(bearer(7), 2), (bearer(9), 1), (bearer(0), 0)]);
    }

    #[test]
    fn the_alarms_are_shown_the_same_clients_in_every_mode() {
        let client =
            |n, record: RequestRecord| RequestRecord { client: ClientKey::Bearer(n), ..record };
        let seen = |of: &dyn Fn(u64) -> RequestRecord| {
            let mut ticks = ticks();
            (0..200).for_each(|n| ticks.count(&client(n, record()), NOON_MS + 5));
            (0..200).for_each(|n| ticks.count(&client(n, of(n)), NOON_MS + 5));
            ticks.flush(&mut Batch::default(), NOON_MS, NOON_MS + 6, 0);
            let fresh = ticks.fresh().remove(0);
            assert_eq!(fresh.clients.len(), CLIENTS_MAX);
            let mut clients: Vec<_> = fresh.clients.iter().map(|one| one.client).collect();
            clients.sort_by_key(|client| client.to_bytes());
            clients
        };
        // A rule objects to every fifth client, half of which the service refuses by itself.
        let is_objected_to = |n: u64| n % 5 == 4;
        let warn = |n| match () {
            () if !is_objected_to(n) => record(),
            () if n % 2 == 0 => RequestRecord { status: 404, ..would_be_denied() },
            () => would_be_denied(),
        };
        let enforced = |n| {
            let marks = Marks { enforced: positions(&[0]), ..Marks::default() };
            let made = if is_objected_to(n) { denied() } else { record() };
            RequestRecord { marks, ..made }
        };
        let in_warn = seen(&warn);
        assert_eq!(in_warn, seen(&enforced));
        assert!(
            (0..200)
                .filter(|n| is_objected_to(*n))
                .all(|n| in_warn.contains(&ClientKey::Bearer(n)))
        );
    }

    #[test]
    fn a_tick_closes_when_what_is_late_has_come() {
        let mut ticks = ticks();
        ticks.count(&record(), NOON_MS + TICK_MS - 1);
        ticks.flush(&mut Batch::default(), NOON_MS, end_of(0) - 1, 0);
        assert!(ticks.closed().is_empty());
        ticks.count(&record(), NOON_MS + TICK_MS - 1);
        ticks.flush(&mut Batch::default(), NOON_MS, end_of(0), 0);
        let closed = ticks.closed();
        assert_eq!(closed[0].start_unix_ms, NOON_MS);
        assert_eq!(closed[0].rules[0].2.counts.evaluated, 2);
        // Later still: it counts, and what was closed stays as it is.
        ticks.count(&record(), NOON_MS + 1);
        ticks.flush(&mut Batch::default(), NOON_MS, end_of(1), 0);
        let closed = ticks.closed();
        assert_eq!(closed[0].start_unix_ms, NOON_MS + TICK_MS);
        assert_eq!(closed[0].rules[0].2.counts.evaluated, 1);
    }

    #[test]
    fn what_is_missing_marks_every_tick_that_it_may_be_missing_from() {
        let mut ticks = ticks();
        ticks.count(&record(), NOON_MS + 1);
        let mut batch = Batch::default();
        ticks.flush(&mut batch, NOON_MS + TICK_MS - 1, NOON_MS + TICK_MS, 3);
        let gaps: Vec<_> = batch.gaps.into_iter().collect();
        assert_eq!(gaps, [(NOON_MS, 3), (NOON_MS + TICK_MS, 3)]);
        ticks.flush(&mut Batch::default(), NOON_MS, end_of(1), 0);
        let dropped: Vec<_> = ticks.closed().iter().map(|tick| tick.dropped).collect();
        assert_eq!(dropped, [3, 3]);
    }

    #[test]
    fn a_clock_that_runs_wild_opens_a_bounded_number_of_ticks() {
        let mut ticks = ticks();
        for n in 0..1000 {
            ticks.count(&record(), NOON_MS + n * TICK_MS);
        }
        assert_eq!(ticks.open.len(), TICKS_MAX);
        ticks.flush(&mut Batch::default(), NOON_MS, end_of(1000), 0);
        let all = ticks.closed().iter().map(|tick| tick.rules[0].2.counts.evaluated).sum::<u64>();
        assert_eq!(all, 1000);
    }

    proptest! {
        /// However often it is flushed, a tick has the same evidence, and the parts that the
        /// batches had are the whole.
        #[test]
        fn flushing_changes_nothing(
            kinds in proptest::collection::vec((0..4_u8, 0..3_u64, any::<bool>()), 1..60),
        ) {
            let records: Vec<_> = kinds.iter().map(|(kind, client, enforced)| {
                let made = match kind {
                    0 => record(),
                    1 => would_be_denied(),
                    2 => denied(),
                    _ => RequestRecord { status: 503, ending: Ending::Served, ..record() },
                };
                let enforced = positions(if *enforced { &[0] } else { &[] });
                let marks = Marks { enforced, ..Marks::default() };
                RequestRecord { client: ClientKey::Cookie(*client), marks, ..made }
            }).collect();
            let mut often = ticks();
            let mut parts = Counts::default();
            for (record, (_, _, flush)) in records.iter().zip(&kinds) {
                often.count(record, NOON_MS + 5);
                if *flush {
                    let mut batch = Batch::default();
                    often.flush(&mut batch, NOON_MS, NOON_MS + 6, 0);
                    batch.evidence.values().for_each(|part| parts.add(&part.fresh));
                }
            }
            let mut batch = Batch::default();
            often.flush(&mut batch, NOON_MS, end_of(0), 0);
            batch.evidence.values().for_each(|part| parts.add(&part.fresh));
            let (once, often) = (closed(&records), often.closed().remove(0));
            prop_assert_eq!(&once.rules, &often.rules);
            prop_assert_eq!(parts, once.rules[0].2.counts);
        }
    }
}
