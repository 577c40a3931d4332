//! `seaworthy rollout history` and `seaworthy rollout receipt`

use clap::Args;
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::{Event, Receipt};
use seaworthy_store::StoreError;
use seaworthy_store::ledger::{LedgerReader, RECEIPTS_AT_ONCE, ReceiptRow};
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::audit::{Place, unreadable};
use super::super::operator::name;
use super::super::standing::{exact, time};
use super::super::table::{Cell, Paint, Paper, Table};
use super::super::{Answer, Surroundings};
use crate::config::nearest;
use crate::exit::{Exit, Failure};

/// List what moved the rules, newest first: from where to where, why, and who
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy rollout history
  seaworthy rollout history csrf --limit 5
  seaworthy rollout history csrf --before 1042 --json

It reads the data folder and changes nothing, beside a gateway that runs or without one. Each line
has a receipt, whose number is that of its entry in the audit log. Times are UTC.")]
pub(in crate::cli) struct History {
    /// The rule, as `seaworthy mode` lists it; else all
    #[arg(value_parser = name)]
    rule: Option<String>,
    /// Receipts of a page, from 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(RECEIPTS_AT_ONCE)))]
    limit: u32,
    /// Those before this number, which the page before names
    #[arg(long, value_name = "N")]
    before: Option<u64>,
    #[command(flatten)]
    place: Place,
    /// Print the receipts whole, as JSON
    #[arg(long)]
    json: bool,
}

/// Print one receipt exactly as it is kept, to be given to others
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy rollout receipt 17 > receipt.json
  seaworthy rollout verify receipt.json

A receipt has all that the move was decided by: settings, evidence, what each gate said. Clients are
in it as the gateway names them, with keyed hashes for their secrets. `seaworthy audit show 17` has
its digest, so that a receipt that somebody wrote anew is told from it.")]
pub(in crate::cli) struct One {
    /// Its number, which `seaworthy rollout history` lists
    #[arg(value_name = "N")]
    seq: u64,
    #[command(flatten)]
    place: Place,
}

fn open(place: Place, surroundings: Surroundings) -> Result<LedgerReader, Failure> {
    LedgerReader::open_read_only(&place.dir(surroundings)?).map_err(|error| failure(&error))
}

fn failure(error: &StoreError) -> Failure {
    unreadable("the receipts", error)
}

/// A page for `--json`: the receipts' bytes stay as they are.
#[derive(Debug, Serialize)]
struct Page {
    receipts: Vec<Row>,
    /// What to ask for as `--before` to see the next page.
    next: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Row {
    seq: u64,
    ts_us: i64,
    receipt: Box<RawValue>,
}

impl History {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let paper = surroundings.paper;
        let reader = open(self.place, surroundings)?;
        let rule = self.rule.as_deref();
        // One more than is shown says that there is another page.
        let asked = self.limit.saturating_add(1).min(RECEIPTS_AT_ONCE);
        let mut rows =
            reader.receipts(rule, self.before, asked).map_err(|error| failure(&error))?;
        let is_more = rows.len() > self.limit as usize || rows.len() == RECEIPTS_AT_ONCE as usize;
        rows.truncate(self.limit as usize);
        let next = rows.last().filter(|_| is_more).map(|row| row.seq);
        if let (Some(rule), true) = (rule, rows.is_empty()) {
            is_known(&reader, rule)?;
        }
        if self.json {
            let row = |row: ReceiptRow| {
                let ReceiptRow { seq, ts_us, receipt, .. } = row;
                let damaged = || format!("receipt {seq} is damaged: it is no JSON any more");
                let receipt = RawValue::from_string(receipt)
                    .map_err(|_| Failure::new(Exit::BadData, damaged()))?;
                Ok(Row { seq, ts_us, receipt })
            };
            let receipts = rows.into_iter().map(row).collect::<Result<_, Failure>>()?;
            return Ok(Answer::json(&Page { receipts, next }, Exit::Ok));
        }
        if rows.is_empty() && paper != Paper::Pipe {
            return Ok(Answer::ok("nothing has moved yet\n".to_owned()));
        }
        let mut table = Table::new(["n", "time (UTC)", "rule", "what", "who", "why"]);
        for row in &rows {
            table.row(cells(row));
        }
        let aside = next.map_or_else(String::new, |next| format!("older ones: --before {next}\n"));
        Ok(Answer::ok(table.render(paper)).aside(aside))
    }
}

