//! The fast fall: has something just broken?
//!
//! A gate asks whether harm is ruled out, and takes its time. The alarm is asked with each flush of
//! evidence, every second as a rule, whether what was true until now has stopped being true.
//!
//! 1. *Denials*: Shiryaev and Roberts' statistic `R ← (1 + R) · LR` over the known clients of the
//!    share that came since the last ask; a hit is one that was denied. LR is the likelihood ratio
//!    of a raised chance against that of `warn`, taken at its upper bound. While nothing changes
//!    the mean of `R` is the number of asks, so that the mean number of asks to a false alarm is at
//!    least the threshold, which is `false_alarm_every` divided by the time between two of them.
//!    Of an ask in which nobody known came nothing is learnt, and it is passed over.
//! 2. The sum that `R` is goes over the last [`ASKS_MAX`] asks alone. A part of it is never above
//!    the whole, so that false alarms are all the rarer, and a receipt can hold what it is made of.
//! 3. *Client*: a known client that `warn` saw mostly pass, and that now has at least `requests_min`
//!    requests with a majority denied, when the e-value against "no more than in warn" reaches
//!    the number of known clients divided by what this block may spend of `client_alpha`.
//! 4. *Errors*: the e-value against "5xx are at most `errors_margin` more frequent among the
//!    enforced than in the control" reaches 1 divided by what this block may spend of
//!    `errors_alpha`. Where all are enforced there is no control: then that of the steps before is
//!    compared with.
//! 5. Requests of a client, and those that 5xx are counted of, are taken in blocks, so that a long
//!    good past does not hide what has just begun. A block that has enough of them ends where
//!    nothing looks broken. Block j spends `6α/(π²j²)`, which is `α` over all of them.
//! 6. Known is who had `known_requests_min` judged requests in `warn`. Whoever comes with a new
//!    name and is denied is no evidence that a client broke: an attacker would otherwise switch off
//!    the protection that denies it.
//! 7. Units of the denials are clients and not requests for the same reason: one client that is
//!    denied a thousand times is one.
//! 8. An alarm is a function of the settings and of its [`Evidence`], which its receipt has:
//!    [`judge`] says it again, bit for bit.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::minute::Name;
use super::{Numbers, Percentage, wording};
use crate::quantity::Period;
use crate::statistics::binomial::upper_bound;
use crate::statistics::difference::{Hypothesis, Line, ln_different};
use crate::statistics::e_value::Mixture;
use crate::statistics::{Proportion, ln_sum};

/// `[gates.alarm]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The mean time between false alarms of the denials, at least. Default: 90d.
    pub false_alarm_every: Period,
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

/// An alarm that went off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    pub evidence: Evidence,
    /// One plain sentence, without a full stop.
    pub sentence: String,
    pub numbers: Numbers,
}

/// What an alarm went off by: with the settings, all that it takes to say it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case", deny_unknown_fields)]
pub enum Evidence {
    Denials {
        /// (known client, ask) units of `warn`; hits had a would-deny.
        before: Proportion,
        /// Known clients of the share in each of the last asks, oldest first; hits were denied.
        /// No more asks than it takes.
        asks: Vec<Proportion>,
        /// The time between two asks.
        asked_every: Period,
    },
    Client {
        client: Name,
        /// Its judged requests in `warn`; hits were would-denies.
        before: Proportion,
        /// Those of its present block; hits were denied.
        since: Proportion,
        block: u32,
        /// Clients that are watched.
        known_clients: u32,
    },
    Errors {
        /// Requests of the share that reached the service in the present block; hits were
        /// answered with 5xx.
        enforced: Proportion,
        control: Proportion,
        against: Against,
        block: u32,
    },
}

/// Whom the errors of the enforced are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The clients outside of the share, at the same time.
    Control,
    /// Those of the steps before, since everybody is in the share.
    ControlBefore,
}

/// What the steps before have seen of the clients that are in the share now.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    /// (known client, ask) units; hits had a would-deny. Asked as often as now.
    pub clients: Proportion,
    /// Judged requests of each client; hits were would-denies. Those that are not known by
    /// [`Config::known_requests_min`], and those beyond [`KNOWN_MAX`], are left out; whoever makes
    /// this leaves out waived clients, which are expected to break.
    pub by_client: Vec<(Name, Proportion)>,
    /// Where everybody is in the share: requests of the control of the steps before; hits were
    /// answered with 5xx.
    pub control_before: Option<Proportion>,
}

