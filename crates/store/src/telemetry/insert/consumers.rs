//! Writing who called: a client has one row, and one for each day; new ones find a place as long
//! as there is room.

use rusqlite::{OptionalExtension, Transaction, params};
use seaworthy_policy::names::Names;

use super::super::consumer_counts::{
    AGENTS_MAX, ConsumerCounts, Consumers, Day, Objections, ROUTES_MAX, TENANTS_MAX, Visits,
};
use super::{Ids, integer};

/// What the clients beyond the bound are called together; the name of a client has a colon.
pub(in super::super) const CLIENT_OTHER: &str = "~other";

/// What the names beyond a list's bound are called together: no name is that.
pub(in super::super) const NAME_OTHER: &str = "\n";

/// What the rules beyond a batch's bound are called together.
const RULE_OTHER: &str = "~other";

/// Adds `consumers` to what is there; at most `max` clients are told apart.
pub(super) fn write(
    transaction: &Transaction<'_>,
    consumers: &Consumers,
    names: &Names,
    ids: &mut Ids,
    max: usize,
) -> rusqlite::Result<()> {
    let mut places = Places { transaction, max, taken: None };
    for (day, client, counts) in consumers.iter() {
        let found = match client {
            Some(client) => places.find(&client.to_string(), counts)?,
            None => None,
        };
        let consumer = match found {
            Some(id) => id,
            None => places.other(counts)?,
        };
        Row { transaction, consumer, day }.write(counts, names, ids)?;
    }
    Ok(())
}

/// Who has a row in the table of clients.
struct Places<'a> {
    transaction: &'a Transaction<'a>,
    max: usize,
    /// How many there are; counted when the first client is new.
    taken: Option<usize>,
}

impl Places<'_> {
    /// The row of `client`, brought up to date; `None` where there is no room for one.
    fn find(&mut self, client: &str, counts: &ConsumerCounts) -> rusqlite::Result<Option<i64>> {
        if let Some(id) = self.update(client, counts)? {
            return Ok(Some(id));
        }
        let taken = match self.taken {
            Some(taken) => taken,
            None => {
                self.transaction
                    .prepare_cached("SELECT count(*) FROM consumer WHERE client <> ?")?
                    .query_row([CLIENT_OTHER], |row| row.get::<_, u32>(0))? as usize
            }
        };
        let has_room = taken < self.max;
        self.taken = Some(taken + usize::from(has_room));
        if has_room { self.insert(client, counts).map(Some) } else { Ok(None) }
    }

    fn other(&self, counts: &ConsumerCounts) -> rusqlite::Result<i64> {
        match self.update(CLIENT_OTHER, counts)? {
            Some(id) => Ok(id),
            None => self.insert(CLIENT_OTHER, counts),
        }
    }

    fn update(&self, client: &str, counts: &ConsumerCounts) -> rusqlite::Result<Option<i64>> {
        let (last_ms, kind) = counts.last;
        self.transaction
            .prepare_cached(
                "UPDATE consumer SET first_ms = min(first_ms, ?2), \
                 kind = CASE WHEN ?3 >= last_ms THEN ?4 ELSE kind END, \
                 last_ms = max(last_ms, ?3) WHERE client = ?1 RETURNING id",
            )?
            .query_row(params![client, counts.first_unix_ms, last_ms, kind.as_str()], |row| {
                row.get(0)
            })
            .optional()
    }

    fn insert(&self, client: &str, counts: &ConsumerCounts) -> rusqlite::Result<i64> {
        let (last_ms, kind) = counts.last;
        self.transaction
            .prepare_cached(
                "INSERT INTO consumer (client, first_ms, last_ms, kind) VALUES (?, ?, ?, ?)",
            )?
            .insert(params![client, counts.first_unix_ms, last_ms, kind.as_str()])
    }
}

/// Requests whose time nobody asks for.
const fn of_all(count: u64) -> Visits {
    Visits { count, last_unix_ms: 0 }
}

/// One client on one day.
struct Row<'a> {
    transaction: &'a Transaction<'a>,
    consumer: i64,
    day: Day,
}

