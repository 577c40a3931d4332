//! Writing one batch, in one transaction: counts add to what is there, rows are appended.

mod consumers;
mod evidence;

use std::collections::HashMap;

use rusqlite::{Connection, Transaction, params};
use seaworthy_policy::names::Names;
use seaworthy_policy::record::{RequestRecord, RouteId, RuleId, Verdict};
use seaworthy_policy::registry::REGISTRY;

pub(super) use self::consumers::{CLIENT_OTHER, NAME_OTHER};
use super::batch::Batch;
use super::consumer_counts::CONSUMERS_MAX;
use super::summaries::LATENCY_COLUMNS;

/// The ids that routes and rules have in the file. Those of a process are by order of
/// appearance and differ from run to run; a name keeps its id in the file for ever.
#[derive(Debug, Default)]
pub(super) struct Ids {
    routes: HashMap<RouteId, i64>,
    rules: HashMap<RuleId, i64>,
    /// This process, in what it replaces of its own.
    run: i64,
}

/// All of `batch`, or none of it.
pub(super) fn write(
    connection: &mut Connection,
    batch: &Batch,
    names: &Names,
    ids: &mut Ids,
) -> rusqlite::Result<()> {
    let written = connection.transaction().and_then(|transaction| {
        write_rollups(&transaction, batch, names, ids)?;
        write_rules(&transaction, batch, names, ids)?;
        consumers::write(&transaction, &batch.consumers, names, ids, CONSUMERS_MAX)?;
        evidence::write(&transaction, batch, names, ids)?;
        write_dropped(&transaction, batch)?;
        write_rows(&transaction, batch, names, ids)?;
        batch.shapes.write(&transaction)?;
        batch.objections.write(&transaction)?;
        transaction.commit()
    });
    if written.is_err() {
        // Ids that were given out in the transaction are gone with it.
        *ids = Ids::new(ids.run);
    }
    written
}

fn write_rollups(
    transaction: &Transaction<'_>,
    batch: &Batch,
    names: &Names,
    ids: &mut Ids,
) -> rusqlite::Result<()> {
    let columns = LATENCY_COLUMNS.join(", ");
    let values = vec!["?"; 10 + LATENCY_COLUMNS.len()].join(", ");
    let additions: String =
        LATENCY_COLUMNS.iter().map(|name| format!(", {name} = {name} + excluded.{name}")).collect();
    let mut insert = transaction.prepare_cached(&format!(
        "INSERT INTO rollup (minute, route_id, method, status_class, tenant, requests, \
         request_bytes, response_bytes, duration_us_sum, duration_us_max, {columns}) \
         VALUES ({values}) \
         ON CONFLICT (minute, route_id, method, status_class, tenant) DO UPDATE SET \
         requests = requests + excluded.requests, \
         request_bytes = request_bytes + excluded.request_bytes, \
         response_bytes = response_bytes + excluded.response_bytes, \
         duration_us_sum = duration_us_sum + excluded.duration_us_sum, \
         duration_us_max = max(duration_us_max, excluded.duration_us_max){additions}"
    ))?;
    for ((minute, key), rollup) in &batch.rollups {
        let route = ids.route(transaction, names, key.route)?;
        insert.raw_bind_parameter(1, minute.0)?;
        insert.raw_bind_parameter(2, route)?;
        insert.raw_bind_parameter(3, key.method.as_str())?;
        insert.raw_bind_parameter(4, key.status_class)?;
        insert.raw_bind_parameter(5, key.tenant.as_str())?;
        insert.raw_bind_parameter(6, integer(rollup.latency.count()))?;
        insert.raw_bind_parameter(7, integer(rollup.request_bytes))?;
        insert.raw_bind_parameter(8, integer(rollup.response_bytes))?;
        insert.raw_bind_parameter(9, integer(rollup.latency.sum_us))?;
        insert.raw_bind_parameter(10, rollup.latency.max_us)?;
        for (index, count) in rollup.latency.counts.into_iter().enumerate() {
            insert.raw_bind_parameter(11 + index, integer(count))?;
        }
        insert.raw_execute()?;
    }
    Ok(())
}

