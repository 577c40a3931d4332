//! The evidence of one version of a rule, as it comes: a window for the gates, a watch for the
//! alarms, and what the steps before have shown, to compare with.
//!
//! 1. The window and what is kept of `warn` take up whole ticks. The watch is asked once with each
//!    flush, whichever ticks that is of.
//! 2. What a flush says of a client is all there is of a tick. New is what the flush before it had
//!    not said, whichever step the rule was on then.
//! 3. Of a rule that is enforced the watch sees the requests that it was enforced for alone.
//! 4. Where everybody is in the share, errors are compared with the control of the step before: it
//!    is the latest, and the gates had to find it large enough. Where an operator cut that step
//!    short and it has fewer than [`CONTROL_REQUESTS_MIN`] requests, those of the steps before it
//!    are taken as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use seaworthy_policy::client::ClientKey;
use seaworthy_policy::evidence::{ClientCounts, ClientEvidence, Counts, Lane, RuleEvidence};
use seaworthy_policy::gates::alarm::{self, Alarm, Watch};
use seaworthy_policy::gates::clients::Waiver;
use seaworthy_policy::gates::coverage::{self, Pairs};
use seaworthy_policy::gates::minute::{
    ClientMinute, Minute, Name, RuleMinute, Standing, TickLength,
};
use seaworthy_policy::gates::window::{Start, Window};
use seaworthy_policy::gates::{GatesConfig, Inputs};
use seaworthy_policy::mode::{Mode, Share};
use seaworthy_policy::quantity::Period;
use seaworthy_policy::record::RouteId;
use seaworthy_policy::rollout::{PolicyHash, RolloutConfig, RuleState};
use seaworthy_policy::statistics::Proportion;
use seaworthy_store::telemetry::FreshEvidence;
use serde::{Deserialize, Serialize};

/// Clients of which it is known what `warn` said of them.
const BASELINE_CLIENTS_MAX: usize = 1024;

/// Requests of a control that can be compared with.
const CONTROL_REQUESTS_MIN: u64 = 1000;

/// Ticks whose tables of clients are compared with what comes.
const OPEN_TICKS: usize = 4;

/// What a rule was like before its present step, in `warn` above all: kept over a promotion and over
/// a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Before {
    /// Whose it is.
    pub(super) policy: Option<PolicyHash>,
    /// Until when the ticks are in it, in Unix milliseconds, so that none is counted twice.
    pub(super) until_unix_ms: Option<i64>,
    /// Judged requests of identified clients in `warn`; hits would have been denied.
    pub(super) judged: Proportion,
    /// By the keys of their names.
    pub(super) by_client: BTreeMap<Name, Proportion>,
    /// (known client, flush) units of `warn`; hits had a would-deny.
    pub(super) units: Proportion,
    /// How far apart the flushes were: units of another length say nothing.
    pub(super) flushed_every: Option<Period>,
    /// Requests of the control that reached the service, on the steps before `step`; hits were
    /// answered with 5xx.
    pub(super) errors: Proportion,
    /// The same on `step`, in basis points: the newest one that had a control.
    pub(super) errors_of_step: Proportion,
    pub(super) step: Option<u16>,
}

/// One version of a rule on one step.
pub(super) struct Track {
    /// What the state was when this began: with another one it begins anew.
    pub(super) of: Of,
    /// The route whose requests alone it judges.
    route: Option<RouteId>,
    window: Window,
    pub(super) pairs: Pairs,
    pub(super) before: Before,
    watch: Option<Watch>,
    /// What the last tables of clients said.
    pub(super) last: Tables,
    /// What a known client is.
    known: alarm::Config,
    /// Whose breaking is accepted, so that nothing is told by it.
    waived: BTreeSet<Name>,
    /// The newest alarm, until the rule has fallen.
    pub(super) alarm: Option<Alarm>,
    /// Something spoke against the rule since the last tick was closed.
    is_red: bool,
    /// What it began with is another by now, so that it begins anew.
    pub(super) is_stale: bool,
}

/// Tables of clients, by the start of the ticks that they belong to.
pub(super) type Tables = BTreeMap<i64, HashMap<ClientKey, ClientCounts>>;

/// What a track goes on with.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) before: Before,
    pub(super) pairs: Pairs,
    pub(super) last: Tables,
}

/// What a track is about. Evidence of one is no evidence of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Of {
    pub(super) policy: PolicyHash,
    pub(super) mode: Mode,
    pub(super) window_unix_ms: i64,
}

impl Of {
    pub(super) const fn state(state: &RuleState) -> Self {
        let RuleState { policy, mode, window_unix_ms, .. } = state;
        Self { policy: *policy, mode: *mode, window_unix_ms: *window_unix_ms }
    }
}

