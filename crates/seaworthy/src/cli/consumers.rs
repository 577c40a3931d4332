//! `seaworthy consumers`

use std::fmt::Write as _;

use clap::Args;
use jiff::Timestamp;
use seaworthy_policy::consumer::ConsumerKind;
use seaworthy_store::StoreError;
use seaworthy_store::telemetry::{
    ConsumerFilter, ConsumerObjections, ConsumerPageKey, ConsumerRow, ConsumersPage, NamedCounts,
    PageLimit, RuleFilter, TelemetryReader,
};

use super::since::Since;
use super::table::{Cell, Paint, Paper, Table};
use super::{Answer, ConfigFile, Surroundings};
use crate::config::{self, Flags};
use crate::exit::{Exit, Failure};

/// List who calls, the busiest first, and who breaks if a rule is enforced today
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy consumers
  seaworthy consumers --rule request_schema
  seaworthy consumers --rule 'rate_limit@POST /api/traces' --kind internal
  seaworthy consumers --client bearer:0123456789abcdef --since 30d --json

It reads the data folder and changes nothing, beside a gateway that runs or without one. Counts
are exact and by whole UTC day: all of the day in which --since begins is in them. A client is
internal or external by [consumers] of the config, as its last request was. It exits with 2 where
--rule names one that has judged nothing: whom that would break is not known.")]
pub(super) struct Consumers {
    #[command(flatten)]
    file: ConfigFile,
    /// The folder with the gateway's data; else the config's
    #[arg(long, value_name = "DIR")]
    data: Option<std::path::PathBuf>,
    /// Only those to whom a rule objects, the most harmed first: a protection such as csrf, or
    /// one of its rules such as 'csrf@POST /orders'
    #[arg(long)]
    rule: Option<RuleFilter>,
    /// internal, external or unknown
    #[arg(long)]
    kind: Option<ConsumerKind>,
    /// A tenant as the requests name it
    #[arg(long)]
    tenant: Option<String>,
    /// A client as the list shows it
    #[arg(long)]
    client: Option<String>,
    /// From the UTC day of then on: a time back such as 7d, or a date such as
    /// 2026-08-01T12:00:00Z
    #[arg(long, value_name = "TIME", default_value = "7d")]
    since: Since,
    /// Rows of a page, from 1 to 1000
    #[arg(long, value_name = "N", default_value_t)]
    limit: PageLimit,
    /// The page after this key, which the page before it names
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    before: Option<ConsumerPageKey>,
    /// Print the page as JSON
    #[arg(long)]
    json: bool,
}

impl Consumers {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let paper = surroundings.paper;
        let filter = ConsumerFilter {
            kind: self.kind,
            tenant: self.tenant,
            client: self.client,
            rule: self.rule,
            since_unix_ms: Some(self.since.unix_ms(Timestamp::now())),
            before: self.before,
            limit: self.limit,
        };
        let flags = Flags { data: self.data, ..Flags::default() };
        let config = config::locate(&self.file.inputs(flags, surroundings))?;
        let page = TelemetryReader::open_read_only(&config.store.dir)
            .and_then(|reader| reader.consumers(&filter))
            .map_err(failure)?;
        let is_known = page.impact.as_ref().is_none_or(|impact| impact.has_judged);
        let exit = if is_known { Exit::Ok } else { Exit::NoVerdict };
        if self.json {
            return Ok(Answer::json(&page, exit));
        }
        Ok(Answer::new(render(&page, &filter, paper), exit))
    }
}

fn failure(error: StoreError) -> Failure {
    let exit = match error {
        StoreError::Corrupt { .. } | StoreError::SchemaNewer { .. } => Exit::BadData,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, format!("the clients cannot be read: {error}"))
}

fn render(page: &ConsumersPage, filter: &ConsumerFilter, paper: Paper) -> String {
    let mut parts = Vec::new();
    if let Some(sentence) = page.sentence() {
        parts.push(format!("{sentence}\n"));
    }
    if page.rows.is_empty() {
        parts.extend(nobody(page, filter));
    } else {
        let mut table = Table::new(["client", "kind", "requests", "last seen", "who it is"]);
        for row in &page.rows {
            table.row(cells(row));
            for objections in asked_for(row, filter.rule.as_ref()) {
                let paint = if objections.harm > 0 { Paint::Yellow } else { Paint::Plain };
                table.note(Cell::new(objections.sentence(row.requests)).paint(paint));
            }
        }
        parts.push(table.render(paper));
    }
    if let Some(others) = &page.others {
        let mut text = format!(
            "{} clients are told apart; {} requests of others are counted together\n",
            page.consumers_max, others.requests
        );
        for objections in asked_for(others, filter.rule.as_ref()) {
            writeln!(text, "  {}", objections.sentence(others.requests))
                .expect("a string takes everything");
        }
        parts.push(text);
    }
    if page.records_dropped > 0 {
        parts.push(format!(
            "{} requests could not be counted: the figures are not of all\n",
            page.records_dropped
        ));
    }
    if let Some(next) = page.next {
        parts.push(format!("more of them: --before {next}\n"));
    }
    parts.join("\n")
}

