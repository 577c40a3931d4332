//! Evidence: what a rule said of the requests it judged, and what became of them.
//!
//! It is counted by *tick*, a minute as a rule, so that a gate that reads it again and again reads
//! what will not change any more. Everything here is a sum: the parts of a tick add up in any
//! order to the same whole.

use serde::{Deserialize, Serialize};

use crate::client::ClientKey;
use crate::record::{RouteId, RuleId, Tenant};

/// Clients that one rule tells apart in a tick, those that it would harm first.
pub const CLIENTS_MAX: usize = 64;

/// Which version of a rule judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// The version that has the rule's mode.
    Current,
    /// The version that is to take its place, judged beside it.
    Next,
}

/// What a rule said of all requests of a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Requests that it judged.
    pub evaluated: u64,
    pub would_deny: u64,
    pub denied: u64,
    /// Would-denials of requests that the service then answered with success.
    pub harm: u64,
    /// Those of `evaluated` whose client it was enforced for.
    pub enforced: u64,
    /// Those of `evaluated` that it was not enforced for and whose client has no identity: they are
    /// in nobody's share, and not in the control either.
    pub unidentified: u64,
    /// Of the enforced that were not denied: the service failed (5xx, or no answer).
    pub enforced_errors: u64,
    /// Of the control: the service failed.
    pub control_errors: u64,
    /// Checks that took longer than the latency budget.
    pub slow: u64,
}

impl Counts {
    pub const fn add(&mut self, other: &Self) {
        self.evaluated += other.evaluated;
        self.would_deny += other.would_deny;
        self.denied += other.denied;
        self.harm += other.harm;
        self.enforced += other.enforced;
        self.unidentified += other.unidentified;
        self.enforced_errors += other.enforced_errors;
        self.control_errors += other.control_errors;
        self.slow += other.slow;
    }

    pub const fn is_empty(&self) -> bool {
        self.evaluated == 0
    }

    /// Requests of identified clients that were judged and not enforced: the control.
    pub const fn control(&self) -> u64 {
        self.evaluated - self.enforced - self.unidentified
    }
}

/// What a rule said of the requests of one client, or of all the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCounts {
    pub evaluated: u64,
    pub would_deny: u64,
    pub denied: u64,
    pub harm: u64,
    /// Requests for which it was enforced.
    pub enforced: u64,
    /// As those of [`Counts`].
    pub enforced_errors: u64,
    pub control_errors: u64,
    pub slow: u64,
}

impl ClientCounts {
    pub const fn add(&mut self, other: &Self) {
        self.evaluated += other.evaluated;
        self.would_deny += other.would_deny;
        self.denied += other.denied;
        self.harm += other.harm;
        self.enforced += other.enforced;
        self.enforced_errors += other.enforced_errors;
        self.control_errors += other.control_errors;
        self.slow += other.slow;
    }
}

impl From<Counts> for ClientCounts {
    /// The part that requests of one client have in what is counted of all.
    fn from(counts: Counts) -> Self {
        Self {
            evaluated: counts.evaluated,
            would_deny: counts.would_deny,
            denied: counts.denied,
            harm: counts.harm,
            enforced: counts.enforced,
            enforced_errors: counts.enforced_errors,
            control_errors: counts.control_errors,
            slow: counts.slow,
        }
    }
}

/// One client among those that a rule tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientEvidence {
    pub client: ClientKey,
    /// Whose data its last request was about.
    pub tenant: Tenant,
    pub counts: ClientCounts,
}

/// The evidence of one version of a rule in one tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleEvidence {
    pub counts: Counts,
    /// At most [`CLIENTS_MAX`], those with the most harm first, then those with the most requests.
    pub clients: Vec<ClientEvidence>,
    /// The rest, exactly.
    pub other: ClientCounts,
}

/// The evidence of one tick. It is whole once the tick is over and what is late has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TickEvidence {
    pub start_unix_ms: i64,
    /// Requests of which there is no record. Where there are some, nothing here is a whole.
    pub dropped: u64,
    /// By rule and version, in that order.
    pub rules: Vec<(RuleId, Lane, RuleEvidence)>,
    /// Requests by who called what; `None` is all clients that found no room.
    pub pairs: Vec<(Option<ClientKey>, RouteId, u64)>,
}
