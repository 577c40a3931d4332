//! `seaworthy requests`

mod explain;

use clap::Args;
use jiff::Timestamp;
use seaworthy_store::StoreError;
use seaworthy_store::telemetry::{
    Page, PageKey, PageLimit, RequestFilter, RequestRow, StatusFilter, TelemetryReader,
    VerdictFilter,
};

use super::since::Since;
use super::table::{Cell, Paint, Paper, Table};
use super::{Answer, ConfigFile, Surroundings};
use crate::app::key;
use crate::config::{self, Flags};
use crate::exit::{Exit, Failure};

/// List recent requests, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy requests --status 4xx --since 15m
  seaworthy requests --verdict would_deny --route 'POST /api/traces'
  seaworthy requests --client bearer:0123456789abcdef --limit 20
  seaworthy requests --since 2026-08-01T12:00:00Z --json
  seaworthy requests --before 1785585600000_42
  seaworthy requests --explain 01a1fb325fb3094814ddfa730fad3cd5

It reads the data folder and changes nothing, beside a gateway that runs or without one. Above
the budget of rows requests are sampled; the JSON has the weight of each. Times are UTC.")]
pub(super) struct Requests {
    #[command(flatten)]
    file: ConfigFile,
    /// The folder with the gateway's data; else the config's
    #[arg(long, value_name = "DIR")]
    data: Option<std::path::PathBuf>,
    /// Instead of a list: say of the request with this id which rules spoke against it, and why
    #[arg(long, value_name = "ID", value_parser = super::operator::name)]
    #[arg(conflicts_with_all = [
        "status", "route", "client", "tenant", "verdict", "since", "limit", "before",
    ])]
    explain: Option<String>,
    /// A status such as 404, or a class such as 4xx
    #[arg(long)]
    status: Option<StatusFilter>,
    /// A route as the config writes it, or `other` for what matches none
    #[arg(long)]
    route: Option<String>,
    /// A client as the list shows it
    #[arg(long)]
    client: Option<String>,
    /// A tenant as the requests name it
    #[arg(long)]
    tenant: Option<String>,
    /// What a rule said: would_deny or denied
    #[arg(long)]
    verdict: Option<VerdictFilter>,
    /// From then on: a time back such as 15m, or a date such as 2026-08-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Rows of a page, from 1 to 1000
    #[arg(long, value_name = "N", default_value_t)]
    limit: PageLimit,
    /// The page after this key, which the page before it names
    #[arg(long, value_name = "KEY")]
    before: Option<PageKey>,
    /// Print the page as JSON
    #[arg(long)]
    json: bool,
}

impl Requests {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let paper = surroundings.paper;
        let filter = RequestFilter {
            status: self.status,
            route: self.route,
            client: self.client,
            tenant: self.tenant,
            verdict: self.verdict,
            since_unix_ms: self.since.map(|since| since.unix_ms(Timestamp::now())),
            until_unix_ms: None,
            before: self.before,
            limit: self.limit,
        };
        let flags = Flags { data: self.data, ..Flags::default() };
        let inputs = self.file.inputs(flags, surroundings);
        let config = config::locate(&inputs)?;
        if let Some(id) = &self.explain {
            let variable = inputs.variable(key::VARIABLE);
            return explain::run(&config, variable, id, self.json, paper);
        }
        let page = TelemetryReader::open_read_only(&config.store.dir)
            .and_then(|reader| reader.requests(&filter))
            .map_err(failure)?;
        if self.json {
            return Ok(Answer::json(&page, Exit::Ok));
        }
        Ok(Answer::ok(render(&page, paper)))
    }
}

fn failure(error: StoreError) -> Failure {
    let exit = match error {
        StoreError::Corrupt { .. } | StoreError::SchemaNewer { .. } => Exit::BadData,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, format!("the requests cannot be read: {error}"))
}

fn render(page: &Page<RequestRow>, paper: Paper) -> String {
    let mut table = Table::new(["time (UTC)", "status", "took", "client", "request"]);
    for row in &page.rows {
        table.row(cells(row));
    }
    if page.rows.is_empty() && paper != Paper::Pipe {
        return "no request matches\n".to_owned();
    }
    let mut text = table.render(paper);
    if let (Some(next), Paper::Terminal { .. }) = (page.next, paper) {
        text = format!("{text}\nolder ones: --before {next}\n");
    }
    text
}

