//! Assignment: is the share of clients that is enforced against the one of the step?
//!
//! 1. The trials are distinct identified clients, since buckets are by client; a hit is one that
//!    was in the share. Each comes in once, in the order in which they are first seen.
//! 2. It fails when the e-value against "each client is in the share with the step's chance" is
//!    `1/α` or more: then the shares that are enforced are not those that were decided.
//! 3. Otherwise it passes, with however few clients: what it guards against is a fault of the
//!    gateway, which shows in the first hundred clients of any service that has them, and a
//!    service with three must be able to climb. It has no data before the first client, and at
//!    100 % every client has to be in the share.
//! 4. `SEEN_MAX` clients are told apart, first come; more would add little.

use std::collections::BTreeSet;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use super::minute::Name;
use super::{Gate, Look, Numbers, Reading, Verdict, wording};
use crate::mode::Share;
use crate::statistics::Proportion;
use crate::statistics::e_value::Mixture;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Distinct identified clients of the window; hits were in the share.
    pub clients: Proportion,
}

impl Input {
    /// Whether clients were seen and by lot none of them is in the share.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.total() > 0 && self.clients.hits() == 0
    }
}

/// The clients that make up [`Input`].
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(BTreeSet<u64>);

pub(super) const SEEN_MAX: usize = 1024;

impl Seen {
    pub(super) fn observe(&mut self, input: &mut Input, client: &Name, is_enforced: bool) {
        // Two names with one hash would be one client less; nobody gains by that.
        let mut hasher = SipHasher24::new();
        hasher.write(client.as_str().as_bytes());
        let hash = hasher.finish();
        if self.0.contains(&hash) || self.0.len() >= SEEN_MAX {
            return;
        }
        self.0.insert(hash);
        let one =
            Proportion::new(u64::from(is_enforced), 1).expect("one trial with one hit at most");
        input.clients = input.clients.and(one);
    }
}

pub(super) fn judge(look: &Look<'_>, input: &Input) -> Reading {
    let clients = input.clients;
    let chance = f64::from(look.step.basis_points()) / 10_000.0;
    let threshold = look.ln_threshold();
    let is_all = look.step == Share::ALL;
    let ln_other = if is_all { 0.0 } else { Mixture::new(chance).evidence(clients).ln_other };
    let is_wrong = if is_all { clients.misses() > 0 } else { ln_other >= threshold };
    let verdict = match () {
        () if clients.total() == 0 => Verdict::NoData,
        () if is_wrong => Verdict::Fail,
        () => Verdict::Pass,
    };
    let step = wording::percent(chance);
    let (hits, total) =
        (wording::count(clients.hits()), wording::counted(clients.total(), "client"));
    let sentence = match verdict {
        Verdict::NoData => "no identified client has been seen yet".to_owned(),
        Verdict::Fail => format!("{hits} of {total} enforced against is not a share of {step}"),
        _ if input.is_empty() => {
            format!("none of {total} falls in the share of {step}: this step denies nobody")
        }
        _ => format!("{hits} of {total} enforced against agrees with a share of {step}"),
    };
    let waits_for = match verdict {
        Verdict::Pass => None,
        Verdict::NoData => Some("the first identified client".to_owned()),
        _ => Some("the gateways to enforce the mode that is in force".to_owned()),
    };
    let numbers = Numbers::of([
        ("clients_enforced", clients.hits() as f64),
        ("clients", clients.total() as f64),
        ("share", chance),
        ("ln_e_value_against", ln_other),
        ("ln_e_value_needed", threshold),
        ("alpha_spent", look.level),
    ]);
    Reading { gate: Gate::Assignment, verdict, sentence, waits_for, numbers }
}
