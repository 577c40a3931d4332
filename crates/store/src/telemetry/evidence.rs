//! Reading evidence back: what a gateway that starts needs to go on where the last one stopped.

use std::collections::BTreeMap;
use std::ops::Range;

use rusqlite::Row;
use seaworthy_policy::client::ClientKey;
use seaworthy_policy::evidence::{
    CLIENTS_MAX, ClientCounts, ClientEvidence, Counts, Lane, RuleEvidence,
};
use seaworthy_policy::record::Tenant;

use super::TelemetryReader;
use super::insert::{CLIENT_OTHER, NAME_OTHER};
use super::summaries::unsigned;
use crate::error::StoreError;

/// The evidence of one version of a rule in one tick, by the rule's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvidence {
    pub start_unix_ms: i64,
    pub rule: String,
    pub lane: Lane,
    pub evidence: RuleEvidence,
}

/// How often a client has called a route on one day, and when last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPair {
    /// The start of the day, in Unix milliseconds.
    pub day_unix_ms: i64,
    /// `None` for clients that found no room.
    pub client: Option<ClientKey>,
    /// `None` for routes that found no room.
    pub route: Option<String>,
    pub requests: u64,
    pub last_unix_ms: i64,
}

impl TelemetryReader {
    /// The evidence of the ticks that begin in `during`, in milliseconds of Unix time, oldest first.
    pub fn evidence(&self, during: Range<i64>) -> Result<Vec<StoredEvidence>, StoreError> {
        self.readers.read(|connection| {
            let mut clients = BTreeMap::<Key, RuleEvidence>::new();
            let mut query = connection.prepare_cached(
                "SELECT start_ms, rule_id, lane, client, tenant, sum(evaluated), sum(would_deny), \
                 sum(denied), sum(harm), sum(enforced), sum(enforced_errors), \
                 sum(control_errors), sum(slow) FROM evidence_client \
                 WHERE start_ms >= ? AND start_ms < ? \
                 GROUP BY start_ms, rule_id, lane, client \
                 ORDER BY start_ms, rule_id, lane, sum(harm) + sum(denied) DESC, \
                 sum(evaluated) DESC, client",
            )?;
            let mut rows = query.query([during.start, during.end])?;
            while let Some(row) = rows.next()? {
                let place = clients.entry(key(row)?).or_default();
                let counts = ClientCounts {
                    evaluated: unsigned(row, 5)?,
                    would_deny: unsigned(row, 6)?,
                    denied: unsigned(row, 7)?,
                    harm: unsigned(row, 8)?,
                    enforced: unsigned(row, 9)?,
                    enforced_errors: unsigned(row, 10)?,
                    control_errors: unsigned(row, 11)?,
                    slow: unsigned(row, 12)?,
                };
                let client: String = row.get(3)?;
                // A name that this version cannot read is a client all the same. Of a tick in which
                // a gateway was started again there are the clients of both processes.
                match client.parse::<ClientKey>() {
                    Ok(client) if place.clients.len() < CLIENTS_MAX => {
                        let tenant: String = row.get(4)?;
                        let tenant = Tenant::from(&tenant).unwrap_or_default();
                        place.clients.push(ClientEvidence { client, tenant, counts });
                    }
                    _ => place.other.add(&counts),
                }
            }
            let mut query = connection.prepare_cached(
                "SELECT start_ms, rule_id, lane, name, evaluated, would_deny, denied, harm, \
                 enforced, enforced_errors, control_errors, slow, unidentified FROM evidence \
                 JOIN rule ON rule.id = rule_id WHERE start_ms >= ? AND start_ms < ? \
                 ORDER BY start_ms, rule_id, lane",
            )?;
            let mut rows = query.query([during.start, during.end])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let key = key(row)?;
                let mut evidence = clients.remove(&key).unwrap_or_default();
                evidence.counts = Counts {
                    evaluated: unsigned(row, 4)?,
                    would_deny: unsigned(row, 5)?,
                    denied: unsigned(row, 6)?,
                    harm: unsigned(row, 7)?,
                    enforced: unsigned(row, 8)?,
                    enforced_errors: unsigned(row, 9)?,
                    control_errors: unsigned(row, 10)?,
                    slow: unsigned(row, 11)?,
                    unidentified: unsigned(row, 12)?,
                };
                let lane = if key.2 == 0 { Lane::Current } else { Lane::Next };
                let (start_unix_ms, rule) = (key.0, row.get(3)?);
                found.push(StoredEvidence { start_unix_ms, rule, lane, evidence });
            }
            Ok(found)
        })
    }

    /// The ticks from `since_unix_ms` on of which records are missing, and how many at most.
    pub fn evidence_gaps(&self, since_unix_ms: i64) -> Result<Vec<(i64, u64)>, StoreError> {
        self.readers.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT start_ms, records FROM evidence_gap WHERE start_ms >= ? ORDER BY start_ms",
            )?;
            let gaps =
                query.query_map([since_unix_ms], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?;
            gaps.collect()
        })
    }

    /// Who has called what on each of the days from that of `since_unix_ms` on, oldest first.
    pub fn pairs(&self, since_unix_ms: i64) -> Result<Vec<StoredPair>, StoreError> {
        const DAY_MS: i64 = 24 * 3600 * 1000;
        self.readers.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT client, name, requests, consumer_trait.last_ms, day \
                 FROM consumer_trait JOIN consumer ON consumer.id = consumer_id \
                 WHERE trait = 'route' AND day >= ? ORDER BY day, client, name",
            )?;
            let pairs = query.query_map([since_unix_ms.div_euclid(DAY_MS)], |row| {
                let (client, route): (String, String) = (row.get(0)?, row.get(1)?);
                Ok(StoredPair {
                    day_unix_ms: row.get::<_, i64>(4)?.saturating_mul(DAY_MS),
                    client: if client == CLIENT_OTHER { None } else { client.parse().ok() },
                    route: (route != NAME_OTHER).then_some(route),
                    requests: unsigned(row, 2)?,
                    last_unix_ms: row.get(3)?,
                })
            })?;
            pairs.collect()
        })
    }
}

/// Start, rule, lane.
type Key = (i64, i64, i64);

fn key(row: &Row<'_>) -> rusqlite::Result<Key> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}
