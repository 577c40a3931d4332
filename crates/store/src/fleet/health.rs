//! How the sharing of modes is doing: a value for metrics and readiness, and one line in the log
//! for each of its changes.

use std::time::Duration;

use seaworthy_policy::modes::Cause;
use serde::Serialize;

use super::address::RedisUrl;

/// Why the modes in force are believed to be the fleet's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "belief", rename_all = "snake_case")]
pub enum Belief {
    /// Redis has said so, at the last refresh or since.
    Fresh,
    /// Redis has said so, up to then; or this gateway has published them itself.
    LastKnown { since_us: i64 },
    /// They are from disk, where they were written then.
    Snapshot { since_us: i64 },
    /// Nobody has said anything.
    #[default]
    ConfigDefault,
}

impl Belief {
    /// The `belief` label of the metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::LastKnown { .. } => "last_known",
            Self::Snapshot { .. } => "snapshot",
            Self::ConfigDefault => "config_default",
        }
    }

    /// All of [`Self::word`].
    pub const WORDS: [&str; 4] = ["fresh", "last_known", "snapshot", "config_default"];
}

/// Whether the fleet can be talked to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum FleetState {
    /// It has not been tried yet.
    #[default]
    Starting,
    Connected,
    /// Redis cannot be reached, or does not answer in time.
    Unreachable {
        reason: Cause,
    },
    /// Redis answers, and it is of no use.
    Unusable {
        reason: Cause,
    },
}

impl FleetState {
    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }
}

/// A snapshot. Counters are since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FleetHealth {
    #[serde(flatten)]
    pub state: FleetState,
    #[serde(flatten)]
    pub belief: Belief,
    /// Unix microseconds of the last time that Redis was read.
    pub synced_us: Option<i64>,
    /// Whether this gateway leads.
    pub leads: bool,
    /// Rules whose latest entry Redis does not have yet.
    pub held: usize,
    /// Fields that were no modes when Redis was last read.
    pub invalid: u64,
    /// Fields that were modes of rules for which there was no room.
    pub crowded: u64,
    /// Why the lease cannot be taken by anybody.
    pub lease_fault: Option<Cause>,
    /// Why the snapshot on disk is not what it should be.
    pub snapshot_fault: Option<Cause>,
    /// Connections opened.
    pub connections: u64,
    /// Messages that were no modes.
    pub messages_refused: u64,
}

impl FleetHealth {
    /// How old what is believed is; `None` where nobody has said anything.
    pub fn age(&self, now_us: i64) -> Option<Duration> {
        let since_us = match self.belief {
            Belief::Fresh => self.synced_us?,
            Belief::LastKnown { since_us } | Belief::Snapshot { since_us } => since_us,
            Belief::ConfigDefault => return None,
        };
        Some(Duration::from_micros(u64::try_from(now_us.saturating_sub(since_us)).unwrap_or(0)))
    }

    /// Logs what is different from `before`.
    pub(super) fn log_changes(&self, before: &Self, url: &RedisUrl) {
        match (&before.state, &self.state) {
            (FleetState::Connected, FleetState::Connected) => {}
            (_, FleetState::Connected) => tracing::info!("the modes are shared through {url}"),
            (FleetState::Unreachable { .. }, FleetState::Unreachable { .. })
            | (FleetState::Unusable { .. }, FleetState::Unusable { .. }) => {}
            (_, FleetState::Unreachable { reason } | FleetState::Unusable { reason }) => {
                tracing::warn!(
                    belief = self.belief.word(),
                    "failed to share the modes through {url}: {reason}; the last known ones stand"
                );
            }
            (_, FleetState::Starting) => {}
        }
        match (before.invalid, self.invalid) {
            (0, 0) => {}
            (0, found) => tracing::warn!(
                found,
                "{url} has values that are no modes; they are passed over, and mended where they \
                 are in the place of ours"
            ),
            (_, 0) => tracing::info!("{url} has nothing but modes again"),
            _ => {}
        }
        match (before.crowded, self.crowded) {
            (0, 1..) => tracing::warn!(
                found = self.crowded,
                "{url} has modes of more rules than there can be; those known first are kept"
            ),
            (1.., 0) => tracing::info!("there is room for the modes of all rules again"),
            _ => {}
        }
        match (&before.lease_fault, &self.lease_fault) {
            (None, Some(fault)) => tracing::warn!(
                "the lease at {url} cannot be taken: {fault}; no rule is promoted until it can"
            ),
            (Some(_), None) => tracing::info!("the lease at {url} can be taken again"),
            _ => {}
        }
        match (&before.snapshot_fault, &self.snapshot_fault) {
            (None, Some(fault)) => {
                tracing::warn!("the snapshot of the modes is of no use: {fault}")
            }
            (Some(_), None) => tracing::info!("the snapshot of the modes is written again"),
            _ => {}
        }
        if before.leads != self.leads {
            tracing::info!(leads = self.leads, "whether this gateway leads its fleet has changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_what_is_believed() {
        let age = |belief, synced_us| {
            FleetHealth { belief, synced_us, ..FleetHealth::default() }.age(5_000_000)
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(age(Belief::Fresh, Some(4_000_000)), seconds(1));
        assert_eq!(age(Belief::LastKnown { since_us: 2_000_000 }, Some(9)), seconds(3));
        assert_eq!(age(Belief::Snapshot { since_us: 0 }, None), seconds(5));
        assert_eq!(age(Belief::Snapshot { since_us: 6_000_000 }, None), seconds(0));
        assert_eq!(
            age(Belief::Snapshot { since_us: i64::MIN }, None).map(|age| age.is_zero()),
            Some(false)
        );
        assert_eq!(age(Belief::ConfigDefault, None), None);
    }

    #[test]
    fn health_is_written_as_one_object() {
        let health = FleetHealth {
            state: FleetState::Unreachable { reason: Cause::new("no answer") },
            belief: Belief::Snapshot { since_us: 7 },
            ..FleetHealth::default()
        };
        let json = serde_json::to_value(&health).unwrap();
        assert_eq!(json["state"], "unreachable");
        assert_eq!(json["reason"], "no answer");
        assert_eq!((&json["belief"], &json["since_us"]), (&"snapshot".into(), &7.into()));
    }
}
