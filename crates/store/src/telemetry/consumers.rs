//! Who called, and who would be broken by which rule: filters, pages by key.
//!
//! 1. Counts are by whole UTC day, so a list since a time is one since that day's beginning.
//! 2. Without a rule the busiest client is first, so that whoever invents a token for each request
//!    does not bury the others; with one the list is of the clients to which the rule objects, the
//!    most harmed first. A client that calls between two pages may move towards the front.
//! 3. What belongs to clients beyond [`CONSUMERS_MAX`] is one row beside the list.
//!
//! There are few clients, so that walking over all of them is cheap; what belongs to one of them
//! is found by its key.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use seaworthy_policy::consumer::ConsumerKind;
use seaworthy_policy::registry;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::TelemetryReader;
use super::batch::Minute;
use super::consumer_counts::{AGENTS_MAX, CONSUMERS_MAX, Day, ROUTES_MAX, TENANTS_MAX};
use super::insert::{CLIENT_OTHER, NAME_OTHER};
use super::requests::{FilterError, PageLimit, serde_as_text};
use super::summaries::unsigned;
use crate::error::StoreError;

/// Which clients to list; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerFilter {
    pub kind: Option<ConsumerKind>,
    /// A tenant that it named since then.
    pub tenant: Option<String>,
    /// A client as [`ConsumerRow::client`] has it.
    pub client: Option<String>,
    /// Only clients to whose requests it objected since then.
    pub rule: Option<RuleFilter>,
    /// From the UTC day of this Unix millisecond on.
    pub since_unix_ms: Option<i64>,
    /// Behind this row: [`ConsumersPage::next`] of the page before.
    pub before: Option<ConsumerPageKey>,
    pub limit: PageLimit,
}

/// `rate_limit@POST /api/traces`, or `rate_limit` for all rules of the protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFilter(String);

/// The place of a row in its list, as text `<number>_<number>_<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerPageKey([i64; 3]);

/// Clients, and what is to be known about all of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConsumersPage {
    /// The beginning of the first day that is counted; `None` where all are.
    pub since_unix_ms: Option<i64>,
    /// Clients seen since then which the filters other than the rule let through.
    pub consumers: u64,
    /// Clients that are told apart at most.
    pub consumers_max: usize,
    /// What the rule that was asked for means for them.
    pub impact: Option<RuleImpact>,
    pub rows: Vec<ConsumerRow>,
    /// The clients beyond `consumers_max` as one, whatever the filters; absent where there were
    /// none.
    pub others: Option<ConsumerRow>,
    /// Records that are missing since then; above 0 the counts are not of all requests.
    pub records_dropped: u64,
    /// What to ask for as `before` to see the next page; `None` after the last.
    pub next: Option<ConsumerPageKey>,
}

/// Who would be broken if a rule were enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleImpact {
    pub rule: String,
    /// Whether it has judged a request since telemetry began. Of one that has not, or that is not
    /// there at all, nobody knows whom it would break.
    pub has_judged: bool,
    /// Clients to which it objected.
    pub objected: u64,
    /// Of those: to whose would-be denied requests the service answered with success.
    pub harmed: u64,
    /// The most harmed of them, at most five.
    pub worst: Vec<Harmed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Harmed {
    pub client: String,
    /// Requests.
    pub harm: u64,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsumerRow {
    /// As [`RequestRow::client`](super::RequestRow::client) has it; `~other` for those beyond the
    /// bound.
    pub client: String,
    /// That of its last request.
    pub kind: ConsumerKind,
    /// Unix milliseconds at which its first request ended, since it is known.
    pub first_unix_ms: i64,
    /// The same of its last.
    pub last_unix_ms: i64,
    /// Since the beginning of the list, as all that follows.
    pub requests: u64,
    /// What it called itself; an empty name where it did not.
    pub agents: NamedCounts,
    /// An empty name where it named none.
    pub tenants: NamedCounts,
    pub routes: NamedCounts,
    /// The rules that objected to it, the most harmful first.
    pub objections: Vec<ConsumerObjections>,
}

/// Requests by name, the most first, and those of all other names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NamedCounts {
    pub names: Vec<NamedCount>,
    pub other: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedCount {
    pub name: String,
    pub requests: u64,
}

/// What a rule said against the requests of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsumerObjections {
    pub rule: String,
    /// Requests that would have been denied.
    pub would_deny: u64,
    /// Requests that were.
    pub denied: u64,
    /// Of the would-denies: those whose request was answered with 2xx or 3xx, or switched
    /// protocols.
    pub harm: u64,
}

