//! Clients: would no single client be broken, however small its part of the traffic is?
//!
//! 1. A unit is a client in a minute, with the harm fraction Z of its judged requests. So a client
//!    with ten thousand requests a minute weighs no more than one with ten. The clients of a minute
//!    that were not told apart are one unit together.
//! 2. Units are bet on: the capital is the product of `1 + λ(p0 − Z)` over all of them. It is a
//!    non-negative supermartingale where the mean of Z, given what came before, is at least p0, for
//!    any λ in [0, 1/(1−p0)] that was chosen before the unit was seen. So it ever reaches `1/α`
//!    with probability at most `α`.
//! 3. λ is `(1 − μ/p0)/(1 − p0)`, or nothing where that is negative, with `μ = (½ + ΣZ)/(n + 1/p0)`
//!    over the units of earlier blocks. For units that are whole or broken this makes the capital
//!    the likelihood ratio of μ against p0, which is how one bets to grow fastest. λ stays below
//!    1/(1−p0), so that no unit ruins it.
//! 4. λ changes at the start of a block of minutes. A block ends with the minute in which its units
//!    are a sixteenth of all before it, so that there are at most some hundred of them, and a
//!    receipt can hold what the capital is made of. Where a block ends depends on the number of
//!    units alone.
//! 5. Z is rounded up to sixty-fourths. That can only lower the capital.
//! 6. Independently of any average it fails where a client that is not waived had at least
//!    `requests_min` judged requests and more than half of them harmed; such clients are named.
//! 7. A waived client counts in no gate from the minute in which it is waived, whatever tenant it is
//!    called by: names are compared by their keys. A new waiver changes what is to be shown, and
//!    begins a new attempt.
//! 8. [`KEPT_MAX`] clients are kept by name. Beyond that those furthest from a majority of harm are
//!    let go first; should one of them come back, it is counted from then on.

use serde::{Deserialize, Serialize};

use super::minute::{Minute, Name};
use super::{Gate, Look, Numbers, Percentage, Reading, Verdict, wording};
use crate::statistics::{COUNT_MAX, Proportion};

/// `[gates.clients]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The mean harm of a client in a minute that must be ruled out. Default: 0.5%.
    pub p0: Percentage,
    /// Judged requests before a majority of harm means anything. Default: 6, fewer than a client
    /// that comes once an hour has in a working day.
    pub requests_min: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { p0: Percentage::thousandths(5), requests_min: 6 }
    }
}

/// Clients that are kept by name.
pub const KEPT_MAX: usize = 256;

/// Waivers of one rule.
pub const WAIVERS_MAX: usize = 64;

/// Enough for more units than a count can hold.
const BLOCKS_MAX: usize = 1024;

/// Z is kept in this many parts.
const PARTS: u8 = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Input {
    blocks: Vec<Block>,
    /// By name, so that the same clients are always the same bytes.
    clients: Vec<ClientCounts>,
    /// Judged requests of everyone, kept by name or not; hits were harmed.
    judged: Proportion,
    waivers: Vec<Waiver>,
}

/// Units of consecutive minutes that were bet on with one λ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    units: u64,
    /// How many units had which harm: (sixty-fourths, units), by the first; without those of none.
    harmed: Vec<(u8, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCounts {
    pub client: Name,
    pub judged: Proportion,
}

/// A client whose breaking is accepted, until a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    pub client: Name,
    /// The first minute in which it counts again.
    pub until: Minute,
}

/// Fits after "failed to read the clients' evidence: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    #[error("expected at most {BLOCKS_MAX} blocks, {KEPT_MAX} clients and {WAIVERS_MAX} waivers")]
    TooMuch,
    #[error("expected harm in 64 parts in rising order, of no more units than there are")]
    Block,
    #[error("expected each client once, in the order of their names")]
    Order,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    blocks: Vec<Block>,
    clients: Vec<ClientCounts>,
    judged: Proportion,
    waivers: Vec<Waiver>,
}

impl TryFrom<Written> for Input {
    type Error = InputError;

    fn try_from(written: Written) -> Result<Self, InputError> {
        let Written { blocks, clients, judged, waivers } = written;
        if blocks.len() > BLOCKS_MAX || clients.len() > KEPT_MAX || waivers.len() > WAIVERS_MAX {
            return Err(InputError::TooMuch);
        }
        for block in &blocks {
            let rises = block.harmed.is_sorted_by(|one, next| one.0 < next.0);
            let parts = block.harmed.iter().all(|(parts, _)| (1..=PARTS).contains(parts));
            let harmed =
                block.harmed.iter().try_fold(0u64, |sum, (_, units)| sum.checked_add(*units));
            let fits =
                block.units <= COUNT_MAX && harmed.is_some_and(|harmed| harmed <= block.units);
            if !rises || !parts || !fits {
                return Err(InputError::Block);
            }
        }
        if !clients.is_sorted_by(|one, next| one.client < next.client) {
            return Err(InputError::Order);
        }
        Ok(Self { blocks, clients, judged, waivers })
    }
}

