//! `seaworthy audit`: reads the audit log, verifies it, and proves what is in it.

mod follow;
mod verify;

use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use seaworthy_store::StoreError;
use seaworthy_store::ledger::{Hash, LeafRow, LedgerReader, is_included};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::table::{Cell, Paint, Table};
use super::{Answer, ConfigFile, Surroundings};
use crate::config::{self, Flags};
use crate::exit::{Exit, Failure};

/// Read the audit log, verify it, and prove what is in it
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  seaworthy audit tail
  seaworthy audit verify
  seaworthy audit export > audit.jsonl")]
pub(super) enum Audit {
    Tail(Tail),
    Show(Show),
    Verify(verify::Verify),
    Prove(Prove),
    Export(Export),
}

/// Where the ledger is.
#[derive(Debug, Default, Args)]
pub(super) struct Place {
    #[command(flatten)]
    file: ConfigFile,
    /// The folder with the gateway's data; else the config's
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// List the newest entries, oldest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy audit tail
  seaworthy audit tail -n 100 --json
  seaworthy audit tail --follow

It reads the data folder and changes nothing, beside a gateway that runs or without one. Times
are UTC.")]
pub(super) struct Tail {
    #[command(flatten)]
    place: Place,
    /// Entries, from 1 to 1000
    #[arg(short, long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    number: u32,
    /// Go on with what comes, until it is stopped; with --json an entry is a line
    #[arg(short, long)]
    follow: bool,
    /// Print the entries as JSON
    #[arg(long)]
    json: bool,
}

/// Show one entry whole, with its hashes
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy audit show 17
  seaworthy audit show 17 --json")]
pub(super) struct Show {
    #[command(flatten)]
    place: Place,
    /// The entry's number, which `audit tail` lists
    #[arg(value_name = "N")]
    seq: u64,
    /// Print the entry as JSON
    #[arg(long)]
    json: bool,
}

/// Prove that an entry is in the log that the newest checkpoint signs
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy audit prove 17
  seaworthy audit prove 17 --json > proof.json

The proof is that of RFC 9162, section 2.1.3: with the leaf, the path and the signed checkpoint
anybody can check it, without the log. An entry is counted by a checkpoint within a second.")]
pub(super) struct Prove {
    #[command(flatten)]
    place: Place,
    /// The entry's number, which `audit tail` lists
    #[arg(value_name = "N")]
    seq: u64,
    /// Print the proof as JSON
    #[arg(long)]
    json: bool,
}

/// Write the entries out, one a line, byte by byte as they were hashed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy audit export > audit.jsonl
  seaworthy audit export --from 1000 --json
  seaworthy audit verify audit.jsonl --checkpoints audit.checkpoints

With the gateway's audit.checkpoints a whole export can be verified anywhere.")]
pub(super) struct Export {
    #[command(flatten)]
    place: Place,
    /// The first entry to write
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Write each entry as an object with its hashes
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        match self {
            Self::Tail(tail) => tail.run(surroundings),
            Self::Show(show) => show.run(surroundings),
            Self::Verify(verify) => verify.run(surroundings),
            Self::Prove(prove) => prove.run(surroundings),
            Self::Export(export) => export.run(surroundings),
        }
    }
}

impl Place {
    #[cfg(test)]
    pub(super) fn of(dir: &std::path::Path) -> Self {
        Self { data: Some(dir.to_owned()), ..Self::default() }
    }

    pub(super) fn dir(self, surroundings: Surroundings) -> Result<PathBuf, Failure> {
        let flags = Flags { data: self.data, ..Flags::default() };
        Ok(config::locate(&self.file.inputs(flags, surroundings))?.store.dir)
    }

    fn open(self, surroundings: Surroundings) -> Result<LedgerReader, Failure> {
        LedgerReader::open_read_only(&self.dir(surroundings)?).map_err(|error| failure(&error))
    }
}

fn failure(error: &StoreError) -> Failure {
    unreadable("the audit log", error)
}

/// What of the ledger cannot be read, and why.
pub(super) fn unreadable(what: &str, error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Corrupt { .. } | StoreError::SchemaNewer { .. } => Exit::BadData,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, format!("{what} cannot be read: {error}"))
}

/// An entry for `--json`: the leaf's bytes stay as they are.
#[derive(Debug, Serialize)]
struct Row {
    seq: u64,
    leaf: Box<RawValue>,
    leaf_hash: Hash,
    chain_hash: Hash,
}

impl Row {
    fn new(row: LeafRow) -> Self {
        let LeafRow { seq, leaf, leaf_hash, chain_hash } = row;
        // What is no JSON any more is shown as text.
        let leaf = RawValue::from_string(leaf)
            .unwrap_or_else(|_| RawValue::from_string("null".to_owned()).expect("that is JSON"));
        Self { seq, leaf, leaf_hash, chain_hash }
    }
}