fn write_rules(
    transaction: &Transaction<'_>,
    batch: &Batch,
    names: &Names,
    ids: &mut Ids,
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO rule_rollup (minute, rule_id, evaluated, would_deny, denied, harm) \
         VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (minute, rule_id) DO UPDATE SET \
         evaluated = evaluated + excluded.evaluated, \
         would_deny = would_deny + excluded.would_deny, \
         denied = denied + excluded.denied, \
         harm = harm + excluded.harm",
    )?;
    for ((minute, rule), counts) in &batch.rules {
        insert.execute(params![
            minute.0,
            ids.rule(transaction, names, *rule)?,
            integer(counts.evaluated),
            integer(counts.would_deny),
            integer(counts.denied),
            integer(counts.harm),
        ])?;
    }
    Ok(())
}

fn write_dropped(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO dropped_record (minute, records) VALUES (?, ?) \
         ON CONFLICT (minute) DO UPDATE SET records = records + excluded.records",
    )?;
    for (minute, records) in &batch.dropped {
        insert.execute(params![minute.0, integer(*records)])?;
    }
    Ok(())
}

fn write_rows(
    transaction: &Transaction<'_>,
    batch: &Batch,
    names: &Names,
    ids: &mut Ids,
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO request (time_ms, id, duration_us, upstream_us, route_id, method, status, \
         ending, client, tenant, path, request_bytes, response_bytes, reason, would_deny, denied, \
         upstream, weight) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for row in &batch.rows {
        let record = &row.record;
        insert.execute(params![
            record.started_unix_ms,
            record.id.as_str(),
            record.duration_us,
            record.upstream_us,
            ids.route(transaction, names, record.route)?,
            record.method.as_str(),
            record.status,
            record.ending.as_str(),
            record.client.to_string(),
            record.tenant.as_str(),
            record.path.as_str(),
            integer(record.request_bytes),
            integer(record.response_bytes),
            record.reason.map(seaworthy_policy::problem::Code::name),
            rules_with(record, Verdict::WouldDeny, names),
            rules_with(record, Verdict::Deny, names),
            record.upstream,
            row.weight,
        ])?;
    }
    Ok(())
}

/// The names of the rules with this verdict, one a line; `None` where there are none.
fn rules_with(record: &RequestRecord, verdict: Verdict, names: &Names) -> Option<String> {
    if !record.verdicts.any(verdict) {
        return None;
    }
    let rules = names.rules();
    let found: Vec<String> = record
        .verdicts
        .with(verdict)
        .filter(|protection| *protection < REGISTRY.len())
        .map(|protection| names.rule_for(record.settings, record.route, protection))
        .map(|rule| rules[usize::from(rule.0)].to_string())
        .collect();
    (!found.is_empty()).then(|| found.join("\n"))
}

/// SQLite's integers are signed.
fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Ids {
    pub(super) fn new(run: i64) -> Self {
        Self { run, ..Self::default() }
    }

    fn route(
        &mut self,
        transaction: &Transaction<'_>,
        names: &Names,
        route: RouteId,
    ) -> rusqlite::Result<i64> {
        if let Some(id) = self.routes.get(&route) {
            return Ok(*id);
        }
        let name = names.route(route);
        transaction
            .prepare_cached("INSERT INTO route (name) VALUES (?) ON CONFLICT (name) DO NOTHING")?
            .execute([&*name])?;
        let id = transaction
            .prepare_cached("SELECT id FROM route WHERE name = ?")?
            .query_row([&*name], |row| row.get(0))?;
        self.routes.insert(route, id);
        Ok(id)
    }

    fn rule(
        &mut self,
        transaction: &Transaction<'_>,
        names: &Names,
        rule: RuleId,
    ) -> rusqlite::Result<i64> {
        if let Some(id) = self.rules.get(&rule) {
            return Ok(*id);
        }
        let name = names.rules()[usize::from(rule.0)].to_string();
        let id = rule_id(transaction, &name)?;
        self.rules.insert(rule, id);
        Ok(id)
    }
}

fn rule_id(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached("INSERT INTO rule (name) VALUES (?) ON CONFLICT (name) DO NOTHING")?
        .execute([name])?;
    transaction
        .prepare_cached("SELECT id FROM rule WHERE name = ?")?
        .query_row([name], |row| row.get(0))
}