impl Input {
    /// The evidence of a window that begins with these waivers; those beyond [`WAIVERS_MAX`] are
    /// an error.
    pub fn new(waivers: Vec<Waiver>) -> Result<Self, InputError> {
        Written { blocks: Vec::new(), clients: Vec::new(), judged: Proportion::NONE, waivers }
            .try_into()
    }

    pub fn clients(&self) -> &[ClientCounts] {
        &self.clients
    }

    /// Rule 7.
    pub fn is_waived(&self, client: &Name, at: Minute) -> bool {
        let key = client.key();
        self.waivers.iter().any(|waiver| waiver.client.key() == key && at < waiver.until)
    }

    /// Takes up one minute of judged clients, without the waived ones, and returns its units.
    pub(super) fn observe(
        &mut self,
        clients: impl Iterator<Item = (Name, Proportion)>,
        other: Proportion,
    ) -> u64 {
        self.begin_block();
        let mut units = 0;
        for (client, judged) in clients.filter(|(_, judged)| judged.total() > 0) {
            self.count_unit(judged);
            self.keep(client, judged);
            units += 1;
        }
        if other.total() > 0 {
            self.count_unit(other);
            self.judged = self.judged.and(other);
            units += 1;
        }
        units
    }

    /// Rule 4.
    fn begin_block(&mut self) {
        // As if there had been 200 units before: 1/p0 at the default, but for every p0 the same.
        let before: u64 =
            200 + self.blocks.iter().rev().skip(1).map(|block| block.units).sum::<u64>();
        let is_full = self.blocks.last().is_none_or(|last| last.units >= before / 16);
        if is_full && self.blocks.len() < BLOCKS_MAX {
            self.blocks.push(Block::default());
        }
    }

    fn count_unit(&mut self, judged: Proportion) {
        let block = self.blocks.last_mut().expect("a minute begins with a block");
        block.units += 1;
        if judged.hits() == 0 {
            return;
        }
        // A proportion is at most 1, so that this is at most 64.
        let parts = (u128::from(judged.hits()) * u128::from(PARTS)).div_ceil(judged.total().into());
        let parts = u8::try_from(parts).unwrap_or(PARTS);
        match block.harmed.binary_search_by_key(&parts, |(parts, _)| *parts) {
            Ok(at) => block.harmed[at].1 += 1,
            Err(at) => block.harmed.insert(at, (parts, 1)),
        }
    }

    /// Rule 8.
    fn keep(&mut self, client: Name, judged: Proportion) {
        self.judged = self.judged.and(judged);
        match self.clients.binary_search_by_key(&client, |kept| kept.client) {
            Ok(at) => self.clients[at].judged = self.clients[at].judged.and(judged),
            Err(at) => {
                self.clients.insert(at, ClientCounts { client, judged });
                if self.clients.len() > KEPT_MAX {
                    let (furthest, _) = self
                        .clients
                        .iter()
                        .enumerate()
                        .min_by_key(|(_, kept)| majority(kept.judged))
                        .expect("there are more than KEPT_MAX clients");
                    self.clients.remove(furthest);
                }
            }
        }
    }

    /// The logarithm of the capital, and what is known after the last block.
    fn capital(&self, p0: f64) -> (f64, Bettor) {
        let mut bettor = Bettor { p0, units: 0, parts: 0 };
        let mut ln_capital = 0.0;
        for block in &self.blocks {
            let stake = bettor.stake();
            let mut whole = block.units;
            for (parts, units) in &block.harmed {
                whole -= units;
                bettor.parts =
                    bettor.parts.saturating_add(u64::from(*parts).saturating_mul(*units));
                if stake > 0.0 {
                    let harm = f64::from(*parts) / f64::from(PARTS);
                    ln_capital += *units as f64 * libm::log1p(stake * (p0 - harm));
                }
            }
            ln_capital += whole as f64 * libm::log1p(stake * p0);
            bettor.units = bettor.units.saturating_add(block.units);
        }
        (ln_capital, bettor)
    }
}

/// More than 0 where more than half is harmed; the further below, the further from it.
fn majority(judged: Proportion) -> i128 {
    2 * i128::from(judged.hits()) - i128::from(judged.total())
}

