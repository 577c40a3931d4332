//! Records that agree in everything that is told of clients and rules, counted together.
//!
//! A request finds its count with one lookup, whatever is made of it later: most requests of a
//! client agree in all of this, so what is taken apart when a flush comes is short.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use seaworthy_policy::client::ClientKey;
use seaworthy_policy::consumer::{Agent, ConsumerKind};
use seaworthy_policy::record::{Marks, RequestRecord, RouteId, Tenant, Verdicts};

/// Different observations that are held before they are taken apart.
const OBSERVATIONS_MAX: usize = 16_384;

/// What requests have in common that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) client: ClientKey,
    pub(super) kind: ConsumerKind,
    pub(super) agent: Agent,
    pub(super) tenant: Tenant,
    pub(super) settings: RouteId,
    pub(super) route: RouteId,
    pub(super) verdicts: Verdicts,
    pub(super) marks: Marks,
    /// The service did what it was asked.
    pub(super) success: bool,
    /// The service failed.
    pub(super) failure: bool,
}

impl Observation {
    pub(super) fn of(record: &RequestRecord) -> Self {
        Self {
            client: record.client,
            kind: record.kind,
            agent: record.agent,
            tenant: record.tenant,
            settings: record.settings,
            route: record.route,
            verdicts: record.verdicts,
            marks: record.marks,
            success: record.ending.was_success(record.status),
            failure: record.ending.was_failure(record.status),
        }
    }
}

impl Hash for Observation {
    /// What tells most of them apart; the rest is compared anyway.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.client.hash(state);
        state.write_u32(u32::from(self.settings.0) << 16 | u32::from(self.route.0));
        self.verdicts.hash(state);
        state.write(self.tenant.as_bytes());
    }
}

/// How many requests there were, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) count: u64,
    pub(super) first_unix_ms: i64,
    pub(super) last_unix_ms: i64,
}

#[derive(Debug, Default)]
pub(super) struct Observations(HashMap<Observation, Seen>);

impl Observations {
    pub(super) fn count(&mut self, record: &RequestRecord, ended_ms: i64) {
        let once = Seen { count: 0, first_unix_ms: ended_ms, last_unix_ms: ended_ms };
        let seen = self.0.entry(Observation::of(record)).or_insert(once);
        seen.count += 1;
        seen.first_unix_ms = seen.first_unix_ms.min(ended_ms);
        seen.last_unix_ms = seen.last_unix_ms.max(ended_ms);
    }

    /// Whether it has to be taken apart before more comes.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= OBSERVATIONS_MAX
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Observation, Seen)> {
        self.0.drain()
    }
}
