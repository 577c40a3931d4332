//! `seaworthy audit tail --follow`

use std::io::{self, Write as _};
use std::time::Duration;

use seaworthy_store::ledger::{LeafRow, LedgerReader};
use tokio::time::MissedTickBehavior;

use super::super::Answer;
use super::{cells, failure, print, wrote};
use crate::cli::table::{Paper, Table};
use crate::exit::{Exit, Failure};

/// How often the log is looked at. Another process writes it, and says nothing to this one.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Prints `rows` and whatever comes behind them, until nobody reads any more.
pub(super) fn follow(
    reader: &LedgerReader,
    mut rows: Vec<LeafRow>,
    json: bool,
) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| Failure::new(Exit::Unavailable, format!("cannot wait: {error}")))?;
    runtime.block_on(async {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = rows.last().map_or(0, |row| row.seq + 1);
        loop {
            for row in rows {
                next = row.seq + 1;
                if !wrote(show(row, json))? {
                    return Ok(Answer::ok(String::new()));
                }
            }
            looks.tick().await;
            rows = reader.leaves_from(next).map_err(|error| failure(&error))?;
        }
    })
}

fn show(row: LeafRow, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        print(&mut out, row, json)?;
    } else {
        let mut table = Table::new(["n", "time (UTC)", "actor", "action", "what"]);
        table.row(cells(&row));
        // Without the headings: they stood above the lines before.
        let text = table.render(Paper::Pipe);
        let line = text.lines().nth(1).unwrap_or_default();
        writeln!(out, "{line}")?;
    }
    out.flush()
}