/// Harmed clients that [`RuleImpact`] names.
const WORST_MAX: usize = 5;

impl ConsumersPage {
    /// Who breaks if the rule that was asked for is enforced today, in one sentence.
    pub fn sentence(&self) -> Option<String> {
        let RuleImpact { rule, has_judged, objected, harmed, worst } = self.impact.as_ref()?;
        if !has_judged {
            return Some(format!(
                "{rule} has judged no request here: whom it would break is not known, and \
                 `seaworthy mode` lists the rules that there are"
            ));
        }
        let clients = counted(self.consumers, "client");
        if *harmed == 0 {
            let why = match objected {
                0 => "it objects to nothing that they send".to_owned(),
                _ => format!(
                    "it objects to requests of {objected}, and the service answers none of those \
                     with success"
                ),
            };
            return Some(format!("enforcing {rule} today breaks none of {clients}: {why}"));
        }
        let mut sentence = format!("enforcing {rule} today breaks {harmed} of {clients}: ");
        for (index, Harmed { client, harm }) in worst.iter().enumerate() {
            let before = if index == 0 { "" } else { ", " };
            write!(sentence, "{before}{client} ({})", counted(*harm, "request"))
                .expect("a string takes everything");
        }
        let named = worst.len() as u64;
        if *harmed > named {
            write!(sentence, " and {} more", harmed - named).expect("a string takes everything");
        }
        Some(sentence)
    }
}

impl ConsumerObjections {
    /// What it means for a client with so many requests, in one sentence.
    pub fn sentence(&self, requests: u64) -> String {
        let Self { rule, would_deny, denied, harm } = self;
        let of = counted(requests, "request");
        if *would_deny == 0 {
            return format!("{rule}: {denied} of {of} denied");
        }
        let harm = if *harm == 0 { "none".to_owned() } else { harm.to_string() };
        let mut sentence = format!(
            "{rule}: {would_deny} of {of} would be denied, {harm} of them answered with success"
        );
        if *denied > 0 {
            write!(sentence, "; {denied} denied already").expect("a string takes everything");
        }
        sentence
    }
}

/// `1 client`, `2 clients`.
fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl TelemetryReader {
    /// One page of the clients that `filter` lets through.
    pub fn consumers(&self, filter: &ConsumerFilter) -> Result<ConsumersPage, StoreError> {
        self.readers.read(|connection| {
            let query = Query::new(filter);
            let mut rows = query.rows(connection)?;
            // One row more than the page has room for says that there is another page.
            let limit = usize::from(filter.limit.get());
            let more = rows.len() > limit;
            rows.truncate(limit);
            let next = rows.last().filter(|_| more).map(|(key, _)| *key);
            let details = |(ConsumerPageKey([.., id]), row)| query.details(connection, id, row);
            Ok(ConsumersPage {
                since_unix_ms: filter.since_unix_ms.map(|_| query.day.start_unix_ms()),
                consumers: query.count(connection)?,
                consumers_max: CONSUMERS_MAX,
                impact: query.impact(connection)?,
                rows: rows.into_iter().map(details).collect::<Result<_, _>>()?,
                others: query.others(connection)?,
                records_dropped: query.records_dropped(connection)?,
                next,
            })
        })
    }
}

/// A filter on its way to SQL. The texts depend on which filters there are, never on what they
/// say: they are compiled once.
struct Query<'a> {
    filter: &'a ConsumerFilter,
    /// The first that counts.
    day: Day,
}

/// What the objections of the rule add up to for each client; `?1` is the day, `?2` the rule.
const OBJECTED: &str = "(SELECT consumer_id, sum(would_deny) AS would_deny, sum(harm) AS harm \
     FROM consumer_rule WHERE day >= ?1 AND rule_id IN \
     (SELECT id FROM rule WHERE name = ?2 OR substr(name, 1, length(?2) + 1) = ?2 || '@') \
     GROUP BY consumer_id)";

/// A row but for what [`Query::details`] adds.
const COLUMNS: [&str; 5] = ["client", "kind", "first_ms", "last_ms", REQUESTS];

const REQUESTS: &str = "(SELECT coalesce(sum(requests), 0) FROM consumer_day \
     WHERE consumer_day.consumer_id = consumer.id AND day >= ?1)";