/// How ticks and clients are named.
pub(super) struct Scale {
    pub(super) tick: TickLength,
    /// The time from one flush to the next.
    pub(super) flush_every: Period,
}

impl Scale {
    /// The tick that begins at `start_unix_ms`: a minute, where ticks are as long.
    pub(super) fn minute(&self, start_unix_ms: i64) -> Minute {
        self.tick.at_unix_ms(start_unix_ms)
    }

    /// The first whole tick from `unix_ms` on.
    pub(super) fn first_whole(&self, unix_ms: i64) -> Minute {
        self.tick.at_unix_ms(unix_ms + i64::from(self.tick.ms()) - 1)
    }

    /// The day of a tick, in days since 1970-01-01.
    pub(super) fn day(&self, minute: Minute) -> i64 {
        self.tick.unix_ms(minute).div_euclid(24 * 3600 * 1000)
    }
}

/// What the gates call the clients. A client keeps the name that it was first given: it is told
/// apart by its key, and the tenant is for people.
#[derive(Default)]
pub(super) struct Clients(HashMap<u64, Name>);

/// Clients that keep a name with a tenant; more are called by their key.
const CLIENTS_MAX: usize = 65_536;

impl Clients {
    pub(super) fn name(&mut self, client: ClientKey, tenant: &str) -> Name {
        let number = number(Some(client));
        if let Some(known) = self.0.get(&number) {
            return *known;
        }
        let key = client.to_string();
        let bare = || Name::new(&key).expect("a key is short and has no control characters");
        if self.0.len() >= CLIENTS_MAX {
            return bare();
        }
        let named = match tenant {
            "" => bare(),
            tenant => Name::new(&format!("{tenant} ({key})")).unwrap_or_else(|_| bare()),
        };
        self.0.insert(number, named);
        named
    }

    pub(super) fn by_number(&self, number: u64) -> Option<Name> {
        self.0.get(&number).copied()
    }
}

impl Track {
    pub(super) fn begin(
        (state, route): (&RuleState, Option<RouteId>),
        config: &RolloutConfig,
        gates: &GatesConfig,
        scale: &Scale,
        waivers: Vec<Waiver>,
        Kept { mut before, mut pairs, last }: Kept,
    ) -> Self {
        before.policy = Some(state.policy);
        if before.flushed_every != Some(scale.flush_every) {
            (before.units, before.flushed_every) = (Proportion::NONE, Some(scale.flush_every));
        }
        pairs.begin_window();
        let step = match state.mode {
            Mode::Enforce(share) => share,
            Mode::Off | Mode::Warn => Share::NONE,
        };
        let first = scale.first_whole(state.window_unix_ms);
        let live = waivers.iter().filter(|waiver| first < waiver.until);
        let waived = live.map(|waiver| waiver.client.key()).collect();
        let start = Start {
            tick: scale.tick,
            first,
            step,
            attempt: state.next_attempt(config),
            waivers,
            predicted: before.predicted(&waived),
            control_before: before.control(),
        };
        let window = Window::begin(start).expect("waivers are bounded where they are taken");
        let watch = matches!(state.mode, Mode::Enforce(_))
            .then(|| before.watch(&gates.alarm, step, scale, &waived));
        Self {
            of: Of::state(state),
            route,
            window,
            pairs,
            before,
            watch,
            last,
            known: gates.alarm.clone(),
            waived,
            alarm: None,
            is_red: false,
            is_stale: false,
        }
    }

    /// Judges as the attempt that the next step of `state` is at.
    pub(super) fn attempt(&mut self, config: &RolloutConfig, state: &RuleState) {
        self.window.attempt(state.next_attempt(config));
    }

    /// Watches by other settings from now on.
    pub(super) fn watch_by(&mut self, config: &alarm::Config, scale: &Scale) {
        self.known = config.clone();
        if let (Some(watch), Mode::Enforce(step)) = (&mut self.watch, self.of.mode) {
            *watch = self.before.watch(config, step, scale, &self.waived);
        }
    }