/// Clients that are watched by name.
pub const KNOWN_MAX: usize = 256;

/// Asks that the denials are told by: some twenty minutes of a service that has somebody in every
/// second. What takes longer to show is for the gates.
pub const ASKS_MAX: usize = 1024;

/// Requests of a client after which it is looked at anew.
const CLIENT_BLOCK_REQUESTS: u64 = 64;

/// Requests of the share after which 5xx are counted anew.
const ERRORS_BLOCK_REQUESTS: u64 = 4096;

/// The counts of the share since the last ask.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Judged requests by client, each client once; hits were denied. Clients that are not known
    /// are passed over.
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
    asked_every: Period,
    denials: Denials,
    /// By the keys of their names: a client that `warn` has seen may have come without its tenant.
    known: BTreeMap<Name, Known>,
    errors: Errors,
}

#[derive(Clone, Debug)]
struct Denials {
    before: Proportion,
    rise: Rise,
    asks: VecDeque<Proportion>,
    /// `ln R` over all asks, which that over the last of them is never above: minus infinity
    /// before the first.
    ln_r: f64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    before: Proportion,
    since: Proportion,
    block: u32,
}

#[derive(Clone, Copy, Debug)]
struct Errors {
    enforced: Proportion,
    control: Proportion,
    against: Against,
    block: u32,
}

/// Level of the bound at which the baseline is taken.
const BASELINE_ALPHA: f64 = 0.01;

/// What `evidence` is an alarm of, if of any.
pub fn judge(config: &Config, evidence: Evidence) -> Option<Alarm> {
    let (sentence, numbers) = match &evidence {
        Evidence::Denials { before, asks, asked_every } => {
            denials(config, *before, asks, *asked_every)?
        }
        Evidence::Client { client, before, since, block, known_clients } => {
            broken_client(config, client, *before, *since, (*block, *known_clients))?
        }
        Evidence::Errors { enforced, control, against, block } => {
            errors(config, *enforced, *control, *against, *block)?
        }
    };
    Some(Alarm { evidence, sentence, numbers })
}

impl Watch {
    /// Begins to watch. It is asked once in `asked_every`.
    pub fn new(config: Config, asked_every: Period, baseline: &Baseline) -> Self {
        let known = baseline.by_client.iter().filter(|(_, before)| is_known(&config, *before));
        let known = known
            .take(KNOWN_MAX)
            .map(|(name, before)| {
                (name.key(), Known { before: *before, since: Proportion::NONE, block: 1 })
            })
            .collect();
        let denials = Denials {
            before: baseline.clients,
            rise: Rise::new(&config, baseline.clients, asked_every),
            asks: VecDeque::new(),
            ln_r: f64::NEG_INFINITY,
        };
        let errors = Errors {
            enforced: Proportion::NONE,
            control: baseline.control_before.unwrap_or(Proportion::NONE),
            against: match baseline.control_before {
                Some(_) => Against::ControlBefore,
                None => Against::Control,
            },
            block: 1,
        };
        Self { config, asked_every, denials, known, errors }
    }

    /// Takes up what came since the last time. The first alarm of an ask is told: a client by its
    /// name before the rest.
    pub fn observe(&mut self, ask: &Ask<'_>) -> Option<Alarm> {
        let mut touched = Vec::new();
        let mut active = Proportion::NONE;
        for (name, judged) in ask.denied.iter().filter(|(_, judged)| judged.total() > 0) {
            let Some(known) = self.known.get_mut(&name.key()) else {
                continue;
            };
            known.observe(*judged);
            let one = Proportion::new(u64::from(judged.hits() > 0), 1)
                .expect("one trial with one hit at most");
            active = active.and(one);
            if judged.hits() > 0 {
                touched.push((*name, *known));
            }
        }
        self.denials.observe(active);
        self.errors.observe(ask, self.config.errors_margin.share());
        self.broken_client(&touched)
            .or_else(|| self.denials.alarm(&self.config, self.asked_every))
            .or_else(|| (ask.enforced_5xx.hits() > 0).then(|| self.failing()).flatten())
    }

