//! The moves of the rules, as the ledger keeps them: each with its receipt.
//!
//! As with what telemetry remembers, a question has a time limit, and only a few are under way at
//! once. A receipt can have megabytes, so a list is read a few at a time, and of each only what a
//! list shows is kept.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use seaworthy_policy::evidence::Lane;
use seaworthy_policy::gates::{Gate, Verdict};
use seaworthy_policy::mode::Mode;
use seaworthy_policy::rollout::Event;
use seaworthy_store::StoreError;
use seaworthy_store::ledger::{LedgerReader, ReceiptRow};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time;

/// Questions under way at once.
const QUESTIONS_MAX: usize = 4;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Receipts in memory at once, for one question.
const RECEIPTS_AT_ONCE: u32 = 8;

/// Where the ledger is to be had at present. Asked on every question; must answer at once.
pub(crate) type FindLedger = Arc<dyn Fn() -> Option<LedgerReader> + Send + Sync>;

/// A cheap handle.
#[derive(Clone)]
pub(crate) struct Receipts {
    ledger: FindLedger,
    places: Arc<Semaphore>,
}

/// Why there is no answer. Fits after "no moves to show: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReceiptsError {
    #[error("the ledger is not open; the gateway's log says why")]
    NotOpen,
    #[error("the ledger is busy; try again")]
    Busy,
    #[error("the ledger did not answer in time; try again, or ask for less")]
    TooSlow,
    #[error("the question ended early; the gateway's log says why")]
    Ended,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MoveFilter {
    pub(crate) rule: Option<String>,
    /// The `next` of another page.
    pub(crate) before: Option<Seq>,
    pub(crate) limit: MoveLimit,
}

/// One move of a rule, as its receipt tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct MoveRow {
    /// Its place in the audit log, which names its receipt.
    pub(crate) seq: u64,
    /// When it was written, in Unix microseconds.
    pub(crate) ts_us: i64,
    pub(crate) rule: String,
    /// What happened; absent where the receipt cannot be read.
    pub(crate) moved: Option<Moved>,
    /// Why the receipt cannot be read.
    pub(crate) fault: Option<String>,
}

/// The part of a receipt that lists show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) lane: Lane,
    pub(crate) actor: String,
    pub(crate) at_unix_ms: i64,
    pub(crate) event: Event,
    pub(crate) before: Side,
    pub(crate) after: Side,
    /// What the gates said; empty where nobody asked them.
    #[serde(rename(deserialize = "readings"))]
    pub(crate) gates: Vec<GateVerdict>,
    pub(crate) alpha_spent: Option<f64>,
    pub(crate) digest: String,
}

/// A rule before or after a move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Side {
    pub(crate) version: u32,
    pub(crate) mode: Mode,
    pub(crate) epoch: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GateVerdict {
    pub(crate) gate: Gate,
    pub(crate) verdict: Verdict,
}

/// Moves, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct MovesPage {
    pub(crate) rows: Vec<MoveRow>,
    /// What to ask for as `before` to see the next page; `None` after the last.
    pub(crate) next: Option<u64>,
}

