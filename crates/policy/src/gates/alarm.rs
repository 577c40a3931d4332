//! The fast fall: has something just broken?
//!
//! A gate asks whether harm is ruled out, and takes its time. The alarm asks, every few seconds,
//! whether what was true until now has stopped being true.
//!
//! 1. *Denials*: Shiryaev and Roberts' statistic `R ← (1 + R) · LR` over the known clients of the
//!    share that were active in a tick; a hit is one that was denied. LR is the likelihood ratio of
//!    a raised chance against that of `warn`, taken at its upper bound. While nothing changes the
//!    mean of `R` is the number of ticks, so that the mean time to a false alarm is at least the
//!    threshold, which is set by `false_alarm_every`.
//! 2. *Client*: a known client that `warn` saw mostly pass, and that now has at least `requests_min`
//!    requests with a majority denied, when the e-value against "no more than in warn" reaches
//!    the number of known clients divided by `client_alpha`.
//! 3. *Errors*: the e-value against "5xx are at most `errors_margin` more frequent among the
//!    enforced than in the control" reaches 1 divided by `errors_alpha`.
//! 4. Known is who had `known_requests_min` judged requests in `warn`. Whoever comes with a new
//!    name and is denied is no evidence that a client broke: an attacker would otherwise switch off
//!    the protection that denies it.
//! 5. Units of the denials are clients and not requests for the same reason: one client that is
//!    denied a thousand times is one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::minute::Name;
use super::{Numbers, Percentage, wording};
use crate::quantity::Period;
use crate::statistics::Proportion;
use crate::statistics::binomial::upper_bound;
use crate::statistics::difference::{Hypothesis, Line, ln_different};
use crate::statistics::e_value::Mixture;

/// `[gates.alarm]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The mean time between false alarms of the denials, at least. Default: 90d.
    pub false_alarm_every: Period,
    /// How often the alarm is asked. Default: 1s.
    pub tick: Period,
    /// How many times more clients are denied when something broke. Default: 4.
    pub denials_factor: f64,
    /// And by how much more at least, where next to nobody was denied. Default: 5%.
    pub denials_rise_min: Percentage,
    /// Judged requests in `warn` that make a client known. Default: 20.
    pub known_requests_min: u64,
    /// Requests of a client before a majority of denials means anything. Default: 6.
    pub requests_min: u64,
    /// The chance that a client is ever called broken by mistake, over all clients of a step.
    /// Default: 0.1%.
    pub client_alpha: Percentage,
    /// How much more frequent 5xx must be among the enforced. Default: 1%.
    pub errors_margin: Percentage,
    /// The chance that they are ever called so by mistake at a step. Default: 0.1%.
    pub errors_alpha: Percentage,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            false_alarm_every: Period::secs(90 * 86_400),
            tick: Period::secs(1),
            denials_factor: 4.0,
            denials_rise_min: Percentage::thousandths(50),
            known_requests_min: 20,
            requests_min: 6,
            client_alpha: Percentage::thousandths(1),
            errors_margin: Percentage::thousandths(10),
            errors_alpha: Percentage::thousandths(1),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Denials,
    Client,
    Errors,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    pub cause: Cause,
    /// One plain sentence, without a full stop.
    pub sentence: String,
    pub numbers: Numbers,
}

/// What `warn` has seen of the clients that are in the share now.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    /// (known client, tick) units; hits had a would-deny. With ticks as long as
    /// [`Config::tick`].
    pub clients: Proportion,
    /// Judged requests of each client; hits were would-denies. Those that are not known by
    /// [`Config::known_requests_min`], and those beyond [`KNOWN_MAX`], are left out; whoever makes
    /// this leaves out waived clients, which are expected to break.
    pub by_client: Vec<(Name, Proportion)>,
}

/// Clients that are watched by name.
pub const KNOWN_MAX: usize = 256;

/// The counts of the share in one tick.
#[derive(Clone, Copy, Debug)]
pub struct Tick<'a> {
    /// Judged requests by client; hits were denied. Clients that are not known are passed over.
    pub denied: &'a [(Name, Proportion)],
    /// Requests that reached the service; hits were answered with 5xx.
    pub enforced_5xx: Proportion,
    /// The same of the control.
    pub control_5xx: Proportion,
}

/// Watches one rule from one change to the next.
#[derive(Clone, Debug)]
pub struct Watch {
    config: Config,
    denials: Denials,
    /// By the keys of their names: a client that `warn` has seen may have come without its tenant.
    known: BTreeMap<Name, Known>,
    enforced_5xx: Proportion,
    control_5xx: Proportion,
}

/// Shiryaev and Roberts' statistic.
#[derive(Clone, Copy, Debug)]
struct Denials {
    before: f64,
    raised: f64,
    /// `ln R`, minus infinity before the first tick.
    ln_r: f64,
    ln_threshold: f64,
    since: Proportion,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    before: Proportion,
    since: Proportion,
}

/// Level of the bound at which the baseline is taken.
const BASELINE_ALPHA: f64 = 0.01;

impl Watch {
    pub fn new(config: Config, baseline: &Baseline) -> Self {
        let denials = Denials::new(&config, baseline.clients);
        let known = baseline.by_client.iter().filter(|(_, before)| {
            before.total() >= config.known_requests_min && 2 * before.hits() < before.total()
        });
        let known = known
            .take(KNOWN_MAX)
            .map(|(name, before)| (name.key(), Known { before: *before, since: Proportion::NONE }))
            .collect();
        Self {
            config,
            denials,
            known,
            enforced_5xx: Proportion::NONE,
            control_5xx: Proportion::NONE,
        }
    }