    fn broken_client(&self, touched: &[(Name, Known)]) -> Option<Alarm> {
        let known_clients = u32::try_from(self.known.len()).expect("there are at most KNOWN_MAX");
        touched.iter().find_map(|(client, known)| {
            let Known { before, since, block } = *known;
            let client = *client;
            let evidence = Evidence::Client { client, before, since, block, known_clients };
            judge(&self.config, evidence)
        })
    }

    fn failing(&self) -> Option<Alarm> {
        let Errors { enforced, control, against, block } = self.errors;
        judge(&self.config, Evidence::Errors { enforced, control, against, block })
    }
}

impl Known {
    fn observe(&mut self, judged: Proportion) {
        if self.since.total() >= CLIENT_BLOCK_REQUESTS && !is_majority(self.since) {
            self.since = Proportion::NONE;
            self.block = self.block.saturating_add(1);
        }
        self.since = self.since.and(judged);
    }
}

impl Errors {
    fn observe(&mut self, ask: &Ask<'_>, margin: f64) {
        let is_worse = self.enforced.share() > self.control.share() + margin;
        if self.enforced.total() >= ERRORS_BLOCK_REQUESTS && !is_worse {
            self.enforced = Proportion::NONE;
            self.block = self.block.saturating_add(1);
            if self.against == Against::Control {
                self.control = Proportion::NONE;
            }
        }
        self.enforced = self.enforced.and(ask.enforced_5xx);
        if self.against == Against::Control {
            self.control = self.control.and(ask.control_5xx);
        }
    }
}

impl Denials {
    fn observe(&mut self, active: Proportion) {
        if active.total() == 0 {
            return;
        }
        if self.asks.len() == ASKS_MAX {
            self.asks.pop_front();
        }
        self.asks.push_back(active);
        let ln_r = ln_sum(0.0, self.ln_r) + self.rise.ln_ratio(active);
        self.ln_r = ln_r.clamp(-1e9, 1e9);
    }

    fn alarm(&self, config: &Config, asked_every: Period) -> Option<Alarm> {
        // A hair below, since the two are not rounded alike.
        if self.ln_r < self.rise.ln_threshold - 1e-6 {
            return None;
        }
        let mut statistic = Statistic::default();
        let so_few = self.asks.iter().rev().position(|ask| {
            statistic.add(self.rise.ln_ratio(*ask));
            statistic.ln_r >= self.rise.ln_threshold
        })?;
        let asks = self.asks.range(self.asks.len() - 1 - so_few..).copied().collect();
        judge(config, Evidence::Denials { before: self.before, asks, asked_every })
    }
}

/// Which rise of the denials is looked for, and how sure it has to be.
#[derive(Clone, Copy, Debug)]
struct Rise {
    before: f64,
    raised: f64,
    ln_threshold: f64,
}

impl Rise {
    fn new(config: &Config, baseline: Proportion, asked_every: Period) -> Self {
        // Without a baseline the bound is 1. Above a half a rise would be hard to tell from it.
        let before = upper_bound(baseline, BASELINE_ALPHA).min(0.5);
        let raised = (before * config.denials_factor)
            .max(before + config.denials_rise_min.share())
            .min(0.5 * (1.0 + before));
        let asks = config.false_alarm_every.as_duration().as_secs_f64()
            / asked_every.as_duration().as_secs_f64();
        // A receipt may say anything of how often it was asked.
        Self { before, raised, ln_threshold: libm::log(asks.clamp(1.0, 1e15)) }
    }

    fn ln_ratio(&self, active: Proportion) -> f64 {
        let hit = libm::log(self.raised / self.before);
        let miss = libm::log((1.0 - self.raised) / (1.0 - self.before));
        active.hits() as f64 * hit + active.misses() as f64 * miss
    }
}

/// Shiryaev and Roberts' statistic from the newest ask back: the sum, over every ask at which
/// something may have begun, of the likelihood ratio of all asks from that one on.
#[derive(Clone, Copy)]
struct Statistic {
    ln_r: f64,
    ln_product: f64,
}

impl Default for Statistic {
    fn default() -> Self {
        Self { ln_r: f64::NEG_INFINITY, ln_product: 0.0 }
    }
}

impl Statistic {
    fn add(&mut self, ln_ratio: f64) {
        self.ln_product = (self.ln_product + ln_ratio).clamp(-1e18, 1e18);
        self.ln_r = ln_sum(self.ln_r, self.ln_product);
    }
}

type Said = Option<(String, Numbers)>;