    /// Takes up a whole tick. What came before the window is of the week, and no evidence.
    pub(super) fn tick(
        &mut self,
        minute: Minute,
        evidence: Option<&RuleEvidence>,
        dropped: u64,
        (scale, names): (&Scale, &mut Clients),
    ) {
        let nothing = RuleEvidence::default();
        let evidence = evidence.unwrap_or(&nothing);
        let Counts { evaluated, enforced, denied, slow, .. } = evidence.counts;
        let clients: Vec<_> =
            evidence.clients.iter().map(|one| client_minute(one, names)).collect();
        // A waived client is in no prediction, and so in nothing that is compared with one.
        let of_waived = clients.iter().zip(&evidence.clients);
        let of_waived = of_waived.filter(|(named, _)| self.waived.contains(&named.client.key()));
        let (waived_denied, waived_enforced) = of_waived.fold((0, 0), |(denied, all), (_, one)| {
            (denied + one.counts.denied, all + one.counts.enforced)
        });
        let other = evidence.other;
        // Of the other clients, those in the share have no harm to be seen.
        let other = part(other.harm, other.evaluated - other.enforced);
        let taken = self.window.observe(&RuleMinute {
            minute,
            clients: &clients,
            other,
            checks: part(slow, evaluated),
            enforced_5xx: part(evidence.counts.enforced_errors, enforced - denied),
            control_5xx: part(evidence.counts.control_errors, evidence.counts.control()),
            denied: part(
                denied.saturating_sub(waived_denied),
                enforced.saturating_sub(waived_enforced),
            ),
            dropped,
            is_red: std::mem::take(&mut self.is_red),
        });
        let start_unix_ms = scale.tick.unix_ms(minute);
        let is_learnt = self.before.until_unix_ms.is_some_and(|until| start_unix_ms < until);
        // What is enforced without a watch is pinned to it, and denials are not what `warn` is like.
        let is_pinned = self.watch.is_none() && enforced > 0;
        if taken.is_ok() && !is_learnt && !is_pinned {
            self.before.until_unix_ms = Some(scale.tick.unix_ms(Minute(minute.0 + 1)));
            self.before.learn(self.of.mode, evidence, names);
        }
    }

    /// Takes up what a flush has brought of it, for the alarms.
    pub(super) fn flushed(&mut self, fresh: &[&FreshEvidence], names: &mut Clients) {
        let mut counts = Counts::default();
        // A client that came in two ticks is one all the same.
        let mut came = BTreeMap::new();
        for one in fresh {
            counts.add(&one.counts);
            for (client, judged) in self.news(one, names) {
                let known = came.entry(client).or_insert(Proportion::NONE);
                *known = known.and(judged);
            }
        }
        let came: Vec<(Name, Proportion)> = came.into_iter().collect();
        let Some(watch) = &mut self.watch else {
            if counts.enforced == 0 {
                self.before.observe(&came, &self.known, &self.waived);
            }
            return;
        };
        let alarm = watch.observe(&alarm::Ask {
            denied: &came,
            enforced_5xx: part(counts.enforced_errors, counts.enforced - counts.denied),
            control_5xx: part(counts.control_errors, counts.control()),
        });
        if let Some(alarm) = alarm {
            self.is_red = true;
            self.alarm = Some(alarm);
        }
    }

    /// What is said of identified clients that was not said before: requests that were judged, or
    /// those that it was enforced for; hits were objected to.
    fn news(&mut self, fresh: &FreshEvidence, names: &mut Clients) -> Vec<(Name, Proportion)> {
        // What is late belongs to a tick that is not the newest.
        while self.last.len() >= OPEN_TICKS && !self.last.contains_key(&fresh.start_unix_ms) {
            self.last.pop_first();
        }
        let last = self.last.entry(fresh.start_unix_ms).or_default();
        let is_enforced = self.watch.is_some();
        let mut news = Vec::with_capacity(fresh.clients.len());
        for ClientEvidence { client, tenant, counts } in &fresh.clients {
            let seen = last.insert(*client, *counts).unwrap_or_default();
            let judged = if is_enforced {
                since((counts.denied, counts.enforced), (seen.denied, seen.enforced))
            } else {
                since((counts.would_deny, counts.evaluated), (seen.would_deny, seen.evaluated))
            };
            if judged.total() > 0 && client.is_identified() {
                news.push((names.name(*client, tenant), judged));
            }
        }
        news
    }

    /// Whether requests of `route` are among those that it judges.
    pub(super) fn concerns(&self, route: RouteId) -> bool {
        self.route.is_none_or(|own| own == route)
    }

    /// The process was not there for a while: what is missing is no evidence, and nobody saw it
    /// green.
    pub(super) const fn interrupted(&mut self) {
        self.is_red = true;
    }

    /// The newest tick in which something was lost.
    pub(super) const fn lost(&self) -> Option<Minute> {
        self.window.lost()
    }

    /// What the gates are told at `now`.
    pub(super) fn inputs(&mut self, now: Minute, coverage: coverage::Input) -> &Inputs {
        self.window.inputs(now, coverage)
    }
}