/// Whether there is such a rule that only has not been moved.
fn is_known(reader: &LedgerReader, rule: &str) -> Result<(), Failure> {
    let known = reader.standings().map_err(|error| failure(&error))?;
    let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    if names.contains(&rule) {
        return Ok(());
    }
    let meant =
        nearest(rule, &names).map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
    Err(Failure::new(Exit::Usage, format!("the ledger knows no rule {rule:?}{meant}"))
        .details("`seaworthy mode` lists all"))
}

fn cells(row: &ReceiptRow) -> [Cell; 6] {
    let time = time(row.ts_us.div_euclid(1000), "%m-%d %H:%M:%S");
    let (what, who, why, paint) = match Receipt::read(row.receipt.as_bytes()) {
        Ok(receipt) => {
            let is_fall = matches!(receipt.event, Event::Fell { .. } | Event::Alerted { .. });
            let paint = if is_fall { Paint::Red } else { Paint::Plain };
            (moved(&receipt), receipt.actor.clone(), reason(&receipt), paint)
        }
        Err(fault) => ("damaged".to_owned(), "?".to_owned(), fault.to_string(), Paint::Red),
    };
    [
        Cell::right(row.seq.to_string()),
        Cell::new(time),
        Cell::new(row.rule.as_str()),
        Cell::new(what).paint(paint),
        Cell::new(who),
        Cell::new(why.replace('\n', " ")),
    ]
}

/// What happened: `warn → enforce 10%`, `held`, …
pub(super) fn moved(receipt: &Receipt) -> String {
    let Receipt { before, after, event, .. } = receipt;
    match event {
        Event::Held { until_unix_ms: None, .. } => "held".to_owned(),
        Event::Held { until_unix_ms: Some(until), .. } => format!("held until {}", exact(*until)),
        Event::Released { .. } => "released".to_owned(),
        Event::Approved { to, .. } => format!("{to} approved"),
        Event::PolicyChanged { .. } => format!("version {}", after.version),
        Event::WindowRestarted { .. } => "counted anew".to_owned(),
        _ if before.mode == after.mode && before.mode == Mode::Warn => "stays in warn".to_owned(),
        _ if before.mode == after.mode => format!("stays at {}", after.mode),
        _ => format!("{} → {}", before.mode, after.mode),
    }
}

/// In the words of whoever did it.
fn reason(receipt: &Receipt) -> String {
    receipt.event.reason().unwrap_or(&receipt.after.why).to_owned()
}

impl One {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let paper = surroundings.paper;
        let seq = self.seq;
        let reader = open(self.place, surroundings)?;
        let found = reader.receipt(seq).map_err(|error| failure(&error))?;
        let Some(row) = found else {
            return Err(Failure::new(
                Exit::No,
                format!("entry {seq} of the audit log has no receipt"),
            )
            .details("`seaworthy rollout history` lists those that have one"));
        };
        let mut text = row.receipt;
        if paper != Paper::Pipe {
            text.push('\n');
        }
        Ok(Answer::ok(text))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use seaworthy_policy::evidence::Lane;
    use seaworthy_policy::gates::GatesConfig;
    use seaworthy_policy::mode::ModeSetting;
    use seaworthy_policy::rollout::receipt::RECEIPT_VERSION;
    use seaworthy_policy::rollout::{PolicyHash, RolloutConfig, RuleState};
    use seaworthy_store::ledger::{
        Action, Change, Entry, Ledger, LedgerOptions, put_receipt, put_standing,
    };

    use super::*;

    const NOW_MS: i64 = 1_785_585_600_000;

