//! Where rules stand, their receipts and waivers, and which alerts have been taken.
//!
//! Each write is an [`Operation`] of a [`Change`](super::Change), so that it is there together with
//! its entry in the audit log or not at all.

use rusqlite::{Connection, OptionalExtension as _, params};
use seaworthy_policy::evidence::Lane;
use seaworthy_policy::gates::minute::key_of;
use seaworthy_policy::rollout::{Receipt, Standing};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{LedgerReader, Operation, OperationError};
use crate::error::StoreError;

/// A client whose breaking is accepted until a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaiverRow {
    pub rule: String,
    pub client: String,
    pub until_unix_ms: i64,
    pub reason: String,
    pub actor: String,
}

/// A receipt, with its place in the audit log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReceiptRow {
    pub seq: u64,
    pub ts_us: i64,
    pub rule: String,
    /// As it was written: its digest is of these bytes.
    pub receipt: String,
}

/// Waivers of one rule.
pub const WAIVERS_MAX: usize = 64;

/// Receipts that are read at once.
pub const RECEIPTS_AT_ONCE: u32 = 1000;

/// Alerts that are remembered.
const DELIVERIES_MAX: i64 = 100_000;

/// Says where `rule` stands now. What a later change has written stays.
pub fn put_standing(rule: &str, standing: &Standing) -> Operation {
    let (rule, standing) = (rule.to_owned(), json(standing));
    Operation::new("writing where the rule stands", move |connection, _| {
        connection
            .prepare_cached(
                "INSERT INTO rule_standing (rule, standing) VALUES (?, ?) \
                 ON CONFLICT DO UPDATE SET standing = excluded.standing \
                 WHERE coalesce(excluded.standing ->> 'revision', 0) \
                 >= coalesce(rule_standing.standing ->> 'revision', 0)",
            )?
            .execute(params![rule, standing])?;
        Ok(())
    })
}

/// Says what a version of `rule` was like in `warn`.
pub fn put_before(rule: &str, lane: Lane, before: &impl Serialize) -> Operation {
    let (rule, before) = (rule.to_owned(), json(before));
    Operation::new("writing what the rule was like in warn", move |connection, _| {
        connection
            .prepare_cached(
                "INSERT INTO rule_before (rule, lane, before) VALUES (?, ?, ?) \
                 ON CONFLICT DO UPDATE SET before = excluded.before",
            )?
            .execute(params![rule, code(lane), before])?;
        Ok(())
    })
}

/// Keeps a receipt. The change's first entry in the audit log is the one that it belongs to.
pub fn put_receipt(receipt: &Receipt) -> Operation {
    let (rule, receipt) = (receipt.rule.clone(), json(receipt));
    Operation::new("keeping the receipt", move |connection, place| {
        let seq = i64::try_from(place.first_seq)
            .map_err(|_| OperationError::Refused("the log has no end".to_owned()))?;
        connection
            .prepare_cached(
                "INSERT INTO rollout_receipt (seq, ts_us, rule, receipt) VALUES (?, ?, ?, ?)",
            )?
            .execute(params![seq, place.ts_us, rule, receipt])?;
        Ok(())
    })
}

/// Accepts that a client breaks; takes the place of its waiver by another tenant's name. Refused
/// beyond [`WAIVERS_MAX`] clients of one rule.
pub fn put_waiver(waiver: WaiverRow) -> Operation {
    Operation::new("keeping the waiver", move |connection, _| {
        delete_by_key(connection, &waiver.rule, &waiver.client)?;
        connection
            .prepare_cached(
                "INSERT INTO rollout_waiver (rule, client, until_ms, reason, actor) \
                 VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(params![
                waiver.rule,
                waiver.client,
                waiver.until_unix_ms,
                waiver.reason,
                waiver.actor
            ])?;
        let count: i64 = connection
            .prepare_cached("SELECT count(*) FROM rollout_waiver WHERE rule = ?")?
            .query_row([&waiver.rule], |row| row.get(0))?;
        if count > WAIVERS_MAX as i64 {
            let message = format!("the rule has {WAIVERS_MAX} waivers, and that is the most");
            return Err(OperationError::Refused(message));
        }
        Ok(())
    })
}

/// Takes a waiver back, by whatever tenant its client is named; refused where there is none.
pub fn delete_waiver(rule: &str, client: &str) -> Operation {
    let (rule, client) = (rule.to_owned(), client.to_owned());
    Operation::new("taking the waiver back", move |connection, _| {
        if delete_by_key(connection, &rule, &client)? == 0 {
            return Err(OperationError::Refused(format!("{client} has no waiver for {rule}")));
        }
        Ok(())
    })
}