/// What to say where there is no row; nothing where the rule's sentence has said it.
fn nobody(page: &ConsumersPage, filter: &ConsumerFilter) -> Option<String> {
    let ConsumerFilter { kind, tenant, client, .. } = filter;
    let filtered = kind.is_some() || tenant.is_some() || client.is_some();
    if page.consumers == 0 && !filtered {
        let since = page
            .since_unix_ms
            .map_or_else(String::new, |since| format!(" since {} (UTC)", time(since, "%Y-%m-%d")));
        return Some(format!(
            "no client was seen{since}: send requests through the gateway, or ask for more with \
             --since 90d\n"
        ));
    }
    (page.consumers == 0 || page.impact.is_none()).then(|| "no client matches\n".to_owned())
}

/// What the rule that was asked for said, else what all said.
fn asked_for<'a>(
    row: &'a ConsumerRow,
    rule: Option<&'a RuleFilter>,
) -> impl Iterator<Item = &'a ConsumerObjections> {
    row.objections
        .iter()
        .filter(move |objections| rule.is_none_or(|rule| rule.matches(&objections.rule)))
}

fn cells(row: &ConsumerRow) -> [Cell; 5] {
    let mut about = vec![list(&row.tenants, ""), list(&row.agents, "(no User-Agent)")];
    about.retain(|list| !list.is_empty());
    [
        Cell::new(row.client.as_str()),
        Cell::new(row.kind.as_str()),
        Cell::right(row.requests.to_string()),
        Cell::new(time(row.last_unix_ms, "%m-%d %H:%M")),
        Cell::new(about.join("; ")),
    ]
}

/// Names that a list shows; the JSON has all that are kept.
const NAMES_SHOWN: usize = 3;

/// The names, the most frequent first. An empty one is shown as `nameless`, or not at all.
fn list(counts: &NamedCounts, nameless: &str) -> String {
    let all: Vec<&str> = counts
        .names
        .iter()
        .map(|count| if count.name.is_empty() { nameless } else { count.name.as_str() })
        .filter(|name| !name.is_empty())
        .collect();
    let mut text = all.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ");
    if all.len() > NAMES_SHOWN || counts.other > 0 {
        text.push_str(", …");
    }
    text
}

