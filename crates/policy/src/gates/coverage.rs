//! Coverage: has the window seen what a usual week brings?
//!
//! 1. What is covered are pairs of a client and a route, each weighted by its requests in the
//!    trailing week: today and the seven days before. A pair is seen once the window has one of its
//!    requests. It passes when the seen pairs are at least `share` of the week's requests.
//! 2. A pair that came on one day alone is no habit: it is pooled with the others of its route, and
//!    a pool is seen when any request of it is. Otherwise a service whose clients carry a new
//!    session every day could never be covered. The nightly batch is a pair from its second night.
//! 3. [`PAIRS_MAX`] pairs are told apart, first come, first kept, so that whoever invents names
//!    cannot push out who was there; what is beyond them is pooled by route as well.
//! 4. In the first days the week is as long as there has been traffic; the sentence says so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::minute::Name;
use super::{Gate, Numbers, Percentage, Reading, Verdict, wording};
use crate::record::RouteId;
use crate::statistics::{COUNT_MAX, Proportion};

/// `[gates.coverage]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How much of the week's requests must be of pairs that the window has seen. Default: 99%.
    pub share: Percentage,
}

impl Default for Config {
    fn default() -> Self {
        Self { share: Percentage::thousandths(990) }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Requests of the trailing week; hits are of pairs that the window has seen.
    pub week: Proportion,
    /// Days of the trailing week that had requests, today among them.
    pub days: u32,
    /// The unseen pairs with the most requests, at most [`UNSEEN_NAMED_MAX`].
    pub unseen: Vec<Unseen>,
}

pub const UNSEEN_NAMED_MAX: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unseen {
    /// `None` for those of a route that were pooled.
    pub client: Option<Name>,
    pub route: Name,
    pub requests: u64,
}

pub(super) fn judge(config: &Config, input: &Input) -> Reading {
    let (week, share) = (input.week, config.share.share());
    let verdict = match () {
        () if week.total() == 0 => Verdict::NoData,
        // Whole numbers, so that 99 of 100 is 99 % whatever a division would round to.
        () if u128::from(week.hits()) * 1_000_000
            >= u128::from(week.total()) * u128::from(config.share.millionths()) =>
        {
            Verdict::Pass
        }
        () => Verdict::Inconclusive,
    };
    let needed = wording::percent(share);
    let known = match input.days {
        8.. => "the week's requests".to_owned(),
        days => format!("the requests of the {} known", wording::counted(days.into(), "day")),
    };
    let seen = wording::percent(week.share());
    let sentence = match verdict {
        Verdict::NoData => "no request is known".to_owned(),
        _ => format!(
            "the window has seen the clients and routes of {seen} of {known}, {needed} needed"
        ),
    };
    let unseen = |unseen: &Unseen| {
        let requests = wording::counted(unseen.requests, "request");
        match &unseen.client {
            Some(client) => format!("{client} on {} ({requests})", unseen.route),
            None => format!("anyone on {} ({requests})", unseen.route),
        }
    };
    let named: Vec<String> = input.unseen.iter().take(UNSEEN_NAMED_MAX).map(unseen).collect();
    let waits_for = match verdict {
        Verdict::Pass => None,
        Verdict::NoData => Some("the first request".to_owned()),
        _ if named.is_empty() => Some("clients and routes not seen yet".to_owned()),
        _ => Some(named.join(", ")),
    };
    let numbers = Numbers::of([
        ("seen_requests", week.hits() as f64),
        ("week_requests", week.total() as f64),
        ("share_needed", share),
        ("days_known", input.days.into()),
    ]);
    Reading { gate: Gate::Coverage, verdict, sentence, waits_for, numbers }
}

/// Pairs that are told apart.
pub const PAIRS_MAX: usize = 1024;

/// Routes that are told apart in the pools.
const ROUTES_MAX: usize = 256;

/// Today and the seven days before it.
const DAYS: usize = 8;

/// Which pairs the trailing week has had, and which of them the window has seen.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// By client and route. The client is whatever number its owner tells clients apart by.
    pairs: BTreeMap<(u64, RouteId), Habit>,
    /// What rule 3 pools, by route.
    pools: BTreeMap<RouteId, Habit>,
    /// The newest day.
    day: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    /// Requests by day; the place is the day modulo [`DAYS`].
    days: [u32; DAYS],
    is_seen: bool,
}

