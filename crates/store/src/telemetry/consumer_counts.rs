//! Who called, counted by client and UTC day.
//!
//! 1. Each request counts for its client: when it was seen, of which kind, what it called itself,
//!    for which tenant and route, and which rules objected.
//! 2. [`CONSUMERS_MAX`] clients are told apart, in the order in which they come, so that a flood of
//!    invented tokens does not push out those that were there. The requests of more count in one
//!    row of their day, as exactly.
//! 3. What belongs to a client is bounded too ([`Tally`]); beyond it there is one sum.
//! 4. Merging adds up, so the order in which parts meet does not matter, as long as there is room;
//!    where there is none it decides who is told apart, and changes no sum.

use std::collections::btree_map::BTreeMap;
use std::collections::hash_map::HashMap;
use std::ops::AddAssign;

use seaworthy_policy::client::ClientKey;
use seaworthy_policy::consumer::{Agent, ConsumerKind};
use seaworthy_policy::record::{RouteId, RuleId, Tenant, Verdict};

use super::observations::{Observation, Seen};
use super::tally::Tally;

/// Clients that are told apart: in the file, and in a batch on its way to it.
pub const CONSUMERS_MAX: usize = 10_000;

/// User-Agents of one client and day that are told apart.
pub(super) const AGENTS_MAX: usize = 16;

/// Tenants of one client and day that are told apart.
pub(super) const TENANTS_MAX: usize = 16;

/// Routes of one client and day that are told apart.
pub(super) const ROUTES_MAX: usize = 64;

/// Rules that objected to one client that a batch tells apart; the file tells all apart.
pub(super) const RULES_MAX: usize = 64;

/// Days of which a batch keeps the requests of clients beyond the bound; more fall to the last.
const OTHER_DAYS_MAX: usize = 64;

/// Whole days since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Day(pub(super) i64);

impl Day {
    pub(super) const MS: i64 = 24 * 3600 * 1000;

    pub(super) fn of_unix_ms(ms: i64) -> Self {
        Self(ms.div_euclid(Self::MS))
    }

    pub(super) const fn start_unix_ms(self) -> i64 {
        self.0.saturating_mul(Self::MS)
    }
}

/// What a rule said against the requests of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Objections {
    pub(super) would_deny: u64,
    pub(super) denied: u64,
    /// Would-denies whose request the service answered with success.
    pub(super) harm: u64,
}

impl AddAssign for Objections {
    fn add_assign(&mut self, other: Self) {
        self.would_deny += other.would_deny;
        self.denied += other.denied;
        self.harm += other.harm;
    }
}

/// Requests for one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Visits {
    pub(super) count: u64,
    pub(super) last_unix_ms: i64,
}

impl AddAssign for Visits {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.last_unix_ms = self.last_unix_ms.max(other.last_unix_ms);
    }
}

/// The requests of one client on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConsumerCounts {
    pub(super) requests: u64,
    pub(super) first_unix_ms: i64,
    /// When the last request ended, and its kind; of two at once, the greater kind.
    pub(super) last: (i64, ConsumerKind),
    pub(super) agents: Tally<Agent, u64, AGENTS_MAX>,
    pub(super) tenants: Tally<Tenant, u64, TENANTS_MAX>,
    pub(super) routes: Tally<RouteId, Visits, ROUTES_MAX>,
    pub(super) rules: Tally<RuleId, Objections, RULES_MAX>,
}

impl Default for ConsumerCounts {
    fn default() -> Self {
        Self {
            requests: 0,
            first_unix_ms: i64::MAX,
            last: (i64::MIN, ConsumerKind::Unknown),
            agents: Tally::default(),
            tenants: Tally::default(),
            routes: Tally::default(),
            rules: Tally::default(),
        }
    }
}