fn time(unix_ms: i64, format: &str) -> String {
    Timestamp::from_millisecond(unix_ms)
        .map_or_else(|_| "?".to_owned(), |time| time.strftime(format).to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use seaworthy_policy::names::Names;
    use seaworthy_store::telemetry::{Harmed, NamedCount, RuleImpact, Telemetry, TelemetryConfig};

    use super::*;

    fn counts(names: &[&str], other: u64) -> NamedCounts {
        let count = |name: &&str| NamedCount { name: (*name).to_owned(), requests: 1 };
        NamedCounts { names: names.iter().map(count).collect(), other }
    }

    fn row() -> ConsumerRow {
        ConsumerRow {
            client: "bearer:0123456789abcdef".to_owned(),
            kind: ConsumerKind::Internal,
            first_unix_ms: 0,
            last_unix_ms: 1_785_585_600_000,
            requests: 40,
            agents: counts(&["helpdesk-worker/1.2", ""], 0),
            tenants: counts(&["acme", ""], 0),
            routes: counts(&["other"], 0),
            objections: vec![ConsumerObjections {
                rule: "access".to_owned(),
                would_deny: 12,
                denied: 0,
                harm: 12,
            }],
        }
    }

    fn page(rows: Vec<ConsumerRow>) -> ConsumersPage {
        ConsumersPage {
            since_unix_ms: Some(1_785_542_400_000),
            consumers: rows.len() as u64,
            consumers_max: 10_000,
            impact: None,
            rows,
            others: None,
            records_dropped: 0,
            next: None,
        }
    }

    #[test]
    fn a_client_is_a_line_and_a_line_for_each_rule_that_objects() {
        assert_eq!(
            render(&page(vec![row()]), &ConsumerFilter::default(), Paper::Pipe),
            "client                   kind      requests  last seen    who it is\n\
             bearer:0123456789abcdef  internal        40  08-01 12:00  acme; helpdesk-worker/1.2, \
             (no User-Agent)\n\
             \u{20} access: 12 of 40 requests \
             would be denied, 12 of them answered with success\n"
        );
        let of = |limit: usize| list(&counts(&["a", "b", "c", "d"][..limit], 0), "");
        assert_eq!((of(3).as_str(), of(4).as_str()), ("a, b, c", "a, b, c, …"));
        assert_eq!(list(&counts(&["a"], 7), ""), "a, …");
    }

    #[test]
    fn a_terminal_of_100_columns_has_room() {
        let env = [("NO_COLOR", "1"), ("COLUMNS", "100")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = render(&page(vec![row()]), &ConsumerFilter::default(), Paper::of(true, &env));
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn a_rule_that_is_asked_for_speaks_alone() {
        let mut row = row();
        row.objections
            .push(ConsumerObjections { rule: "csrf".to_owned(), ..row.objections[0].clone() });
        let rules = |asked: Option<&str>| -> Vec<String> {
            let asked = asked.map(|rule| rule.parse().unwrap());
            asked_for(&row, asked.as_ref()).map(|objections| objections.rule.clone()).collect()
        };
        assert_eq!((rules(None).len(), rules(Some("csrf"))), (2, vec!["csrf".to_owned()]));
    }

    #[test]
    fn what_is_not_in_the_rows_is_said() {
        let others = ConsumerRow { client: "~other".to_owned(), requests: 51, ..row() };
        let harmed = Harmed { client: row().client, harm: 12 };
        let impact = RuleImpact {
            rule: "access".to_owned(),
            has_judged: true,
            objected: 1,
            harmed: 1,
            worst: vec![harmed],
        };
        let page = ConsumersPage {
            impact: Some(impact),
            others: Some(others),
            records_dropped: 3,
            next: Some("1_2_3".parse().unwrap()),
            ..page(vec![row()])
        };
        let text = render(&page, &ConsumerFilter::default(), Paper::Pipe);
        for line in [
            "enforcing access today breaks 1 of 1 client: bearer:0123456789abcdef (12 requests)",
            "10000 clients are told apart; 51 requests of others are counted together",
            "  access: 12 of 51 requests would be denied, 12 of them answered with success",
            "3 requests could not be counted: the figures are not of all",
            "more of them: --before 1_2_3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nin:\n{text}");
        }
    }

    #[test]
    fn where_there_is_nobody_it_says_why() {
        let of_kind =
            ConsumerFilter { kind: Some(ConsumerKind::Internal), ..ConsumerFilter::default() };
        let text = |filter: &ConsumerFilter| render(&page(Vec::new()), filter, Paper::Pipe);
        assert_eq!(text(&of_kind), "no client matches\n");
        assert_eq!(
            text(&ConsumerFilter::default()),
            "no client was seen since 2026-08-01 (UTC): send requests through the gateway, or ask \
             for more with --since 90d\n"
        );
    }

    fn of_folder(dir: &std::path::Path, json: bool) -> Result<Answer, Failure> {
        let consumers = Consumers {
            file: ConfigFile::default(),
            data: Some(dir.to_owned()),
            rule: None,
            kind: None,
            tenant: None,
            client: None,
            since: "7d".parse().unwrap(),
            limit: PageLimit::default(),
            before: None,
            json,
        };
        consumers.run(Surroundings { env: Vec::new(), paper: Paper::Pipe })
    }

    #[test]
    fn a_folder_without_data_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let failure = of_folder(dir.path(), false).unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.what.contains("there is no"), "{}", failure.what);
    }

    #[test]
    fn an_empty_store_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let names = Arc::new(Names::new());
        drop(Telemetry::open(dir.path(), TelemetryConfig::default(), names).unwrap());
        let text = of_folder(dir.path(), false).unwrap().text;
        assert!(text.contains("send requests through the gateway"), "{text}");
        let json: serde_json::Value =
            serde_json::from_str(&of_folder(dir.path(), true).unwrap().text).unwrap();
        assert_eq!((&json["rows"], &json["consumers"]), (&serde_json::json!([]), &0.into()));
    }
}