impl Habit {
    fn week(&self) -> u64 {
        self.days.iter().copied().map(u64::from).sum()
    }

    fn days(&self) -> usize {
        self.days.iter().filter(|requests| **requests > 0).count()
    }
}

impl Pairs {
    /// Begins a new window: nothing is seen, the week stays known.
    pub fn begin_window(&mut self) {
        for habit in self.pairs.values_mut().chain(self.pools.values_mut()) {
            habit.is_seen = false;
        }
    }

    /// Counts requests of a pair on a day, in days since 1970-01-01. `is_counted` says whether they
    /// are of the window: samples of the time just after a change are of the week, but not of the
    /// window.
    pub fn observe(
        &mut self,
        day: i64,
        client: u64,
        route: RouteId,
        requests: u32,
        is_counted: bool,
    ) {
        if requests == 0 {
            return;
        }
        self.turn_to(day);
        // A day of more than a week ago is no part of the week; its place has another day now.
        if self.day.is_some_and(|newest| day <= newest - DAYS as i64) {
            return;
        }
        let is_known = self.pairs.contains_key(&(client, route));
        let habit = if is_known || self.pairs.len() < PAIRS_MAX {
            self.pairs.entry((client, route)).or_default()
        } else {
            let is_told_apart = self.pools.contains_key(&route) || self.pools.len() < ROUTES_MAX;
            let route = if is_told_apart { route } else { RouteId(u16::MAX) };
            self.pools.entry(route).or_default()
        };
        let place = usize::try_from(day.rem_euclid(DAYS as i64)).unwrap_or(0);
        habit.days[place] = habit.days[place].saturating_add(requests);
        habit.is_seen |= is_counted;
    }

    /// Empties the places of the days that have gone by.
    fn turn_to(&mut self, day: i64) {
        let newest = *self.day.get_or_insert(day);
        if day <= newest {
            return;
        }
        self.day = Some(day);
        let gone = (newest + 1..=day).take(DAYS);
        let places: Vec<usize> =
            gone.map(|day| usize::try_from(day.rem_euclid(DAYS as i64)).unwrap_or(0)).collect();
        let forget = |habit: &mut Habit| {
            for place in &places {
                habit.days[*place] = 0;
            }
            habit.week() > 0
        };
        self.pairs.retain(|_, habit| forget(habit));
        self.pools.retain(|_, habit| forget(habit));
    }