/// How many waivers of `rule` were of the client, which can be named with its tenant or without.
fn delete_by_key(connection: &Connection, rule: &str, client: &str) -> rusqlite::Result<usize> {
    let key = key_of(client);
    connection
        .prepare_cached(
            "DELETE FROM rollout_waiver WHERE rule = ?1 \
             AND (client = ?2 OR substr(client, -length(?3)) = ?3)",
        )?
        .execute([rule, key, &format!(" ({key})")])
}

/// Remembers an alert, and forgets the oldest beyond a bound.
pub fn put_delivery(key: [u8; 32]) -> Operation {
    Operation::new("remembering the alert", move |connection, place| {
        connection
            .prepare_cached(
                "INSERT INTO alert_delivery (key, ts_us) VALUES (?, ?) ON CONFLICT DO NOTHING",
            )?
            .execute(params![key, place.ts_us])?;
        connection
            .prepare_cached(
                "DELETE FROM alert_delivery WHERE ts_us < (SELECT ts_us FROM alert_delivery \
                 ORDER BY ts_us DESC LIMIT 1 OFFSET ?)",
            )?
            .execute([DELIVERIES_MAX])?;
        Ok(())
    })
}

impl LedgerReader {
    /// Where the rules stand, by name.
    pub fn standings(&self) -> Result<Vec<(String, Standing)>, StoreError> {
        let rows: Vec<(String, String)> = self.read(|connection| {
            connection
                .prepare_cached("SELECT rule, standing FROM rule_standing ORDER BY rule")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })?;
        rows.into_iter().map(|(rule, text)| Ok((rule, self.parse(&text)?))).collect()
    }

    /// What each version of a rule was like in `warn`.
    pub fn befores<T: DeserializeOwned>(&self) -> Result<Vec<(String, Lane, T)>, StoreError> {
        let rows: Vec<(String, i64, String)> = self.read(|connection| {
            connection
                .prepare_cached("SELECT rule, lane, before FROM rule_before ORDER BY rule, lane")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect()
        })?;
        let lane = |code| if code == 0 { Lane::Current } else { Lane::Next };
        rows.into_iter()
            .map(|(rule, code, text)| Ok((rule, lane(code), self.parse(&text)?)))
            .collect()
    }

    pub fn waivers(&self) -> Result<Vec<WaiverRow>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT rule, client, until_ms, reason, actor FROM rollout_waiver \
                     ORDER BY rule, client",
                )?
                .query_map([], |row| {
                    Ok(WaiverRow {
                        rule: row.get(0)?,
                        client: row.get(1)?,
                        until_unix_ms: row.get(2)?,
                        reason: row.get(3)?,
                        actor: row.get(4)?,
                    })
                })?
                .collect()
        })
    }

    /// The newest receipts before `before`, of `rule` or of all, newest first.
    pub fn receipts(
        &self,
        rule: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<ReceiptRow>, StoreError> {
        let before = before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX);
        let limit = limit.min(RECEIPTS_AT_ONCE);
        self.read(|connection| match rule {
            Some(rule) => connection
                .prepare_cached(
                    "SELECT seq, ts_us, rule, receipt FROM rollout_receipt \
                     WHERE rule = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
                )?
                .query_map(params![rule, before, limit], receipt_row)?
                .collect(),
            None => connection
                .prepare_cached(
                    "SELECT seq, ts_us, rule, receipt FROM rollout_receipt \
                     WHERE seq < ? ORDER BY seq DESC LIMIT ?",
                )?
                .query_map(params![before, limit], receipt_row)?
                .collect(),
        })
    }

    /// The receipt that belongs to an entry of the audit log.
    pub fn receipt(&self, seq: u64) -> Result<Option<ReceiptRow>, StoreError> {
        let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT seq, ts_us, rule, receipt FROM rollout_receipt WHERE seq = ?",
                )?
                .query_row([seq], receipt_row)
                .optional()
        })
    }

    /// Whether an alert has been taken.
    pub fn has_delivery(&self, key: &[u8; 32]) -> Result<bool, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM alert_delivery WHERE key = ?")?
                .exists([&key[..]])
        })
    }

    fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|error| self.corrupt(&error.to_string()))
    }
}