impl<'a> Query<'a> {
    fn new(filter: &'a ConsumerFilter) -> Self {
        Self { filter, day: Day::of_unix_ms(filter.since_unix_ms.unwrap_or(i64::MIN)) }
    }

    /// The tables, and the conditions of all filters but the page's.
    fn from(&self) -> (String, Vec<Value>) {
        let ConsumerFilter { kind, tenant, client, rule, .. } = self.filter;
        let mut values = vec![Value::from(self.day.0)];
        let mut sql = " FROM consumer".to_owned();
        if let Some(RuleFilter(rule)) = rule {
            values.push(rule.clone().into());
            write!(sql, " JOIN {OBJECTED} ON consumer_id = consumer.id")
                .expect("a string takes everything");
        }
        sql.push_str(" WHERE client <> ? AND last_ms >= ?");
        values.extend([CLIENT_OTHER.to_owned().into(), self.day.start_unix_ms().into()]);
        if let Some(kind) = kind {
            sql.push_str(" AND kind = ?");
            values.push(kind.to_string().into());
        }
        if let Some(client) = client {
            sql.push_str(" AND client = ?");
            values.push(client.clone().into());
        }
        if let Some(tenant) = tenant {
            sql.push_str(
                " AND EXISTS (SELECT 1 FROM consumer_trait WHERE trait = 'tenant' AND \
                 consumer_trait.consumer_id = consumer.id AND day >= ?1 AND name = ?)",
            );
            values.push(tenant.clone().into());
        }
        (sql, values)
    }

    fn rows(
        &self,
        connection: &Connection,
    ) -> rusqlite::Result<Vec<(ConsumerPageKey, ConsumerRow)>> {
        let order = match self.filter.rule {
            Some(_) => ["harm", "would_deny", "consumer.id"],
            None => [REQUESTS, "last_ms", "consumer.id"],
        };
        let (from, mut values) = self.from();
        let mut sql = format!("SELECT {}, {}{from}", order.join(", "), COLUMNS.join(", "));
        if let Some(ConsumerPageKey(key)) = self.filter.before {
            write!(sql, " AND ({}) < (?, ?, ?)", order.join(", "))
                .expect("a string takes everything");
            values.extend(key.map(Value::from));
        }
        sql.push_str(" ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT ?");
        values.push((i64::from(self.filter.limit.get()) + 1).into());
        connection
            .prepare_cached(&sql)?
            .query_map(params_from_iter(values), |row| {
                let key = ConsumerPageKey([row.get(0)?, row.get(1)?, row.get(2)?]);
                Ok((key, read_row(row, 3)?))
            })?
            .collect()
    }

    fn count(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let anyone = ConsumerFilter { rule: None, ..self.filter.clone() };
        let (from, values) = Query { filter: &anyone, day: self.day }.from();
        // The first parameter is bound even where no filter reads it.
        connection
            .prepare_cached(&format!("SELECT count(*), ?1{from}"))?
            .query_row(params_from_iter(values), |row| unsigned(row, 0))
    }