fn denials(config: &Config, before: Proportion, asks: &[Proportion], asked_every: Period) -> Said {
    let rise = Rise::new(config, before, asked_every);
    let mut statistic = Statistic::default();
    asks.iter().rev().for_each(|ask| statistic.add(rise.ln_ratio(*ask)));
    let recent = asks.iter().fold(Proportion::NONE, |sum, ask| sum.and(*ask));
    if asks.len() > ASKS_MAX || statistic.ln_r < rise.ln_threshold {
        return None;
    }
    let sentence = format!(
        "known clients are denied more often than warn predicted: {} of the last {} that one \
         came, at most {} before",
        wording::count(recent.hits()),
        wording::counted(recent.total(), "time"),
        wording::percent(rise.before)
    );
    let numbers = Numbers::of([
        ("clients_denied", recent.hits() as f64),
        ("clients", recent.total() as f64),
        ("asks", asks.len() as f64),
        ("share_before_at_most", rise.before),
        ("share_raised", rise.raised),
        ("ln_statistic", statistic.ln_r),
        ("ln_statistic_needed", rise.ln_threshold),
    ]);
    Some((sentence, numbers))
}

fn broken_client(
    config: &Config,
    client: &Name,
    before: Proportion,
    since: Proportion,
    (block, known_clients): (u32, u32),
) -> Said {
    let spent = super::level(config.client_alpha.share(), block);
    let threshold = libm::log(f64::from(known_clients.max(1))) - libm::log(spent);
    let at_most = upper_bound(before, BASELINE_ALPHA).min(0.99);
    let ln_e = Mixture::new(at_most).evidence(since).ln_above;
    let was_known = is_known(config, before);
    let is_broken = since.total() >= config.requests_min && is_majority(since);
    if !was_known || !is_broken || ln_e < threshold {
        return None;
    }
    let sentence = format!(
        "enforcing broke {client}: {} of {} requests denied, {} of {} would have been in warn",
        wording::count(since.hits()),
        wording::count(since.total()),
        wording::count(before.hits()),
        wording::count(before.total())
    );
    let numbers = Numbers::of([
        ("denied", since.hits() as f64),
        ("total", since.total() as f64),
        ("would_deny_before", before.hits() as f64),
        ("total_before", before.total() as f64),
        ("known_clients", f64::from(known_clients)),
        ("block", f64::from(block)),
        ("alpha_spent", spent),
        ("ln_e_value", ln_e),
        ("ln_e_value_needed", threshold),
    ]);
    Some((sentence, numbers))
}

fn errors(
    config: &Config,
    enforced: Proportion,
    control: Proportion,
    against: Against,
    block: u32,
) -> Said {
    let margin = config.errors_margin.share();
    let line = Line { slope: 1.0, margin };
    let spent = super::level(config.errors_alpha.share(), block);
    let threshold = -libm::log(spent);
    // With nobody to compare with there is nothing to be above.
    if control.total() == 0 || enforced.share() <= control.share() + margin {
        return None;
    }
    let ln_e = ln_different(Hypothesis::AtMost(line), enforced, control);
    if ln_e < threshold {
        return None;
    }
    let of_whom = match against {
        Against::Control => "in the control",
        Against::ControlBefore => "in the control of the step before",
    };
    let sentence = format!(
        "the service fails more often where the rule is enforced: 5xx {} of {}, {of_whom} {} of {}",
        wording::percent(enforced.share()),
        wording::counted(enforced.total(), "request"),
        wording::percent(control.share()),
        wording::counted(control.total(), "request")
    );
    let numbers = Numbers::of([
        ("enforced_5xx", enforced.hits() as f64),
        ("enforced_total", enforced.total() as f64),
        ("control_5xx", control.hits() as f64),
        ("control_total", control.total() as f64),
        ("margin", margin),
        ("block", f64::from(block)),
        ("alpha_spent", spent),
        ("ln_e_value", ln_e),
        ("ln_e_value_needed", threshold),
    ]);
    Some((sentence, numbers))
}

/// Whether a client with these would-denies among its requests of `warn` is watched: it is known,
/// and was not denied already.
pub const fn is_known(config: &Config, before: Proportion) -> bool {
    before.total() >= config.known_requests_min && before.hits() < before.misses()
}

/// More than half.
const fn is_majority(counts: Proportion) -> bool {
    counts.hits() > counts.misses()
}

#[cfg(test)]
mod tests;