fn receipt_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<ReceiptRow> {
    Ok(ReceiptRow {
        seq: row.get::<_, i64>(0)?.unsigned_abs(),
        ts_us: row.get(1)?,
        rule: row.get(2)?,
        receipt: row.get(3)?,
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data always serialises")
}

const fn code(lane: Lane) -> i64 {
    match lane {
        Lane::Current => 0,
        Lane::Next => 1,
    }
}

#[cfg(test)]
mod tests {
    use seaworthy_policy::rollout::{Event, PolicyHash, RolloutConfig};

    use super::super::{Action, Change, CommitError, Entry, Ledger, LedgerOptions};
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn open(dir: &std::path::Path) -> Ledger {
        Ledger::open(dir, LedgerOptions::default()).unwrap()
    }

    fn entry(action: Action) -> Change {
        Change::new().audit(&Entry::new("operator:ada", action, "csrf")).unwrap()
    }

    fn standing() -> Standing {
        Standing::new(PolicyHash::new([7; 32]), serde_json::json!({ "cookie": "session" }), NOW_MS)
    }

    #[tokio::test]
    async fn a_standing_is_read_back_as_it_was_last_written() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        let reason = "to see".to_owned();
        let held = Event::Held { until_unix_ms: None, reason };
        let before = standing();
        let after = before.after(Lane::Current, &held, &RolloutConfig::default(), NOW_MS).unwrap();
        for standing in [&before, &after] {
            let change = entry(Action::RolloutHold).and(put_standing("csrf", standing));
            ledger.commit(change).await.unwrap();
        }
        let noted = vec![1.5, 2.5];
        let change = Change::new().and(put_before("csrf", Lane::Next, &noted));
        ledger.commit(change).await.unwrap();
        let read = ledger.reader().standings().unwrap();
        assert_eq!(read, [("csrf".to_owned(), after)]);
        let befores = ledger.reader().befores::<Vec<f64>>().unwrap();
        assert_eq!(befores, [("csrf".to_owned(), Lane::Next, noted)]);
    }

    #[tokio::test]
    async fn waivers_are_bounded_and_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        let leaves = |ledger: &Ledger| ledger.reader().summary().unwrap().leaves;
        let before = leaves(&ledger);
        let waiver = |n: usize| WaiverRow {
            rule: "csrf".to_owned(),
            client: format!("bearer:{n:016x}"),
            until_unix_ms: NOW_MS,
            reason: "it is being mended".to_owned(),
            actor: "operator:ada".to_owned(),
        };
        for n in 0..WAIVERS_MAX {
            let change = entry(Action::RolloutWaive).and(put_waiver(waiver(n)));
            ledger.commit(change).await.unwrap();
        }
        let one_more = entry(Action::RolloutWaive).and(put_waiver(waiver(WAIVERS_MAX)));
        let refused = ledger.commit(one_more).await.unwrap_err();
        assert!(matches!(refused, CommitError::Refused { .. }), "{refused}");
        assert_eq!(ledger.reader().waivers().unwrap().len(), WAIVERS_MAX);
        let change = || entry(Action::RolloutUnwaive).and(delete_waiver("csrf", &waiver(3).client));
        ledger.commit(change()).await.unwrap();
        assert!(matches!(ledger.commit(change()).await, Err(CommitError::Refused { .. })));
        assert_eq!(ledger.reader().waivers().unwrap().len(), WAIVERS_MAX - 1);
        // What was refused is not in the log either.
        assert_eq!(leaves(&ledger), before + WAIVERS_MAX as u64 + 1);
    }

    #[tokio::test]
    async fn a_client_has_one_waiver_of_a_rule_by_whatever_tenant_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        let (bare, named) = ("bearer:0123456789abcdef", "acme (bearer:0123456789abcdef)");
        let waived = async |rule: &str, client: &str| {
            let waiver = WaiverRow {
                rule: rule.to_owned(),
                client: client.to_owned(),
                until_unix_ms: NOW_MS,
                reason: "it is being mended".to_owned(),
                actor: "operator:ada".to_owned(),
            };
            ledger.commit(entry(Action::RolloutWaive).and(put_waiver(waiver))).await.unwrap();
        };
        let unwaived = async |rule: &str, client: &str| {
            let change = entry(Action::RolloutUnwaive).and(delete_waiver(rule, client));
            ledger.commit(change).await.is_ok()
        };
        let kept = || {
            let rows = ledger.reader().waivers().unwrap().into_iter();
            rows.map(|row| format!("{}: {}", row.rule, row.client)).collect::<Vec<_>>()
        };
        waived("csrf", bare).await;
        waived("csrf", "acme (bearer:0123456789abcdee)").await;
        waived("cors", bare).await;
        waived("csrf", named).await;
        let other = "csrf: acme (bearer:0123456789abcdee)";
        assert_eq!(kept(), [&format!("cors: {bare}"), other, &format!("csrf: {named}")]);
        // A key alone that is the end of another one's is not that one's.
        assert!(!unwaived("csrf", "0123456789abcdef").await);
        assert!(unwaived("csrf", bare).await && unwaived("cors", named).await);
        assert_eq!(kept(), [other]);
    }

    #[tokio::test]
    async fn an_alert_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        let key = [5; 32];
        assert!(!ledger.reader().has_delivery(&key).unwrap());
        for _ in 0..2 {
            let change = entry(Action::AlertDemote).and(put_delivery(key));
            ledger.commit(change).await.unwrap();
        }
        assert!(ledger.reader().has_delivery(&key).unwrap());
    }
}