impl ConsumerCounts {
    fn count(&mut self, seen: Seen, one: &Observation, rule: impl FnMut(usize) -> RuleId) {
        let (count, mut rule) = (seen.count, rule);
        self.requests += count;
        self.first_unix_ms = self.first_unix_ms.min(seen.first_unix_ms);
        self.last = self.last.max((seen.last_unix_ms, one.kind));
        self.agents.add(one.agent, count);
        self.tenants.add(one.tenant, count);
        self.routes.add(one.route, Visits { count, last_unix_ms: seen.last_unix_ms });
        let harm = if one.success { count } else { 0 };
        for (protection, verdict) in one.verdicts.judged() {
            let objections = match verdict {
                Verdict::WouldDeny => Objections { would_deny: count, harm, denied: 0 },
                Verdict::Deny => Objections { denied: count, ..Objections::default() },
                Verdict::NotJudged | Verdict::Allow => continue,
            };
            self.rules.add(rule(protection), objections);
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.first_unix_ms = self.first_unix_ms.min(other.first_unix_ms);
        self.last = self.last.max(other.last);
        self.agents.absorb(&other.agents);
        self.tenants.absorb(&other.tenants);
        self.routes.absorb(&other.routes);
        self.rules.absorb(&other.rules);
    }
}

/// The requests of all clients since the last flush.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Consumers {
    known: HashMap<(Day, ClientKey), ConsumerCounts>,
    /// Clients beyond the bound.
    others: BTreeMap<Day, ConsumerCounts>,
}

