//! Writing evidence: counts add up, and what is said of clients takes the place of what was said.

use rusqlite::{Transaction, params};
use seaworthy_policy::evidence::{ClientCounts, Lane};
use seaworthy_policy::names::Names;

use super::super::batch::{Batch, EvidencePart};
use super::{CLIENT_OTHER, Ids, integer};

pub(super) fn write(
    transaction: &Transaction<'_>,
    batch: &Batch,
    names: &Names,
    ids: &mut Ids,
) -> rusqlite::Result<()> {
    for ((start_ms, rule, lane), part) in &batch.evidence {
        let rule = ids.rule(transaction, names, *rule)?;
        add(transaction, (*start_ms, rule, code(*lane)), part)?;
        replace(transaction, (*start_ms, rule, code(*lane)), ids.run, part)?;
    }
    let mut gap = transaction.prepare_cached(
        "INSERT INTO evidence_gap (start_ms, records) VALUES (?, ?) \
         ON CONFLICT DO UPDATE SET records = records + excluded.records",
    )?;
    for (start_ms, records) in &batch.gaps {
        gap.execute(params![start_ms, integer(*records)])?;
    }
    Ok(())
}

/// A lane as the file has it.
pub(in super::super) const fn code(lane: Lane) -> i64 {
    match lane {
        Lane::Current => 0,
        Lane::Next => 1,
    }
}

type Key = (i64, i64, i64);

fn add(
    transaction: &Transaction<'_>,
    (start_ms, rule, lane): Key,
    part: &EvidencePart,
) -> rusqlite::Result<()> {
    let counts = &part.fresh;
    transaction
        .prepare_cached(
            "INSERT INTO evidence (start_ms, rule_id, lane, evaluated, would_deny, denied, harm, \
             enforced, unidentified, enforced_errors, control_errors, slow) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
             evaluated = evaluated + excluded.evaluated, \
             would_deny = would_deny + excluded.would_deny, \
             denied = denied + excluded.denied, \
             harm = harm + excluded.harm, \
             enforced = enforced + excluded.enforced, \
             unidentified = unidentified + excluded.unidentified, \
             enforced_errors = enforced_errors + excluded.enforced_errors, \
             control_errors = control_errors + excluded.control_errors, \
             slow = slow + excluded.slow",
        )?
        .execute(params![
            start_ms,
            rule,
            lane,
            integer(counts.evaluated),
            integer(counts.would_deny),
            integer(counts.denied),
            integer(counts.harm),
            integer(counts.enforced),
            integer(counts.unidentified),
            integer(counts.enforced_errors),
            integer(counts.control_errors),
            integer(counts.slow),
        ])?;
    Ok(())
}

fn replace(
    transaction: &Transaction<'_>,
    (start_ms, rule, lane): Key,
    run: i64,
    part: &EvidencePart,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM evidence_client \
             WHERE start_ms = ? AND rule_id = ? AND lane = ? AND run = ?",
        )?
        .execute(params![start_ms, rule, lane, run])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO evidence_client (start_ms, rule_id, lane, run, client, tenant, evaluated, \
         would_deny, denied, harm, enforced, enforced_errors, control_errors, slow) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let mut write = |client: &str, tenant: &str, counts: &ClientCounts| {
        insert.execute(params![
            start_ms,
            rule,
            lane,
            run,
            client,
            tenant,
            integer(counts.evaluated),
            integer(counts.would_deny),
            integer(counts.denied),
            integer(counts.harm),
            integer(counts.enforced),
            integer(counts.enforced_errors),
            integer(counts.control_errors),
            integer(counts.slow),
        ])
    };
    for one in &part.clients {
        write(&one.client.to_string(), &one.tenant, &one.counts)?;
    }
    if part.other != ClientCounts::default() {
        write(CLIENT_OTHER, "", &part.other)?;
    }
    Ok(())
}