/// Chooses λ by what earlier blocks have shown.
#[derive(Clone, Copy)]
struct Bettor {
    p0: f64,
    units: u64,
    /// Sixty-fourths of harm.
    parts: u64,
}

impl Bettor {
    /// Rule 3.
    fn stake(&self) -> f64 {
        let harm = self.parts as f64 / f64::from(PARTS);
        let mean = (0.5 + harm) / (self.units as f64 + 1.0 / self.p0);
        (1.0 - mean / self.p0).max(0.0) / (1.0 - self.p0)
    }

    /// About how many clean units add `ln_missing` to the capital; walks in steps of a sixteenth.
    fn units_needed(mut self, mut ln_missing: f64) -> Option<u64> {
        let start = self.units;
        // 600 steps of a sixteenth are a factor of more than 10^15.
        for _ in 0..600 {
            let step = ((200 + self.units) / 16).max(1);
            let gained = libm::log1p(self.stake() * self.p0);
            if gained * step as f64 >= ln_missing {
                let last = libm::ceil(ln_missing / gained) as u64;
                return Some(self.units - start + last.max(1));
            }
            ln_missing -= gained * step as f64;
            self.units = self.units.checked_add(step)?;
        }
        None
    }
}

/// Clients that a sentence names.
const NAMED_MAX: usize = 3;

pub(super) fn judge(config: &Config, look: &Look<'_>, input: &Input) -> Reading {
    let (ln_capital, bettor) = input.capital(config.p0.share());
    let threshold = look.ln_threshold();
    let mut broken: Vec<&ClientCounts> = input
        .clients
        .iter()
        .filter(|kept| kept.judged.total() >= config.requests_min && majority(kept.judged) > 0)
        .filter(|kept| !input.is_waived(&kept.client, look.now))
        .collect();
    broken.sort_by(|one, other| {
        other.judged.total().cmp(&one.judged.total()).then(one.client.cmp(&other.client))
    });
    let verdict = match () {
        () if bettor.units == 0 => Verdict::NoData,
        () if !broken.is_empty() => Verdict::Fail,
        () if ln_capital >= threshold => Verdict::Pass,
        () => Verdict::Inconclusive,
    };
    let p0 = wording::percent(config.p0.share());
    let unit = format!("client-{}", wording::tick(look.tick));
    let units = wording::counted(bettor.units, &unit);
    let standing = format!(
        "capital {} of {} needed",
        wording::e_value(ln_capital),
        wording::e_value(threshold)
    );
    let sentence = match verdict {
        Verdict::NoData => "no client has been judged yet".to_owned(),
        Verdict::Fail => naming(&broken, input.judged),
        Verdict::Pass => format!("fewer than {p0} of {units} would be broken ({standing})"),
        _ => format!("no client is broken among {units}, which do not show enough ({standing})"),
    };
    let waits_for = match verdict {
        Verdict::Pass => None,
        Verdict::Fail => {
            Some("the named clients to be mended, or waived with `seaworthy rollout waive`".into())
        }
        _ => {
            let wait = wording::Wait {
                more: bettor.units_needed(threshold - ln_capital),
                unit: &unit,
                per_minute: look.pace.units_per_minute,
                now: look.now,
                tick: look.tick,
                ways_out: "raise p0, waive, or pin",
            };
            Some(wait.text())
        }
    };
    let waived = input.waivers.iter().filter(|waiver| look.now < waiver.until).count();
    let numbers = Numbers::of([
        ("units", bettor.units as f64),
        ("mean_harm", bettor.parts as f64 / f64::from(PARTS) / bettor.units.max(1) as f64),
        ("p0", config.p0.share()),
        ("ln_capital", ln_capital),
        ("ln_capital_needed", threshold),
        ("broken_clients", broken.len() as f64),
        ("waived_clients", waived as f64),
        ("alpha_spent", look.level),
    ]);
    Reading { gate: Gate::Clients, verdict, sentence, waits_for, numbers }
}

/// "promoting breaks acme-batch (12 of 12), 0.3 % of traffic"
fn naming(broken: &[&ClientCounts], everyone: Proportion) -> String {
    let name = |kept: &&ClientCounts| {
        let (hits, total) = (kept.judged.hits(), kept.judged.total());
        let share = wording::percent(total as f64 / everyone.total().max(1) as f64);
        let (hits, total) = (wording::count(hits), wording::count(total));
        format!("{} ({hits} of {total}), {share} of traffic", kept.client)
    };
    let named: Vec<String> = broken.iter().take(NAMED_MAX).map(name).collect();
    let more = match broken.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(", and {} more", wording::count(more as u64)),
    };
    format!("promoting breaks {}{more}", named.join(", "))
}