    /// Takes up a tick. The first alarm of a tick is told: a client by its name before the rest.
    pub fn observe(&mut self, tick: &Tick<'_>) -> Option<Alarm> {
        let mut touched = Vec::new();
        let mut active = Proportion::NONE;
        for (name, judged) in tick.denied.iter().filter(|(_, judged)| judged.total() > 0) {
            let Some(known) = self.known.get_mut(&name.key()) else {
                continue;
            };
            known.since = known.since.and(*judged);
            let one = Proportion::new(u64::from(judged.hits() > 0), 1)
                .expect("one trial with one hit at most");
            active = active.and(one);
            if judged.hits() > 0 {
                touched.push((*name, *known));
            }
        }
        self.denials.observe(active);
        self.enforced_5xx = self.enforced_5xx.and(tick.enforced_5xx);
        self.control_5xx = self.control_5xx.and(tick.control_5xx);
        self.broken_client(&touched)
            .or_else(|| self.denials.alarm())
            .or_else(|| (tick.enforced_5xx.hits() > 0).then(|| self.errors()).flatten())
    }

    fn broken_client(&self, touched: &[(Name, Known)]) -> Option<Alarm> {
        let threshold =
            libm::log(self.known.len().max(1) as f64) - libm::log(self.config.client_alpha.share());
        let broken = |(_, known): &&(Name, Known)| {
            let since = known.since;
            let is_majority = 2 * since.hits() > since.total();
            since.total() >= self.config.requests_min
                && is_majority
                && known.ln_more_than_before() >= threshold
        };
        let (name, known) = touched.iter().find(broken)?;
        let (since, before) = (known.since, known.before);
        Some(Alarm {
            cause: Cause::Client,
            sentence: format!(
                "enforcing broke {name}: {} of {} requests denied, {} of {} would have been in warn",
                wording::count(since.hits()),
                wording::count(since.total()),
                wording::count(before.hits()),
                wording::count(before.total())
            ),
            numbers: Numbers::of([
                ("denied", since.hits() as f64),
                ("total", since.total() as f64),
                ("would_deny_before", before.hits() as f64),
                ("total_before", before.total() as f64),
                ("known_clients", self.known.len() as f64),
                ("ln_e_value", known.ln_more_than_before()),
                ("ln_e_value_needed", threshold),
            ]),
        })
    }

    fn errors(&self) -> Option<Alarm> {
        let (enforced, control) = (self.enforced_5xx, self.control_5xx);
        // Without a control, as at 100 %, there is nothing to be above.
        if control.total() == 0 {
            return None;
        }
        let margin = self.config.errors_margin.share();
        let line = Line { slope: 1.0, margin };
        let threshold = -libm::log(self.config.errors_alpha.share());
        let ln_e = ln_different(Hypothesis::AtMost(line), enforced, control);
        if ln_e < threshold || enforced.share() <= control.share() + margin {
            return None;
        }
        Some(Alarm {
            cause: Cause::Errors,
            sentence: format!(
                "the service fails more often where the rule is enforced: 5xx {} of {}, \
                 in the control {} of {}",
                wording::percent(enforced.share()),
                wording::counted(enforced.total(), "request"),
                wording::percent(control.share()),
                wording::counted(control.total(), "request")
            ),
            numbers: Numbers::of([
                ("enforced_5xx", enforced.hits() as f64),
                ("enforced_total", enforced.total() as f64),
                ("control_5xx", control.hits() as f64),
                ("control_total", control.total() as f64),
                ("margin", margin),
                ("ln_e_value", ln_e),
                ("ln_e_value_needed", threshold),
            ]),
        })
    }
}

impl Known {
    /// The evidence that more is denied than would have been, at the upper bound of before.
    fn ln_more_than_before(&self) -> f64 {
        let before = upper_bound(self.before, BASELINE_ALPHA).min(0.99);
        Mixture::new(before).evidence(self.since).ln_above
    }
}

impl Denials {
    fn new(config: &Config, baseline: Proportion) -> Self {
        // Without a baseline the bound is 1. Above a half a rise would be hard to tell from it.
        let before = upper_bound(baseline, BASELINE_ALPHA).min(0.5);
        let raised = (before * config.denials_factor)
            .max(before + config.denials_rise_min.share())
            .min(0.5 * (1.0 + before));
        let ticks = config.false_alarm_every.as_duration().as_secs_f64()
            / config.tick.as_duration().as_secs_f64();
        Self {
            before,
            raised,
            ln_r: f64::NEG_INFINITY,
            ln_threshold: libm::log(ticks),
            since: Proportion::NONE,
        }
    }

    fn observe(&mut self, active: Proportion) {
        // ln (1 + R)
        let ln_grown = crate::statistics::ln_sum(0.0, self.ln_r);
        let hit = libm::log(self.raised / self.before);
        let miss = libm::log((1.0 - self.raised) / (1.0 - self.before));
        let ln_ratio = active.hits() as f64 * hit + active.misses() as f64 * miss;
        self.ln_r = (ln_grown + ln_ratio).clamp(-1e9, 1e9);
        self.since = self.since.and(active);
    }

    fn alarm(&self) -> Option<Alarm> {
        if self.ln_r < self.ln_threshold {
            return None;
        }
        let share = wording::percent(self.since.share());
        Some(Alarm {
            cause: Cause::Denials,
            sentence: format!(
                "known clients are denied more often than warn predicted: {share} of {} since \
                 the change, at most {} before",
                wording::counted(self.since.total(), "client and tick"),
                wording::percent(self.before)
            ),
            numbers: Numbers::of([
                ("clients_denied", self.since.hits() as f64),
                ("clients", self.since.total() as f64),
                ("share_before_at_most", self.before),
                ("share_raised", self.raised),
                ("ln_statistic", self.ln_r),
                ("ln_statistic_needed", self.ln_threshold),
            ]),
        })
    }
}

#[cfg(test)]
mod tests;