    /// What the gate is told. `client_name` and `route_name` name what is unseen; a pair that they
    /// cannot name any more is told without its client, or as the route `?`.
    pub fn input(
        &self,
        client_name: impl Fn(u64) -> Option<Name>,
        route_name: impl Fn(RouteId) -> Option<Name>,
    ) -> Input {
        let mut pools: BTreeMap<RouteId, (u64, bool)> = BTreeMap::new();
        let mut pool = |route: RouteId, habit: &Habit| {
            let (week, is_seen) = pools.entry(route).or_default();
            *week += habit.week();
            *is_seen |= habit.is_seen;
        };
        let mut days = [0u64; DAYS];
        let (mut total, mut seen) = (0u64, 0u64);
        let mut unseen: Vec<(u64, RouteId, Option<u64>)> = Vec::new();
        for (route, habit) in &self.pools {
            pool(*route, habit);
        }
        for ((client, route), habit) in &self.pairs {
            if habit.days() < 2 {
                pool(*route, habit);
                continue;
            }
            let week = habit.week();
            total += week;
            if habit.is_seen {
                seen += week;
            } else {
                unseen.push((week, *route, Some(*client)));
            }
        }
        for habit in self.pairs.values().chain(self.pools.values()) {
            for (sum, requests) in days.iter_mut().zip(habit.days) {
                *sum += u64::from(requests);
            }
        }
        for (route, (week, is_seen)) in pools {
            total += week;
            if is_seen {
                seen += week;
            } else {
                unseen.push((week, route, None));
            }
        }
        unseen.sort_by(|one, other| other.cmp(one));
        let unknown = || Name::new("?").expect("a character that is no control character");
        let named = unseen.into_iter().take(UNSEEN_NAMED_MAX).map(|(requests, route, client)| {
            let route = route_name(route).unwrap_or_else(unknown);
            Unseen { client: client.and_then(&client_name), route, requests }
        });
        let total = total.min(COUNT_MAX);
        Input {
            week: Proportion::new(seen.min(total), total).expect("both are within their bounds"),
            days: days.iter().map(|requests| u32::from(*requests > 0)).sum(),
            unseen: named.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHT: u64 = 1;
    const DAYTIME: u64 = 2;
    const IMPORT: RouteId = RouteId(7);
    const READ: RouteId = RouteId(8);

    fn name(text: &str) -> Option<Name> {
        Some(Name::new(text).unwrap())
    }

    fn input(pairs: &Pairs) -> Input {
        pairs.input(
            |client| name(if client == NIGHT { "nightly-batch" } else { "web" }),
            |route| name(if route == IMPORT { "POST /import" } else { "GET /items" }),
        )
    }

    /// A week in which a batch comes each night at two, and then a window at noon.
    fn after_a_week() -> Pairs {
        let mut pairs = Pairs::default();
        for day in 100..107 {
            pairs.observe(day, NIGHT, IMPORT, 500, true);
            pairs.observe(day, DAYTIME, READ, 9500, true);
        }
        pairs.begin_window();
        pairs
    }

    #[test]
    fn a_quiet_half_hour_misses_the_nightly_batch() {
        let mut pairs = after_a_week();
        pairs.observe(107, DAYTIME, READ, 9500, true);
        let at_noon = input(&pairs);
        let reading = judge(&Config::default(), &at_noon);
        assert_eq!(reading.verdict, Verdict::Inconclusive);
        assert_eq!(
            reading.waits_for.as_deref(),
            Some("nightly-batch on POST /import (3,500 requests)")
        );
        assert_eq!(
            reading.sentence,
            "the window has seen the clients and routes of 95.6 % of the week's requests, \
             99 % needed"
        );
        pairs.observe(108, NIGHT, IMPORT, 1, true);
        assert_eq!(judge(&Config::default(), &input(&pairs)).verdict, Verdict::Pass);
    }

    #[test]
    fn what_is_not_of_the_window_is_of_the_week_alone() {
        let mut pairs = after_a_week();
        pairs.observe(107, DAYTIME, READ, 9500, false);
        assert_eq!(input(&pairs).week, Proportion::new(0, 79_500).unwrap());
    }

    #[test]
    fn clients_of_one_day_are_covered_by_their_route() {
        let mut pairs = Pairs::default();
        for session in 0..500 {
            pairs.observe(100, 1000 + session, READ, 1, true);
        }
        pairs.begin_window();
        assert_eq!(input(&pairs).unseen.first().map(|unseen| unseen.client), Some(None));
        pairs.observe(101, 9999, READ, 1, true);
        assert_eq!(input(&pairs).week, Proportion::new(501, 501).unwrap());
    }

    #[test]
    fn a_day_is_forgotten_after_a_week() {
        let mut pairs = after_a_week();
        pairs.observe(114, DAYTIME, READ, 1, true);
        assert_eq!(input(&pairs).week.total(), 1, "days 100 to 106 are gone");
        let mut pairs = after_a_week();
        pairs.observe(108, DAYTIME, READ, 1, true);
        assert_eq!(input(&pairs).week.total(), 60_001, "day 100 is gone");
        pairs.observe(99, DAYTIME, READ, 1, true);
        assert_eq!(input(&pairs).week.total(), 60_001, "what is older never comes in");
    }

    #[test]
    fn a_flood_of_clients_pushes_nobody_out() {
        let mut pairs = after_a_week();
        for client in 10..100_010u64 {
            pairs.observe(106, client, RouteId((client % 1000) as u16), 1, true);
        }
        assert_eq!(pairs.pairs.len(), PAIRS_MAX);
        assert!(pairs.pools.len() <= ROUTES_MAX + 1);
        let found = input(&pairs);
        assert_eq!(found.week, Proportion::new(100_000, 170_000).unwrap(), "none is lost");
        assert_eq!(found.unseen[0].client, name("web"));
    }

    #[test]
    fn no_traffic_is_no_pass() {
        let reading = judge(&Config::default(), &input(&Pairs::default()));
        assert_eq!(reading.verdict, Verdict::NoData);
    }
}