impl Before {
    /// Adds what was seen in a tick.
    fn learn(&mut self, mode: Mode, evidence: &RuleEvidence, names: &mut Clients) {
        let counts = evidence.counts;
        let step = match mode {
            Mode::Enforce(share) => share,
            Mode::Off | Mode::Warn => Share::NONE,
        };
        let control = part(counts.control_errors, counts.control());
        // Where everybody is in the share nobody is left to be the control.
        if step != Share::ALL && control.total() > 0 {
            self.take_step(step);
            self.errors_of_step = self.errors_of_step.and(control);
        }
        if step != Share::NONE {
            return;
        }
        for one in evidence.clients.iter().filter(|one| one.client.is_identified()) {
            let judged = part(one.counts.would_deny, one.counts.evaluated);
            self.judged = self.judged.and(judged);
            let name = names.name(one.client, &one.tenant).key();
            if self.by_client.contains_key(&name) || self.by_client.len() < BASELINE_CLIENTS_MAX {
                let known = self.by_client.entry(name).or_insert(Proportion::NONE);
                *known = known.and(judged);
            }
        }
    }

    /// What `warn` was like without the clients that are waived.
    fn predicted(&self, waived: &BTreeSet<Name>) -> Proportion {
        let theirs = waived.iter().filter_map(|client| self.by_client.get(client));
        let (hits, total) =
            theirs.fold((0, 0), |(hits, total), one| (hits + one.hits(), total + one.total()));
        part(self.judged.hits().saturating_sub(hits), self.judged.total().saturating_sub(total))
    }

    /// The same, where its time is not after `now_unix_ms`: a clock that was ahead may have told
    /// another, and what comes until then would not be learnt.
    pub(super) fn brought_back(self, now_unix_ms: i64) -> Self {
        let until_unix_ms = self.until_unix_ms.map(|until| until.min(now_unix_ms));
        Self { until_unix_ms, ..self }
    }

    fn take_step(&mut self, step: Share) {
        if self.step != Some(step.basis_points()) {
            self.errors = self.control();
            self.errors_of_step = Proportion::NONE;
            self.step = Some(step.basis_points());
        }
    }

    /// Rule 4.
    fn control(&self) -> Proportion {
        let Self { errors, errors_of_step, .. } = self;
        if errors_of_step.total() >= CONTROL_REQUESTS_MIN {
            *errors_of_step
        } else {
            errors.and(*errors_of_step)
        }
    }

    /// Adds the clients that came in a flush, in `warn`. Those count that a watch would know.
    fn observe(
        &mut self,
        came: &[(Name, Proportion)],
        config: &alarm::Config,
        waived: &BTreeSet<Name>,
    ) {
        for (client, judged) in came.iter().filter(|(client, _)| !waived.contains(&client.key())) {
            let known = self.by_client.get(&client.key());
            if known.is_some_and(|known| alarm::is_known(config, *known)) {
                self.units = self.units.and(part(u64::from(judged.hits() > 0), 1));
            }
        }
    }

    fn watch(
        &self,
        config: &alarm::Config,
        step: Share,
        scale: &Scale,
        waived: &BTreeSet<Name>,
    ) -> Watch {
        let known = self.by_client.iter().filter(|(name, _)| !waived.contains(name));
        let baseline = alarm::Baseline {
            clients: self.units,
            by_client: known.map(|(name, judged)| (*name, *judged)).collect(),
            control_before: (step == Share::ALL).then(|| self.control()),
        };
        Watch::new(config.clone(), scale.flush_every, &baseline)
    }
}

/// So many of so many more than there were.
fn since((hits, total): (u64, u64), (hits_before, total_before): (u64, u64)) -> Proportion {
    part(hits.saturating_sub(hits_before), total.saturating_sub(total_before))
}

fn client_minute(one: &ClientEvidence, names: &mut Clients) -> ClientMinute {
    let standing = match () {
        // At 100 % that is whoever comes, with an identity or without.
        () if one.counts.enforced > 0 => Standing::Enforced,
        () if !one.client.is_identified() => Standing::Unidentified,
        () => Standing::Control,
    };
    ClientMinute {
        client: names.name(one.client, &one.tenant),
        standing,
        judged: part(one.counts.harm, one.counts.evaluated),
    }
}

/// So many of so many; counts are sums of what was counted together, so the first is no more.
fn part(hits: u64, total: u64) -> Proportion {
    Proportion::new(hits.min(total), total).unwrap_or(Proportion::NONE)
}

/// The client's number in the pairs.
pub(super) fn number(client: Option<ClientKey>) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher = siphasher::sip::SipHasher24::new_with_keys(0, 0);
    match client {
        Some(client) => hasher.write(&client.to_bytes()),
        None => hasher.write(b"~other"),
    }
    hasher.finish()
}

/// The lanes, in the order in which they are looked at.
pub(super) const LANES: [Lane; 2] = [Lane::Current, Lane::Next];

#[cfg(test)]
mod tests;