    fn receipt(event: Event) -> Receipt {
        let before = RuleState::new(PolicyHash::new([7; 32]), NOW_MS);
        let rollout = RolloutConfig::default();
        let receipt = Receipt {
            v: RECEIPT_VERSION,
            program: "seaworthy".to_owned(),
            rule: "csrf".to_owned(),
            lane: Lane::Current,
            actor: "operator:ada".to_owned(),
            at_unix_ms: NOW_MS,
            after: before.after(&event, &rollout, NOW_MS),
            event,
            before,
            setting: ModeSetting::Auto,
            rollout,
            gates: GatesConfig::default(),
            inputs: None,
            readings: Vec::new(),
            alarm: None,
            alpha_spent: None,
            clients_digest: None,
            digest: String::new(),
        };
        receipt.seal()
    }

    fn set(mode: &str) -> Event {
        Event::Set { mode: mode.parse().unwrap(), reason: "ada: to see".to_owned() }
    }

    /// A ledger with `count` receipts of the rule `csrf`, and `cors` with none.
    fn ledger(count: usize) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ledger = Ledger::open(dir.path(), LedgerOptions::default()).unwrap();
            let standing = seaworthy_policy::rollout::Standing::new(
                PolicyHash::new([1; 32]),
                serde_json::Value::Null,
                NOW_MS,
            );
            ledger.commit(Change::new().and(put_standing("cors", &standing))).await.unwrap();
            for _ in 0..count {
                let entry = Entry::new("operator:ada", Action::ModeSet, "csrf");
                let change = Change::new().audit(&entry).unwrap();
                let change = change.and(put_receipt(&receipt(set("enforce 10%"))));
                ledger.commit(change).await.unwrap();
            }
            ledger.close().await;
        });
        dir
    }

    fn place(dir: &Path) -> Place {
        Place::of(dir)
    }

    fn surroundings() -> Surroundings {
        Surroundings { env: Vec::new(), paper: Paper::Pipe }
    }

    #[test]
    fn a_page_ends_with_the_key_of_the_next() {
        let dir = ledger(5);
        let page = |rule: Option<&str>, before| {
            let rule = rule.map(str::to_owned);
            let place = place(dir.path());
            History { rule, limit: 2, before, place, json: true }.run(surroundings())
        };
        let mut seqs = Vec::new();
        let mut before = None;
        loop {
            let text = page(Some("csrf"), before).unwrap().text;
            let page: serde_json::Value = serde_json::from_str(&text).unwrap();
            for row in page["receipts"].as_array().unwrap() {
                seqs.push(row["seq"].as_u64().unwrap());
                assert_eq!(row["receipt"]["rule"], "csrf");
            }
            before = page["next"].as_u64();
            if before.is_none() {
                break;
            }
        }
        // Entry 0 is the log's key.
        assert_eq!(seqs, [5, 4, 3, 2, 1]);
        assert!(page(Some("cors"), None).unwrap().text.contains("\"receipts\": []"));
        let failure = page(Some("cosr"), None).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.what.ends_with("did you mean \"cors\"?"), "{failure}");
    }

    #[test]
    fn a_receipt_is_printed_as_it_is_kept() {
        let dir = ledger(1);
        let print = |seq| One { seq, place: place(dir.path()) }.run(surroundings());
        let kept = LedgerReader::open_read_only(dir.path()).unwrap().receipt(1).unwrap().unwrap();
        assert_eq!(print(1).unwrap().text, kept.receipt);
        assert_eq!(print(0).unwrap_err().exit, Exit::No);
    }

    #[test]
    fn what_happened_is_a_few_words() {
        let reason = || "ada: the sale".to_owned();
        for (event, want) in [
            (set("enforce 10%"), "warn → enforce 10%"),
            (set("warn"), "stays in warn"),
            (Event::Held { until_unix_ms: None, reason: reason() }, "held"),
            (
                Event::Held { until_unix_ms: Some(NOW_MS), reason: reason() },
                "held until 2026-08-01 12:00:00 UTC",
            ),
            (Event::Released { reason: reason() }, "released"),
        ] {
            let receipt = receipt(event);
            assert_eq!(moved(&receipt), want);
            assert!(super::reason(&receipt).starts_with("ada: "));
        }
    }
}