impl Tail {
    fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let paper = surroundings.paper;
        let reader = self.place.open(surroundings)?;
        let rows = reader.tail(self.number).map_err(|error| failure(&error))?;
        if self.follow {
            return follow::follow(&reader, rows, self.json);
        }
        if self.json {
            let rows: Vec<Row> = rows.into_iter().map(Row::new).collect();
            return Ok(Answer::json(&rows, Exit::Ok));
        }
        let mut table = Table::new(["n", "time (UTC)", "actor", "action", "what"]);
        for row in &rows {
            table.row(cells(row));
        }
        Ok(Answer::ok(table.render(paper)))
    }
}

fn cells(row: &LeafRow) -> [Cell; 5] {
    let leaf: Value = serde_json::from_str(&row.leaf).unwrap_or_default();
    let text = |field: &str| leaf[field].as_str().unwrap_or_default().to_owned();
    let mut what = text("target");
    if let Some(reason) = leaf["reason"].as_str() {
        what = format!("{what}: {reason}");
    }
    let action = text("action");
    let paint = match &*action {
        "mode.demote" | "alert.demote" => Paint::Red,
        "mode.promote" | "mode.set" => Paint::Bold,
        _ => Paint::Plain,
    };
    [
        Cell::right(row.seq.to_string()),
        Cell::new(time(&leaf, "%m-%d %H:%M:%S")),
        Cell::new(text("actor")),
        Cell::new(action).paint(paint),
        Cell::new(what.replace('\n', " ")),
    ]
}

fn time(leaf: &Value, form: &str) -> String {
    let time = leaf["ts_us"].as_i64().and_then(|us| Timestamp::from_microsecond(us).ok());
    time.map_or_else(|| "?".to_owned(), |time| time.strftime(form).to_string())
}

impl Show {
    fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let paper = surroundings.paper;
        let reader = self.place.open(surroundings)?;
        let found = reader.leaf(self.seq).map_err(|error| failure(&error))?;
        let Some(row) = found else { return Err(no_leaf(&reader, self.seq)) };
        if self.json {
            return Ok(Answer::json(&Row::new(row), Exit::Ok));
        }
        let leaf: Value = serde_json::from_str(&row.leaf).unwrap_or_default();
        let mut table = Table::new(["field", "value"]);
        let mut field = |name: &'static str, value: String| {
            table.row([Cell::new(name).paint(Paint::Dim), Cell::new(value)]);
        };
        field("n", row.seq.to_string());
        field("time", time(&leaf, "%Y-%m-%dT%H:%M:%S%.6fZ"));
        for name in ["actor", "tenant", "action", "target", "request_id", "reason"] {
            if let Some(text) = leaf[name].as_str() {
                field(name, text.to_owned());
            }
        }
        for name in ["before", "after"] {
            if let Some(text) = values(&leaf[name]) {
                field(name, text);
            }
        }
        field("leaf hash", row.leaf_hash.to_string());
        field("chain hash", row.chain_hash.to_string());
        Ok(Answer::ok(table.render(paper)))
    }
}

/// A text with line breaks, such as a diff, is shown with them.
fn values(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| match value {
                Value::String(text) if text.contains('\n') => format!("{name}:\n{text}"),
                value => format!("{name}: {value}"),
            };
            Some(members.iter().map(member).collect::<Vec<_>>().join("\n"))
        }
        value => Some(value.to_string()),
    }
}

fn no_leaf(reader: &LedgerReader, seq: u64) -> Failure {
    match reader.summary() {
        Ok(summary) => Failure::new(
            Exit::No,
            format!("there is no entry {seq}: the log has {} from 0 on", summary.leaves),
        ),
        Err(error) => failure(&error),
    }
}

impl Prove {
    fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let reader = self.place.open(surroundings)?;
        let seq = self.seq;
        let Some(proof) = reader.prove(seq).map_err(|error| failure(&error))? else {
            let there = reader.leaf(seq).map_err(|error| failure(&error))?;
            return Err(match there {
                None => no_leaf(&reader, seq),
                Some(_) => Failure::new(
                    Exit::NoVerdict,
                    format!("no checkpoint counts entry {seq} yet; there is one within a second"),
                ),
            });
        };
        let hash = seaworthy_store::ledger::leaf_hash(proof.leaf.as_bytes());
        if !is_included(hash, seq, proof.size, &proof.path, proof.root) {
            return Err(Failure::new(
                Exit::No,
                format!("entry {seq} is not in the log that the checkpoint signs"),
            )
            .details("`seaworthy audit verify` says what is wrong"));
        }
        if self.json {
            return Ok(Answer::json(&proof, Exit::Ok));
        }
        let path = proof
            .path
            .iter()
            .enumerate()
            .map(|(step, hash)| format!("{:<9}  {hash}", if step == 0 { "path" } else { "" }));
        let mut lines = vec![proof.leaf.clone(), String::new(), format!("leaf hash  {hash}")];
        lines.extend(path);
        lines.extend([format!("root       {}", proof.root), String::new(), proof.checkpoint]);
        Ok(Answer::ok(lines.join("\n")))
    }
}