impl Consumers {
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.others.is_empty()
    }

    /// Counts requests; `rule` names the rule of a protection that judged them.
    pub(super) fn count(
        &mut self,
        one: &Observation,
        seen: Seen,
        rule: impl FnMut(usize) -> RuleId,
    ) {
        let key = (Day::of_unix_ms(seen.last_unix_ms), one.client);
        self.place(key, CONSUMERS_MAX).count(seen, one, rule);
    }

    pub(super) fn absorb(&mut self, newer: Self, max: usize) {
        for (key, counts) in newer.known {
            self.place(key, max).add(&counts);
        }
        for (day, counts) in newer.others {
            self.other(day).add(&counts);
        }
    }

    /// Each client with its day, `None` for those beyond the bound.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Day, Option<ClientKey>, &ConsumerCounts)> {
        let known = self.known.iter().map(|((day, client), counts)| (*day, Some(*client), counts));
        known.chain(self.others.iter().map(|(day, counts)| (*day, None, counts)))
    }

    /// Where a client counts, of which there are at most `max`.
    fn place(&mut self, key: (Day, ClientKey), max: usize) -> &mut ConsumerCounts {
        if self.known.len() >= max && !self.known.contains_key(&key) {
            return self.other(key.0);
        }
        self.known.entry(key).or_default()
    }

    fn other(&mut self, day: Day) -> &mut ConsumerCounts {
        let full = self.others.len() >= OTHER_DAYS_MAX && !self.others.contains_key(&day);
        let last = self.others.last_key_value().map(|(day, _)| *day);
        self.others.entry(last.filter(|_| full).unwrap_or(day)).or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use seaworthy_policy::record::RequestRecord;

    use super::super::fixture::{NOON_MS, count_client, denied, record, would_be_denied};
    use super::*;

    const TODAY: Day = Day(NOON_MS / Day::MS);

    fn counted(records: &[RequestRecord]) -> Consumers {
        let mut consumers = Consumers::default();
        for record in records {
            count_client(&mut consumers, record, record.started_unix_ms);
        }
        consumers
    }

    /// The sums of everything, whoever it was told of.
    fn sums(consumers: &Consumers) -> (u64, Objections) {
        let (mut requests, mut objections) = (0, Objections::default());
        for (_, _, counts) in consumers.iter() {
            requests += counts.requests;
            counts.rules.iter().for_each(|(_, of_rule)| objections += *of_rule);
            objections += *counts.rules.other();
        }
        (requests, objections)
    }

    #[test]
    fn a_client_is_counted_with_all_that_belongs_to_it() {
        let at =
            |ms, record: RequestRecord| RequestRecord { started_unix_ms: NOON_MS + ms, ..record };
        let refused = RequestRecord { status: 404, ..would_be_denied() };
        let changed = RequestRecord { kind: ConsumerKind::External, ..record() };
        let consumers = counted(&[
            at(5, record()),
            at(9, changed),
            at(1, would_be_denied()),
            at(2, refused),
            at(3, denied()),
        ]);
        let counts = &consumers.known[&(TODAY, record().client)];
        assert_eq!((counts.requests, counts.first_unix_ms), (5, NOON_MS + 1));
        assert_eq!(counts.last, (NOON_MS + 9, ConsumerKind::External));
        assert!(counts.agents.iter().eq(&[(Agent::from("desk/1").unwrap(), 5)]));
        assert!(counts.tenants.iter().eq(&[(Tenant::from("acme").unwrap(), 5)]));
        let visits = Visits { count: 5, last_unix_ms: NOON_MS + 9 };
        assert!(counts.routes.iter().eq(&[(RouteId(0), visits)]));
        let said = Objections { would_deny: 2, denied: 1, harm: 1 };
        assert!(counts.rules.iter().eq(&[(RuleId(0), said)]));
    }

    #[test]
    fn days_are_those_of_utc() {
        let midnight = TODAY.start_unix_ms() + Day::MS;
        let at = |started_unix_ms| RequestRecord { started_unix_ms, ..record() };
        let consumers = counted(&[at(midnight - 1), at(midnight), at(-1)]);
        let mut days: Vec<_> = consumers.iter().map(|(day, ..)| day.0).collect();
        days.sort_unstable();
        assert_eq!(days, [-1, TODAY.0, TODAY.0 + 1]);
    }

    #[test]
    fn clients_beyond_the_bound_count_together_and_none_is_lost() {
        let client = |n| RequestRecord { client: ClientKey::Bearer(n), ..would_be_denied() };
        let all: Vec<_> = (0..CONSUMERS_MAX as u64 + 50).map(client).collect();
        let mut consumers = counted(&all);
        assert_eq!((consumers.known.len(), consumers.others[&TODAY].requests), (CONSUMERS_MAX, 50));
        // Who is there stays, and so does the bound.
        consumers.absorb(counted(&[client(7), client(1 << 40)]), CONSUMERS_MAX);
        assert_eq!(consumers.known[&(TODAY, ClientKey::Bearer(7))].requests, 2);
        assert_eq!((consumers.known.len(), consumers.others[&TODAY].requests), (CONSUMERS_MAX, 51));
        let objections = Objections { would_deny: 10_052, denied: 0, harm: 10_052 };
        assert_eq!(sums(&consumers), (10_052, objections));
    }

    #[test]
    fn a_clock_that_runs_wild_makes_a_bounded_number_of_rows() {
        let mut consumers = Consumers::default();
        for day in 0..1000 {
            let started_unix_ms = day * Day::MS;
            consumers.absorb(counted(&[RequestRecord { started_unix_ms, ..record() }]), 10);
        }
        assert_eq!((consumers.known.len(), consumers.others.len()), (10, OTHER_DAYS_MAX));
        assert_eq!(sums(&consumers).0, 1000);
    }

    fn requests() -> impl Strategy<Value = Vec<Vec<RequestRecord>>> {
        let request = (0_u64..6, 0_i64..3, 0_u16..80, 0..3_usize, any::<bool>()).prop_map(
            |(client, day, route, kind, objected)| RequestRecord {
                client: ClientKey::Bearer(client),
                started_unix_ms: NOON_MS + day * Day::MS + i64::from(route),
                route: RouteId(route),
                kind: ConsumerKind::ALL[kind],
                agent: Agent::from(&format!("agent/{}", route % 20)).unwrap(),
                ..if objected { would_be_denied() } else { record() }
            },
        );
        proptest::collection::vec(proptest::collection::vec(request, 0..40), 0..5)
    }

    fn merged<'a>(parts: impl Iterator<Item = &'a Vec<RequestRecord>>, max: usize) -> Consumers {
        parts.fold(Consumers::default(), |mut all, part| {
            all.absorb(counted(part), max);
            all
        })
    }

    proptest! {
        /// Whatever is cut and merged in whatever order is what was counted at once; and where
        /// there is no room for all, the sums still are.
        #[test]
        fn parts_meet_in_any_order(parts in requests()) {
            let whole = counted(&parts.concat());
            prop_assert_eq!(&merged(parts.iter(), CONSUMERS_MAX), &whole);
            prop_assert_eq!(&merged(parts.iter().rev(), CONSUMERS_MAX), &whole);
            for few in [merged(parts.iter(), 4), merged(parts.iter().rev(), 4)] {
                prop_assert!(few.known.len() <= 4);
                prop_assert_eq!(sums(&few), sums(&whole));
            }
        }
    }
}
