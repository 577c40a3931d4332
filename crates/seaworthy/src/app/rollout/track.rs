//! The evidence of one version of a rule, as it comes: a window for the gates, a watch for the
//! alarms, and what `warn` has shown, to compare with later.

use std::collections::{BTreeMap, HashMap};

use seaworthy_policy::client::ClientKey;
use seaworthy_policy::evidence::{ClientEvidence, Counts, Lane, RuleEvidence};
use seaworthy_policy::gates::alarm::{self, Alarm, Watch};
use seaworthy_policy::gates::clients::Waiver;
use seaworthy_policy::gates::coverage::{self, Pairs};
use seaworthy_policy::gates::minute::{ClientMinute, Minute, Name, RuleMinute, Standing};
use seaworthy_policy::gates::window::{Start, Window};
use seaworthy_policy::gates::{GatesConfig, Inputs};
use seaworthy_policy::mode::{Mode, Share};
use seaworthy_policy::record::RouteId;
use seaworthy_policy::rollout::{PolicyHash, RolloutConfig, RuleState};
use seaworthy_policy::statistics::Proportion;
use serde::{Deserialize, Serialize};

/// Clients of which it is known what `warn` said of them.
const BASELINE_CLIENTS_MAX: usize = 1024;

/// Ticks whose tables of clients are compared with what comes.
const OPEN_TICKS: usize = 4;

/// What a rule was like in `warn`: kept over a promotion and over a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Before {
    /// Whose it is.
    pub(super) policy: Option<PolicyHash>,
    /// Judged requests of identified clients; hits would have been denied.
    pub(super) judged: Proportion,
    /// Requests that reached the service; hits were answered with 5xx.
    pub(super) errors: Proportion,
    /// (client, second) units; hits had a would-deny.
    pub(super) units: Proportion,
    /// By the keys of their names.
    pub(super) by_client: BTreeMap<Name, Proportion>,
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
    /// What the last tables of clients said, by the ticks that they belong to.
    pub(super) last: Tables,
    /// The newest alarm, until the rule has fallen.
    pub(super) alarm: Option<Alarm>,
    /// Something spoke against the rule since the last tick was closed.
    is_red: bool,
}

/// Judged and objected to, by the start of the tick and by client.
pub(super) type Tables = BTreeMap<i64, HashMap<ClientKey, (u64, u64)>>;

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
    pub(super) tick_ms: i64,
}

impl Scale {
    /// The tick that begins at `start_unix_ms`: a minute, where ticks are as long.
    pub(super) const fn minute(&self, start_unix_ms: i64) -> Minute {
        Minute(start_unix_ms.div_euclid(self.tick_ms))
    }

    /// The first whole tick from `unix_ms` on.
    pub(super) const fn first_whole(&self, unix_ms: i64) -> Minute {
        Minute((unix_ms + self.tick_ms - 1).div_euclid(self.tick_ms))
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
        (mut before, mut pairs): (Before, Pairs),
    ) -> Self {
        before.policy = Some(state.policy);
        pairs.begin_window();
        let step = match state.mode {
            Mode::Enforce(share) => share,
            Mode::Off | Mode::Warn => Share::NONE,
        };
        let attempt = config.above(state.mode).map_or(1, |next| state.attempt(next));
        let watch =
            matches!(state.mode, Mode::Enforce(_)).then(|| before.watch(&gates.alarm, &waivers));
        let start = Start {
            first: scale.first_whole(state.window_unix_ms),
            step,
            attempt,
            waivers,
            predicted: before.judged,
            control_before: before.errors,
        };
        let window = Window::begin(start).expect("waivers are bounded where they are taken");
        Self {
            of: Of::state(state),
            route,
            window,
            pairs,
            before,
            watch,
            last: BTreeMap::new(),
            alarm: None,
            is_red: false,
        }
    }

    /// Takes up a whole tick. What came before the window is of the week, and no evidence.
    pub(super) fn tick(
        &mut self,
        minute: Minute,
        evidence: Option<&RuleEvidence>,
        dropped: u64,
        names: &mut Clients,
    ) {
        let nothing = RuleEvidence::default();
        let evidence = evidence.unwrap_or(&nothing);
        let Counts { evaluated, enforced, denied, slow, .. } = evidence.counts;
        let clients: Vec<_> =
            evidence.clients.iter().map(|one| client_minute(one, names)).collect();
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
            denied: part(denied, enforced),
            dropped,
            is_red: std::mem::take(&mut self.is_red),
        });
        // What is enforced without a watch is pinned to it, and denials are not what `warn` is like.
        if taken.is_ok() && self.watch.is_none() && enforced == 0 {
            self.before.learn(evidence, names);
        }
    }

    /// Takes up a second, for the alarms.
    pub(super) fn second(
        &mut self,
        start_unix_ms: i64,
        fresh: &Counts,
        clients: &[ClientEvidence],
        names: &mut Clients,
    ) {
        // What is late belongs to a tick that is not the newest.
        while self.last.len() >= OPEN_TICKS && !self.last.contains_key(&start_unix_ms) {
            self.last.pop_first();
        }
        let last = self.last.entry(start_unix_ms).or_default();
        let mut denied = Vec::with_capacity(clients.len());
        for one in clients {
            let counts = one.counts;
            let objected = counts.denied + counts.would_deny;
            let (seen, hits) = last.get(&one.client).copied().unwrap_or_default();
            let (new, new_hits) =
                (counts.evaluated.saturating_sub(seen), objected.saturating_sub(hits));
            if new > 0 {
                last.insert(one.client, (counts.evaluated, objected));
                let is_watched = one.client.is_identified();
                if is_watched && (self.watch.is_none() || counts.enforced > 0) {
                    denied.push((names.name(one.client, &one.tenant), part(new_hits, new)));
                }
            }
        }
        let Some(watch) = &mut self.watch else {
            if fresh.enforced > 0 {
                return;
            }
            for (_, judged) in &denied {
                self.before.units = self.before.units.and(part(u64::from(judged.hits() > 0), 1));
            }
            return;
        };
        let alarm = watch.observe(&alarm::Tick {
            denied: &denied,
            enforced_5xx: part(fresh.enforced_errors, fresh.enforced - fresh.denied),
            control_5xx: part(fresh.control_errors, fresh.control()),
        });
        if let Some(alarm) = alarm {
            self.is_red = true;
            self.alarm = Some(alarm);
        }
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
    /// Adds what was seen in `warn`.
    fn learn(&mut self, evidence: &RuleEvidence, names: &mut Clients) {
        let counts = evidence.counts;
        self.errors = self.errors.and(part(counts.control_errors, counts.control()));
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

    /// Without the clients that are waived: they are expected to break.
    fn watch(&self, config: &alarm::Config, waivers: &[Waiver]) -> Watch {
        let is_waived = |name: &Name| waivers.iter().any(|one| one.client.key() == name.key());
        let watched = self.by_client.iter().filter(|(name, _)| !is_waived(name));
        let by_client = watched.map(|(name, judged)| (*name, *judged)).collect();
        let baseline = alarm::Baseline { clients: self.units, by_client };
        Watch::new(config.clone(), &baseline)
    }
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