impl Export {
    fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        let reader = self.place.open(surroundings)?;
        let mut out = BufWriter::new(io::stdout().lock());
        let mut next = self.from;
        loop {
            let rows = reader.leaves_from(next).map_err(|error| failure(&error))?;
            let Some(last) = rows.last() else { break };
            next = last.seq + 1;
            for row in rows {
                if !wrote(print(&mut out, row, self.json))? {
                    return Ok(Answer::ok(String::new()));
                }
            }
        }
        wrote(out.flush())?;
        Ok(Answer::ok(String::new()))
    }
}

/// One entry as one line.
fn print(out: &mut impl io::Write, row: LeafRow, json: bool) -> io::Result<()> {
    if json {
        let line = serde_json::to_string(&Row::new(row)).expect("plain data always serialises");
        writeln!(out, "{line}")
    } else {
        writeln!(out, "{}", row.leaf)
    }
}

/// Whether there is still somebody who reads.
fn wrote(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Exit::Unavailable, format!("cannot write: {error}"))),
    }
}

/// A log of three entries, and what a command is run with.
#[cfg(test)]
mod testing {
    use std::path::Path;

    use seaworthy_store::ledger::{Action, Change, Entry, Ledger, LedgerOptions};
    use serde_json::json;

    use super::*;
    use crate::cli::table::Paper;

    pub(super) fn log() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let ledger = Ledger::open(dir.path(), LedgerOptions::default()).unwrap();
            let start = Entry::new("gateway", Action::GatewayStart, "gateway");
            let reload = Entry {
                after: Some(json!({ "diff": "-a = 1\n+a = 2\n", "generation": 2 })),
                reason: Some("the file changed".to_owned()),
                ..Entry::new("gateway", Action::ConfigReload, "seaworthy.toml")
            };
            for entry in [start, reload] {
                ledger.commit(Change::new().audit(&entry).unwrap()).await.unwrap();
            }
            ledger.close().await;
        });
        dir
    }

    pub(super) fn place(dir: &Path) -> Place {
        Place::of(dir)
    }

    pub(super) fn surroundings() -> Surroundings {
        Surroundings { env: Vec::new(), paper: Paper::Pipe }
    }
}

#[cfg(test)]
mod tests {
    use seaworthy_store::ledger::leaf_hash;
    use serde_json::json;

    use super::testing::{log, place, surroundings};
    use super::*;

    #[test]
    fn an_entry_is_a_line_and_whole_when_it_is_asked_for() {
        let dir = log();
        let tail = |number, json| {
            let tail = Tail { place: place(dir.path()), number, follow: false, json };
            tail.run(surroundings()).unwrap().text
        };
        let lines: Vec<String> = tail(2, false).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("1  ") && lines[1].ends_with("gateway.start  gateway"));
        assert!(lines[2].ends_with("config.reload  seaworthy.toml: the file changed"), "{lines:?}");
        let rows: Vec<Value> = serde_json::from_str(&tail(20, true)).unwrap();
        assert_eq!((rows.len(), &rows[0]["leaf"]["action"]), (3, &json!("key.change")));

        let show = |seq, json| Show { place: place(dir.path()), seq, json }.run(surroundings());
        let text = show(2, false).unwrap().text;
        assert!(text.contains("-a = 1\n") && text.contains("generation: 2"), "{text}");
        let row: Value = serde_json::from_str(&show(2, true).unwrap().text).unwrap();
        // The bytes of the leaf are those that were hashed.
        let leaf = row["leaf"].to_string();
        assert_eq!(row["leaf_hash"], leaf_hash(leaf.as_bytes()).to_string());
        let failure = show(3, false).unwrap_err();
        assert_eq!(failure.exit, Exit::No);
        assert_eq!(failure.what, "there is no entry 3: the log has 3 from 0 on");
    }

    #[test]
    fn a_proof_holds_by_itself() {
        let dir = log();
        let prove = |seq, json| Prove { place: place(dir.path()), seq, json }.run(surroundings());
        let proof: Value = serde_json::from_str(&prove(1, true).unwrap().text).unwrap();
        assert_eq!((&proof["seq"], &proof["size"]), (&json!(1), &json!(3)));
        assert_eq!(proof["path"].as_array().map(Vec::len), Some(2));
        assert!(proof["checkpoint"].as_str().unwrap().starts_with("seaworthy/audit/"));
        let text = prove(0, false).unwrap().text;
        assert!(text.contains("\npath  ") && text.contains("\n— seaworthy/audit/"), "{text}");
        assert_eq!(prove(3, false).unwrap_err().exit, Exit::No);
    }

    #[test]
    fn a_folder_without_a_log_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let show = Show { place: place(dir.path()), seq: 0, json: false };
        let failure = show.run(surroundings()).unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.what.contains("ledger.db"), "{}", failure.what);
    }
}