impl Row<'_> {
    fn write(&self, counts: &ConsumerCounts, names: &Names, ids: &mut Ids) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO consumer_day (consumer_id, day, requests) VALUES (?, ?, ?) \
                 ON CONFLICT DO UPDATE SET requests = requests + excluded.requests",
            )?
            .execute(params![self.consumer, self.day.0, integer(counts.requests)])?;
        for (agent, requests) in counts.agents.iter() {
            self.add("agent", agent, of_all(*requests), AGENTS_MAX)?;
        }
        for (tenant, requests) in counts.tenants.iter() {
            self.add("tenant", tenant, of_all(*requests), TENANTS_MAX)?;
        }
        for (route, visits) in counts.routes.iter() {
            self.add("route", &names.route(*route), *visits, ROUTES_MAX)?;
        }
        for (list, visits) in [
            ("agent", of_all(*counts.agents.other())),
            ("tenant", of_all(*counts.tenants.other())),
            ("route", *counts.routes.other()),
        ] {
            self.insert(list, NAME_OTHER, visits)?;
        }
        for (rule, objections) in counts.rules.iter() {
            let rule = ids.rule(self.transaction, names, *rule)?;
            self.object(rule, *objections)?;
        }
        if *counts.rules.other() != Objections::default() {
            let rule = super::rule_id(self.transaction, RULE_OTHER)?;
            self.object(rule, *counts.rules.other())?;
        }
        Ok(())
    }

    /// Adds to the count of a name; a new one has a count of its own as long as there is room.
    fn add(&self, list: &str, name: &str, visits: Visits, max: usize) -> rusqlite::Result<()> {
        let (consumer, day) = (self.consumer, self.day.0);
        let known = self
            .transaction
            .prepare_cached(
                "UPDATE consumer_trait SET requests = requests + ?, last_ms = max(last_ms, ?) \
                 WHERE consumer_id = ? AND day = ? AND trait = ? AND name = ?",
            )?
            .execute(params![
                integer(visits.count),
                visits.last_unix_ms,
                consumer,
                day,
                list,
                name
            ])?;
        if known > 0 {
            return Ok(());
        }
        let taken: u32 = self
            .transaction
            .prepare_cached(
                "SELECT count(*) FROM consumer_trait \
                 WHERE consumer_id = ? AND day = ? AND trait = ? AND name <> ?",
            )?
            .query_row(params![consumer, day, list, NAME_OTHER], |row| row.get(0))?;
        self.insert(list, if (taken as usize) < max { name } else { NAME_OTHER }, visits)
    }

    fn insert(&self, list: &str, name: &str, visits: Visits) -> rusqlite::Result<()> {
        if visits.count == 0 {
            return Ok(());
        }
        self.transaction
            .prepare_cached(
                "INSERT INTO consumer_trait (consumer_id, day, trait, name, requests, last_ms) \
                 VALUES (?, ?, ?, ?, ?, ?) \
                 ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, \
                 last_ms = max(last_ms, excluded.last_ms)",
            )?
            .execute(params![
                self.consumer,
                self.day.0,
                list,
                name,
                integer(visits.count),
                visits.last_unix_ms
            ])?;
        Ok(())
    }

    fn object(&self, rule: i64, objections: Objections) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO consumer_rule (consumer_id, day, rule_id, would_deny, denied, harm) \
                 VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
                 would_deny = would_deny + excluded.would_deny, \
                 denied = denied + excluded.denied, harm = harm + excluded.harm",
            )?
            .execute(params![
                self.consumer,
                self.day.0,
                rule,
                integer(objections.would_deny),
                integer(objections.denied),
                integer(objections.harm),
            ])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use seaworthy_policy::client::ClientKey;
    use seaworthy_policy::consumer::Agent;
    use seaworthy_policy::record::{RequestRecord, Tenant};

    use super::super::super::SCHEMA;
    use super::super::super::fixture::{NOON_MS, count_client, would_be_denied};
    use super::*;
    use crate::sqlite::open_writer;

    fn store(connection: &mut Connection, max: usize, records: &[RequestRecord]) {
        let (names, mut consumers) = (Names::new(), Consumers::default());
        for record in records {
            count_client(&mut consumers, record, record.started_unix_ms);
        }
        let transaction = connection.transaction().unwrap();
        write(&transaction, &consumers, &names, &mut Ids::default(), max).unwrap();
        transaction.commit().unwrap();
    }

    fn count(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn client(n: u64) -> RequestRecord {
        RequestRecord { client: ClientKey::Bearer(n), ..would_be_denied() }
    }

    #[test]
    fn the_table_is_bounded_and_who_is_in_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (mut connection, _lock) = open_writer(dir.path(), &SCHEMA).unwrap();
        store(&mut connection, 3, &[client(1), client(2)]);
        store(&mut connection, 3, &[client(3), client(4), client(5), client(1)]);
        store(&mut connection, 3, &[client(2), client(6)]);
        let kept = "SELECT count(*) FROM consumer WHERE client <> '~other'";
        assert_eq!(count(&connection, kept), 3);
        let requests = |of: &str| {
            let sql = format!(
                "SELECT coalesce(sum(requests), 0) FROM consumer_day \
                 JOIN consumer ON consumer.id = consumer_id WHERE client {of}"
            );
            count(&connection, &sql)
        };
        assert_eq!(requests("= 'bearer:0000000000000001'"), 2);
        assert_eq!(requests("= 'bearer:0000000000000002'"), 2);
        assert_eq!((requests("= '~other'"), requests("<> ''")), (3, 8));
        assert_eq!(count(&connection, "SELECT sum(would_deny) FROM consumer_rule"), 8);
    }

    #[test]
    fn lists_are_bounded_over_many_batches_and_their_sums_exact() {
        let dir = tempfile::tempdir().unwrap();
        let (mut connection, _lock) = open_writer(dir.path(), &SCHEMA).unwrap();
        for batch in 0..4 {
            let of = |n: i64| RequestRecord {
                agent: Agent::from(&format!("agent/{}", batch * 10 + n)).unwrap(),
                tenant: Tenant::from(&format!("t{n}")).unwrap(),
                started_unix_ms: NOON_MS + n,
                ..client(1)
            };
            store(&mut connection, 3, &(0..20).map(of).collect::<Vec<_>>());
        }
        for list in ["agent", "tenant", "route"] {
            let all = format!("SELECT sum(requests) FROM consumer_trait WHERE trait = '{list}'");
            assert_eq!(count(&connection, &all), 80, "{list}");
            let names = format!(
                "SELECT count(*) FROM consumer_trait WHERE trait = '{list}' AND name <> char(10)"
            );
            let kept = if list == "route" { 1 } else { 16 };
            assert_eq!(count(&connection, &names), kept, "{list}");
        }
    }
}