    fn impact(&self, connection: &Connection) -> rusqlite::Result<Option<RuleImpact>> {
        let Some(RuleFilter(rule)) = &self.filter.rule else { return Ok(None) };
        let (from, values) = self.from();
        let sql = format!("SELECT count(*), count(*) FILTER (WHERE harm > 0){from}");
        let [objected, harmed] =
            connection.prepare_cached(&sql)?.query_row(params_from_iter(&values), |row| {
                Ok([unsigned(row, 0)?, unsigned(row, 1)?])
            })?;
        let sql = format!(
            "SELECT client, harm{from} AND harm > 0 \
             ORDER BY harm DESC, would_deny DESC, consumer.id DESC LIMIT {WORST_MAX}"
        );
        let worst = connection
            .prepare_cached(&sql)?
            .query_map(params_from_iter(&values), |row| {
                Ok(Harmed { client: row.get(0)?, harm: unsigned(row, 1)? })
            })?
            .collect::<Result<_, _>>()?;
        let has_judged = connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM rule WHERE name = ?1 OR \
                 substr(name, 1, length(?1) + 1) = ?1 || '@')",
            )?
            .query_row([rule], |row| row.get(0))?;
        Ok(Some(RuleImpact { rule: rule.clone(), has_judged, objected, harmed, worst }))
    }

    fn others(&self, connection: &Connection) -> rusqlite::Result<Option<ConsumerRow>> {
        let found = connection
            .prepare_cached(&format!(
                "SELECT id, {} FROM consumer WHERE client = ?2 AND last_ms >= ?3",
                COLUMNS.join(", ")
            ))?
            .query_row(params![self.day.0, CLIENT_OTHER, self.day.start_unix_ms()], |row| {
                Ok((row.get(0)?, read_row(row, 1)?))
            })
            .optional()?;
        found.map(|(id, row)| self.details(connection, id, row)).transpose()
    }

    /// What is counted beside the requests themselves.
    fn details(
        &self,
        connection: &Connection,
        id: i64,
        mut row: ConsumerRow,
    ) -> rusqlite::Result<ConsumerRow> {
        let mut query = connection.prepare_cached(
            "SELECT trait, name, sum(requests) FROM consumer_trait \
             WHERE consumer_id = ? AND day >= ? GROUP BY trait, name ORDER BY 3 DESC, name",
        )?;
        let mut found = query.query((id, self.day.0))?;
        while let Some(of) = found.next()? {
            let (name, requests): (String, _) = (of.get(1)?, unsigned(of, 2)?);
            let (counts, max) = match of.get_ref(0)?.as_str()? {
                "agent" => (&mut row.agents, AGENTS_MAX),
                "tenant" => (&mut row.tenants, TENANTS_MAX),
                _ => (&mut row.routes, ROUTES_MAX),
            };
            // Each day has a list of its own; all of them together are as bounded.
            if name == NAME_OTHER || counts.names.len() >= max {
                counts.other += requests;
            } else {
                counts.names.push(NamedCount { name, requests });
            }
        }
        row.objections = connection
            .prepare_cached(
                "SELECT rule.name, sum(would_deny), sum(denied), sum(harm) FROM consumer_rule \
                 JOIN rule ON rule.id = rule_id WHERE consumer_id = ? AND day >= ? \
                 GROUP BY rule.name ORDER BY 4 DESC, 2 DESC, 3 DESC, 1",
            )?
            .query_map((id, self.day.0), |row| {
                Ok(ConsumerObjections {
                    rule: row.get(0)?,
                    would_deny: unsigned(row, 1)?,
                    denied: unsigned(row, 2)?,
                    harm: unsigned(row, 3)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        Ok(row)
    }

    fn records_dropped(&self, connection: &Connection) -> rusqlite::Result<u64> {
        connection
            .prepare_cached("SELECT sum(records) FROM dropped_record WHERE minute >= ?")?
            .query_row([Minute::of_unix_ms(self.day.start_unix_ms()).0], |row| unsigned(row, 0))
    }
}

/// The [`COLUMNS`], from `first` on.
fn read_row(row: &Row<'_>, first: usize) -> rusqlite::Result<ConsumerRow> {
    // The table holds no other words, and none of them can break a list.
    let kind = row.get_ref(first + 1)?.as_str()?.parse().unwrap_or_default();
    Ok(ConsumerRow {
        client: row.get(first)?,
        kind,
        first_unix_ms: row.get(first + 2)?,
        last_unix_ms: row.get(first + 3)?,
        requests: unsigned(row, first + 4)?,
        agents: NamedCounts::default(),
        tenants: NamedCounts::default(),
        routes: NamedCounts::default(),
        objections: Vec::new(),
    })
}

impl RuleFilter {
    /// Whether it asks for the rule of this name.
    pub fn matches(&self, rule: &str) -> bool {
        let rest = rule.strip_prefix(self.0.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
    }
}

impl FromStr for RuleFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let protection = text.split('@').next().unwrap_or_default();
        match registry::position(protection) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(FilterError::Rule(text.to_owned())),
        }
    }
}

impl fmt::Display for RuleFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ConsumerPageKey {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split('_').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        match (next(), next(), next()) {
            (Some(first), Some(second), Some(id)) if text.split('_').count() == 3 => {
                Ok(Self([first, second, id]))
            }
            _ => Err(FilterError::PageKey(text.to_owned())),
        }
    }
}

impl fmt::Display for ConsumerPageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, id] = self.0;
        write!(f, "{first}_{second}_{id}")
    }
}

serde_as_text!(ConsumerPageKey);

#[cfg(test)]
mod tests;