impl Receipts {
    pub(crate) fn new(ledger: FindLedger) -> Self {
        Self { ledger, places: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }

    /// One page of the moves.
    pub(crate) async fn moves(&self, filter: MoveFilter) -> Result<MovesPage, ReceiptsError> {
        self.ask(move |ledger| page(ledger, &filter)).await
    }

    /// One receipt as it was stored; `None` where there is none.
    pub(crate) async fn stored(&self, seq: Seq) -> Result<Option<ReceiptRow>, ReceiptsError> {
        self.ask(move |ledger| ledger.receipt(seq.0)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&LedgerReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ReceiptsError> {
        let ledger = (self.ledger)().ok_or(ReceiptsError::NotOpen)?;
        let place =
            Arc::clone(&self.places).try_acquire_owned().map_err(|_| ReceiptsError::Busy)?;
        let answer = tokio::task::spawn_blocking(move || {
            let _place = place;
            question(&ledger)
        });
        match time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(error)) => {
                tracing::error!(%error, "a question to the ledger ended early");
                Err(ReceiptsError::Ended)
            }
            Err(_) => Err(ReceiptsError::TooSlow),
        }
    }
}

fn page(ledger: &LedgerReader, filter: &MoveFilter) -> Result<MovesPage, StoreError> {
    let rule = filter.rule.as_deref();
    let wanted = usize::from(filter.limit.0);
    let mut rows: Vec<MoveRow> = Vec::with_capacity(wanted);
    let mut before = filter.before.map(|seq| seq.0);
    while rows.len() < wanted {
        let missing = u32::try_from(wanted - rows.len()).unwrap_or(u32::MAX);
        let some = ledger.receipts(rule, before, missing.min(RECEIPTS_AT_ONCE))?;
        let Some(last) = some.last() else { return Ok(MovesPage { rows, next: None }) };
        before = Some(last.seq);
        rows.extend(some.into_iter().map(MoveRow::of));
    }
    let is_more = !ledger.receipts(rule, before, 1)?.is_empty();
    Ok(MovesPage { rows, next: before.filter(|_| is_more) })
}

impl MoveRow {
    fn of(row: ReceiptRow) -> Self {
        let ReceiptRow { seq, ts_us, rule, receipt } = row;
        let (moved, fault) = match serde_json::from_str(&receipt) {
            Ok(moved) => (Some(moved), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self { seq, ts_us, rule, moved, fault }
    }
}

/// A place in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seq(pub(crate) u64);

/// How many moves a page has: 1 to 200; 50 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MoveLimit(u16);

impl MoveLimit {
    const MAX: u16 = 200;

    /// A page of the history of one rule.
    pub(crate) const HISTORY: Self = Self(20);
}

impl Default for MoveLimit {
    fn default() -> Self {
        Self(50)
    }
}

/// Why a part of a filter could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MoveFilterError {
    #[error("expected the number of an entry of the audit log, not {0:?}")]
    Seq(String),
    #[error("expected a limit from 1 to {max}, not {0:?}", max = MoveLimit::MAX)]
    Limit(String),
}

impl FromStr for Seq {
    type Err = MoveFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A sign is no digit, though `parse` takes one.
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let seq = digits.and_then(|digits| digits.parse().ok());
        seq.map(Self).ok_or_else(|| MoveFilterError::Seq(text.to_owned()))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MoveLimit {
    type Err = MoveFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let limit = text.parse().ok().filter(|limit| (1..=Self::MAX).contains(limit));
        limit.map(Self).ok_or_else(|| MoveFilterError::Limit(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_limits_are_read_strictly() {
        for (text, want) in
            [("0", Some(0)), ("12", Some(12)), ("+1", None), ("-1", None), ("", None)]
        {
            assert_eq!(text.parse::<Seq>().ok().map(|seq| seq.0), want, "{text:?}");
        }
        for (text, want) in [("1", Some(1)), ("200", Some(200)), ("0", None), ("201", None)] {
            assert_eq!(text.parse::<MoveLimit>().ok().map(|limit| limit.0), want, "{text:?}");
        }
    }

    #[test]
    fn a_receipt_that_cannot_be_read_is_in_the_list_all_the_same() {
        let receipt = "{\"v\":9}".to_owned();
        let row = MoveRow::of(ReceiptRow { seq: 7, ts_us: 5, rule: "csrf".to_owned(), receipt });
        assert_eq!((row.seq, row.moved), (7, None));
        assert!(row.fault.unwrap().contains("missing field"));
    }

    #[tokio::test]
    async fn a_ledger_that_is_not_open_says_so() {
        let receipts = Receipts::new(Arc::new(|| None));
        assert_eq!(receipts.moves(MoveFilter::default()).await, Err(ReceiptsError::NotOpen));
        assert_eq!(receipts.stored(Seq(1)).await, Err(ReceiptsError::NotOpen));
    }
}
