//! `seaworthy rollout verify`: receipts are decided again, without any database.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use seaworthy_policy::rollout::Receipt;
use seaworthy_policy::rollout::receipt::{RECEIPT_BYTES_MAX, ReceiptFault};
use serde::Serialize;

use super::super::standing::exact;
use super::super::table::{Cell, Paint, Table};
use super::super::{Answer, Surroundings};
use super::history::moved;
use crate::exit::{Exit, Failure};

/// Files that are read at once.
const FILES_MAX: usize = 10_000;

/// Decide receipts again, offline, and say of each whether it is right
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  seaworthy rollout verify receipt.json
  seaworthy rollout verify receipts/*.json --json
  seaworthy rollout receipt 17 | seaworthy rollout verify -

Every number, sentence and state has to come out as it is written. The exit code is 0 where all are
right, 1 where one is wrong, 65 where one is no receipt. The digest is in the audit log, too: `seaworthy
audit show N` tells the receipt of entry N from one that somebody wrote anew.")]
pub(in crate::cli) struct Verify {
    /// The receipts, a file each; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Right,
    Wrong,
    /// It is no receipt.
    Unreadable,
}

/// What was found of one file.
#[derive(Debug, Serialize)]
struct Found {
    file: String,
    verdict: Verdict,
    rule: Option<String>,
    /// What it says that happened.
    what: Option<String>,
    digest: Option<String>,
    faults: Vec<String>,
}

impl Verify {
    pub(super) fn run(self, surroundings: Surroundings) -> Result<Answer, Failure> {
        if self.files.len() > FILES_MAX {
            let count = self.files.len();
            let what = format!("{count} files are asked for, and {FILES_MAX} are the most");
            return Err(Failure::new(Exit::Usage, what));
        }
        let found: Vec<Found> = self.files.iter().map(|path| judge(path)).collect();
        let is_any = |verdict| found.iter().any(|one| one.verdict == verdict);
        let exit = match () {
            () if is_any(Verdict::Wrong) => Exit::No,
            () if is_any(Verdict::Unreadable) => Exit::BadData,
            () => Exit::Ok,
        };
        if self.json {
            return Ok(Answer::json(&found, exit));
        }
        let mut table = Table::new(["receipt", "verdict", "what was found"]);
        for one in &found {
            table.row(cells(one));
        }
        Ok(Answer::new(table.render(surroundings.paper), exit))
    }
}

fn judge(path: &Path) -> Found {
    let file = path.display().to_string();
    let unreadable = |file, fault: String| {
        let (rule, what, digest, faults) = (None, None, None, vec![fault]);
        Found { file, verdict: Verdict::Unreadable, rule, what, digest, faults }
    };
    let text = match read(path) {
        Ok(text) => text,
        Err(error) => return unreadable(file, format!("it cannot be read: {error}")),
    };
    let receipt = match Receipt::read(&text) {
        Ok(receipt) => receipt,
        // That was one once.
        Err(fault @ ReceiptFault::Rewritten) => {
            return Found { verdict: Verdict::Wrong, ..unreadable(file, fault.to_string()) };
        }
        Err(fault) => return unreadable(file, fault.to_string()),
    };
    let (verdict, faults) = match receipt.verify() {
        Ok(()) => (Verdict::Right, Vec::new()),
        Err(faults) => (Verdict::Wrong, faults.iter().map(ToString::to_string).collect()),
    };
    Found {
        file,
        verdict,
        what: Some(what(&receipt)),
        rule: Some(receipt.rule),
        digest: Some(receipt.digest),
        faults,
    }
}

/// What the receipt says that happened.
fn what(receipt: &Receipt) -> String {
    let gates = match receipt.readings.len() {
        0 => "no gate was asked".to_owned(),
        1 => "one gate was asked".to_owned(),
        count => format!("{count} gates were asked"),
    };
    let Receipt { rule, actor, .. } = receipt;
    format!("{rule}: {}, by {actor}, {}; {gates}", moved(receipt), exact(receipt.at_unix_ms))
}

/// One byte more than a receipt may have says that it has too many.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path)?)
    };
    let mut text = Vec::new();
    input.take(RECEIPT_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn cells(found: &Found) -> [Cell; 3] {
    let (word, paint) = match found.verdict {
        Verdict::Right => ("right", Paint::Bold),
        Verdict::Wrong => ("wrong", Paint::Red),
        Verdict::Unreadable => ("no receipt", Paint::Yellow),
    };
    let digest = found.digest.as_ref().map(|digest| format!("digest {digest}"));
    let lines: Vec<&str> =
        found.faults.iter().chain(&found.what).chain(&digest).map(String::as_str).collect();
    [Cell::new(found.file.as_str()), Cell::new(word).paint(paint), Cell::new(lines.join("\n"))]
}