fn cells(row: &RequestRow) -> [Cell; 5] {
    let time = Timestamp::from_millisecond(row.time_unix_ms)
        .map_or_else(|_| "?".to_owned(), |time| time.strftime("%m-%d %H:%M:%S").to_string());
    let paint = match row.status {
        500.. => Paint::Red,
        400.. => Paint::Yellow,
        _ => Paint::Plain,
    };
    let mut request = vec![format!("{} {}", row.method, row.path)];
    for (said, rules) in [("denied by", &row.denied), ("would deny:", &row.would_deny)] {
        if !rules.is_empty() {
            request.push(format!("({said} {})", rules.join(", ")));
        }
    }
    // Where rules spoke, they say more than the code of the first.
    if let (Some(reason), [_]) = (&row.reason, &request[..]) {
        request.push(format!("({reason})"));
    }
    [
        Cell::new(time),
        Cell::right(row.status.to_string()).paint(paint),
        Cell::right(took(row.duration_us)),
        Cell::new(row.client.as_str()),
        Cell::new(request.join(" ")),
    ]
}

/// Three digits are enough to compare by.
fn took(us: u32) -> String {
    match us {
        0..1000 => format!("{us}µs"),
        1000..10_000 => format!("{:.1}ms", f64::from(us) / 1e3),
        10_000..1_000_000 => format!("{}ms", us / 1000),
        _ => format!("{:.1}s", f64::from(us) / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use seaworthy_policy::names::Names;
    use seaworthy_store::telemetry::{Telemetry, TelemetryConfig};

    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (us, want) in [(7, "7µs"), (1499, "1.5ms"), (48_100, "48ms"), (2_340_000, "2.3s")] {
            assert_eq!(took(us), want);
        }
    }

    #[test]
    fn a_request_is_a_line() {
        let row = RequestRow {
            time_unix_ms: 1_785_585_600_000,
            id: "abc".to_owned(),
            duration_us: 1200,
            upstream_us: 900,
            route: "/a".to_owned(),
            method: "POST".to_owned(),
            status: 429,
            ending: "denied".to_owned(),
            client: "ip:203.0.113.7".to_owned(),
            tenant: None,
            path: "/a\x1b".to_owned(),
            request_bytes: 0,
            response_bytes: 0,
            reason: Some("rate-limited".to_owned()),
            would_deny: vec!["cors".to_owned()],
            denied: vec!["rate_limit@/a".to_owned()],
            upstream: None,
            weight: 1.0,
        };
        let page = Page { rows: vec![row], next: Some("1_2".parse().unwrap()) };
        assert_eq!(
            render(&page, Paper::Pipe),
            "time (UTC)      status   took  client          request\n\
             08-01 12:00:00     429  1.2ms  ip:203.0.113.7  POST /a\\u{1b} (denied by \
             rate_limit@/a) (would deny: cors)\n"
        );
        let paper = Paper::of(true, &[("NO_COLOR".to_owned(), "1".to_owned())]);
        assert!(render(&page, paper).ends_with("\nolder ones: --before 1_2\n"));
    }

    fn of_folder(dir: &std::path::Path, json: bool) -> Result<Answer, Failure> {
        let requests = Requests {
            file: ConfigFile::default(),
            data: Some(dir.to_owned()),
            explain: None,
            status: None,
            route: None,
            client: None,
            tenant: None,
            verdict: None,
            since: None,
            limit: PageLimit::default(),
            before: None,
            json,
        };
        requests.run(Surroundings { env: Vec::new(), paper: Paper::Pipe })
    }

    #[test]
    fn a_folder_without_data_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let failure = of_folder(dir.path(), false).unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.what.contains("there is no"), "{}", failure.what);
    }

    #[test]
    fn a_store_without_requests_is_an_empty_table() {
        let dir = tempfile::tempdir().unwrap();
        let names = Arc::new(Names::new());
        drop(Telemetry::open(dir.path(), TelemetryConfig::default(), names).unwrap());
        assert_eq!(of_folder(dir.path(), false).unwrap().text.lines().count(), 1);
        let json: serde_json::Value =
            serde_json::from_str(&of_folder(dir.path(), true).unwrap().text).unwrap();
        assert_eq!(json, serde_json::json!({ "rows": [], "next": null }));
    }
}
